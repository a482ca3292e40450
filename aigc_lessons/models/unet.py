"""A small U-Net for images. It works on Haar coefficients and corrects a guess that has a formula."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from aigc_lessons.models.guess import MixtureGuess
from aigc_lessons.models.layers import Condition, ResBlock, haar, inverse_haar


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet.

    Args:
        size:     height and width of the images, a multiple of 4.
        channels: of the images.
        classes:  number of labels; label `classes` stands for "any".
        width:    channels of the upper level; the lower has twice as many.
        middle:   blocks on the lower level.
        cond_dim: length of the vector that tells time and label.
        T:        steps of the noise schedule.
        components, subspace, rank: of the guess, see MixtureGuess.
    """

    size: int = 28
    channels: int = 1
    classes: int = 10
    width: int = 32
    middle: int = 2
    cond_dim: int = 64
    T: int = 1000
    components: int = 4
    subspace: int = 160
    rank: int = 40


class UNet(nn.Module):
    """(x_t, t, labels) -> velocity. Upper level: half the image's side (after Haar); lower level: a quarter.

    A whole t is a step of a variance-preserving schedule, and the velocity is v. A t in floating point is a flow's time in
    0..1, where x_t = (1 - t) x_0 + t eps, and the velocity is eps - x_0 (arXiv:2210.02747).

    Call `network.guess.fit(images, labels, schedule.alpha_bars)` before training: the network then starts from the exact
    answer for a mixture of Gaussians, and spends its training on what such a mixture cannot know.

    Source: the shape, Ronneberger et al. 2015, arXiv:1505.04597; for diffusion, Ho et al. 2020, arXiv:2006.11239.
    """

    outer = ("condition", "stem", "head")  # for Muon: these are not hidden

    def __init__(self, config: UNetConfig):
        super().__init__()
        if config.size % 4:
            raise ValueError(f"size is halved twice and must be a multiple of 4, got {config.size}")
        self.config = config
        c, w = config.channels, config.width
        dimension = c * config.size**2
        self.guess = MixtureGuess(dimension, config.classes, config.components, config.subspace, config.rank, config.T)
        self.condition = Condition(config.classes, config.cond_dim)
        self.stem = nn.Conv2d(8 * c, w, 3, padding=1)  # x_t and the guess, four Haar channels each
        self.before = ResBlock(w, w, config.cond_dim)
        self.down = nn.Conv2d(w, 2 * w, 2, stride=2)
        self.middle = nn.ModuleList(ResBlock(2 * w, 2 * w, config.cond_dim) for _ in range(config.middle))
        self.up = nn.Conv2d(2 * w, w, 1)
        self.after = ResBlock(2 * w, w, config.cond_dim)
        self.norm = nn.GroupNorm(4, w)
        self.head = nn.Conv2d(w, 4 * c, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, x_t: Float[Tensor, "B C H W"], t: Shaped[Tensor, "..."], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        B = len(x_t)
        t = t.expand(B)
        labels = torch.full((B,), self.config.classes, device=x_t.device) if labels is None else labels
        cond = self.condition(self.config.T * t if t.is_floating_point() else t, labels)
        guess, velocity = self.guess(x_t, t, labels)

        h = haar(torch.cat([x_t, guess], 1)).contiguous(memory_format=torch.channels_last)  # faster convolutions
        h = skip = self.before(self.stem(h), cond)  # (B, w, H/2, W/2)
        h = self.down(h)  # (B, 2w, H/4, W/4)
        for block in self.middle:
            h = block(h, cond)
        h = F.interpolate(self.up(h), scale_factor=2)  # (B, w, H/2, W/2)
        h = self.after(torch.cat([h, skip], 1), cond)
        correction = inverse_haar(self.head(F.silu(self.norm(h))))
        return velocity + 0.5 * correction  # one half: the typical size of what is left to correct
