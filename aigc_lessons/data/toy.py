"""Points in the plane from shapes whose density is known exactly, so that a model's likelihood has a best possible value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Curve = Callable[[Tensor], Tensor]  # s in 0..1, shape (n,) -> places (n, 2)


@dataclass(frozen=True, eq=False)
class Strands:
    """Thin curves, blurred: choose a curve, a place c(s) on it with s uniform in 0..1, and add noise.

    p(x) = 1/C sum over the curves of the integral of N(x; c(s), noise^2 I) ds from 0 to 1

    The integral is a sum over the nodes of Gauss and Legendre, four on every length of `noise`: exact to about ten digits,
    and a mixture of round Gaussians with `weights` and `centres`, from which everything else about p follows.

    Args:
        curves: each a smooth map of s to the plane.
        noise:  standard deviation in each direction, above 0.
    Raises: ValueError for no curve, or noise that is not above 0.
    """

    curves: Sequence[Curve]
    noise: float

    def __post_init__(self):
        if not self.curves or not self.noise > 0:
            raise ValueError(f"need at least one curve and noise above 0, got {len(self.curves)} and {self.noise:g}")

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """n points in float32."""
        which = torch.randint(len(self.curves), (n,), generator=generator)
        s = torch.rand(n, generator=generator, dtype=torch.float64)
        z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        places = torch.stack([curve(s) for curve in self.curves])[which, torch.arange(n)]
        return (places + self.noise * z).float()

    def log_prob(self, x: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
        """log p(x) in nats, in float64."""
        distance = torch.cdist(x.double(), self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        log_n = -(distance**2) / (2 * self.noise**2) - math.log(2 * math.pi * self.noise**2)
        return (self.weights.log() + log_n).logsumexp(1)

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        weights, centres = [], []
        for curve in self.curves:
            fine = curve(torch.linspace(0, 1, 2001, dtype=torch.float64))
            steps = fine.diff(dim=0).norm(dim=1)  # the nodes must be close where the curve is fastest
            u, w = np.polynomial.legendre.leggauss(32 + math.ceil(4 * 2000 * steps.max().item() / self.noise))
            centres.append(curve(torch.from_numpy((u + 1) / 2)))
            weights.append(torch.from_numpy(w / 2) / len(self.curves))
        return torch.cat(weights), torch.cat(centres)

    @property
    def weights(self) -> Float[Tensor, " K"]:
        """Of the Gaussians that the integral is a sum of; they add up to 1."""
        return self._nodes[0]

    @property
    def centres(self) -> Float[Tensor, "K 2"]:
        """Of the same."""
        return self._nodes[1]


def moons(noise: float = 0.1, radius: float = 1.5) -> Strands:
    """Two half circles, one hanging, one standing, each reaching into the other; the mean is 0."""

    def half_circle(side: int) -> Curve:
        def curve(s: Tensor) -> Tensor:
            x, y = (math.pi * s).cos(), (math.pi * s).sin()
            return side * radius * torch.stack([x - 0.5, y - 0.25], 1)

        return curve

    return Strands([half_circle(1), half_circle(-1)], noise)


def spiral(noise: float = 0.07, turns: float = 2.0, radius: float = 1.9) -> Strands:
    """A spiral with as many points on each length of it as on any other.

    `diffusion.mixture.spiral` is the same curve as a row of few Gaussians, moved so that its mean is 0.
    """

    def curve(s: Tensor) -> Tensor:
        r = (0.06 + 0.94 * s).sqrt()  # the length grows with the square of the radius
        angle = 2 * math.pi * turns * r
        return radius * r[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    return Strands([curve], noise)


@dataclass(frozen=True)
class Checkerboard:
    """The dark squares of a board of `cells` x `cells`, from -reach to reach: as likely in one dark place as in any other.

    p(x) = 1 / (dark squares * area of a square) on a dark square, 0 elsewhere

    Args:
        cells: an even number; the lower left square is dark.
    Raises: ValueError for a number of cells that is not even and above 0.
    """

    cells: int = 4
    reach: float = 2.0

    def __post_init__(self):
        if self.cells < 2 or self.cells % 2:
            raise ValueError(f"cells must be an even number above 0, got {self.cells}")

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """n points in float32."""
        column = torch.randint(self.cells, (n,), generator=generator)
        row = 2 * torch.randint(self.cells // 2, (n,), generator=generator) + column % 2
        within = torch.rand(n, 2, generator=generator)
        return (torch.stack([column, row], 1) + within) * (2 * self.reach / self.cells) - self.reach

    def log_prob(self, x: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
        """log p(x) in nats, in float64; minus infinity where no point can lie."""
        cell = ((x.double() + self.reach) * self.cells / (2 * self.reach)).floor()
        dark = (cell.sum(1) % 2 == 0) & ((cell >= 0) & (cell < self.cells)).all(1)
        density = torch.tensor(2 / (2 * self.reach) ** 2, dtype=torch.float64)
        return torch.where(dark, density.log(), -math.inf)
