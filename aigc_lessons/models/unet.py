"""A small U-Net for images, working on Haar coefficients."""

from dataclasses import dataclass

import torch
from torch import nn

from aigc_lessons.models.layers import Condition, ResBlock, haar, inverse_haar


@dataclass(frozen=True)
class UNetConfig:
    """channels of the image, number of classes, width of the first level, multiple of it at each level, blocks a level."""

    channels: int = 1
    classes: int = 10
    width: int = 32
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 1
    cond_dim: int = 64


class UNet(nn.Module):
    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.multiples]
        self.condition = Condition(config.classes, config.cond_dim)
        self.stem = nn.Conv2d(4 * config.channels, widths[0], 3, padding=1)
        D = config.cond_dim
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        c = widths[0]
        skips = [c]
        for i, w in enumerate(widths):
            for _ in range(config.blocks):
                self.down.append(ResBlock(c, w, D))
                c = w
                skips.append(c)
            if i < len(widths) - 1:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
        self.middle = ResBlock(c, c, D)
        for i, w in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(ResBlock(c + skips.pop(), w, D))
                c = w
            if i > 0:
                self.up.append(nn.Upsample(scale_factor=2))
        self.head = nn.Sequential(nn.GroupNorm(4, c), nn.SiLU(), nn.Conv2d(c, 4 * config.channels, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)

    def forward(self, x, t, labels=None):
        cond = self.condition(t.expand(len(x)), labels)
        h = self.stem(haar(x).contiguous(memory_format=torch.channels_last))
        skips = [h]
        for layer in self.down:
            h = layer(h, cond) if isinstance(layer, ResBlock) else layer(h)
            skips.append(h)
        h = self.middle(h, cond)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], 1), cond) if isinstance(layer, ResBlock) else layer(h)
        return inverse_haar(self.head(h))
