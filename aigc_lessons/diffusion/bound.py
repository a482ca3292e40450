"""How far a denoiser's likelihood is from the truth, at worst: the variational bound, term by term, in nats.

The reverse process steps from x_t to x_{t-1} by N( mean of q(x_{t-1} | x_t, guess of x_0), sigma_t^2 I ). Then

    -log p(x_0)  <=  L_T + sum_{t=2..T} L_{t-1} + L_0

    L_T     = KL( q(x_T | x_0) || N(0, I) )
    L_{t-1} = E KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) )
    L_0     = E -log p(x_0 | x_1)

Source: Ho et al. 2020, arXiv:2006.11239, eq. 5.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise

Choice = Literal["posterior", "beta"]
ENDS = (9.2, -10.1)  # log-SNR after the first and after the last step of the linear schedule with T = 1000


def evenly_cut(T: int, highest: float = ENDS[0], lowest: float = ENDS[1]) -> NoiseSchedule:
    """T steps whose log-SNR falls in equal cuts: `highest` after the first step, `lowest` after the last.

    Schedules of any T end alike, so their bounds differ only in how finely the same road is cut.

    Raises: ValueError unless T >= 2 and highest > lowest.
    """
    if T < 2 or not highest > lowest:
        raise ValueError(f"need T >= 2 and highest > lowest, got T = {T}, {highest:g} and {lowest:g}")
    log_snr = torch.linspace(highest, lowest, T, dtype=torch.float64)
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), log_snr.sigmoid()]))


def gaussian_kl(
    mean_q: Float[Tensor, "B *D"], var_q: Shaped[Tensor, "..."], mean_p: Float[Tensor, "B *D"], var_p: Shaped[Tensor, "..."]
) -> Float[Tensor, " B"]:
    """KL( N(mean_q, var_q I) || N(mean_p, var_p I) ) in nats, one number for each row.

    sum over coordinates of  [ var_q / var_p - 1 - log(var_q / var_p) + (mean_q - mean_p)^2 / var_p ] / 2

    Args:
        var_q, var_p: positive variances, broadcastable to the means.
    Raises: ValueError unless all variances are positive.
    """
    if not ((var_q > 0).all() and (var_p > 0).all()):
        raise ValueError("variances must be positive: a Gaussian without width has no density to compare")
    ratio = var_q / var_p
    nats = (ratio - 1 - ratio.log() + (mean_q - mean_p).square() / var_p) / 2
    return nats.flatten(1).sum(1)


def reverse_variances(schedule: NoiseSchedule, choice: Choice = "posterior") -> Float[Tensor, " T"]:
    """sigma_t^2 of the reverse steps t = 1..T, as DDPM offers them.

    "posterior":  (1 - abar_{t-1}) / (1 - abar_t) beta_t , what q(x_{t-1} | x_t, x_0) has: right if x_0 were known
    "beta":       beta_t , right for data that is standard normal

    At t = 1 the first is 0, and p(x_0 | x_1) needs a density: both take beta_1 there.

    Raises: ValueError for another choice.
    Source: Ho et al. 2020, arXiv:2006.11239, section 3.2.
    """
    if choice not in get_args(Choice):
        raise ValueError(f"choice must be one of {', '.join(get_args(Choice))}, got {choice!r}")
    beta, posterior, _ = _step_back(schedule)
    return beta if choice == "beta" else torch.cat([beta[:1], posterior[1:]])


def prices(
    schedule: NoiseSchedule, variances: Float[Tensor, " T"] | None = None
) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
    """What step t = 1..T costs: L_{t-1} = fixed_t * (number of coordinates) + weight_t * |x_0 - guess|^2.

    With v_t the variance of q(x_{t-1} | x_t, x_0), and c_t = sqrt(abar_{t-1}) beta_t / (1 - abar_t) what its mean takes of
    x_0, for t >= 2:

        fixed_t  = [ v_t / sigma_t^2 - 1 - log(v_t / sigma_t^2) ] / 2
        weight_t = c_t^2 / (2 sigma_t^2)

    and for t = 1, where the term is -log N(x_0; guess, sigma_1^2 I): fixed_1 = log(2 pi sigma_1^2) / 2, weight_1 the same.

    Args:
        variances: sigma_t^2 for t = 1..T; the posterior's when None. Then for t >= 2 fixed_t = 0, and
            weight_t = (SNR_{t-1} - SNR_t) / 2.
    Raises: ValueError unless there are T positive variances.
    """
    sigma2 = reverse_variances(schedule) if variances is None else variances.double()
    if sigma2.shape != (schedule.T,) or not (sigma2 > 0).all():
        raise ValueError(f"need {schedule.T} positive variances, one for each step, got shape {tuple(sigma2.shape)}")
    _, posterior, share = _step_back(schedule)
    ratio = posterior[1:] / sigma2[1:]
    fixed = torch.cat([(2 * math.pi * sigma2[:1]).log(), ratio - 1 - ratio.log()]) / 2
    return fixed, share.square() / (2 * sigma2)


def weights(schedule: NoiseSchedule, target: Literal["eps", "x0"] = "eps") -> Float[Tensor, " T"]:
    """w_t for t = 1..T: the nats that a squared error of 1 in the estimate of eps (or of x_0) costs in the bound.

    x_0:  w_t = (SNR_{t-1} - SNR_t) / 2             (t = 1: 1 / (2 beta_1))
    eps:  w_t = (SNR_{t-1} / SNR_t - 1) / 2         (t = 1: 1 / (2 alpha_1))

    Raises: ValueError for another target.
    Source: Ho et al. 2020, arXiv:2006.11239, eq. 12; Kingma et al. 2021, arXiv:2107.00630.
    """
    if target not in ("eps", "x0"):
        raise ValueError(f"target must be 'eps' or 'x0', got {target!r}")
    _, w = prices(schedule)
    abar = schedule.alpha_bars[1:]
    return w if target == "x0" else w * (1 - abar) / abar


def from_errors(
    schedule: NoiseSchedule, error: Float[Tensor, " T"], mean_square: float, variances: Float[Tensor, " T"] | None = None
) -> Float[Tensor, " T1"]:
    """The terms L_0 .. L_T in nats a coordinate, averaged over data, from what a denoiser's guesses are off.

    Args:
        error:       E (x_0 - guess)^2 of a coordinate at t = 1..T.
        mean_square: E x_0^2 of a coordinate.
        variances:   as in `prices`.
    """
    fixed, weight = prices(schedule, variances)
    left = 1 - schedule.alpha_bars[-1:]
    prior = ((1 - left) * mean_square + left - 1 - left.log()) / 2
    return torch.cat([fixed + weight * error.double(), prior])


@torch.no_grad()
def terms(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x0: Float[Tensor, "N *D"],
    generator: torch.Generator,
    variances: Float[Tensor, " T"] | None = None,
) -> Float[Tensor, "N T1"]:
    """The terms L_0 .. L_T of the bound for each row of x0, in nats, with one x_t drawn for every row and step.

    L_T is exact; the others are unbiased. Their sum over a row is an estimate of the bound on -log p of that row.

    Args:
        denoise:   (x_t, t) -> estimate of x_0; any: exact, a network, a bad guess.
        generator: draws the noise, stratified over the rows.
        variances: as in `prices`.
    Returns: float64; column k is L_k, so step t stands in column t - 1.
    Raises: ValueError as `prices`; FloatingPointError when an estimate is not finite.
    """
    fixed, weight = prices(schedule, variances)
    N, D = len(x0), x0[0].numel()
    L = torch.empty(N, schedule.T + 1, dtype=torch.float64)
    for t in range(1, schedule.T + 1):
        step = torch.full((N,), t)
        x_t = schedule.add_noise(x0, step, stratified_noise(x0, generator))
        off = (x0 - denoise(x_t, step)).double().flatten(1).square().sum(1)
        if not off.isfinite().all():
            raise FloatingPointError(f"the denoiser returned NaN or infinity at t = {t}")
        L[:, t - 1] = D * fixed[t - 1] + weight[t - 1] * off
    left, x0 = 1 - schedule.alpha_bars[-1], x0.double()
    L[:, -1] = gaussian_kl((1 - left).sqrt() * x0, left, torch.zeros_like(x0), torch.ones_like(left))
    return L


def stratified_noise(like: Float[Tensor, "N *D"], generator: torch.Generator) -> Float[Tensor, "N *D"]:
    """Standard normal noise whose rows share out the distribution: in each coordinate, one row from each N-th of it.

    A single row is as normal as ever; averages over rows scatter less than those of independent ones.

    Source: McKay, Beckman and Conover 1979, Latin hypercube sampling.
    """
    N, D = len(like), like[0].numel()
    part = torch.stack([torch.randperm(N, generator=generator) for _ in range(D)], 1)
    u = (part + torch.rand(N, D, generator=generator, dtype=torch.float64)) / N
    return torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12)).to(like.dtype).reshape(like.shape)


def _step_back(schedule: NoiseSchedule) -> tuple[Tensor, Tensor, Tensor]:
    """For t = 1..T: beta_t, the variance of q(x_{t-1} | x_t, x_0), and what its mean takes of x_0."""
    before, now = schedule.alpha_bars[:-1], schedule.alpha_bars[1:]
    beta = 1 - now / before
    return beta, (1 - before) * beta / (1 - now), before.sqrt() * beta / (1 - now)
