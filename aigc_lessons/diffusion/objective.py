"""What a diffusion network predicts, and the loss that teaches it.

Three targets carry the same information, because x_t = sqrt(abar) x0 + sqrt(1 - abar) eps ties them together:

    eps   the noise that was added
    x0    the clean data
    v     sqrt(abar) eps - sqrt(1 - abar) x0      (Salimans and Ho 2022, arXiv:2202.00512)

Everything outside this file speaks of x0 only.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise, LossFn

Target = Literal["eps", "x0", "v"]
Weighting = Literal["simple", "logit_normal"]


def to_x0(
    prediction: Float[Tensor, "B *D"], x_t: Float[Tensor, "B *D"], t: Int[Tensor, "..."],
    schedule: NoiseSchedule, target: Target,
) -> Float[Tensor, "B *D"]:  # fmt: skip
    """The estimate of x_0 that a prediction implies.

    eps:  x0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)
    v:    x0 = sqrt(abar_t) x_t - sqrt(1 - abar_t) v
    x0:   the prediction itself

    Args:
        prediction, x_t: same shape.
        t: steps in 0..T, one for each row (or a single one).
    Returns: the estimate in the dtype of x_t.
    Raises: ValueError for an unknown target, a t outside 0..T, or shapes that differ.
    """
    _check_choice("target", target, Target)
    if prediction.shape != x_t.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, x_t has {tuple(x_t.shape)}")
    abar = schedule.alpha_bar(t, like=x_t)
    if target == "eps":
        x0 = (x_t - (1 - abar).sqrt() * prediction) / abar.sqrt()
    elif target == "v":
        x0 = abar.sqrt() * x_t - (1 - abar).sqrt() * prediction
    else:
        x0 = prediction
    return x0.to(x_t.dtype)


def target_of(
    x0: Float[Tensor, "B *D"], eps: Float[Tensor, "B *D"], t: Int[Tensor, "..."],
    schedule: NoiseSchedule, target: Target,
) -> Float[Tensor, "B *D"]:  # fmt: skip
    """What the network should have said, knowing x_0 and eps: the inverse of `to_x0`."""
    _check_choice("target", target, Target)
    if target != "v":
        return eps if target == "eps" else x0
    abar = schedule.alpha_bar(t, like=x0)
    return (abar.sqrt() * eps - (1 - abar).sqrt() * x0).to(x0.dtype)


def diffusion_loss(schedule: NoiseSchedule, target: Target = "eps", weighting: Weighting = "simple") -> LossFn:
    """The denoising loss as a function (network, batch, generator) -> scalar.

    Draw t from 1..T and eps from N(0, I), then      (DDPM, algorithm 1)

        loss = mean of || network(x_t, t, *conditions) - target ||^2 / dimension

    The batch is x0, or a tuple (x0, *conditions). t is drawn stratified: row i of B gets a t from the i-th of B equal
    parts, shuffled, which leaves the expectation as it is and makes the loss less noisy.

    Args:
        target:    what the network predicts.
        weighting: "simple": every t alike (Ho et al. 2020, eq. 14); "logit_normal": the middle more often than the ends,
                   t/T = sigmoid(z) with z ~ N(0, 1) (Esser et al. 2024, arXiv:2403.03206, section 3.1).
    Raises: ValueError for an unknown target or weighting, or a network whose output differs in shape from x0.
    Source: Ho et al. 2020, arXiv:2006.11239.
    """
    _check_choice("target", target, Target)
    _check_choice("weighting", weighting, Weighting)

    def loss_fn(network: nn.Module, batch, generator: torch.Generator) -> Tensor:
        x0, *conditions = batch if isinstance(batch, (tuple, list)) else (batch,)
        t = stratified_steps(len(x0), schedule.T, generator, weighting).to(x0.device)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
        x_t = schedule.add_noise(x0, t, eps)
        prediction = network(x_t, t, *conditions)
        if prediction.shape != x0.shape:
            raise ValueError(f"the network returned shape {tuple(prediction.shape)} for x0 of {tuple(x0.shape)}")
        return (prediction - target_of(x0, eps, t, schedule, target)).square().mean()

    return loss_fn


def stratified_steps(B: int, T: int, generator: torch.Generator, weighting: Weighting = "simple") -> Int[Tensor, " B"]:
    """B steps in 1..T, one from each of B equally likely parts, in random order."""
    u = (torch.arange(B) + torch.rand(B, generator=generator)) / B  # each alone is uniform on 0..1
    if weighting == "logit_normal":
        u = torch.sigmoid(torch.special.ndtri(u.double().clamp(1e-9, 1 - 1e-9)))
    t = 1 + (u * T).long().clamp(max=T - 1)
    return t[torch.randperm(B, generator=generator)]


def denoiser(network: nn.Module, schedule: NoiseSchedule, target: Target) -> Denoise:
    """A trained network as a denoiser: (x_t, t, *conditions) -> estimate of x_0, without gradients.

    Raises: ValueError for an unknown target; FloatingPointError if the network returns NaN or infinity.
    """
    _check_choice("target", target, Target)

    @torch.no_grad()
    def denoise(x_t: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        prediction = network(x_t, t, *conditions)
        if not prediction.isfinite().all():
            raise FloatingPointError(f"the network returned NaN or infinity at t = {int(torch.as_tensor(t).max())}")
        return to_x0(prediction, x_t, t, schedule, target)

    return denoise


def _check_choice(name: str, value: str, choices) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
