"""Lesson 11: a step back over several steps, the KL of two Gaussians, the weights of eps, a bound, widths to find."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from aigc_lessons.diffusion.bound import evenly_cut, reverse_variances
from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, from_betas, linear_schedule
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.exercises.widths import STEPS, Measured, gap, measured


def step_back(abar_s, abar_t):
    """By precisions: the prior's and the likelihood's add up."""
    a = abar_t / abar_s
    if abar_s == 1:  # x_0 is known: a precision without bound
        return torch.tensor([1.0, 0.0, 0.0], dtype=abar_t.dtype)
    prior, likelihood = 1 / (1 - abar_s), a / (1 - a)
    variance = 1 / (prior + likelihood)
    return torch.stack([variance * prior * abar_s**0.5, variance * likelihood / a**0.5, variance])


def kl(mean_q, var_q, mean_p, var_p):
    """By torch.distributions."""
    q, p = (Normal(mean, var**0.5 * torch.ones_like(mean)) for mean, var in ((mean_q, var_q), (mean_p, var_p)))
    return kl_divergence(q, p).sum(1)


def eps_weights(alpha_bars):
    """From the coefficients of the mean: DDPM, eq. 12."""
    now, before = alpha_bars[1:], alpha_bars[:-1]
    alpha = now / before
    sigma2 = torch.cat([1 - alpha[:1], ((1 - alpha) * (1 - before) / (1 - now))[1:]])
    return (1 - alpha) ** 2 / (2 * sigma2 * alpha * (1 - now))


def bound_of(denoise, alpha_bars, x0, eps):
    """With torch's densities, step by step."""
    T, ones = len(alpha_bars) - 1, torch.ones_like(x0)
    prior = Normal(torch.zeros_like(x0), ones)
    nats = kl_divergence(Normal(alpha_bars[T] ** 0.5 * x0, (1 - alpha_bars[T]) ** 0.5 * ones), prior).sum(1)
    for t in range(1, T + 1):
        x_t = alpha_bars[t] ** 0.5 * x0 + (1 - alpha_bars[t]) ** 0.5 * eps[t - 1]
        guess = denoise(x_t, torch.full((len(x0),), t))
        if t == 1:
            nats = nats - Normal(guess, (1 - alpha_bars[1]) ** 0.5).log_prob(x0).sum(1)
        else:
            of_x0, of_x_t, v = step_back(alpha_bars[t - 1], alpha_bars[t])
            q, p = (Normal(of_x0 * one + of_x_t * x_t, v**0.5) for one in (x0, guess))
            nats = nats + kl_divergence(q, p).sum(1)
    return nats


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _back(of_x0, of_x_t, variance):
    """Three numbers by other formulas, each of (abar_s, abar_t, their ratio a)."""

    def wrong(abar_s, abar_t):
        a = abar_t / abar_s
        return torch.stack([part(abar_s, abar_t, a) for part in (of_x0, of_x_t, variance)])

    return wrong


_RIGHT = (
    lambda s, t, a: s**0.5 * (1 - a) / (1 - t),
    lambda s, t, a: a**0.5 * (1 - s) / (1 - t),
    lambda s, t, a: (1 - s) * (1 - a) / (1 - t),
)


def _kl(part, total=lambda nats: nats.sum(1)):
    """Nats of each coordinate by another formula, put together."""
    return lambda mean_q, var_q, mean_p, var_p: total(part((mean_q - mean_p).square(), var_q, var_p))


def _right_kl(square, v, s):
    return (v / s - 1 - torch.log(v / s) + square / s) / 2


def _terms(
    denoise,
    alpha_bars,
    x0,
    eps,
    last=1.0,
    constant=1.0,
    weight=lambda w, t, abar: w,
    first=None,
    noisy=0,
    told=0,
    each=False,
):
    """The bound by the lesson's formulas, with something changed; x_t of step t - noisy, a denoiser told t - told."""
    T, D = len(alpha_bars) - 1, x0.shape[1]
    v, snr = 1 - alpha_bars[T], alpha_bars / (1 - alpha_bars)
    nats = last * ((1 - v) * x0.square() + v - 1 - torch.log(v)).sum(1) / 2
    for t in range(1, T + 1):
        abar = alpha_bars[t - noisy]
        x_t = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps[t - 1]
        off = (x0 - denoise(x_t, torch.full((len(x0),), t - told))).square().sum(1)
        beta = 1 - alpha_bars[1]
        if t == 1:
            nats = nats + (off / (2 * beta) if first is None else first(off, beta))
        if t == 1 or each:
            nats = nats + constant * D / 2 * torch.log(2 * math.pi * beta)
        if t > 1:
            nats = nats + weight((snr[t - 1] - snr[t]) / 2, t, alpha_bars) * off
    return nats


def _changed(**how):
    return lambda denoise, alpha_bars, x0, eps: _terms(denoise, alpha_bars, x0, eps, **how)


def _weights(alpha_bars, rule):
    now, before = alpha_bars[1:], alpha_bars[:-1]
    return rule(now, before, now / before)


def _eps(rule):
    return lambda alpha_bars: _weights(alpha_bars, rule)


def _fraction(alpha_bars):
    """(SNR_t / SNR_{t-1} - 1) / 2."""
    snr = alpha_bars / (1 - alpha_bars)
    return (snr[1:] / snr[:-1] - 1) / 2


UPSIDE_DOWN = "The fraction is upside down: SNR_{t-1} is the larger one and stands above the line. A weight is positive."
FIRST = "w_1 is special: p(x_0 | x_1) has variance beta_1, not 0. Put 1 / (2 alpha_1) in the first place."
MISTAKES = {
    "11.1": [
        Mistake(lambda abar_s, abar_t: step_back(abar_s, abar_t)[[1, 0, 2]],
                "The two coefficients have changed places: x_0 first, then x_t."),
        Mistake(_back(_RIGHT[0], _RIGHT[1], lambda s, t, a: 1 - a),
                "1 - a is the noise of the steps. The prior knows something too: times (1 - abar_s) / (1 - abar_t)."),
        Mistake(_back(_RIGHT[0], _RIGHT[1], lambda s, t, a: ((1 - s) * (1 - a) / (1 - t)) ** 0.5),
                "The third number is the variance, not its root."),
        Mistake(_back(lambda s, t, a: s * (1 - a) / (1 - t), lambda s, t, a: a * (1 - s) / (1 - t), _RIGHT[2]),
                "The roots are missing in the coefficients: sqrt(abar_s) and sqrt(a)."),
        Mistake(_back(lambda s, t, a: s**0.5 * (1 - t) / (1 - t), lambda s, t, a: t**0.5 * (1 - s) / (1 - t),
                      lambda s, t, a: (1 - s) * (1 - t) / (1 - t)),
                "You used abar_t for what the steps from s to t keep. They keep only abar_t / abar_s."),
        Mistake(_back(_RIGHT[0], lambda s, t, a: a**0.5 * (1 - t) / (1 - t), _RIGHT[2]),
                "The factor of x_t has 1 - abar_s in it, the noise that was there before, not 1 - abar_t."),
    ],
    "11.2": [
        Mistake(_kl(_right_kl, lambda nats: nats.mean(1)),
                "That is the mean over the coordinates. Densities multiply, so their logarithms add up: take the sum."),
        Mistake(lambda mean_q, var_q, mean_p, var_p: kl(mean_p, var_p, mean_q, var_q),
                "That is KL(p || q). The average is over q, so the squared distance is divided by the variance of p."),
        Mistake(_kl(lambda square, v, s: 2 * _right_kl(square, v, s)),
                "The factor 1/2 in front is missing."),
        Mistake(_kl(lambda square, v, s: (v / s - 1 + torch.log(v / s) + square / s) / 2),
                "The sign of the logarithm: a q narrower than p must cost something, so it is -log(var_q / var_p)."),
        Mistake(_kl(lambda square, v, s: square / (2 * s)),
                "That is the case of equal variances. Where they differ, the widths cost something too."),
        Mistake(lambda mean_q, var_q, mean_p, var_p:
                    ((mean_q - mean_p).square().sum(1) / var_p + var_q / var_p - 1 - torch.log(var_q / var_p)) / 2,
                "The widths are counted once, but each of the D coordinates has them: D times, or inside of the sum."),
        Mistake(_kl(lambda square, v, s: _right_kl(square, v**2, s**2)),
                "var_q and var_p are variances already: do not square them."),
    ],
    "11.3": [
        Mistake(lambda alpha_bars: torch.cat([torch.full((1,), torch.nan), eps_weights(alpha_bars)[1:]]),  # 1/0 of any kind
                FIRST),
        Mistake(_eps(lambda now, before, alpha: torch.cat([
                    1 / (2 * (1 - alpha[:1])), (before / (1 - before) - now / (1 - now))[1:] / 2])),
                "Those are the weights of an error in x_0. An error in eps is sqrt(abar_t / (1 - abar_t)) times as large."),
        Mistake(lambda alpha_bars: 2 * eps_weights(alpha_bars),
                "The factor 1/2 of the KL is missing."),
        Mistake(lambda alpha_bars: torch.cat([eps_weights(alpha_bars)[:1], 2 * eps_weights(alpha_bars)[1:]]),
                "w_1 is right. From t = 2 on the factor 1/2 of the KL is missing."),
        Mistake(lambda alpha_bars: torch.cat([eps_weights(alpha_bars)[:1], _fraction(alpha_bars)[1:]]),
                UPSIDE_DOWN),
        Mistake(lambda alpha_bars: _fraction(alpha_bars),
                UPSIDE_DOWN),
        Mistake(_eps(lambda now, before, alpha: (1 - alpha) / (2 * alpha * (1 - now))),
                "That is DDPM's other choice, sigma^2 = beta. With the posterior's, 1 - abar_{t-1} stands below the line."),
        Mistake(lambda alpha_bars: eps_weights(alpha_bars) * (alpha_bars[1:] / alpha_bars[:-1]),
                "A factor 1 / alpha_t is missing: it comes from eps entering the mean as beta / sqrt(alpha (1 - abar))."),
        Mistake(lambda alpha_bars: torch.cat([torch.tensor([0.5], dtype=torch.float64), eps_weights(alpha_bars)[1:]]),
                "Nearly: w_1 is 1 / (2 alpha_1), not 1/2."),
    ],
    "11.4": [
        Mistake(_changed(last=0.0),
                "L_T is missing: the KL from q(x_T | x_0) to N(0, I)."),
        Mistake(_changed(constant=0.0),
                "L_0 is -log of a density: its constant D/2 log(2 pi beta_1) is missing."),
        Mistake(_changed(weight=lambda w, t, abar: 2 * w),
                "The weight is half of SNR_{t-1} - SNR_t."),
        Mistake(_changed(weight=lambda w, t, abar: w * (1 - abar[t]) / abar[t]),
                "You multiply an error in x_0 by the weight that belongs to an error in eps."),
        Mistake(_changed(first=lambda off, beta: off / beta),
                "L_0 needs off / (2 beta_1): the 2 is missing."),
        Mistake(lambda denoise, alpha_bars, x0, eps: _terms(denoise, alpha_bars, x0, eps, constant=1 / x0.shape[1]),
                "The constant of L_0 is there once for each coordinate: D/2 log(2 pi beta_1)."),
        Mistake(lambda denoise, alpha_bars, x0, eps: bound_of(denoise, alpha_bars, x0, eps) / x0.shape[1],
                "Those are nats a coordinate, a mean over D. Asked for are the nats of the whole row: sum over D."),
        Mistake(_changed(noisy=1),
                "You mix with alpha_bars[t - 1], which gives x_{t-1}. The denoiser is asked about x_t: alpha_bars[t]."),
        Mistake(_changed(told=1),
                "x_t has gone through t steps, and the denoiser must be told so: t, not t - 1."),
        Mistake(_changed(each=True),
                "D/2 log(2 pi beta_1) belongs to L_0 alone; you add it at every step. A KL has no such constant."),
        Mistake(lambda denoise, alpha_bars, x0, eps: _terms(denoise, alpha_bars, x0, eps.roll(1, 0)),
                "The noise of step t is eps[t - 1]: Python counts from 0."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


def _pairs() -> list[tuple[float, float]]:
    return [(0.9, 0.5), (0.6, 0.1), (0.3, 0.29), (0.999, 0.99), (0.05, 0.0004), (1.0, 0.4)]


@exercise("11.1")
def check_step_back(answer) -> CheckResult:
    number = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    inputs = [{"abar_s": number(s), "abar_t": number(t)} for s, t in _pairs()]
    return compare(
        "11.1", answer, step_back, inputs, MISTAKES["11.1"],
        praise="Right on six pairs of times, from one small step to the whole road back to x_0.",
        hint="Replace alpha_t by a = abar_t / abar_s and abar_{t-1} by abar_s: nothing else in the proof changes.",
        tolerance=1e-9,
    )  # fmt: skip


@exercise("11.2")
def check_kl(answer) -> CheckResult:
    number = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    widths = [(0.5, 2.0), (2.0, 0.5), (0.01, 0.03), (3.0, 2.9), (0.2, 7.0)]
    inputs = [
        {"mean_q": noise(k, 3, 1 + k).double(), "var_q": number(v), "mean_p": noise(9 + k, 3, 1 + k).double(),
         "var_p": number(s)}
        for k, (v, s) in enumerate(widths, 1)
    ]  # fmt: skip
    inputs += [inputs[0] | {"var_p": number(0.5)}, inputs[0] | {"mean_p": inputs[0]["mean_q"]}]
    return compare(
        "11.2", answer, kl, inputs, MISTAKES["11.2"],
        praise="The same as torch.distributions on seven pairs, equal widths and equal means included.",
        hint="Each coordinate: ( var_q / var_p - 1 - log(var_q / var_p) + (mean_q - mean_p)^2 / var_p ) / 2; then sum(1).",
        tolerance=1e-7,
    )  # fmt: skip


def _schedules() -> list[NoiseSchedule]:
    uneven = from_betas(0.05 + 0.3 * torch.rand(7, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    return [uneven, linear_schedule(1000), cosine_schedule(20), evenly_cut(10), from_betas(torch.full((5,), 0.4)),
            from_betas(torch.tensor([0.3]))]  # fmt: skip


@exercise("11.3")
def check_eps_weights(answer) -> CheckResult:
    return compare(
        "11.3", answer, eps_weights, [{"alpha_bars": s.alpha_bars} for s in _schedules()], MISTAKES["11.3"],
        praise="Right on six schedules, DDPM's thousand steps and a single step included.",
        hint="w_t = (SNR_{t-1} / SNR_t - 1) / 2 for t >= 2, and 1 / (2 alpha_1) in front.",
        tolerance=1e-9,
    )  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A denoiser with a name that a message can show."""

    name: str
    denoise: object

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoise(x_t, t)

    def __repr__(self) -> str:
        return f"<{self.name}>"


@exercise("11.4")
def check_bound(answer) -> CheckResult:
    inputs = []
    for k, schedule in enumerate([s for s in _schedules() if s.T < 100]):
        D = 2 if k < 2 else k
        guesses = [
            Guess("the exact denoiser of a ring", ring().denoiser(schedule)),
            Guess("always 0", lambda x_t, t: 0 * x_t),
            Guess("half of x_t", lambda x_t, t: x_t / 2),
            Guess("x_t, less later", lambda x_t, t: x_t / (1 + t[:, None])),
            Guess("0.9 x_t", lambda x_t, t: 0.9 * x_t),
        ]
        inputs.append({"denoise": guesses[k], "alpha_bars": schedule.alpha_bars, "x0": noise(k, 4, D).double(),
                       "eps": noise(20 + k, schedule.T, 4, D).double()})  # fmt: skip
    return compare(
        "11.4", answer, bound_of, inputs, MISTAKES["11.4"],
        praise="The same as torch's densities, term by term, for five denoisers, good and bad, and from 1 to 20 steps.",
        hint="L_T, then a loop over t: for t = 1 the -log density with variance beta_1, else w_t |x_0 - guess|^2.",
        tolerance=1e-7,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- 11.5, widths to beat two

LIMIT = 0.93  # of the gap of the better one of DDPM's two choices


def _scored(answer, data: Measured) -> float:
    got = call(answer, evenly_cut(STEPS).alpha_bars, data.error.clone())
    if not isinstance(got, Tensor) or got.shape != (STEPS,):
        shape = getattr(got, "shape", type(got).__name__)
        raise ValueError(f"return sigma_t^2 for t = 1..{STEPS}: shape ({STEPS},), got {shape}")
    if got[0] == 0:
        raise ValueError("the first entry, sigma_1^2, is 0: at t = 1 it must be positive (beta~_1 is 0; think of beta_1)")
    return gap(data, got)


@exercise("11.5")
def check_better_variances(answer) -> CheckResult:
    lines, hint = [], ""
    same = {"posterior", "beta"}  # which of the two choices the answer's gaps are, on all data sets so far
    for name, data in measured().items():
        mine = attempt("11.5", answer, lambda choose: _scored(choose, data), f"for {name}:")  # noqa: B023
        if isinstance(mine, CheckResult):
            return mine
        offered = {choice: gap(data, reverse_variances(evenly_cut(STEPS), choice)) for choice in ("posterior", "beta")}
        goal = LIMIT * min(offered.values())
        lines.append(f"{name}: gap {mine:.3f} nats (posterior {offered['posterior']:.3f}, beta {offered['beta']:.3f},"
                     f" goal {goal:.3f})")  # fmt: skip
        if not hint and not mine <= goal:
            hint = f"Not yet for {name}. A width should hold the noise of the step and the doubt about x_0: use error."
        same = {choice for choice in same if abs(mine - offered[choice]) < 1e-9}
    if hint and same:
        hint = f"That is DDPM's choice {min(same)!r}, which does not know the data. Use error."
    lines.append(f"expected: each at most {LIMIT} of the better one of the two")
    return CheckResult("11.5", not hint, "\n".join(lines), hint)


REFERENCES = {"11.1": step_back, "11.2": kl, "11.3": eps_weights, "11.4": bound_of}
