"""The score, the gradient of log p_t(x), and what it is good for alone: to walk, to turn noise round, to weigh a point.

A denoiser knows the score at every noise level, since  score = (sqrt(abar) E[x_0 | x_t] - x_t) / (1 - abar).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from aigc_lessons.diffusion.schedule import NoiseSchedule, from_betas
from aigc_lessons.types import Denoise

Score = Callable[[Tensor, float], Tensor]  # (x, abar) -> score of p_t at x
Level = tuple[float, float]  # abar, and the size of the Langevin step taken there


def score_of(
    x0: Float[Tensor, "B *D"], x_t: Float[Tensor, "B *D"], alpha_bar: float | Shaped[Tensor, "..."]
) -> Float[Tensor, "B *D"]:
    """The score that an estimate of x_0 implies.

    score = (sqrt(abar) x0 - x_t) / (1 - abar) = -eps / sqrt(1 - abar)

    Args:
        x0:        E[x_0 | x_t], or what a network says it is.
        alpha_bar: in 0 .. 1, below 1; one number, or one for each row with axes that broadcast.
    Source: Tweedie's formula, in Efron 2011; Song et al. 2021, arXiv:2011.13456.
    """
    if x0.shape != x_t.shape:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}, x_t has {tuple(x_t.shape)}: they must agree")
    return ((alpha_bar**0.5 * x0 - x_t) / (1 - alpha_bar)).to(x_t.dtype)


# ---------------------------------------------------------------------------------------------------- walking by the score


def langevin(
    score: Score, x: Float[Tensor, "B *D"], levels: Iterable[Level], generator: torch.Generator
) -> Iterator[Float[Tensor, "B *D"]]:
    """Follow the score and be shaken, one step for each (abar, h) of `levels`.

    x <- x + h score(x, abar) + sqrt(2 h) z,   z ~ N(0, I)

    The same level again and again is Langevin dynamics, whose draws come from p_t as h goes to 0; levels from noise to data
    make it annealed.

    Yields: x after every step.
    Raises: ValueError unless every h is above 0.
    Source: Song and Ermon 2019, arXiv:1907.05600, algorithm 1, with h = alpha / 2.
    """
    for alpha_bar, h in levels:
        if not h > 0:
            raise ValueError(f"a Langevin step needs a size above 0, got {h:g}")
        x = x + h * score(x, alpha_bar) + (2 * h) ** 0.5 * _noise_like(x, generator)
        yield x


def annealing(first: float, last: float, steps: int, size: float, variance: float) -> list[Level]:
    """Levels whose log-SNR rises evenly, for data whose narrowest hills have this variance.

    Under noise such a hill has variance abar variance + 1 - abar; a step is `size` times that. Above 2 it would diverge.

    Args:
        first, last: abar, 0 < first <= last < 1.
        size:        0 .. 2, above 0; a chain on one Gaussian then has variance 1 / (1 - size / 2) times the right one.
    Raises: ValueError for a first that is not in 0 .. last, or a last not below 1.
    """
    if not 0 < first <= last < 1:
        raise ValueError(f"need 0 < first <= last < 1, got {first:g} and {last:g}")
    ends = (math.log(abar / (1 - abar)) for abar in (first, last))
    abars = torch.linspace(*ends, steps, dtype=torch.float64).sigmoid().tolist()
    return [(abar, size * (abar * variance + 1 - abar)) for abar in abars]


# ---------------------------------------------------------------------------------------------------- in continuous time


@dataclass(frozen=True)
class VP:
    """The forward process without steps: dx = -beta(s) / 2 x ds + sqrt(beta(s)) dw, for a time s in 0..1.

    beta(s) = beta_min + s (beta_max - beta_min)
    abar(s) = exp( -beta_min s - (beta_max - beta_min) s^2 / 2 )

    The numbers are those of DDPM's thousand steps: beta(0) = 1000 beta_1, beta(1) = 1000 beta_1000.

    Source: Song et al. 2021, arXiv:2011.13456, eq. 11 and appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, s: float | Tensor) -> float | Tensor:
        """Variance added per unit of time."""
        return self.beta_min + s * (self.beta_max - self.beta_min)

    def alpha_bar(self, s: float | Tensor) -> float | Tensor:
        """What is left of the data's variance at time s."""
        exponent = self.beta_min * s + (self.beta_max - self.beta_min) * s**2 / 2
        return (-exponent).exp() if isinstance(exponent, Tensor) else math.exp(-exponent)

    def schedule(self, T: int) -> NoiseSchedule:
        """The exact process, looked at T times: abar(t / T)."""
        return NoiseSchedule(self.alpha_bar(torch.arange(T + 1, dtype=torch.float64) / T))

    def chain(self, T: int) -> NoiseSchedule:
        """DDPM's process of T steps, beta_t = beta(t / T) / T; it tends to the exact one.

        Raises: ValueError unless T is above beta_max: a step cannot add more variance than 1.
        """
        if not self.beta_max < T:
            raise ValueError(f"beta(1) / T must be below 1, got {self.beta_max:g} / {T}")
        return from_betas(self.beta(torch.arange(1, T + 1, dtype=torch.float64) / T) / T)


def reverse_sde(
    score: Score, process: VP, x: Float[Tensor, "B *D"], times: Sequence[float], generator: torch.Generator
) -> Iterator[Float[Tensor, "B *D"]]:
    """Anderson's way back: flow, and shake by Langevin steps at every moment.

    dx = beta (x / 2 + score) d(-s) + sqrt(beta) dw, with beta and score taken at the start of each step (Euler-Maruyama).

    Args:
        x:     drawn from p at times[0].
        times: falling, in 0..1.
    Yields: x at times[1], times[2], ...
    Source: Anderson 1982; Song et al. 2021, arXiv:2011.13456, eq. 6.
    """
    for s, r in _falling(times):
        step = process.beta(s) * (s - r)
        x = x + step * (x / 2 + score(x, process.alpha_bar(s))) + step**0.5 * _noise_like(x, generator)
        yield x


def probability_flow(
    score: Score, process: VP, x: Float[Tensor, "B *D"], times: Sequence[float]
) -> Iterator[Float[Tensor, "B *D"]]:
    """The way back without dice: dx/ds = -beta(s) / 2 (x + score), by Heun's method.

    Args, Yields: as for `reverse_sde`.
    Source: Song et al. 2021, arXiv:2011.13456, eq. 13.
    """

    def slope(x: Tensor, s: float) -> Tensor:
        return -process.beta(s) / 2 * (x + score(x, process.alpha_bar(s)))

    for s, r in _falling(times):
        here = slope(x, s)
        x = x + (r - s) / 2 * (here + slope(x + (r - s) * here, r))
        yield x


# ---------------------------------------------------------------------------------------------------- weighing a point


def divergence(
    v: Float[Tensor, "B *D"], x: Float[Tensor, "B *D"], probes: Float[Tensor, "n B *D"] | None = None
) -> Float[Tensor, " B"]:
    """tr(dv/dx) for each row, by autograd.

    Without probes exactly, which costs one backward pass for each of the D coordinates. With probes by Hutchinson's
    estimate, the mean of z . (dv/dx)^T z, one pass for each: unbiased where E[z z^T] = I.

    Args:
        v: computed from x, row by row; x requires a gradient.
    Raises: ValueError for no probe at all, or probes of another shape than v.
    Source: Hutchinson 1989; in flows, Grathwohl et al. 2018, arXiv:1810.01367.
    """
    if probes is None:
        flat = v.flatten(1)
        units = torch.eye(flat.shape[1], dtype=v.dtype, device=v.device)
        probes = units[:, None].expand(-1, len(v), -1).reshape(-1, *v.shape)
        scale = 1.0
    elif not len(probes) or probes.shape[1:] != v.shape:
        raise ValueError(f"need at least one probe of shape {tuple(v.shape)}, got {tuple(probes.shape)}")
    else:
        scale = 1 / len(probes)
    total = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for i, z in enumerate(probes):
        (pulled,) = torch.autograd.grad(v, x, z, retain_graph=i + 1 < len(probes))
        total += (pulled * z).flatten(1).sum(1)
    return scale * total


@dataclass(frozen=True, eq=False)
class FlowStep:
    """Where the flow has brought x at step t, and the integral of its divergence on the way, in nats, for each row."""

    t: int
    x: Tensor
    gained: Tensor


def flow(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Float[Tensor, "B *D"],
    times: Sequence[int],
    probes: Float[Tensor, "n B *D"] | None = None,
) -> Iterator[FlowStep]:
    """Carry points along the probability flow of a denoiser and gather its divergence: Heun's method in the angle.

    With sqrt(abar) = cos(phi) the flow is  dx/dphi = cos(phi) eps - sin(phi) x0 = v, the network's own velocity, and

        d/dphi log p(x(phi)) = -div v ,   so   log p_s(x_s) = log p_t(x_t) + integral of div v from s to t.

    Args:
        denoise: (x_t, t) -> estimate of x_0, differentiable by x_t (no `torch.no_grad` inside).
        x:       at times[0].
        times:   steps of the schedule, in 0..T, rising or falling; two evaluations for each after the first.
        probes:  for Hutchinson's estimate of the divergence, the same all along; None for the exact one.
    Yields: FlowStep for times[1], times[2], ...
    Source: Chen et al. 2018, arXiv:1806.07366, theorem 1; Song et al. 2021, arXiv:2011.13456, appendix D.2.
    """
    angles = schedule.alpha_bar(torch.tensor(list(times))).sqrt().acos().tolist()
    gained = torch.zeros(len(x), dtype=x.dtype, device=x.device)

    def slope(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        abar = schedule.alpha_bars[t].item()
        if abar == 1:  # clean data: eps = -sin(phi) score and sin(phi) are both 0
            return torch.zeros_like(x), torch.zeros_like(gained)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0 = denoise(x, torch.full((len(x),), t, dtype=torch.long, device=x.device))
            v = (abar**0.5 * x - x0) / (1 - abar) ** 0.5
            return v.detach(), divergence(v, x, probes)

    for (t, s), (phi, psi) in zip(pairwise(times), pairwise(angles), strict=True):
        v, div = slope(x, t)
        v_s, div_s = slope(x + (psi - phi) * v, s)
        x = x + (psi - phi) / 2 * (v + v_s)
        gained = gained + (psi - phi) / 2 * (div + div_s)
        yield FlowStep(t=s, x=x, gained=gained)


def log_likelihood(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Float[Tensor, "B *D"],
    *,
    times: Sequence[int] | None = None,
    log_prior: Callable[[Tensor], Tensor] | None = None,
    probes: Float[Tensor, "n B *D"] | None = None,
) -> Float[Tensor, " B"]:
    """log p(x) in nats under the model "draw x_T from the prior, and follow the probability flow back".

    log p(x) = log prior(x_T) + integral of div v

    Args:
        times:     rising, from where x lives (0 for clean data) to the prior's place; all of 0..T when None.
        log_prior: (B, ...) -> (B,) nats; N(0, I) when None.
        denoise, probes: as for `flow`.
    """
    for step in flow(denoise, schedule, x, range(schedule.T + 1) if times is None else times, probes):
        last = step
    return (log_prior or standard_normal)(last.x) + last.gained


def standard_normal(x: Float[Tensor, "B *D"]) -> Float[Tensor, " B"]:
    """log N(x; 0, I) in nats."""
    flat = x.flatten(1)
    return -(flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi)) / 2


def _falling(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    for s, r in pairwise(times):
        if not 1 >= s > r >= 0:
            raise ValueError(f"times must fall within 0..1, but {s:g} is followed by {r:g}")
        yield s, r


def _noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)
