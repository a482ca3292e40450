"""Lesson 13: velocity, a DDIM step, guidance, the Fréchet distance, and a sampler to beat."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.data import digits
from aigc_lessons.diffusion import samplers
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.judges import accuracy, describe
from aigc_lessons.evaluation.metrics import balanced_subset, frechet_distance
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import card, pretrained


def velocity(x0, eps, abar):
    return abar.sqrt() * eps - (1 - abar).sqrt() * x0


def guided(x0_label, x0_null, scale):
    return x0_null + scale * (x0_label - x0_null)


def ddim_step(x_t, x0, abar_t, abar_s):
    eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * eps


def frechet(mu_a, S_a, mu_b, S_b):
    return (mu_a - mu_b).square().sum() + (S_a + S_b).trace() - 2 * overlap(S_a, S_b)


def overlap(S_a, S_b):
    """trace (S_a S_b)^(1/2), through the symmetric S_a^(1/2) S_b S_a^(1/2)."""
    root = _matrix_sqrt(S_a)
    return _matrix_sqrt(root @ S_b @ root).trace()


def _matrix_sqrt(S: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(S)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


ENTRYWISE = "That is the root of each entry. A matrix root R satisfies R @ R = S: take the roots of the eigenvalues."
MISTAKES = {
    "13.1": [
        Mistake(
            lambda x0, eps, abar: abar.sqrt() * x0 + (1 - abar).sqrt() * eps,
            "That is x_t itself. The velocity is its derivative along the arc: noise leads, and the picture is subtracted.",
        ),
        Mistake(
            lambda x0, eps, abar: (1 - abar).sqrt() * x0 - abar.sqrt() * eps,
            "The sign is turned round: v points from the picture to the noise, so eps counts positive.",
        ),
        Mistake(
            lambda x0, eps, abar: abar.sqrt() * eps + (1 - abar).sqrt() * x0,
            "The minus is missing: moving along the arc, the share of the picture goes down.",
        ),
        Mistake(
            lambda x0, eps, abar: abar * eps - (1 - abar) * x0,
            "Both square roots are missing: abar is a share of the variance, not of the amplitude.",
        ),
        Mistake(
            lambda x0, eps, abar: abar.sqrt() * x0 - (1 - abar).sqrt() * eps,
            "x0 and eps have changed places.",
        ),
        Mistake(
            lambda x0, eps, abar: abar.sqrt() * eps - (1 - abar) * x0,
            "The square root around 1 - abar is missing.",
        ),
    ],
    "13.2": [
        Mistake(
            lambda x_t, x0, abar_t, abar_s: (
                abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * (x_t - abar_t * x0) / (1 - abar_t) ** 0.5
            ),
            "The square root around abar_t is missing where you solve for the noise.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: (
                abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * (x_t - abar_t**0.5 * x0) / (1 - abar_t)
            ),
            "The square root around 1 - abar_t is missing where you divide to get the noise.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: (
                abar_s**0.5 * x0 + (1 - abar_s) * (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
            ),
            "The square root around 1 - abar_s is missing where the noise is put back.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: (
                abar_s * x0 + (1 - abar_s) ** 0.5 * (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
            ),
            "The square root around abar_s is missing where the picture is put back.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: abar_s**0.5 * x0,
            "The noise was not put back: x_s still holds a share 1 - abar_s of it.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: x_t,
            "You mixed with abar_t again, which gives x_t back: the new time is s.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * x_t,
            "x_t is not the noise: it is picture and noise together. Solve for eps first.",
        ),
        Mistake(
            lambda x_t, x0, abar_t, abar_s: ddim_step(x_t, x0, abar_s, abar_t),
            "abar_t and abar_s have changed places: x_t is at level abar_t, and you go to abar_s.",
        ),
    ],
    "13.3": [
        Mistake(
            lambda x0_label, x0_null, scale: x0_label + scale * (x0_label - x0_null),
            "Your scale 0 is already conditional: start at x0_null. (Some papers count so: w = scale - 1.)",
        ),
        Mistake(
            lambda x0_label, x0_null, scale: x0_label + scale * (x0_null - x0_label),
            "The two estimates have changed places: scale 1 should give x0_label.",
        ),
        Mistake(
            lambda x0_label, x0_null, scale: scale * (x0_label - x0_null),
            "Only the difference is left: add it to x0_null, where the walk starts.",
        ),
        Mistake(
            lambda x0_label, x0_null, scale: scale * x0_label + x0_null,
            "The weights must add up to 1: subtract x0_null before multiplying by the scale.",
        ),
    ],
    "13.4": [
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (S_a + S_b).trace() - 2 * overlap(S_a, S_b),
            "The distance between the means is missing: two clouds of one shape may lie far apart.",
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (mu_a - mu_b).norm() + (S_a + S_b).trace() - 2 * overlap(S_a, S_b),
            "The distance between the means enters squared.",
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (mu_a - mu_b).square().sum() + (S_a + S_b).trace() - overlap(S_a, S_b),
            "The factor 2 before the last trace is missing: the distance of a cloud to itself must be 0.",
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (
                (mu_a - mu_b).square().sum() + (S_a + S_b).trace() - 2 * (S_a * S_b).abs().sqrt().trace()
            ),
            ENTRYWISE,
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (
                (mu_a - mu_b).square().sum() + (S_a + S_b).trace() - 2 * (S_a @ S_b).sqrt().trace()
            ),
            ENTRYWISE,
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: (
                (mu_a - mu_b).square().sum() + (S_a + S_b).trace() - 2 * (S_a @ S_b).trace().sqrt()
            ),
            "You took the root of a trace. First the root of the matrix S_a S_b, then the trace of that.",
        ),
        Mistake(
            lambda mu_a, S_a, mu_b, S_b: frechet(mu_a, S_a, mu_b, S_b).clamp(min=0).sqrt(),
            "That is d. The exercise asks for d^2, as the formula has it: leave the last root out.",
        ),
    ],
}  # fmt: skip


@exercise("13.1")
def check_velocity(answer) -> CheckResult:
    abars = [torch.tensor(a).view(-1, 1) for a in ([0.3, 0.9], [0.01, 0.5], [0.7, 0.2], [0.99, 0.6], [0.4, 0.4], [0.0, 1.0])]
    inputs = [{"x0": noise(k, 2, 3), "eps": noise(50 + k, 2, 3), "abar": abar} for k, abar in enumerate(abars)]
    return compare(
        "13.1", answer, velocity, inputs, MISTAKES["13.1"],
        praise="Right on six batches, pure picture and pure noise included.",
        hint="Write x_t = cos(a) x0 + sin(a) eps with cos(a) = sqrt(abar), and differentiate by a.",
    )  # fmt: skip


@exercise("13.2")
def check_ddim_step(answer) -> CheckResult:
    levels = [(0.2, 0.5), (0.01, 0.04), (0.6, 0.95), (0.3, 0.31), (0.08, 0.9), (0.5, 1.0)]
    inputs = [
        {"x_t": noise(k, 2, 3), "x0": noise(70 + k, 2, 3), "abar_t": t, "abar_s": s} for k, (t, s) in enumerate(levels)
    ]
    return compare(
        "13.2", answer, ddim_step, inputs, MISTAKES["13.2"],
        praise="Right on six pairs of noise levels, the last step to clean data included.",
        hint="Two moves: solve x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps for eps; mix x0 and that eps at level s.",
    )  # fmt: skip


@exercise("13.3")
def check_guided(answer) -> CheckResult:
    inputs = [
        {"x0_label": noise(k, 2, 3), "x0_null": noise(60 + k, 2, 3), "scale": scale}
        for k, scale in enumerate([1.5, 3.0, 0.4, 7.0, 1.25, 0.0, 1.0])
    ]
    return compare(
        "13.3", answer, guided, inputs, MISTAKES["13.3"],
        praise="Right on seven scales: 0 ignores the label, 1 obeys it, more exaggerates it.",
        hint="A straight line through two points: it passes x0_null at scale 0 and x0_label at scale 1.",
    )  # fmt: skip


@exercise("13.4")
def check_frechet(answer) -> CheckResult:
    def cloud(seed: int, size: int) -> tuple[Tensor, Tensor]:
        points = noise(seed, 4 * size, size).double() @ noise(seed + 1, size, size).double()
        return points.mean(0), torch.cov(points.T)

    inputs = []
    for k, size in enumerate([2, 3, 5, 8, 4]):
        (mu_a, S_a), (mu_b, S_b) = cloud(10 * k, size), cloud(10 * k + 5, size)
        inputs.append({"mu_a": mu_a, "S_a": S_a, "mu_b": mu_b, "S_b": S_b})
    eye, zero = torch.eye(2).double(), torch.zeros(2).double()
    inputs.append({"mu_a": zero, "S_a": eye, "mu_b": zero + 3, "S_b": 4 * eye})  # 18 + 2 (2 - 1)^2 = 20
    inputs.append(inputs[0] | {"mu_b": inputs[0]["mu_a"], "S_b": inputs[0]["S_a"]})  # a cloud and itself
    return compare(
        "13.4", answer, frechet, inputs, MISTAKES["13.4"],
        praise="Right on seven pairs of clouds; a cloud's distance to itself is 0.",
        hint="values, vectors = torch.linalg.eigh(S) gives S = vectors diag(values) vectors^T; take roots of the values.",
        tolerance=1e-5,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ 13.5, a sampler to beat

EVALUATIONS = 16  # of the network, for each digit
PLAIN_STEPS = 8


class _Counting:
    """A conditional denoiser that knows how many rows it was asked about."""

    def __init__(self, denoise):
        self.denoise, self.rows = denoise, 0

    def __call__(self, x_t, t, labels):
        self.rows += len(x_t)
        pieces = zip(x_t.split(200), t.split(200), labels.split(200), strict=True)  # to spare memory
        return torch.cat([self.denoise(*piece) for piece in pieces])


@dataclass(frozen=True)
class Score:
    """Of the digits drawn: the share the judge misreads, the Fréchet ratio, network evaluations for each digit."""

    misread: float
    ratio: float
    evaluations: float


@lru_cache(maxsize=1)
def _contest():
    """Network, schedule, judge and the real images' features, loaded once."""
    network, judge = pretrained("digits"), pretrained("digits_judge")
    train, held_out = digits.load(stand_in=True)
    features, real = describe(judge, held_out.images), describe(judge, train.images)
    generator, n = torch.Generator().manual_seed(0), 500
    unit = [frechet_distance(real[balanced_subset(train.labels, n, generator)], features) for _ in range(20)]
    schedule = cosine_schedule()
    return denoiser(network, schedule, card("digits")["target"]), schedule, judge, features, sum(unit) / len(unit)


def score(answer, seed: int = 0) -> Score:
    """Draw 500 digits with `answer(denoise, schedule, x_T, labels) -> x_0` from the shipped network, and judge them."""
    denoise, schedule, judge, held_out, unit = _contest()
    n = budget.steps(500, at_least=200)
    counting, labels = _Counting(denoise), torch.arange(n) % 10
    x0 = call(answer, counting, schedule, noise(1000 + seed, n, 1, 28, 28), labels.clone())
    if not isinstance(x0, Tensor) or x0.shape != (n, 1, 28, 28):
        raise ValueError(f"return a tensor of shape ({n}, 1, 28, 28), got {getattr(x0, 'shape', type(x0).__name__)}")
    if not x0.isfinite().all():
        raise ValueError("the digits contain NaN or infinity")
    images = digits.from_uint8(digits.to_uint8(x0))
    ratio = frechet_distance(describe(judge, images), held_out) / unit
    return Score(1 - accuracy(judge, images, labels), ratio, counting.rows / n)


def plain_sampler(denoise, schedule, x_T, labels):
    """The number to beat: DDIM in 8 steps, obeying the label and no more."""
    walk = samplers.sample(lambda x, t: denoise(x, t, labels), schedule, x_T, method="ddim", steps=PLAIN_STEPS)
    return samplers.final(walk)


@lru_cache(maxsize=1)
def plain_score() -> Score:
    """The plain sampler's score, measured here and now."""
    return score(plain_sampler)


@exercise("13.5")
def check_better_sampler(answer) -> CheckResult:
    mine = attempt("13.5", answer, score)
    if isinstance(mine, CheckResult):
        return mine
    plain = plain_score()
    most_misread, most_ratio = plain.misread / 2, 1.1 * plain.ratio
    message = (
        f"got      [here {mine.misread:.1%} misread, Fréchet ratio {mine.ratio:.3f}],"
        f" {mine.evaluations:.0f} evaluations a digit\n"
        f"expected at most [here {most_misread:.1%}, {most_ratio:.3f}], {EVALUATIONS} evaluations"
        f" (the plain sampler has [here {plain.misread:.1%} and {plain.ratio:.3f}])"
    )
    hint = ""
    if mine.evaluations > EVALUATIONS:
        hint = "Too many evaluations: guidance asks twice a step, and heun asks twice a step as well."
    elif mine.misread > most_misread:
        hint = "The label must count more: pull past the conditional estimate (section 9)."
        hint = "That is the plain sampler itself. " + hint if mine == plain else hint
    elif mine.ratio > most_ratio:
        hint = "Readable, but too much alike: pull less hard, or only in a part of the walk."
    return CheckResult("13.5", not hint, message, hint)


REFERENCES = {"13.1": velocity, "13.2": ddim_step, "13.3": guided, "13.4": frechet}
