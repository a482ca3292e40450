"""The smallest network that can learn to denoise: for points of a few numbers."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from aigc_lessons.models.layers import sinusoidal


class MLP(nn.Module):
    """Points and their step go in side by side; each hidden layer adds to what it was given; a point comes out.

        h = W_in [x, sinusoidal(t)],    h <- h + W_i silu(h) for each layer,    output = W_out silu(h)

    The last layer starts at zero, so a new network says 0. A t in floating point counts as a flow's time, 0..1, and is read
    as 1000 t: in thousandths it has the range of a diffusion's steps.

    Args:
        dimension: numbers in a point.
        width:     numbers in the hidden vector.
        layers:    how many times it is added to.
        features:  cosines and sines that t is turned into; even.
    """

    def __init__(self, dimension: int = 2, width: int = 128, layers: int = 3, features: int = 32):
        super().__init__()
        self.features = features
        self.enter = nn.Linear(dimension + features, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.leave = nn.Linear(width, dimension)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Float[Tensor, "B D"], t: Shaped[Tensor, " B"]) -> Float[Tensor, "B D"]:
        t = 1000 * t if t.is_floating_point() else t
        h = self.enter(torch.cat([x, sinusoidal(t, self.features)], 1))
        for layer in self.hidden:
            h = h + layer(F.silu(h))
        return self.leave(F.silu(h))
