"""A small convolutional classifier of 28 x 28 images; its last hidden layer doubles as a description of an image."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ConvNetConfig:
    """width of the first layer, length of the feature vector, number of classes, dropout before the last layer."""

    width: int = 24
    features: int = 64
    classes: int = 10
    dropout: float = 0.2


class ConvNet(nn.Module):
    """Three convolutions, each followed by a halving, then two linear layers."""

    outer = ("convs.0", "classify")

    def __init__(self, config: ConvNetConfig):
        super().__init__()
        self.config = config
        w = config.width
        sizes = [(1, w), (w, 2 * w), (2 * w, 2 * w)]
        self.convs = nn.ModuleList(nn.Conv2d(c_in, c_out, 3, padding=1) for c_in, c_out in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(4, c_out) for _, c_out in sizes)
        self.describe = nn.Linear(2 * w * 3 * 3, config.features)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.features, config.classes)

    def features(self, x: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B F"]:
        """The last hidden layer: images that look alike lie close together here."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)  # 28 -> 14 -> 7 -> 3
        return F.relu(self.describe(x.flatten(1)))

    def forward(self, x: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B classes"]:
        return self.classify(self.dropout(self.features(x)))
