"""Lesson 10: alpha-bar, a jump between two times, the distance to noise, when a frequency drowns, a schedule to beat."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aigc_lessons.diffusion.forward import recoverable
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, from_betas
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise


def alpha_bars(betas):
    return from_betas(betas).alpha_bars


def jump(x_s, eps, abar_s, abar_t):
    keep = abar_t / abar_s
    return keep**0.5 * x_s + (1 - keep) ** 0.5 * eps


def kl_to_noise(x0, abar):
    """By torch.distributions, pixel by pixel."""
    normal = torch.distributions.Normal
    q = normal(abar**0.5 * x0, torch.full_like(x0, (1 - abar) ** 0.5))
    return torch.distributions.kl_divergence(q, normal(torch.zeros_like(x0), torch.ones_like(x0))).mean()


def drowning_times(power, alpha_bars):
    buried = alpha_bars[None, :] * power[:, None] <= 1 - alpha_bars[None, :]
    never = torch.full((len(power), 1), True)
    return torch.cat([buried, never], 1).long().argmax(1)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _jump(keep, mix=lambda keep: (keep**0.5, (1 - keep) ** 0.5)):
    """A jump with the wrong share, or with the right one used wrongly."""

    def wrong(x_s, eps, abar_s, abar_t):
        a, b = mix(keep(abar_s, abar_t))
        return a * x_s + b * eps

    return wrong


def _ratio(abar_s, abar_t):
    return abar_t / abar_s


def _times(buried):
    """Drowning times by another rule: power (K, 1), abar (1, T+1) -> which are buried."""

    def wrong(power, alpha_bars):
        found = torch.cat([buried(power[:, None], alpha_bars[None, :]), torch.full((len(power), 1), True)], 1)
        return found.long().argmax(1)

    return wrong


SQUARE = "The mean of q enters squared, (sqrt(abar) x0)^2 of each pixel: a square was forgotten."
NO_START = "T betas give T + 1 numbers: the first is abar_0 = 1, before anything has happened."
MISTAKES = {
    "10.1": [
        Mistake(lambda betas: (1 - betas).cumprod(0),
                NO_START),
        Mistake(lambda betas: torch.cat([torch.ones(1).double(), 1 - betas.cumsum(0)]),
                "You subtract the betas one after the other. Each step keeps a share of what is *left*: multiply."),
        Mistake(lambda betas: torch.cat([torch.ones(1).double(), betas.cumprod(0)]),
                "You multiplied the betas, which are the shares that are lost; 1 - beta is the share that is kept."),
        Mistake(lambda betas: torch.cat([torch.ones(1).double(), (1 - betas).sqrt().cumprod(0)]),
                "That is the signal's factor, sqrt(abar). Shares of variance multiply without the root."),
        Mistake(lambda betas: torch.cat([torch.ones(1).double(), 1 - betas]),
                "That is alpha_t, the share kept by one step; abar_t is the product of all alphas up to t."),
    ],
    "10.2": [
        Mistake(_jump(lambda abar_s, abar_t: abar_t),
                "That is the jump from clean data. From x_s on, only steps s + 1 .. t count: abar_t / abar_s."),
        Mistake(_jump(lambda abar_s, abar_t: abar_t - abar_s + 1),
                "Shares of variance multiply along a chain; they are not subtracted. Divide abar_t by abar_s."),
        Mistake(_jump(_ratio, lambda keep: (keep, 1 - keep)),
                "Both square roots are missing: the ratio is a share of variance, the factors are its roots."),
        Mistake(_jump(_ratio, lambda keep: (keep**0.5, 1 - keep)),
                "The square root over the noise is missing."),
        Mistake(_jump(_ratio, lambda keep: (keep**0.5, 1 - keep**0.5)),
                "The two factors add up to 1 in your jump; their *squares* should."),
        Mistake(lambda x_s, eps, abar_s, abar_t: (abar_t / abar_s) ** 0.5 * x_s + (1 - abar_t) ** 0.5 * eps,
                "x_s brings noise of its own. With 1 - abar_t on top, the sum has too much: add only 1 - abar_t / abar_s."),
    ],
    "10.3": [
        Mistake(lambda x0, abar: kl_to_noise(x0, abar) * x0.numel(),
                "Right for the whole picture; the exercise asks for nats a pixel. Take the mean, not the sum."),
        Mistake(lambda x0, abar: (abar * (x0.square().mean() - 1) + torch.tensor(1 - abar).log()) / 2,
                "The sign of the logarithm: a narrow q is far from N(0, 1), so the term must be positive: -log(1 - abar)."),
        Mistake(lambda x0, abar: abar * (x0.square().mean() - 1) - torch.tensor(1 - abar).log(),
                "The factor 1/2 in front is missing."),
        Mistake(lambda x0, abar: (abar * (x0.mean().square() - 1) - torch.tensor(1 - abar).log()) / 2,
                "You squared the mean of the pixels; each pixel is squared first, then the mean is taken."),
        Mistake(lambda x0, abar: (abar**2 * x0.square().mean() - abar - torch.tensor(1 - abar).log()) / 2,
                "The mean of q is sqrt(abar) x0, so its square is abar x0^2: the root is gone after squaring."),
        Mistake(lambda x0, abar: kl_to_noise(x0, abar) / math.log(2),
                "Those are bits. The exercise asks for nats: the natural logarithm, and no division by log 2."),
        Mistake(lambda x0, abar: (abar**0.5 * x0.mean() - abar - torch.tensor(1 - abar).log()) / 2, SQUARE),
        Mistake(lambda x0, abar: (abar * (x0.mean() - 1) - torch.tensor(1 - abar).log()) / 2, SQUARE),
        Mistake(lambda x0, abar: ((1 + abar * x0.square().mean()) / (1 - abar) - 1 + torch.tensor(1 - abar).log()) / 2,
                "That is the KL from N(0, I) to q, the other way round: what q's variance divides belongs above the line."),
        Mistake(lambda x0, abar: abar * x0.square().mean() / 2,
                "That is the part of the mean. The variance of q is 1 - abar and not 1: it has a part too."),
    ],
    "10.4": [
        Mistake(_times(lambda P, abar: abar.sqrt() * P <= (1 - abar).sqrt()),
                "P is a power, a mean square: compare abar P with 1 - abar, both without roots."),
        Mistake(_times(lambda P, abar: abar + 0 * P <= 1 - abar),
                "You did not use the power: that is where the two factors are equal, the same t for every band."),
        Mistake(_times(lambda P, abar: abar * P <= 1),
                "The noise has power 1 - abar at time t; you compare with 1, its power at the end."),
        Mistake(lambda power, alpha_bars: len(alpha_bars) - drowning_times(power, alpha_bars),
                "You counted the times at which the band is buried. The first of them is asked for: count those before."),
        Mistake(_times(lambda P, abar: abar * P < 1 - abar),
                "Nearly: a band that is exactly as strong as the noise counts as buried, so <= and not <."),
        Mistake(lambda power, alpha_bars: (drowning_times(power, alpha_bars) - 1).clamp(min=0),
                "One too early: you return the last step at which the band is still above the noise."),
        Mistake(lambda power, alpha_bars: drowning_times(power, alpha_bars) % len(alpha_bars),
                "A band that no step buries must give T + 1. argmax of a row without True is 0: add a column of True."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


def _uniform(seed: int, n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@exercise("10.1")
def check_alpha_bars(answer) -> CheckResult:
    inputs = [{"betas": 0.01 + 0.2 * _uniform(k, n)} for k, n in enumerate([3, 7, 1, 50, 1000])]
    inputs += [{"betas": torch.tensor([0.5, 0.999], dtype=torch.float64)}]
    result = compare(
        "10.1", answer, alpha_bars, inputs, MISTAKES["10.1"],
        praise="Right on six lists of betas, from a single step to a thousand, and the same as the package.",
        hint="abar_0 = 1, and abar_t = abar_{t-1} (1 - beta_t). torch's cumprod multiplies along a list.",
        tolerance=1e-9,
    )  # fmt: skip
    return replace(result, hint=NO_START) if result.hint.startswith("The shape is") else result


@exercise("10.2")
def check_jump(answer) -> CheckResult:
    levels = [(0.9, 0.5), (0.6, 0.1), (0.3, 0.29), (1.0, 0.4), (0.05, 0.0004), (0.7, 0.7)]
    inputs = [
        {"x_s": noise(k, 2, 3).double(), "eps": noise(40 + k, 2, 3).double(), "abar_s": s, "abar_t": t}
        for k, (s, t) in enumerate(levels)
    ]
    return compare(
        "10.2", answer, jump, inputs, MISTAKES["10.2"],
        praise="Right on six jumps: from clean data, over a single small step, and the jump of no length at all.",
        hint="The steps s + 1 .. t keep the share alpha_{s+1} ... alpha_t. Which ratio of alpha-bars is that?",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("10.3")
def check_kl(answer) -> CheckResult:
    sizes, levels = [(4,), (2, 3), (1, 5, 5), (7,), (3, 3), (6,)], [0.5, 0.9, 0.01, 0.2, 0.7, 0.3]
    inputs = [
        {"x0": 0.4 + noise(k, *size).double(), "abar": abar}
        for k, (size, abar) in enumerate(zip(sizes, levels, strict=True))
    ]
    inputs += [{"x0": torch.zeros(4).double(), "abar": 0.5}, {"x0": torch.ones(3).double(), "abar": 0.0}]
    return compare(
        "10.3", answer, kl_to_noise, inputs, MISTAKES["10.3"],
        praise="The same as torch.distributions on eight pictures, a grey one and pure noise included.",
        hint="Put m = sqrt(abar) x0 and v = 1 - abar into (m^2 + v - 1 - log v) / 2, and average over the pixels.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("10.4")
def check_drowning_times(answer) -> CheckResult:
    schedules = [cosine_schedule(T).alpha_bars for T in (10, 100, 1000)] + [from_betas(torch.full((20,), 0.02)).alpha_bars]
    schedules += [from_betas(0.3 * _uniform(3, 12)).alpha_bars, from_betas(torch.tensor([0.5])).alpha_bars]
    inputs = [
        {"power": 10 ** (3 * _uniform(k, n) - 2), "alpha_bars": s}
        for k, (n, s) in enumerate(zip([3, 5, 8, 6, 4, 3], schedules, strict=True))
    ]
    inputs[-1]["power"][0] = 1.0  # beta_1 = 1/2: exactly as strong as the noise at t = 1
    inputs.append(inputs[0] | {"power": torch.zeros(2).double()})  # nothing there: buried by the first step
    return compare(
        "10.4", answer, drowning_times, inputs, MISTAKES["10.4"],
        praise="Right on seven spectra, a band that no step buries and one that was never there included.",
        hint="Compare abar_t P_k (K rows, T + 1 columns) with 1 - abar_t; then find the first True of each row.",
        tolerance=1e-9,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ 10.5, a schedule to beat

STEPS, LAST, LIMIT = 20, 1e-4, 0.053
# P_k and n_k of the digits, to two figures, as section 6 measures them; a test holds them to the data
DIGITS = [5.6, 2.3, 3.2, 2.1, 1.3, 0.76, 0.42, 0.24, 0.14, 0.077, 0.046, 0.032, 0.025, 0.020, 0.016, 0.013, 0.010, 0.0088,
          0.0075, 0.0068, 0.0066]  # fmt: skip
COUNT = [1, 8, 12, 16, 32, 28, 40, 40, 48, 68, 56, 72, 68, 88, 74, 44, 44, 20, 20, 4, 1]


@dataclass(frozen=True)
class Walk:
    """The largest share of the variance that one step destroys, which step that is, and abar at the end."""

    largest: float
    step: int
    last: float


def spectra() -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> (power, count): the digits, data of a finer grain, and data with one scale only."""
    count = torch.tensor(COUNT).double()
    k = torch.arange(len(COUNT)).double()
    return {
        "the digits": (torch.tensor(DIGITS).double(), count),
        "power falling like 1 / (1 + k)": (4 / (1 + k), count),
        "two scales, 1000 times apart": (torch.tensor([10.0, 0.01]).double(), torch.tensor([10.0, 100.0]).double()),
    }


def walk(abar: Tensor, power: Tensor, count: Tensor) -> Walk:
    """What a schedule destroys in its most destructive step."""
    loss = -recoverable(abar, power, count).diff()
    return Walk(loss.max().item(), int(loss.argmax()) + 1, abar[-1].item())


def _scored(answer, power: Tensor, count: Tensor) -> Walk:
    got = call(answer, power.clone(), count.clone(), STEPS)
    if not isinstance(got, Tensor) or got.shape != (STEPS + 1,):
        raise ValueError(
            f"return abar_0 .. abar_{STEPS}: shape ({STEPS + 1},), got {getattr(got, 'shape', type(got).__name__)}"
        )
    return walk(NoiseSchedule(got).alpha_bars, power, count)


@exercise("10.5")
def check_better_schedule(answer) -> CheckResult:
    lines, hint = [], ""
    for name, (power, count) in spectra().items():
        mine = attempt("10.5", answer, lambda make: _scored(make, power, count), f"for {name}:")  # noqa: B023
        if isinstance(mine, CheckResult):
            return mine
        cosine = walk(cosine_schedule(STEPS).alpha_bars, power, count)
        lines.append(f"{name}: largest loss {mine.largest:.4f} at t = {mine.step}, abar_T {mine.last:.1e}")
        lines[-1] += f" (cosine: {cosine.largest:.4f})"
        if hint:
            continue
        if mine.last > LAST:
            hint = f"For {name} a signal is left: abar_T must be at most {LAST:g}. Give the last step a goal of its own."
        elif mine.largest > LIMIT:
            hint = f"For {name}, step {mine.step} takes {mine.largest:.4f}: go slower there, faster where less is lost."
            if abs(mine.largest - cosine.largest) < 1e-6:
                hint = "That is the cosine schedule itself, which knows nothing of the data. Use power and count."
    lines.append(f"expected: no step above {LIMIT} (a fair share is {1 / STEPS:g}), abar_T at most {LAST:g}")
    return CheckResult("10.5", not hint, "\n".join(lines), hint)


REFERENCES = {"10.1": alpha_bars, "10.2": jump, "10.3": kl_to_noise, "10.4": drowning_times}
