"""Handwritten digits on request, from the shipped networks: in many evaluations, or in one."""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.samplers import SampleStep, final, sample
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.training.checkpoints import load, pretrained, save

ANY = 10  # the label that stands for "any digit"


def walk_digits(
    labels: Int[Tensor, " N"],
    *,
    seed: int = 0,
    scale: float = 1.5,
    method: str = "dpmpp_2m",
    steps: int = 16,
    network: nn.Module | None = None,
) -> tuple[Float[Tensor, "N 1 28 28"], list[SampleStep]]:
    """Noise, and every step from it to a digit for each label.

    Args:
        labels:  0..9, or 10 for any digit.
        seed:    decides the noise.
        scale:   classifier-free guidance.
        network: a v-predicting network; the shipped one unless given.
    Returns: x_T and the steps; the last step's x is the digits.
    Raises: ValueError for labels outside 0..10.
    """
    if len(labels) and not (labels.min() >= 0 and labels.max() <= ANY):
        raise ValueError(f"labels lie in 0..9, or {ANY} for any; got {labels.min().item()}..{labels.max().item()}")
    schedule, generator = cosine_schedule(), torch.Generator().manual_seed(seed)
    x_T = torch.randn(len(labels), 1, 28, 28, generator=generator)
    guided = classifier_free(denoiser(network or pretrained("digits"), schedule, "v"), labels, ANY, scale)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return guided(x_t, t).clamp(-1, 1)  # no picture is darker than ink or lighter than paper

    return x_T, list(sample(denoise, schedule, x_T, method=method, steps=steps, generator=generator))


def draw_digits(labels: Int[Tensor, " N"], **how) -> Float[Tensor, "N 1 28 28"]:
    """A digit for each label, in [-1, 1]; keywords as for `walk_digits`. Works in pieces of 100."""
    seed = how.pop("seed", 0)
    pieces = [walk_digits(piece, seed=seed + i, **how)[1][-1].x for i, piece in enumerate(labels.split(100))]
    return torch.cat(pieces)


def flash_digits(
    labels: Int[Tensor, " N"], *, seed: int = 0, steps: int = 1, network: nn.Module | None = None
) -> Float[Tensor, "N 1 28 28"]:
    """A digit for each label in one evaluation, or in `steps`, from the reflowed network; no guidance, no randomness.

    Euler's method on the flow, which on the network's schedule is DDIM; noise is drawn as by `draw_digits`, so equal seeds
    ask both networks for the same pictures.

    Args:
        network: a v-predicting network; the shipped student unless given.
    """
    schedule = cosine_schedule()
    denoise = denoiser(network or pretrained("digits_reflow"), schedule, "v")
    drawn = []
    for i, piece in enumerate(labels.split(100)):
        x_T = torch.randn(len(piece), 1, 28, 28, generator=torch.Generator().manual_seed(seed + i))
        told = lambda x_t, t, piece=piece: denoise(x_t, t, piece).clamp(-1, 1)  # noqa: E731
        drawn.append(final(sample(told, schedule, x_T, method="ddim", steps=steps)))
    return torch.cat(drawn)


def noise_and_digits(
    n: int, folder: Path, first_seed: int = 10_000
) -> tuple[Float[Tensor, "n 1 28 28"], Float[Tensor, "n 1 28 28"], Int[Tensor, " n"]]:
    """Pairs for reflow: noise, and the digit that the shipped network makes of it with its default, deterministic sampler.

    Made in pieces of 100 that are kept in `folder`, so a stopped run goes on; a piece takes about as long as 32 evaluations
    of 100 images.

    Args:
        n: a multiple of 100, ten of each label in every hundred.
    Returns: noise, digits, labels.
    Raises: ValueError for another n.
    """
    if n < 100 or n % 100:
        raise ValueError(f"pairs are made in hundreds, got n = {n}")
    noise, made, labels = [], [], torch.arange(100) % 10
    for i in range(n // 100):
        seed, file = first_seed + i, folder / f"{first_seed + i}.safetensors"
        if not file.is_file():
            save(file, {"digits": walk_digits(labels, seed=seed)[1][-1].x})
        noise.append(torch.randn(100, 1, 28, 28, generator=torch.Generator().manual_seed(seed)))
        made.append(load(file)["digits"])
    return torch.cat(noise), torch.cat(made), labels.repeat(n // 100)
