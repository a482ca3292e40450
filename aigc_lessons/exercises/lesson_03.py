"""Lesson 03: likelihood from bins, the Gaussian that covers, a sample of the ELBO, a coupling weighed, a density to beat."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.data import toy
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise


def binned_log_likelihood(x, probabilities, low, high):
    width = (high - low) / len(probabilities)
    k = ((x - low) / width).floor().long()
    return (probabilities[k] / width).log().mean()


def covering(weights, means, variances):
    mean = (weights * means).sum()
    return torch.stack([mean, (weights * (variances + (means - mean) ** 2)).sum()])


def elbo_estimate(x, eps, encode, decode):
    a, log_b = encode(x)
    m, log_v = decode(a + (log_b / 2).exp() * eps)
    fits = -((x - m) ** 2 / log_v.exp() + log_v + math.log(2 * math.pi)).sum(1) / 2
    return fits - (a**2 + log_b.exp() - log_b - 1).sum(1) / 2


def coupled_log_prob(y, net):
    """With autograd's Jacobian of the way back, row by row."""
    d = y.shape[1] // 2

    def back(row):
        s, m = net(row[None, :d])
        return torch.cat([row[:d], (row[d:] - m[0]) * (-s[0]).exp()])

    x = torch.stack([back(row) for row in y])
    jacobians = torch.stack([torch.autograd.functional.jacobian(back, row) for row in y])
    return torch.linalg.slogdet(jacobians).logabsdet - (x**2 + math.log(2 * math.pi)).sum(1) / 2


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _bins(value: Callable, end: Callable = torch.mean, shift: int = 0):
    def wrong(x, probabilities, low, high):
        K = len(probabilities)
        width = (high - low) / K
        k = (((x - low) / width).floor().long() + shift) % K
        return end(value(probabilities[k], width))

    return wrong


def _elbo(spread: Callable = lambda log_b: (log_b / 2).exp(), sign: float = -1, half: float = 0.5, volume: float = 1.0,
          constant: float = 1.0, kl: float = 1.0):  # fmt: skip
    def wrong(x, eps, encode, decode):
        a, log_b = encode(x)
        m, log_v = decode(a + spread(log_b) * eps)
        fits = -((x - m) ** 2 / log_v.exp() + volume * log_v + constant * math.log(2 * math.pi)).sum(1) / 2
        return fits + kl * sign * half * (a**2 + log_b.exp() - log_b - 1).sum(1)

    return wrong


def _coupled(back: Callable = lambda y, s, m: (y - m) * (-s).exp(), volume: Callable = lambda s: -s.sum(1)):
    def wrong(y, net):
        d = y.shape[1] // 2
        s, m = net(y[:, :d])
        x = torch.cat([y[:, :d], back(y[:, d:], s, m)], 1)
        return volume(s) - (x**2 + math.log(2 * math.pi)).sum(1) / 2

    return wrong


def _without_scatter(weights, means, variances):
    return torch.stack([(weights * means).sum(), (weights * variances).sum()])


def _without_own(weights, means, variances):
    mean = (weights * means).sum()
    return torch.stack([mean, (weights * (means - mean) ** 2).sum()])


def _unweighted(weights, means, variances):
    return torch.stack([means.mean(), (variances + (means - means.mean()) ** 2).mean()])


def _width(weights, means, variances):
    mean, variance = covering(weights, means, variances)
    return torch.stack([mean, variance.sqrt()])


def _second_moment(weights, means, variances):
    return torch.stack([(weights * means).sum(), (weights * (variances + means**2)).sum()])


MISTAKES = {
    "03.1": [
        Mistake(_bins(lambda p, w: p.log()),
                "That is the log of a probability. A density is probability per length: divide by the width of a bin."),
        Mistake(_bins(lambda p, w: (p * w).log()),
                "Divide by the width of a bin; a narrower bin with the same probability is denser."),
        Mistake(_bins(lambda p, w: (p / w).log(), torch.sum), "Take the mean over the points, not the sum."),
        Mistake(_bins(lambda p, w: (p / w).log2()), "These are bits; nats are asked for: the natural logarithm."),
        Mistake(_bins(lambda p, w: p / w, lambda p: p.mean().log()),
                "The mean of the logarithms, not the logarithm of the mean: the points are independent, their p multiply."),
        Mistake(_bins(lambda p, w: (p / w).log(), torch.mean, shift=-1),
                "You look into the bin beside the right one: the first bin has number 0."),
    ],
    "03.2": [
        Mistake(_without_scatter,
                "The means lie apart, and that is spread too: add the weighted (mean_k - mean)^2 to the variances."),
        Mistake(_without_own, "Each part has a variance of its own: add it to the spread of the means."),
        Mistake(_unweighted, "Each part counts by its weight, in the mean and in the variance."),
        Mistake(_width, "That is the standard deviation; the variance is asked for."),
        Mistake(_second_moment, "That is E[x^2]. The variance is E[x^2] - (E[x])^2."),
    ],
    "03.3": [
        Mistake(_elbo(spread=lambda log_b: log_b.exp()),
                "z = a + sqrt(b) eps: the standard deviation is exp(log_b / 2), not exp(log_b)."),
        Mistake(_elbo(sign=1), "The KL is subtracted: a code that says more costs more."),
        Mistake(_elbo(half=1.0), "The KL of two Gaussians has a factor 1/2 in front of all its terms."),
        Mistake(_elbo(volume=0.0), "log N(x; m, v) has a term - log v / 2: without it a vast variance would cost nothing."),
        Mistake(_elbo(constant=0.0), "log N(x; m, v) has a constant, - log(2 pi) / 2 for each coordinate."),
        Mistake(_elbo(kl=0.0), "The KL of the code to N(0, I) is missing."),
        Mistake(_elbo(spread=lambda log_b: 0 * log_b), "z was taken as the encoder's mean: eps must come in."),
    ],
    "03.4": [
        Mistake(_coupled(volume=lambda s: s.sum(1)),
                "The sign of the volume: where the coupling stretches (s > 0), the same probability fills more space."),
        Mistake(_coupled(volume=lambda s: 0 * s.sum(1)),
                "The change of volume is missing: log |det dx/dy| = - sum of s."),
        Mistake(_coupled(back=lambda y, s, m: y), "Undo the coupling first: the normal density wants x, not y."),
        Mistake(_coupled(back=lambda y, s, m: y * (-s).exp() - m),
                "Undone in the wrong order: take m away first, then divide by exp(s)."),
        Mistake(_coupled(back=lambda y, s, m: y * s.exp() + m), "That is the way forward again: x_b = (y_b - m) exp(-s)."),
        Mistake(_coupled(volume=lambda s: -s.mean(1)),
                "The determinant is a product over the coordinates, so its logarithm is the sum of s, not the mean."),
    ],
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the checkers


class Net:
    """Two small random maps, a fixed pair for each seed; prints as itself."""

    def __init__(self, seed: int, inputs: int, outputs: int):
        self.matrices = noise(900 + seed, 2, inputs, outputs).double()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = (x.double() @ A for A in self.matrices)
        return one.to(x.dtype), (0.8 * two.sin()).to(x.dtype)

    def __repr__(self) -> str:
        return "a network that returns two tensors"


class ScaleAndShift(Net):
    """The same, with the bounded one first."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = super().__call__(x)
        return two, one


@exercise("03.1")
def check_binned(answer) -> CheckResult:
    inputs = []
    for k, (N, K, low, high) in enumerate([(6, 4, 0.0, 1.0), (5, 10, -3.0, 3.0), (9, 2, 2.0, 7.0), (1, 30, -1.0, 0.5)]):
        within = (noise(k, N).double() / 6 + 0.5).clamp(0.01, 0.99)
        inputs.append({"x": low + (high - low) * within, "probabilities": noise(30 + k, K).double().softmax(0), "low": low,
                       "high": high})  # fmt: skip
    inputs.append(
        inputs[0] | {"probabilities": torch.ones(1).double(), "low": -1.0, "high": 3.0}
    )  # one bin: -log of its width
    inputs.append(inputs[1] | {"x": torch.tensor([-2.999, 0.001, 2.999]).double()})  # just inside the edges of bins
    return compare(
        "03.1", answer, binned_log_likelihood, inputs, MISTAKES["03.1"],
        praise="Right on six models, one of them a single bin, where only its width counts.",
        hint="Which bin? floor((x - low) / width). Its density is probability / width; the mean of the logarithms.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("03.2")
def check_covering(answer) -> CheckResult:
    inputs = [
        {"weights": noise(k, K).double().softmax(0), "means": 2 * noise(10 + k, K).double(),
         "variances": noise(20 + k, K).double().exp()}
        for k, K in enumerate([2, 3, 2, 5, 7])
    ]  # fmt: skip
    inputs.append({"weights": torch.ones(1).double(), "means": torch.tensor([3.0]).double(),
                   "variances": torch.tensor([0.25]).double()})  # fmt: skip
    return compare(
        "03.2", answer, covering, inputs, MISTAKES["03.2"],
        praise="Right on six mixtures; the one with a single part covers itself.",
        hint="The mean of the mixture, then E[(x - mean)^2]: within each part, and between them.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("03.3")
def check_elbo(answer) -> CheckResult:
    inputs = [
        {"x": noise(k, B, D).double(), "eps": noise(40 + k, B, Z).double(), "encode": Net(2 * k, D, Z),
         "decode": Net(2 * k + 1, Z, D)}
        for k, (B, D, Z) in enumerate([(4, 2, 2), (3, 2, 1), (5, 3, 2), (1, 1, 1), (2, 4, 3)])
    ]  # fmt: skip
    inputs.append(inputs[0] | {"eps": torch.zeros(4, 2).double()})
    return compare(
        "03.3", answer, elbo_estimate, inputs, MISTAKES["03.3"],
        praise="Right for six encoders and decoders, one of them with eps = 0, where z is the encoder's mean.",
        hint="z = a + exp(log_b / 2) eps; the log density of x under decode(z), summed over coordinates; minus the KL.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("03.4")
def check_coupled(answer) -> CheckResult:
    inputs = [
        {"y": noise(k, B, 2 * d).double(), "net": ScaleAndShift(50 + k, d, d)}
        for k, (B, d) in enumerate([(4, 1), (3, 2), (2, 3), (6, 1), (1, 4)])
    ]
    inputs.append({"y": torch.zeros(2, 4).double(), "net": ScaleAndShift(60, 2, 2)})
    return compare(
        "03.4", answer, coupled_log_prob, inputs, MISTAKES["03.4"],
        praise="Right for six couplings in two to eight dimensions; the reference used autograd's whole Jacobian.",
        hint="x_a = y_a, x_b = (y_b - m) exp(-s); then log N(x; 0, I) - sum of s.",
        tolerance=1e-6,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- 03.5, a density to beat

POINTS, HELD_OUT, REACH, SIDE, GOAL, LEAK = 1000, 2000, 3.0, 0.05, 0.2, 0.05


@dataclass(frozen=True)
class Score:
    """Means over the hidden shapes: nats of points held out; the largest integral of a density over their square."""

    nats: float
    mass: float


@lru_cache(maxsize=1)
def shapes() -> list[tuple[Tensor, Tensor]]:
    """Three hidden shapes: points to learn from, points held out."""
    generator = torch.Generator().manual_seed(35)
    kinds = [toy.moons(0.15, 1.3), toy.spiral(0.12, 1.5, 2.2), toy.Checkerboard(4, 2.4)]
    return [(kind.draw(POINTS, generator), kind.draw(HELD_OUT, generator)) for kind in kinds]


def lesson_density(points: Tensor, bins: int = 20, reach: float = 3.0) -> Callable[[Tensor], Tensor]:
    """The number to beat: the lesson's histogram, one count added to each bin."""
    width = 2 * reach / bins

    def cell(x: Tensor) -> Tensor:
        column, row = ((x + reach) / width).floor().long().clamp(0, bins - 1).unbind(1)
        return column * bins + row

    counts = torch.bincount(cell(points), minlength=bins**2).double() + 1
    log_density = (counts / counts.sum() / width**2).log()

    def log_prob(x: Tensor) -> Tensor:
        return torch.where((x.abs() < reach).all(1), log_density[cell(x)], -math.inf)

    return log_prob


def _asked(log_prob: Callable, x: Tensor) -> Tensor:
    parts = []
    for some in x.split(2000):
        got = torch.as_tensor(log_prob(some)).detach().double()
        if got.shape != some.shape[:1]:
            raise ValueError(f"log_prob gave shape {tuple(got.shape)} for {len(some)} points, it should be ({len(some)},)")
        parts.append(got)
    return torch.cat(parts)


def density_score(answer) -> Score:
    """Fit `answer(points) -> log_prob` on every shape, and weigh: points held out, and the square that holds all of them.

    What a density has outside of the square wins no nats.
    """
    nats, masses = [], []
    side = torch.arange(-REACH + SIDE / 2, REACH, SIDE)
    plane = torch.cartesian_prod(side, side)
    for points, held_out in shapes():
        log_prob = call(answer, points.clone())
        if not callable(log_prob):
            raise ValueError(f"return a function log_prob, got {type(log_prob).__name__}")
        with torch.no_grad():
            found, mass = _asked(log_prob, held_out), _asked(log_prob, plane).exp().sum().item() * SIDE**2
        if not found.isfinite().all() or not math.isfinite(mass):
            raise ValueError("some held-out points have a density of 0, or not a number: leave a little everywhere")
        nats.append(found.mean().item())
        masses.append(mass)
    return Score(sum(nats) / len(nats), max(masses))


@lru_cache(maxsize=1)
def lesson_score() -> Score:
    """The lesson's histogram, measured here and now."""
    return density_score(lesson_density)


@exercise("03.5")
def check_density(answer) -> CheckResult:
    mine = attempt("03.5", answer, density_score)
    if isinstance(mine, CheckResult):
        return mine
    lesson = lesson_score()
    message = (
        f"got      {mine.nats:.3f} nats on three hidden shapes, held out; the largest mass of a density {mine.mass:.2f}\n"
        f"expected above {lesson.nats + GOAL:.3f}, which is {GOAL} more than the lesson's {lesson.nats:.3f}; mass 1"
    )
    hint = ""
    if mine.mass > 1 + LEAK:
        hint = f"Your density adds up to {mine.mass:.2f}: no density may hold more than 1. What did you forget to divide by?"
    elif mine == lesson:
        hint = "That is the lesson's histogram itself."
    elif mine.nats <= lesson.nats + GOAL:
        hint = "Try a small Gaussian on every point in place of bins, and choose its width on points that you held back."
    return CheckResult("03.5", not hint, message, hint)


REFERENCES = {"03.1": binned_log_likelihood, "03.2": covering, "03.3": elbo_estimate, "03.4": coupled_log_prob}
