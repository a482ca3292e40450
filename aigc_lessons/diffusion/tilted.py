"""Guidance where every answer is known: labelled points in the plane, and the density that a guided sampler is said to draw.

The claim is  p_w(x) ~ p(x) p(y | x)^w , the *tilted* density. For a mixture with labelled Gaussians it can be computed,
drawn from and denoised, so the claim can be tested.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise

LEAST = 1e-290  # the probability of a cell is not below: a point in the emptiest place still has a nearest cell


@dataclass(frozen=True, eq=False)
class Labelled:
    """A mixture whose Gaussians carry labels 0, 1, ...; the label after the last stands for "any".

    Raises: ValueError unless there is one label for each Gaussian and every label from 0 to the largest is used.
    """

    mixture: GaussianMixture
    labels: Int[Tensor, " K"]

    def __post_init__(self):
        K = len(self.mixture.weights)
        if len(self.labels) != K:
            raise ValueError(f"{K} Gaussians need {K} labels, got {len(self.labels)}")
        used = self.labels.unique().tolist()
        if used != list(range(len(used))):
            raise ValueError(f"labels must be 0, 1, ... without gaps, got {used}")

    @property
    def any(self) -> int:
        """The label that stands for all of them."""
        return int(self.labels.max()) + 1

    def given(self, label: int) -> GaussianMixture:
        """p(x | y): the Gaussians of one label, or all of them.

        Raises: ValueError for a label that there is not.
        """
        if not 0 <= label <= self.any:
            raise ValueError(f"label must lie in 0..{self.any} ({self.any} is any), got {label}")
        m, mine = self.mixture, (self.labels == label) | (label == self.any)
        return GaussianMixture(m.weights[mine], m.means[mine], m.covariances[mine])

    def log_label(
        self, x: Float[Tensor, "*B D"], label: int, alpha_bar: float | Shaped[Tensor, "..."] = 1.0
    ) -> Float[Tensor, "*B"]:
        """log p_t(y | x), the perfect classifier of noisy points:  log p(y) + log p_t(x | y) - log p_t(x)."""
        prior = self.mixture.weights[(self.labels == label) | (label == self.any)].sum().log()
        return prior + self.given(label).log_prob(x, alpha_bar) - self.mixture.log_prob(x, alpha_bar)

    def denoiser(self, schedule: NoiseSchedule) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(x_t, t, labels) -> E[x_0 | x_t, y]: what a perfect network that was trained with dropped labels would say."""
        experts = [self.given(label).denoiser(schedule) for label in range(self.any + 1)]

        def denoise(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            x0 = torch.empty_like(x_t)
            for label in labels.unique().tolist():
                mine = labels == label
                x0[mine] = experts[label](x_t[mine], t[mine])
            return x0

        return denoise

    def log_tilted(
        self, x: Float[Tensor, "*B D"], label: int, scale: float, against: int | None = None,
        alpha_bar: float | Shaped[Tensor, "..."] = 1.0,
    ) -> Float[Tensor, "*B"]:  # fmt: skip
        """log of p_t(x | n)^(1 - w) p_t(x | y)^w, with the n in `against` (None: any) and the w in `scale`.

        Against any this is p_t(x) p_t(y | x)^w up to a factor. Its gradient is what guidance follows at noise level t.
        """
        null = self.given(self.any if against is None else against).log_prob(x, alpha_bar)
        return null + scale * (self.given(label).log_prob(x, alpha_bar) - null)


def three_classes(spread: float = 0.28) -> Labelled:
    """Seven equal round Gaussians in the plane: three labelled 0, of which one stands alone; two labelled 1, two 2."""
    means = [[-1.7, -0.2], [-0.55, 1.15], [-0.35, -1.0], [0.45, 1.5], [1.6, 0.6], [0.5, -1.2], [1.5, -0.9]]
    covariances = spread**2 * torch.eye(2).expand(7, 2, 2)
    return Labelled(GaussianMixture(torch.ones(7), torch.tensor(means), covariances), torch.tensor([0, 0, 0, 1, 1, 2, 2]))


@dataclass(frozen=True, eq=False)
class Table:
    """A density of the plane as probabilities of square cells, each spread as a Gaussian of the cell's variance h^2 / 12.

    Args:
        side: (G,) middles of the cells along both axes, evenly spaced.
        p:    (G, G) probabilities, p[i, j] of the cell at (side[i], side[j]).
    """

    side: Float[Tensor, " G"]
    p: Float[Tensor, "G G"]

    @classmethod
    def of(cls, log_density: Callable[[Tensor], Tensor], reach: float = 3.6, cells: int = 120) -> "Table":
        """Tabulate a density, known up to a factor, on the square from -reach to reach, and make it sum to 1.

        Raises: ValueError if more than a millionth of it touches the border: then the square is too small, or there is no
            such density at all.
        """
        h = 2 * reach / cells
        side = h * (torch.arange(cells, dtype=torch.float64) + 0.5) - reach
        log_p = log_density(torch.stack(torch.meshgrid(side, side, indexing="ij"), -1))
        p = (log_p - log_p.logsumexp((0, 1))).exp()
        border = (p[[0, -1]].sum() + p[:, [0, -1]].sum()).item()
        if not border < 1e-6:
            raise ValueError(
                f"{border:.2g} of the probability lies at the border of the square up to {reach:g}:"
                " tabulate a larger square; if that does not help, the density has no finite sum"
            )
        return cls(side, p.clamp(min=LEAST) / p.clamp(min=LEAST).sum())

    @property
    def cell(self) -> float:
        """Length h of a cell's side."""
        return (self.side[1] - self.side[0]).item()

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """n points, in float64."""
        i = torch.multinomial(self.p.flatten(), n, replacement=True, generator=generator)
        middles = torch.stack([self.side[i // len(self.side)], self.side[i % len(self.side)]], 1)
        return middles + self.cell / math.sqrt(12) * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def denoise(self, x_t: Float[Tensor, "B 2"], alpha_bar: float | Shaped[Tensor, "..."]) -> Float[Tensor, "B 2"]:
        """E[x_0 | x_t]: a mean over all cells, which splits into the two axes, since a cell's Gaussian is round."""
        abar = torch.as_tensor(alpha_bar, dtype=torch.float64).reshape(-1, 1, 1)
        own = self.cell**2 / 12
        variance = abar * own + 1 - abar
        off = x_t.double()[..., None] - abar.sqrt() * self.side  # (B, 2, G)
        log_near = -off.square() / (2 * variance)
        near = (log_near - log_near.amax(-1, keepdim=True)).exp()
        guess = self.side + abar.sqrt() * own / variance * off
        a, b = near.unbind(1)
        across = a @ self.p  # (B, G)
        total = (across * b).sum(1)
        x0 = [(((a * guess[:, 0]) @ self.p) * b).sum(1), (across * b * guess[:, 1]).sum(1)]
        return (torch.stack(x0, 1) / total[:, None]).to(x_t.dtype)

    def denoiser(self, schedule: NoiseSchedule) -> Denoise:
        """`denoise` with steps in place of abar."""
        return lambda x_t, t: self.denoise(x_t, schedule.alpha_bar(t))
