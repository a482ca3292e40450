"""Lesson 15: a step of DDIM's family, Euler's form, a step of 2M, an order measured, and a grid to beat."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.diffusion import grids
from aigc_lessons.diffusion.mixture import GaussianMixture, ring, spiral
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise


def family_step(x_t, x0, abar_t, abar_s, eta, z):
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
    return _mixed(x_t, x0, abar_t, abar_s, sigma, z)


def _mixed(x_t, x0, abar_t, abar_s, sigma, z):
    eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * x0 + max(1 - abar_s - sigma**2, 0.0) ** 0.5 * eps + sigma * z


def euler_step(x_t, eps, abar_t, abar_s):
    x0 = (x_t - (1 - abar_t) ** 0.5 * eps) / abar_t**0.5
    return abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * eps


def two_m_step(x_t, D_t, D_before, lambda_before, lambda_t, lambda_s):
    return _two_m(x_t, D_t, D_before, lambda_before, lambda_t, lambda_s)


def _two_m(x_t, D_t, D_before, lambda_before, lambda_t, lambda_s, weight=lambda h, before: h / (2 * before), decay=1.0):
    """`weight` is the share of D_t - D_before that is added to D_t."""
    abar_t, abar_s = _abar(lambda_t), _abar(lambda_s)
    h, D = lambda_s - lambda_t, D_t
    if D_before is not None:
        D = D_t + weight(h, lambda_t - lambda_before) * (D_t - D_before)
    return ((1 - abar_s) / (1 - abar_t)) ** 0.5 * x_t + abar_s**0.5 * (1 - math.exp(-decay * h)) * D


def _abar(half_log_snr: float) -> float:
    return 1 / (1 + math.exp(-2 * half_log_snr))


def measured_order(solver, exact, steps):
    return grids.order(steps, [(solver(n) - exact).abs().mean().item() for n in steps])


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _fresh(sigma):
    """A step with another sigma."""
    return lambda x_t, x0, abar_t, abar_s, eta, z: _mixed(x_t, x0, abar_t, abar_s, sigma(abar_t, abar_s, eta), z)


def _all_old(x_t, x0, abar_t, abar_s, eta, z):
    eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * eps + sigma * z


def _no_root(x_t, x0, abar_t, abar_s, eta, z):
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
    eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s - sigma**2) * eps + sigma * z


def _order(error, sign=-1.0, log=torch.log):
    """An order from another error, with another sign, or from other axes."""

    def wrong(solver, exact, steps):
        x = log(torch.tensor(steps, dtype=torch.float64))
        y = log(torch.stack([torch.as_tensor(error(solver(n) - exact)).double() for n in steps]))
        return (sign * ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()

    return wrong


def _mean(off: Tensor) -> Tensor:
    return off.abs().mean()


def _ends(solver, exact, steps):
    first, last = (_mean(solver(n) - exact).item() for n in (steps[0], steps[-1]))
    return math.log(first / last) / math.log(steps[-1] / steps[0])


MISTAKES = {
    "15.1": [
        Mistake(_fresh(lambda abar_t, abar_s, eta: eta * (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)),
                "The square root in sigma is missing: without it, it is the posterior's variance times eta."),
        Mistake(_all_old,
                "You add fresh noise on top of all of the old. The old noise must make room: 1 - abar_s - sigma^2."),
        Mistake(_no_root,
                "The square root over 1 - abar_s - sigma^2 is missing: it is a variance, and eps needs an amplitude."),
        Mistake(_fresh(lambda abar_t, abar_s, eta: 0.0 * eta),
                "That is DDIM, whatever eta is: sigma, and with it the fresh noise z, is missing."),
        Mistake(lambda x_t, x0, abar_t, abar_s, eta, z: family_step(x_t, x0, abar_t, abar_s, eta**0.5, z),
                "eta multiplies sigma, not its square: keep it outside of the root."),
        Mistake(lambda x_t, x0, abar_t, abar_s, eta, z: family_step(x_t, x0, abar_t, abar_s, 1.0, z),
                "That is DDPM, whatever eta is: multiply sigma by eta."),
    ],
    "15.2": [
        Mistake(lambda x_t, eps, abar_t, abar_s: euler_step(x_t, eps, abar_t, abar_s) / abar_s**0.5,
                "You return the scaled sample. Multiply by sqrt(abar_s) to come back to x_s."),
        Mistake(lambda x_t, eps, abar_t, abar_s: abar_s**0.5 * (x_t / abar_t**0.5 - (
                    ((1 - abar_s) / abar_s) ** 0.5 - ((1 - abar_t) / abar_t) ** 0.5) * eps),
                "The sign of the step: its length is sigma_s - sigma_t, negative on the way to less noise."),
        Mistake(lambda x_t, eps, abar_t, abar_s: abar_s**0.5 * (
                    x_t / abar_t**0.5 + ((1 - abar_s) / abar_s - (1 - abar_t) / abar_t) * eps),
                "The square root in sigma is missing: sigma^2 is (1 - abar) / abar."),
        Mistake(lambda x_t, eps, abar_t, abar_s: x_t + (
                    ((1 - abar_s) / abar_s) ** 0.5 - ((1 - abar_t) / abar_t) ** 0.5) * eps,
                "You step in sigma without scaling x: divide x_t by sqrt(abar_t) first, times sqrt(abar_s) at the end."),
        Mistake(lambda x_t, eps, abar_t, abar_s: abar_s**0.5 * (
                    x_t / abar_t**0.5 + ((1 - abar_s) ** 0.5 - (1 - abar_t) ** 0.5) * eps),
                "sqrt(1 - abar) is the noise in x. In the scaled x it is sigma = sqrt((1 - abar) / abar)."),
    ],
    "15.3": [
        Mistake(lambda **given: _two_m(**given, weight=lambda h, before: before / (2 * h)),
                "r is turned round: r = h'/h, the step before over this step, so a long step before counts little."),
        Mistake(lambda **given: _two_m(**given, weight=lambda h, before: h / before),
                "You go to the end of the step, D_t + h D'. The middle of the straight line stands for all of it: h/2."),
        Mistake(lambda **given: _two_m(**given, weight=lambda h, before: -h / (2 * before)),
                "The straight line runs backwards: D_t counts 1 + 1/(2r), and D_before is subtracted."),
        Mistake(lambda **given: _two_m(**given, weight=lambda h, before: 0.0),
                "That is the first-order step: D_before is not used."),
        Mistake(lambda **given: _two_m(**given, weight=lambda h, before: 0.5),
                "The two steps need not be equally long: divide by 2r, not by 2."),
        Mistake(lambda **given: _two_m(**given, decay=-1.0),
                "The sign in the exponential: h is positive on the way to less noise; 1 - exp(-h) lies between 0 and 1."),
    ],
    "15.4": [
        Mistake(_order(_mean, sign=1.0),
                "The sign: errors fall, so the slope is negative, and the order is minus the slope."),
        Mistake(_order(lambda off: off.mean().abs()),
                "Take absolute values before the mean: errors to both sides would cancel."),
        Mistake(_order(_mean, log=lambda x: x),
                "The logarithms are missing: only on a log-log plot is a power a straight line."),
        Mistake(_order(lambda off: off.square().mean()),
                "You squared the errors, which doubles the order. Use the mean of the absolute differences."),
        Mistake(_ends,
                "You used the first and the last point only; the least-squares line goes through all of them."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@exercise("15.1")
def check_family_step(answer) -> CheckResult:
    levels = [(0.2, 0.5, 0.5), (0.4, 0.9, 1.0), (0.05, 0.3, 0.3), (0.6, 0.7, 0.8), (0.3, 0.6, 0.0), (0.8, 1.0, 1.0)]
    inputs = [
        {"x_t": noise(k, 2, 3), "x0": noise(30 + k, 2, 3), "abar_t": t, "abar_s": s, "eta": eta, "z": noise(60 + k, 2, 3)}
        for k, (t, s, eta) in enumerate(levels)
    ]
    return compare(
        "15.1", answer, family_step, inputs, MISTAKES["15.1"],
        praise="Right on six steps: DDIM, DDPM, three between them, and the last step, which has no noise to add.",
        hint="sigma from eta; eps from x_t and x0; then sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) eps + sigma z.",
    )  # fmt: skip


@exercise("15.2")
def check_euler_step(answer) -> CheckResult:
    levels = [(0.2, 0.5), (0.4, 0.9), (0.05, 0.3), (0.6, 0.7), (0.8, 1.0), (0.7, 0.3)]
    inputs = [
        {"x_t": noise(k, 2, 3), "eps": noise(30 + k, 2, 3), "abar_t": t, "abar_s": s} for k, (t, s) in enumerate(levels)
    ]
    return compare(
        "15.2", answer, euler_step, inputs, MISTAKES["15.2"],
        praise="Right on six steps, the last one and one back into the noise included: and the same as DDIM's step.",
        hint="Scale: x_t / sqrt(abar_t). Step: + (sigma_s - sigma_t) eps. Scale back: times sqrt(abar_s).",
    )  # fmt: skip


@exercise("15.3")
def check_two_m_step(answer) -> CheckResult:
    places = [(-2.0, -1.0, 0.5), (-1.0, -0.8, 0.4), (0.0, 1.2, 1.5), (-6.0, -1.5, -0.5), (1.0, 1.5, 2.6), (-0.5, 0.3, 1.1)]
    inputs = [
        {"x_t": noise(k, 2, 3), "D_t": noise(30 + k, 2, 3), "D_before": noise(60 + k, 2, 3),
         "lambda_before": before, "lambda_t": t, "lambda_s": s}
        for k, (before, t, s) in enumerate(places)
    ]  # fmt: skip
    inputs.append(inputs[0] | {"D_before": None, "lambda_before": None})
    return compare(
        "15.3", answer, two_m_step, inputs, MISTAKES["15.3"],
        praise="Right on six pairs of steps, long after short and short after long, and on a first step.",
        hint="h = lambda_s - lambda_t, r = (lambda_t - lambda_before) / h, D = (1 + 1/(2r)) D_t - 1/(2r) D_before.",
    )  # fmt: skip


class Solver:
    """n -> truth + n^-p (a + b/n) + a wobble of a few percent: an error of order p, as measured ones are."""

    def __init__(self, p: float, seed: int, truth: Tensor):
        self.p, self.seed, self.truth = p, seed, truth

    def __call__(self, n: int) -> Tensor:
        rough = noise(self.seed, *self.truth.shape).double()
        wobble = 1 + 0.08 * math.sin(7.0 * self.seed + n)
        return self.truth + wobble * n**-self.p * (rough + noise(self.seed + 1, *self.truth.shape).double() / n)

    def __repr__(self) -> str:
        return f"one of order about {self.p:g}"


@exercise("15.4")
def check_measured_order(answer) -> CheckResult:
    cases = [(1.0, [10, 20, 40]), (2.0, [8, 16, 32, 64]), (0.5, [5, 10, 100]), (3.0, [4, 6, 9]), (1.5, [10, 25]),
             (2.0, [100, 150, 200, 400])]  # fmt: skip
    inputs = []
    for k, (p, steps) in enumerate(cases):
        truth = noise(90 + k, 4, 2).double()
        inputs.append({"solver": Solver(p, k, truth), "exact": truth, "steps": steps})
    return compare(
        "15.4", answer, measured_order, inputs, MISTAKES["15.4"],
        praise="Right on six solvers, of orders from one half to three.",
        hint="x = log n, y = log of the mean absolute error; minus sum (x - mean x)(y - mean y) / sum (x - mean x)^2.",
        tolerance=1e-6,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- 15.5, a grid to beat

LIMIT, STEPS = 0.6, (12, 16)


def worlds() -> dict[str, GaussianMixture]:
    """Mixtures that the lesson does not show: a small ring, a spiral, and three of random ellipses."""

    def ellipses(seed: int) -> GaussianMixture:
        dice, K = torch.Generator().manual_seed(seed), 5
        A = 0.25 * torch.randn(K, 2, 2, generator=dice, dtype=torch.float64)
        means = 1.2 * torch.randn(K, 2, generator=dice, dtype=torch.float64)
        return GaussianMixture(torch.rand(K, generator=dice) + 0.3, means, A @ A.mT + 0.01 * torch.eye(2))

    return {"five on a ring": ring(5, 1.4, 0.05), "a spiral": spiral()} | {f"ellipses {k}": ellipses(k) for k in (1, 2, 3)}


@lru_cache(maxsize=1)
def _truths() -> tuple[NoiseSchedule, Tensor, dict[str, Tensor], dict[tuple[str, int], float]]:
    """Schedule, noise, the ends of very fine walks, and the usual grid's errors."""
    schedule = cosine_schedule()
    x_T = torch.randn(64, 2, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    fine = grids.even_schedule(400, schedule.log_snr(torch.tensor(schedule.T)).item() / 2, 8.0)
    ends = {name: final(sample(world.denoiser(fine), fine, x_T, method="dpmpp_2m")) for name, world in worlds().items()}
    usual = {
        (name, N): _error(world, schedule, x_T, grids.bent(schedule, N), ends[name])
        for name, world in worlds().items()
        for N in STEPS
    }
    return schedule, x_T, ends, usual


def _error(world: GaussianMixture, schedule: NoiseSchedule, x_T: Tensor, times: list[int], end: Tensor) -> float:
    walk = grids.visit(world.denoiser(schedule), schedule, x_T, times, method="dpmpp_2m")
    return (final(walk) - end).abs().mean().item()


def _scored(answer) -> tuple[dict[str, float], dict[int, list[int]]]:
    schedule, x_T, ends, usual = _truths()
    times = {}
    for N in STEPS:
        got = call(answer, schedule, N)
        got = got.tolist() if isinstance(got, Tensor) else list(got)
        if len(got) != N + 1 or got[0] != schedule.T or any(t != int(t) for t in got):
            raise ValueError(f"return {N + 1} whole numbers for N = {N}, the first of them T = {schedule.T}; got {got}")
        times[N] = [int(t) for t in got]
    ratios = {
        name: sum(_error(world, schedule, x_T, times[N], ends[name]) / usual[name, N] for N in STEPS) / len(STEPS)
        for name, world in worlds().items()
    }
    return ratios, times


@exercise("15.5")
def check_better_grid(answer) -> CheckResult:
    scored = attempt("15.5", answer, _scored, "for the cosine schedule, N = 12 and 16:")
    if isinstance(scored, CheckResult):
        return scored
    ratios, times = scored
    mean, schedule = sum(ratios.values()) / len(ratios), _truths()[0]
    lines = [f"{name}: {ratio:.2f} of the usual grid's error" for name, ratio in ratios.items()]
    lines += [f"mean {mean:.2f}", f"expected: at most {LIMIT}"]
    hint, asked = "", times[STEPS[0]]
    if mean > LIMIT:
        wasted, last = sum(t > 0.97 * schedule.T for t in asked[1:]), asked[-2]
        if asked == grids.bent(schedule, STEPS[0]):
            hint = "That is the usual grid itself."
        elif wasted >= 2:
            hint = f"{wasted} of your {STEPS[0]} steps end above t = {0.97 * schedule.T:g}, where nothing happens yet: jump."
        elif last > 0.05 * schedule.T:
            hint = f"Your last step starts at t = {last}: it is Euler's, and its error grows with sigma^2. Start it later."
        else:
            hint = "Steps even in half the log-SNR, between about 0.95 T and 0.02 T, suit a straight line in lambda."
    return CheckResult("15.5", not hint, "\n".join(lines), hint)


REFERENCES = {"15.1": family_step, "15.2": euler_step, "15.3": two_m_step, "15.4": measured_order}
