"""What exercise 11.5 is judged by: the gap between the bound and the truth, with any widths, on three data sets."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.diffusion.bound import evenly_cut, from_errors, stratified_noise
from aigc_lessons.diffusion.mixture import ring, spiral

STEPS = 10


@dataclass(frozen=True, eq=False)
class Measured:
    """What a perfect denoiser is off on a data set: E (x_0 - guess)^2 of a coordinate for t = 1..T, and the truth."""

    error: Tensor
    mean_square: float
    truth: float  # E -log p(x_0), nats a coordinate


@lru_cache(maxsize=1)
def measured() -> dict[str, Measured]:
    """Three data sets that the lesson does not show."""
    schedule, generator = evenly_cut(STEPS), torch.Generator().manual_seed(5)
    abar = schedule.alpha_bars[1:]
    wide = Measured(4 * (1 - abar) / (4 * abar + 1 - abar), 4.0, math.log(8 * math.pi * math.e) / 2)
    found = {"one Gaussian of variance 4": wide}
    for name, mixture in {"five wide blobs": ring(5, spread=0.4), "a thin spiral": spiral(30)}.items():
        x0 = mixture.draw(2048, generator)[0].double()
        error = []
        for t in range(1, STEPS + 1):
            x_t = schedule.add_noise(x0, torch.tensor(t), stratified_noise(x0, generator))
            error.append((x0 - mixture.denoise(x_t, schedule.alpha_bars[t])).square().mean())
        truth = -mixture.log_prob(x0).mean().item() / 2
        found[name] = Measured(torch.stack(error), x0.square().mean().item(), truth)
    return found


def gap(data: Measured, variances: Tensor) -> float:
    """The bound less the truth, nats a coordinate."""
    return from_errors(evenly_cut(STEPS), data.error, data.mean_square, variances).sum().item() - data.truth
