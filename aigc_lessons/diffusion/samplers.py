"""From noise to data. One loop, four steps; a sampler is a generator, so every step can be watched, plotted, stopped.

A step goes from time t to an earlier time s and knows the network only through its estimate of x_0. Each is a pure
function `step(denoise, schedule, x, t, s, memory) -> (x at s, estimate used, memory)`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise

Method = Literal["ddpm", "ddim", "heun", "dpmpp_2m"]


@dataclass(frozen=True, eq=False)
class SampleStep:
    """One step of a sampler: the time it arrived at, the sample there, and the estimate of x_0 it used.

    Times are whole numbers T..0 here, and 1..0 in a flow.
    """

    t: float
    x: Tensor
    x0: Tensor


def sample(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x_T: Float[Tensor, "B *D"],
    *,
    method: Method = "ddpm",
    steps: int | None = None,
    generator: torch.Generator | None = None,
    eta: float = 0.0,
) -> Iterator[SampleStep]:
    """Walk from x_T ~ N(0, I) to x_0, yielding every step.

    The times are round(linspace(T, 0, steps + 1)): T first, 0 last, evenly spread.

    Args:
        denoise:   (x_t, t) -> estimate of x_0, with t of shape (B,), int64.
        x_T:       standard normal noise in the shape of the data; the caller draws it.
        method:    "ddpm" (stochastic), "ddim" (eta = 0 deterministic .. eta = 1 like DDPM), "heun" (two evaluations a
                   step, second order), "dpmpp_2m" (one evaluation a step, second order).
        steps:     1..T; all T when None.
        generator: draws the noise of "ddpm" and of "ddim" with eta > 0; required for them.
        eta:       only for "ddim".
    Yields: SampleStep, `steps` of them; the last has t = 0 and is the sample.
    Raises: ValueError for an unknown method, steps outside 1..T, a missing generator, or an eta that is not used;
        FloatingPointError when the estimate is not finite.
    Source: Ho et al. 2020, arXiv:2006.11239; Song et al. 2020, arXiv:2010.02502; Karras et al. 2022, arXiv:2206.00364;
        Lu et al. 2022, arXiv:2211.01095.
    """
    # checked here and not inside the generator, so that a mistake shows where it was made
    step = _step_for(method, generator, eta)
    steps = schedule.T if steps is None else steps
    if not 1 <= steps <= schedule.T:
        raise ValueError(f"steps must lie in 1..{schedule.T} (the T of the schedule), got {steps}")
    return _walk(step, denoise, schedule, x_T, steps)


def sample_times(T: int, steps: int) -> list[int]:
    """round(linspace(T, 0, steps + 1)) as integers; for steps dividing T the spacing others call "trailing"."""
    return torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().long().tolist()


def final(walk: Iterator[SampleStep]) -> Tensor:
    """Run a sampler to its end and return the sample."""
    for step in walk:
        last = step
    return last.x


def _walk(step, denoise, schedule, x, steps) -> Iterator[SampleStep]:
    memory = None
    for t, s in pairwise(sample_times(schedule.T, steps)):
        x, x0, memory = step(denoise, schedule, x, t, s, memory)
        yield SampleStep(t=s, x=x, x0=x0)


def _step_for(method: str, generator: torch.Generator | None, eta: float) -> Callable:
    steps = {
        "ddpm": partial(ddpm_step, generator=generator),
        "ddim": partial(ddim_step, generator=generator, eta=eta),
        "heun": heun_step,
        "dpmpp_2m": dpmpp_2m_step,
    }
    if method not in steps:
        raise ValueError(f"method must be one of {', '.join(steps)}, got {method!r}")
    if eta and method != "ddim":
        raise ValueError(f"eta = {eta:g} has no meaning for {method!r}; it belongs to 'ddim'")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in 0..1, got {eta:g}")
    if generator is None and (method == "ddpm" or eta):
        raise ValueError(f"{method!r} draws noise: pass generator=torch.Generator().manual_seed(...)")
    return steps[method]


def ddpm_step(denoise, schedule, x, t, s, memory, *, generator):
    """Draw x_s from q(x_s | x_t, x_0 = the estimate)      (DDPM, algorithm 2, with eq. 7 in place of eq. 11)."""
    x0 = _estimate(denoise, x, t)
    mean, variance = schedule.posterior(x0, x, torch.tensor(t), torch.tensor(s))
    if s == 0:  # the posterior has no variance left: the last step adds no noise
        return mean, x0, memory
    return mean + variance.sqrt() * _noise_like(x, generator), x0, memory


def ddim_step(denoise, schedule, x, t, s, memory, *, generator=None, eta=0.0):
    """Keep the noise that the estimate implies, and put it back at level s      (DDIM, eq. 12).

    sigma = eta sqrt( (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s) )
    x_s   = sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) eps + sigma z
    """
    x0 = _estimate(denoise, x, t)
    abar_t, abar_s = _abar(schedule, t), _abar(schedule, s)
    eps = (x - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
    x_s = abar_s**0.5 * x0 + max(1 - abar_s - sigma**2, 0.0) ** 0.5 * eps
    if sigma > 0:
        x_s = x_s + sigma * _noise_like(x, generator)
    return x_s, x0, memory


def heun_step(denoise, schedule, x, t, s, memory):
    """A trapezoid on dx/dsigma = eps, for x scaled by 1/sqrt(abar) and sigma = sqrt((1 - abar)/abar)  (EDM, algorithm 1).

    The slope is the predicted noise; Heun averages the slopes at both ends. In x_0 terms: a DDIM step whose estimate is
    moved along the averaged slope. At s = 0 the far end has no slope, and the step is a plain DDIM step.
    """
    x_s, x0, memory = ddim_step(denoise, schedule, x, t, s, memory)
    if s == 0:
        return x_s, x0, memory
    scaled_t, sigma_t = _scaled(schedule, x, t)
    scaled_s, sigma_s = _scaled(schedule, x_s, s)
    slope_t = (scaled_t - x0) / sigma_t
    slope_s = (scaled_s - _estimate(denoise, x_s, s)) / sigma_s
    slope = (slope_t + slope_s) / 2
    return _abar(schedule, s) ** 0.5 * (scaled_t + (sigma_s - sigma_t) * slope), scaled_t - sigma_t * slope, memory


def dpmpp_2m_step(denoise, schedule, x, t, s, memory):
    """DPM-Solver++(2M): extrapolate x_0 in lambda = log(sqrt(abar)/sqrt(1 - abar)), then step      (Lu 2022, algorithm 2).

    With h = lambda_s - lambda_t, h' the step before and r = h'/h:
        D   = (1 + 1/(2r)) x0_t - 1/(2r) x0_before
        x_s = sqrt(1 - abar_s)/sqrt(1 - abar_t) x_t - sqrt(abar_s) (exp(-h) - 1) D
    The first step has no past, and the last one (lambda = infinity) would extrapolate without bound: both use D = x0_t,
    which is the DDIM step.
    """
    x0 = _estimate(denoise, x, t)
    D, lambda_t = x0, schedule.log_snr(torch.tensor(t)).item() / 2
    abar_t, abar_s = _abar(schedule, t), _abar(schedule, s)
    if memory is not None and s > 0:
        x0_before, lambda_before = memory
        r = (lambda_t - lambda_before) / (schedule.log_snr(torch.tensor(s)).item() / 2 - lambda_t)
        D = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * x0_before
    shrink = ((1 - abar_s) / (1 - abar_t)) ** 0.5
    # exp(-h) sqrt(abar_s) = shrink sqrt(abar_t), which stays finite at s = 0
    return shrink * x + (abar_s**0.5 - shrink * abar_t**0.5) * D, D, (x0, lambda_t)


def _estimate(denoise: Denoise, x: Tensor, t: int) -> Tensor:
    x0 = denoise(x, torch.full((len(x),), t, dtype=torch.long, device=x.device))
    if x0.shape != x.shape:
        raise ValueError(f"the denoiser returned shape {tuple(x0.shape)} for x of {tuple(x.shape)}")
    if not x0.isfinite().all():
        raise FloatingPointError(f"the denoiser returned NaN or infinity at t = {t}")
    return x0


def _abar(schedule: NoiseSchedule, t: int) -> float:
    return schedule.alpha_bars[t].item()


def _scaled(schedule: NoiseSchedule, x: Tensor, t: int) -> tuple[Tensor, float]:
    abar = _abar(schedule, t)
    return x / abar**0.5, ((1 - abar) / abar) ** 0.5


def _noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
