"""Handwritten digits on request, from the shipped network."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.samplers import SampleStep, sample
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.training.checkpoints import pretrained

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
