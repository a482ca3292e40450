"""Lesson 14: a mixture's score, a Langevin step, annealing to beat, the probability flow's velocity, Hutchinson's trace."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.score import annealing, langevin, score_of
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise


def mixture_score(x, weights, means, variances):
    """By the package's mixture."""
    round_ones = variances[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype)
    return GaussianMixture(weights, means, round_ones).score(x)


def langevin_step(x, score, h, z, temperature):
    return x + h * score(x) + (2 * h * temperature) ** 0.5 * z


def flow_velocity(x, x0, abar, beta):
    return -beta / 2 * (x + score_of(x0, x, abar))


def hutchinson(f, x, probes):
    """With the whole Jacobian, row by row."""
    whole = torch.stack([torch.autograd.functional.jacobian(lambda row: f(row[None])[0], row) for row in x])
    return torch.einsum("nbi,bij,nbj->nb", probes, whole, probes).mean(0)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _pull(share: Callable, pull: Callable = lambda off, v: -off / v, normal: float = 0.5):
    """A mixture's score with other shares, or another pull towards each mean; `normal` D log v is taken from log N."""

    def wrong(x, weights, means, variances):
        off = x[:, None] - means  # (B, K, D)
        log_n = -off.square().sum(-1) / (2 * variances) - normal * x.shape[1] * variances.log()
        return (share(weights.log(), log_n)[..., None] * pull(off, variances[:, None])).sum(1)

    return wrong


def _right_share(log_w, log_n):
    return (log_w + log_n).softmax(1)


def _one_root(x, weights, means, variances):
    """As in one dimension."""
    return _pull(_right_share, normal=0.5 / x.shape[1])(x, weights, means, variances)


def _gradient_of_p(x, weights, means, variances):
    off = x[:, None] - means
    n = (-off.square().sum(-1) / (2 * variances)).exp() / (2 * torch.pi * variances) ** (x.shape[1] / 2)
    return -((weights * n)[..., None] * off / variances[:, None]).sum(1)


def _graph(f, x, z):
    x = x.detach().requires_grad_()
    return torch.autograd.grad((f(x) * z).sum(), x)[0]


MISTAKES = {
    "14.1": [
        Mistake(_pull(_right_share, normal=0.0),
                "The factor before the exponential: a narrow Gaussian is higher, v_k^(-D/2), so log N_k has -D/2 log v_k."),
        Mistake(_one_root,
                "The factor before the exponential is v_k^(-D/2): one root of v_k for each of the D coordinates."),
        Mistake(_pull(_right_share, lambda off, v: off / v),
                "The sign: the score points uphill, from x towards the means, so it is (mu_k - x) / v_k."),
        Mistake(_pull(lambda log_w, log_n: log_w.exp() + 0 * log_n),
                "You weigh the pulls by w_k. Each counts by its share in *this* place: r_k = w_k N_k(x) / p(x)."),
        Mistake(_pull(lambda log_w, log_n: log_n.softmax(1)),
                "The weights w_k are missing in the shares r_k: a rare Gaussian pulls less."),
        Mistake(_pull(lambda log_w, log_n: (log_w.exp() + log_n).softmax(1)),
                "The softmax needs log w_k: a share is proportional to w_k N_k, so logarithms add."),
        Mistake(_pull(lambda log_w, log_n: _right_share(log_w, log_n) / log_n.shape[1]),
                "You took the mean over the Gaussians; the shares r_k already add up to 1, so sum over k."),
        Mistake(_pull(_right_share, lambda off, v: -off),
                "The pull of a Gaussian is (mu_k - x) / v_k: you left out the division."),
        Mistake(_pull(_right_share, lambda off, v: -off / v**0.5),
                "You divided by the standard deviation; the gradient of -|x - mu|^2 / (2 v) has the variance v below."),
        Mistake(_gradient_of_p,
                "That is the gradient of p. The score is the gradient of log p: divide by p(x)."),
    ],
    "14.2": [
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + (2 * h) ** 0.5 * z,
                "That walks at temperature 1, whatever is asked for."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + (2 * h) ** 0.5 * temperature * z,
                "The temperature stands under the root: it multiplies the noise's variance, 2 h T."),
        Mistake(lambda x, score, h, z, temperature: x + h / temperature * score(x) + (2 * h * temperature) ** 0.5 * z,
                "The arrows and the noise both changed: that is a walk at T squared. Here the arrows stay as they are."),
        Mistake(lambda x, score, h, z, temperature: x + h / temperature * score(x) + (2 * h) ** 0.5 * z,
                "The right density, by another walk: its arrows are shorter. Here h stands before the score as it is."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + (2 * h / temperature) ** 0.5 * z,
                "A hotter walk stumbles more: multiply the variance by the temperature."),
        Mistake(lambda x, score, h, z, temperature: x + h * temperature * score(x) + (2 * h * temperature) ** 0.5 * z,
                "That is a longer step at temperature 1: arrow and variance have grown alike."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + (h * temperature) ** 0.5 * z,
                "The factor 2 under the root is missing: the walk settles in a density that is too narrow."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + 2 * h * temperature * z,
                "The noise needs a root: its variance is 2 h T, so its factor is sqrt(2 h T)."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x) + 2**0.5 * h * temperature**0.5 * z,
                "2, h and the temperature all stand under the root: sqrt(2 h T)."),
        Mistake(lambda x, score, h, z, temperature: x - h * score(x) + (2 * h * temperature) ** 0.5 * z,
                "The sign: the score points to where there is more density, and the walk follows it."),
        Mistake(lambda x, score, h, z, temperature: x + h * score(x),
                "Without the noise every walker climbs to the top of a hill and stays there: that is temperature 0."),
        Mistake(lambda x, score, h, z, temperature: (lambda y: y + h * score(y))(x + (2 * h * temperature) ** 0.5 * z),
                "Ask for the score where the step begins, not where the noise has already carried x."),
    ],
    "14.4": [
        Mistake(lambda x, x0, abar, beta: -beta * (x / 2 + score_of(x0, x, abar)),
                "That is the drift of the reverse SDE, which also has to make up for the noise. The flow takes half of it."),
        Mistake(lambda x, x0, abar, beta: beta / 2 * (x + score_of(x0, x, abar)),
                "The sign: time s runs towards noise, where data shrinks: -beta / 2 (x + score)."),
        Mistake(lambda x, x0, abar, beta: -beta / 2 * (x - score_of(x0, x, abar)),
                "The sign of the score: the flow spreads p, so it runs *against* the score: -beta / 2 (x + score)."),
        Mistake(lambda x, x0, abar, beta: -beta / 2 * (x + (x0 - x) / (1 - abar)),
                "The mean of q(x_t | x_0) is sqrt(abar) x0, not x0."),
        Mistake(lambda x, x0, abar, beta: -beta / 2 * (x + (abar**0.5 * x0 - x) / (1 - abar) ** 0.5),
                "You have used -eps for the score, which is -eps / sqrt(1 - abar): divide by 1 - abar, not by its root."),
        Mistake(lambda x, x0, abar, beta: -(beta**0.5) / 2 * (x + score_of(x0, x, abar)),
                "beta without a root: sqrt(beta) stands before dw only, and here it is squared."),
        Mistake(lambda x, x0, abar, beta: -beta / 2 * x,
                "That is the forward drift alone. The score replaces the noise: -beta / 2 (x + score)."),
    ],
    "14.5": [
        Mistake(lambda f, x, probes: torch.stack([(_graph(f, x, z) * z).sum(1) for z in probes]).sum(0),
                "You added the estimates up; take their mean over the probes."),
        Mistake(lambda f, x, probes: torch.stack([(_graph(f, x, z) * z).sum() for z in probes]).mean().expand(len(x)),
                "You summed over the rows as well: every row of x has a trace of its own."),
        Mistake(lambda f, x, probes: torch.stack([_graph(f, x, z).sum(1) for z in probes]).mean(0),
                "After the backward pass you hold J^T z. The estimate is z . J^T z: multiply by z before you sum."),
        Mistake(lambda f, x, probes: torch.stack([(_graph(f, x, torch.ones_like(z)) * z).sum(1) for z in probes]).mean(0),
                "The probe must stand on both sides, z^T J z: give it to the backward pass too."),
        Mistake(lambda f, x, probes: torch.stack([(f(x) * z).sum(1) for z in probes]).mean(0),
                "There is no derivative in it: z . f(x) must be differentiated by x, then multiplied by z once more."),
        Mistake(lambda f, x, probes: torch.stack([_graph(f, x, z).square().sum(1) for z in probes]).mean(0),
                "That is the mean of |J^T z|^2, which estimates the sum of all squared entries of J."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@dataclass(frozen=True)
class Pull:
    """The score of N(0, 1 / strength) with a wave on it, named so that a message can show it."""

    strength: float

    def __call__(self, x: Tensor) -> Tensor:
        return -self.strength * x + torch.sin(2 * x)


@dataclass(frozen=True)
class Field:
    """x -> tanh(x A) + x * x summed with a neighbour: a smooth map of D numbers to D numbers, row by row."""

    seed: int
    D: int

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ noise(self.seed, self.D, self.D).double()) + 0.3 * x * x.roll(1, dims=-1)


@exercise("14.1")
def check_mixture_score(answer) -> CheckResult:
    inputs = []
    for k, (B, K, D) in enumerate([(3, 2, 2), (4, 3, 2), (2, 5, 3), (5, 2, 1), (3, 4, 2)]):
        weights, variances = noise(90 + k, K).double().softmax(0), (0.7 * noise(70 + k, K).double()).exp()
        x, means = 1.5 * noise(k, B, D).double(), 2 * noise(30 + k, K, D).double()
        inputs.append({"x": x, "weights": weights, "means": means, "variances": variances})
    far = inputs[0] | {"x": 40 + noise(9, 2, 2).double()}  # p(x) is 0 in floating point there
    one = {"weights": torch.ones(1).double(), "means": torch.zeros(1, 2).double(), "variances": torch.tensor([2.0]).double()}
    inputs.append({"x": noise(8, 3, 2).double()} | one)
    return compare(
        "14.1", answer, mixture_score, [*inputs, far], MISTAKES["14.1"],
        praise="Right on seven mixtures, from one Gaussian to five, far outside included, where p(x) itself rounds to 0.",
        hint="Shares r_k by a softmax over log w_k + log N_k(x), without a power of 2 pi, which all share: it survives far"
        " outside. Then the mean pull.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("14.2")
def check_langevin_step(answer) -> CheckResult:
    inputs = [
        {"x": noise(k, 4, 2).double(), "score": Pull(s), "h": h, "z": noise(50 + k, 4, 2).double(), "temperature": T}
        for k, (s, h, T) in enumerate(
            [(1.0, 0.1, 1.0), (3.0, 0.02, 4.0), (0.5, 0.7, 0.3), (2.0, 0.3, 2.0), (1.5, 0.001, 9.0)]
        )
    ]
    inputs.append(inputs[0] | {"z": torch.zeros(4, 2).double()})
    return compare(
        "14.2", answer, langevin_step, inputs, MISTAKES["14.2"],
        praise="Right on six steps, hot and cold, large and tiny, and without noise.",
        hint="Call `score(x)`: it is a function; and use the `z` that you are given, once, under a root.",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("14.4")
def check_flow_velocity(answer) -> CheckResult:
    inputs = [
        {"x": noise(k, 3, 2).double(), "x0": noise(60 + k, 3, 2).double(), "abar": abar, "beta": beta}
        for k, (abar, beta) in enumerate([(0.9, 0.5), (0.5, 4.0), (0.1, 9.0), (0.99, 0.2), (0.003, 19.0)])
    ]
    inputs.append(inputs[1] | {"x0": inputs[1]["x"] / 0.5**0.5})  # no noise in it: the flow keeps it so
    return compare(
        "14.4", answer, flow_velocity, inputs, MISTAKES["14.4"],
        praise="Right at six noise levels; a point whose guess says 'no noise in me' shrinks at the forward rate.",
        hint="First the score, (sqrt(abar) x0 - x) / (1 - abar); then -beta / 2 (x + score).",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("14.5")
def check_hutchinson(answer) -> CheckResult:
    inputs = []
    for k, (n, B, D) in enumerate([(1, 3, 2), (4, 2, 3), (7, 1, 5), (2, 6, 4), (5, 4, 2)]):
        probes = noise(20 + k, n, B, D).double()
        inputs.append({"f": Field(k, D), "x": noise(k, B, D).double(), "probes": probes.sign() if k % 2 else probes})
    inputs.append(inputs[0] | {"probes": torch.eye(2).double()[:, None].expand(2, 3, 2).clone() * 2**0.5})  # the exact trace
    return compare(
        "14.5", answer, hutchinson, inputs, MISTAKES["14.5"],
        praise="Right on six maps; with the probes sqrt(2) e_1, sqrt(2) e_2 it is the exact trace in two dimensions.",
        hint="For each z: torch.autograd.grad((f(x) * z).sum(), x) gives J^T z; multiply by z, sum each row, mean over z.",
        tolerance=1e-7,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- 14.3, an annealing to beat

STEPS, WALKERS, GOAL = 60, 4000, 0.6


@dataclass(frozen=True)
class Score:
    """Means over the hidden lands: the share of walkers on wrong hills, and the relative error of the hills' variance.

    The variance is measured by the median squared distance from the hill's middle.
    """

    wrong: float
    wide: float

    @property
    def total(self) -> float:
        return self.wrong + self.wide


@lru_cache(maxsize=1)
def lands() -> list[tuple[GaussianMixture, float]]:
    """Three mixtures of round hills, each with the variance of its hills."""

    def land(weights, means, variance):
        weights = torch.tensor(weights)
        return GaussianMixture(weights, torch.tensor(means), variance * torch.eye(2).expand(len(weights), 2, 2)), variance

    return [
        land([9.0, 1.0], [[1.5, 0.0], [-1.5, 1.0]], 0.04),
        land([6.0, 3.0, 1.0], [[-1.6, 0.5], [1.4, -1.2], [1.0, 1.6]], 0.09),
        land([1.0, 4.0, 2.0, 3.0], [[-2.1, 0.0], [-0.7, 0.0], [0.7, 0.0], [2.1, 0.0]], 0.02),
    ]


def lesson_levels(N, variance):
    """The number to beat."""
    return annealing(0.01, 0.999, N, 0.3, variance)


def _checked(levels) -> list[tuple[float, float]]:
    try:
        pairs = [(float(abar), float(h)) for abar, h in levels]
    except (TypeError, ValueError):
        raise ValueError("return a list of pairs (alpha_bar, h)") from None
    if len(pairs) != STEPS:
        raise ValueError(f"return {STEPS} pairs (alpha_bar, h), got {len(pairs)}")
    for k, (abar, h) in enumerate(pairs):
        if not (0 < abar < 1 and h > 0):
            raise ValueError(f"pair {k} is ({abar:g}, {h:g}): alpha_bar must lie between 0 and 1, h above 0")
    return pairs


def walk_score(answer, seed: int = 0) -> Score:
    """Walk with `answer(N, variance) -> levels` on every land, and count."""
    wrong, wide = [], []
    for i, (land, variance) in enumerate(lands()):
        levels = _checked(call(answer, STEPS, variance))
        generator = torch.Generator().manual_seed(100 * seed + i)
        x = torch.randn(WALKERS, 2, generator=generator, dtype=torch.float64)
        *_, x = langevin(land.score, x, levels, generator)
        if not x.abs().max() < 1e3:
            raise ValueError("the walkers flew apart: a step was above 2 hill variances")
        k = land.responsibilities(x).argmax(1)
        share = torch.bincount(k, minlength=len(land.weights)) / WALKERS
        wrong.append((share - land.weights).abs().sum().item() / 2)
        distance = (x - land.means[k]).square().sum(1).median().item()  # a median: a few strays in a valley say nothing
        wide.append(abs(distance / (2 * math.log(2) * variance) - 1))  # of two squared normal numbers: 2 log 2
    return Score(sum(wrong) / len(wrong), sum(wide) / len(wide))


@lru_cache(maxsize=1)
def lesson_score() -> Score:
    """The lesson's score, measured here and now."""
    return walk_score(lesson_levels)


@exercise("14.3")
def check_annealing(answer) -> CheckResult:
    mine = attempt("14.3", answer, walk_score)
    if isinstance(mine, CheckResult):
        return mine
    lesson = lesson_score()
    message = (
        f"got      {mine.wrong:.3f} on wrong hills + {mine.wide:.3f} in variance = {mine.total:.3f}\n"
        f"expected below {GOAL * lesson.total:.3f}, which is {GOAL:.0%} of the lesson's"
        f" {lesson.wrong:.3f} + {lesson.wide:.3f} = {lesson.total:.3f}"
    )
    hint = ""
    if mine.total >= GOAL * lesson.total:
        if mine == lesson:
            hint = "That is the lesson's annealing itself."
        elif mine.wrong > 0.9 * lesson.wrong and mine.wrong > mine.wide:
            hint = (
                "The shares freeze wrong: spend more steps where the valley forms, log-SNR about -1 to 2, and fewer below."
            )
        else:
            hint = "The hills come out too wide: smaller steps at the end, and a last level with less noise of its own."
    return CheckResult("14.3", not hint, message, hint)


REFERENCES = {"14.1": mixture_score, "14.2": langevin_step, "14.4": flow_velocity, "14.5": hutchinson}
