"""Which times a sampler visits, what a walk costs, and how fast its error falls.

A grid is a list of steps t_0 > t_1 > ... > t_N = 0 of a schedule. Grids are laid along t, or along half the log-SNR,
lambda = log( sqrt(abar) / sqrt(1 - abar) ); the noise level of x / sqrt(abar) is sigma = exp(-lambda).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.samplers import Method, SampleStep, sample
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise


def visit(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x_T: Float[Tensor, "B *D"],
    times: Sequence[int],
    *,
    method: Method = "dpmpp_2m",
    generator: torch.Generator | None = None,
    eta: float = 0.0,
) -> Iterator[SampleStep]:
    """The samplers of `samplers.sample` on any grid of times.

    The abar of the times make a schedule of their own: walking through all of its steps visits just these.

    Args:
        times: t_0 > ... > t_N = 0, steps of `schedule`; t_0 is the noise level of x_T, as a rule T.
        denoise, x_T, method, generator, eta: as for `sample`.
    Yields: a SampleStep for each of t_1 .. t_N.
    Raises: ValueError unless the times fall, from T or below down to 0.
    """
    falls = all(t > s for t, s in pairwise(times))
    if len(times) < 2 or times[-1] != 0 or times[0] > schedule.T or not falls:
        raise ValueError(f"times must fall, from {schedule.T} or below down to 0, got {_short(times)}")
    places = torch.tensor(times[::-1])
    coarse = NoiseSchedule(schedule.alpha_bars[places])
    walk = sample(lambda x, i: denoise(x, places.to(i.device)[i]), coarse, x_T, method=method, generator=generator, eta=eta)
    return (SampleStep(t=int(places[step.t]), x=step.x, x0=step.x0) for step in walk)


def bent(schedule: NoiseSchedule, steps: int, early: float = 1.0, late: float = 1.0) -> list[int]:
    """t_k = T (1 - (k/N)^early)^late, to the nearest step.

    The larger `early`, the more steps where there is much noise; the larger `late`, the more where there is little.

    Args:
        steps: N, in 1..T.
        early, late: above 0; with both 1 the grid is even in t, that of `sample`.
    Raises: ValueError for steps outside 1..T, or an exponent that is not above 0.
    """
    if not 1 <= steps <= schedule.T or min(early, late) <= 0:
        raise ValueError(f"need 1..{schedule.T} steps and exponents above 0, got {steps}, {early:g} and {late:g}")
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return _falling((schedule.T * (1 - share**early) ** late).round().long().tolist(), least=0)


def even_log_snr(schedule: NoiseSchedule, steps: int, last: int = 1) -> list[int]:
    """Even in lambda from T down to `last`, to the nearest step; then 0.

    Args:
        steps: 2..T, the one to 0 included.
        last:  the smallest time before 0.
    Raises: ValueError if so many different steps do not fit.
    """
    if not (1 <= last < schedule.T and 2 <= steps <= schedule.T - last + 1):
        raise ValueError(f"{steps} steps do not fit between T = {schedule.T} and {last}, with one more to 0")
    half = schedule.log_snr(torch.arange(1, schedule.T + 1)) / 2  # falling
    wanted = torch.linspace(half[-1].item(), half[last - 1].item(), steps, dtype=torch.float64)
    nearest = (half[None] - wanted[:, None]).abs().argmin(1) + 1
    return [*_falling(nearest.tolist(), least=last), 0]


def _falling(times: list[int], least: int) -> list[int]:
    """Each at least one below the one before, with room for those to come."""
    room = least + len(times) - 1
    for k in range(1, len(times)):
        times[k] = max(min(times[k], times[k - 1] - 1), room - k)
    return times


def noise_levels(schedule: NoiseSchedule) -> Float[Tensor, " T1"]:
    """sigma = sqrt( (1 - abar) / abar ) for t = 0..T: the spread of the noise in x / sqrt(abar)."""
    abar = schedule.alpha_bars
    return ((1 - abar) / abar).sqrt()


def even_schedule(steps: int, low: float, high: float) -> NoiseSchedule:
    """A schedule whose steps 1 .. steps + 1 are evenly spaced in lambda, from `high` at t = 1 to `low` at the last.

    A walk through it takes `steps` equal steps in lambda and one more to clean data.

    Raises: ValueError unless low < high and steps >= 1.
    """
    if steps < 1 or not low < high:
        raise ValueError(f"need at least one step from low to a higher lambda, got {steps} from {low:g} to {high:g}")
    half = torch.linspace(high, low, steps + 1, dtype=torch.float64)
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(2 * half)]))


def evaluations(method: Method, steps: int, scale: float = 1.0) -> int:
    """How often the network is asked for one sample.

    One for each step; Heun asks twice except in its last; guidance (scale neither 0 nor 1) doubles everything.

    Raises: ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"a walk needs at least one step, got {steps}")
    asked = 2 * steps - 1 if method == "heun" else steps
    return asked if scale in (0, 1) else 2 * asked


def most_steps(method: Method, budget: int, scale: float = 1.0) -> int:
    """The most steps that `budget` evaluations pay for.

    Raises: ValueError if they do not pay for one.
    """
    asked = budget if scale in (0, 1) else budget // 2
    steps = (asked + 1) // 2 if method == "heun" else asked
    if steps < 1:
        raise ValueError(f"one step of {method!r} at scale {scale:g} costs more than {budget} evaluations")
    return steps


def order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """p in error = constant / steps^p: minus the slope of the straight line through the points (log steps, log error).

    Raises: ValueError for fewer than two points, or a number that is not above zero.
    """
    if len(steps) != len(errors) or len(steps) < 2 or min(*steps, *errors) <= 0:
        raise ValueError(f"need two points or more, all above zero, got steps {_short(steps)} and errors {_short(errors)}")
    x, y = ([math.log(value) for value in values] for values in (steps, errors))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return -sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def _short(values: Sequence) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return f"[{shown}{', ...' if len(values) > 6 else ''}]"
