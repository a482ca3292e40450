"""Lesson 16: a push by a classifier, the tilt of two Gaussians, what a guided flow really has, and a scale to beat."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.data import digits
from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.samplers import final, sample, sample_times
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.coverage import density_coverage
from aigc_lessons.evaluation.judges import describe
from aigc_lessons.evaluation.metrics import balanced_subset, frechet_distance
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.studio.digits import ANY
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import card, pretrained


def pushed(x0, gradient, abar, scale):
    return x0 + scale * (1 - abar) / abar**0.5 * gradient


def tilted(mean_y, var_y, mean_n, var_n, scale):
    precision = scale / var_y + (1 - scale) / var_n
    return torch.stack([(scale * mean_y / var_y + (1 - scale) * mean_n / var_n) / precision, 1 / precision])


def flow_variance(v_y, v_n, scale, low, high):
    return v_y * ((v_y + low) * (v_n + high) / ((v_n + low) * (v_y + high))) ** (scale - 1)


def _tilted(weight_y=lambda w: w, weight_n=lambda w: 1 - w):
    """A tilt with other exponents."""

    def wrong(mean_y, var_y, mean_n, var_n, scale):
        a, b = weight_y(scale), weight_n(scale)
        precision = a / var_y + b / var_n
        return torch.stack([(a * mean_y / var_y + b * mean_n / var_n) / precision, 1 / precision])

    return wrong


MISTAKES = {
    "16.1": [
        Mistake(lambda x0, gradient, abar, scale: x0 - scale * (1 - abar) / abar**0.5 * gradient,
                "The sign: the gradient of log p(y | x_t) points to where the label is likelier, and you walk along it."),
        Mistake(lambda x0, gradient, abar, scale: x0 + scale * gradient,
                "That adds the gradient to x0. It belongs to the score; x0 = (x_t + (1 - abar) score) / sqrt(abar)."),
        Mistake(lambda x0, gradient, abar, scale: x0 + scale * (1 - abar) / abar * gradient,
                "The square root around abar is missing: x0 = (x_t + (1 - abar) score) / sqrt(abar)."),
        Mistake(lambda x0, gradient, abar, scale: x0 + scale * ((1 - abar) / abar) ** 0.5 * gradient,
                "1 - abar stands without a root: it is the variance of the noise that multiplies the score."),
        Mistake(lambda x0, gradient, abar, scale: x0 + scale * (1 - abar) ** 0.5 * gradient,
                "That factor belongs to eps = -sqrt(1 - abar) score. For x0, solve Tweedie's formula."),
        Mistake(lambda x0, gradient, abar, scale: x0 + (1 - abar) / abar**0.5 * gradient,
                "The scale is missing."),
        Mistake(lambda x0, gradient, abar, scale: scale * x0 + scale * (1 - abar) / abar**0.5 * gradient,
                "Only the push is scaled, not the estimate itself."),
    ],
    "16.2": [
        Mistake(_tilted(lambda w: 1 + w, lambda w: -w),
                "Your scale 0 is already conditional. Here the exponents are w and 1 - w."),
        Mistake(_tilted(lambda w: 1 - w, lambda w: w), "The two Gaussians have changed places: w belongs to p(x | y)."),
        Mistake(_tilted(lambda w: w, lambda w: w - 1),
                "The sign of the second exponent: it is 1 - w, negative for w above 1, since p(x | n) is divided out."),
        Mistake(lambda mean_y, var_y, mean_n, var_n, scale: torch.stack(
                    [tilted(mean_y, var_y, mean_n, var_n, scale)[0], scale * var_y + (1 - scale) * var_n]),
                "Powers of Gaussians mix their precisions 1 / v, not their variances: look at what multiplies x^2."),
        Mistake(lambda mean_y, var_y, mean_n, var_n, scale: torch.stack(
                    [tilted(mean_y, var_y, mean_n, var_n, scale)[0], var_y**scale * var_n ** (1 - scale)]),
                "That is the variance of the guided flow. The tilted density mixes the precisions 1 / v."),
        Mistake(lambda mean_y, var_y, mean_n, var_n, scale: torch.stack(
                    [scale * mean_y + (1 - scale) * mean_n, tilted(mean_y, var_y, mean_n, var_n, scale)[1]]),
                "The means are weighted by precision: the sharper Gaussian pulls harder. Complete the square."),
        Mistake(lambda mean_y, var_y, mean_n, var_n, scale: torch.stack(
                    [tilted(mean_y, var_y, mean_n, var_n, scale)[0], scale / var_y + (1 - scale) / var_n]),
                "The second row is the precision; the exercise asks for the variance, which is 1 over it."),
    ],
    "16.3": [
        Mistake(lambda v_y, v_n, scale, low, high: v_y**scale * v_n ** (1 - scale),
                "That is guidance at all noise levels. Integrate the difference of the two speeds from low to high only."),
        Mistake(lambda v_y, v_n, scale, low, high: (
                    v_y * ((v_y + low) * (v_n + high) / ((v_n + low) * (v_y + high))) ** scale),
                "The exponent: outside and inside the interval the label counts once, so guidance adds w - 1 times the"
                " difference."),
        Mistake(lambda v_y, v_n, scale, low, high: (
                    v_y * ((v_y + low) * (v_n + high) / ((v_n + low) * (v_y + high))) ** ((scale - 1) / 2)),
                "A half is left over: dz/ds = z/2 (...) is for z; the variance goes with z squared."),
        Mistake(lambda v_y, v_n, scale, low, high: flow_variance(v_y, v_n, scale, high, low),
                "low and high have changed places: the walk comes down from high to low."),
        Mistake(lambda v_y, v_n, scale, low, high: (
                    ((v_y + low) * (v_n + high) / ((v_n + low) * (v_y + high))) ** (scale - 1)),
                "The factor for what happens without guidance is missing: with scale 1 the variance must be v_y."),
        Mistake(lambda v_y, v_n, scale, low, high: (
                    v_n * ((v_y + low) * (v_n + high) / ((v_n + low) * (v_y + high))) ** scale),
                "Outside the interval you follow the flow without a label. There the label is obeyed, with scale 1."),
    ],
}  # fmt: skip


@exercise("16.1")
def check_pushed(answer) -> CheckResult:
    inputs = [
        {"x0": noise(k, 3, 2), "gradient": noise(40 + k, 3, 2), "abar": abar, "scale": scale}
        for k, (abar, scale) in enumerate([(0.4, 2.0), (0.9, 1.0), (0.04, 3.5), (0.7, 0.5), (0.2, 8.0), (1.0, 3.0)])
    ]
    inputs.append(inputs[0] | {"scale": 0.0})
    return compare(
        "16.1", answer, pushed, inputs, MISTAKES["16.1"],
        praise="Right on seven pushes; without noise, or with scale 0, nothing is pushed.",
        hint="Put score + scale * gradient into x0 = (x_t + (1 - abar) score) / sqrt(abar), and see what is added.",
    )  # fmt: skip


@exercise("16.2")
def check_tilted(answer) -> CheckResult:
    inputs = []
    for k, (D, scale) in enumerate([(2, 2.0), (1, 3.5), (4, 0.4), (3, 6.0), (2, 1.3)]):
        var_y = 0.1 + noise(k, D).double().square()
        inputs.append({"mean_y": noise(20 + k, D).double(), "var_y": var_y, "mean_n": noise(30 + k, D).double(),
                       "var_n": var_y * (1 + noise(50 + k, D).double().abs()), "scale": scale})  # fmt: skip
    same = inputs[0] | {"var_n": inputs[0]["var_y"], "scale": 4.0}  # equal widths: a pure shift
    ends = [inputs[1] | {"scale": 0.0}, inputs[2] | {"scale": 1.0}]
    return compare(
        "16.2", answer, tilted, [*inputs, same, *ends], MISTAKES["16.2"],
        praise="Right on eight pairs; equal widths, and the scales 0 and 1, included.",
        hint="log p^(1-w) q^w = (1-w) log p + w log q: collect what multiplies x^2, and what multiplies x.",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("16.3")
def check_flow_variance(answer) -> CheckResult:
    cases = [(0.25, 1.0, 3.0, 0.1, 2.0), (0.5, 0.7, 5.0, 0.0, 0.4), (2.0, 1.0, 1.8, 0.3, 9.0), (0.1, 2.0, 0.5, 0.05, 1.0),
             (0.3, 1.5, 2.5, 1.0, 50.0), (0.25, 1.0, 3.0, 0.0, 1e7), (0.25, 1.0, 3.0, 0.6, 0.6)]  # fmt: skip
    inputs = [dict(zip(("v_y", "v_n", "scale", "low", "high"), case, strict=True)) for case in cases]
    return compare(
        "16.3", answer, flow_variance, inputs, MISTAKES["16.3"],
        praise="Right on seven intervals, from all noise levels to none.",
        hint="d log z^2 / ds is 1/(v_y + s) everywhere, and (w - 1) (1/(v_y + s) - 1/(v_n + s)) more inside the interval.",
        tolerance=1e-6,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- 16.4, a scale to beat

DIGITS, STEPS, CONSTANT, DENSE, GOAL = 500, 8, 2.0, 1.0, 0.83


@dataclass(frozen=True)
class Score:
    """Of the digits drawn, in units of what as many real digits get: density (fidelity), and Fréchet distance."""

    density: float
    ratio: float


@lru_cache(maxsize=1)
def _contest(n: int):
    """What n digits are judged with, loaded once; the last two are the density and the distance of n real digits."""
    judge, (train, held_out) = pretrained("digits_judge"), digits.load(stand_in=True)
    features, generator = describe(judge, held_out.images), torch.Generator().manual_seed(0)
    subsets = [describe(judge, train.images[balanced_subset(train.labels, n, generator)]) for _ in range(10)]
    dense = sum(density_coverage(subset, features).density for subset in subsets) / 10
    unit = sum(frechet_distance(subset, features) for subset in subsets) / 10
    denoise = denoiser(pretrained("digits"), cosine_schedule(), card("digits")["target"])
    return denoise, judge, features, dense, unit


def scales(answer) -> dict[int, float]:
    """What an answer says at the times that the sampler visits.

    Raises: ValueError for something that is not a number from 0 to 20.
    """
    said = {}
    for t in sample_times(1000, STEPS)[:-1]:
        w = call(answer, t)
        w = w.item() if isinstance(w, Tensor) and w.numel() == 1 else w
        if isinstance(w, bool) or not isinstance(w, (int, float)) or not 0 <= w <= 20:
            raise ValueError(f"my_scale({t}) must be a number from 0 to 20, got {w!r}")
        said[t] = float(w)
    return said


def score(said: dict[int, float], n: int = DIGITS, seed: int = 0) -> Score:
    """Draw n digits from the shipped network with these scales, by DPM-Solver++ in 8 steps, and judge them."""
    denoise, judge, held_out, dense, unit = _contest(n)
    labels, pieces = torch.arange(n) % 10, []
    for piece, x_T in zip(labels.split(100), noise(2000 + seed, n, 1, 28, 28).split(100), strict=True):

        def guided(x_t: Tensor, t: Tensor, y: Tensor = piece) -> Tensor:
            return classifier_free(denoise, y, ANY, said[int(t[0])])(x_t, t).clamp(-1, 1)

        pieces.append(final(sample(guided, cosine_schedule(), x_T, method="dpmpp_2m", steps=STEPS)))
    seen = describe(judge, digits.from_uint8(digits.to_uint8(torch.cat(pieces))))
    return Score(density_coverage(seen, held_out).density / dense, frechet_distance(seen, held_out) / unit)


@lru_cache(maxsize=1)
def constant_score(n: int = DIGITS) -> Score:
    """The lesson's: scale 2 at every step, measured here and now."""
    return score(scales(lambda t: CONSTANT), n)


@exercise("16.4")
def check_scale(answer) -> CheckResult:
    said = attempt("16.4", answer, scales)
    if isinstance(said, CheckResult):
        return said
    n = budget.steps(DIGITS, at_least=50)
    mine, constant = score(said, n), constant_score(n)
    message = (
        f"got      [here density {mine.density:.3f}, Fréchet ratio {mine.ratio:.3f}]\n"
        f"expected density at least {DENSE:g}, and a ratio of at most [here {GOAL * constant.ratio:.3f}], {GOAL:.0%} of what"
        f" scale {CONSTANT:g} throughout has [here {constant.ratio:.3f}, at density {constant.density:.3f}]"
    )
    if budget.is_tiny():  # so few digits are no contest
        return CheckResult("16.4", True, message)
    hint = ""
    if mine.density < DENSE:
        hint = "Too many poor digits: guide more strongly, or where a digit is decided. Is that at much noise or at little?"
    elif mine.ratio > GOAL * constant.ratio:
        alike = len(set(said.values())) == 1
        hint = "The same scale at every step: guide at some noise levels only." if alike else (
            "Good digits, but together too far from real ones: what does the very first step do to them?"
        )  # fmt: skip
    return CheckResult("16.4", not hint, message, hint)


REFERENCES = {"16.1": pushed, "16.2": tilted, "16.3": flow_variance}
