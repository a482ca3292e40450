"""Data whose every answer is known: mixtures of Gaussians under noise, in closed form.

What a diffusion network has to learn (the density of noisy data, its score, the best guess of x_0) is a formula here, so a
network, a sampler or a bound can be held to it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = sum_k w_k N(x; mu_k, S_k), and what the forward process makes of it.

    Noise keeps it a mixture: x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps has

        p_t(x) = sum_k w_k N(x; sqrt(abar) mu_k, abar S_k + (1 - abar) I) ,

    so each method takes an `alpha_bar`: 1 for clean data, less for noisy; one number, or one for each row of x. All is
    computed in float64 and returned in the dtype of x.

    Args:
        weights:     (K,), positive; they are scaled to add up to 1.
        means:       (K, D).
        covariances: (K, D, D), symmetric and positive definite.
    Raises: ValueError naming what does not fit.
    """

    weights: Float[Tensor, " K"]
    means: Float[Tensor, "K D"]
    covariances: Float[Tensor, "K D D"]

    def __post_init__(self):
        w, mu, S = (x.to(torch.float64) for x in (self.weights, self.means, self.covariances))
        if not (w > 0).all():
            raise ValueError(f"weights must be positive, got {w.tolist()}")
        if not torch.allclose(S, S.mT):
            raise ValueError("covariances must be symmetric")
        if not (torch.linalg.eigvalsh(S) > 0).all():
            raise ValueError("covariances must be positive definite: every direction needs some variance")
        for name, value in (("weights", w / w.sum()), ("means", mu), ("covariances", S)):
            object.__setattr__(self, name, value)

    @cached_property
    def _directions(self) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K D D"]]:
        """Variances and eigenvectors (one a column) of each Gaussian; noise adds to the former, and leaves the latter."""
        return torch.linalg.eigh(self.covariances)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n D"], Int[Tensor, " n"]]:
        """n points in float32, and the number of the Gaussian that each comes from."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        variances, axes = self._directions
        z = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=generator)
        return (self.means[k] + torch.einsum("nij,nj->ni", axes[k], variances[k].sqrt() * z)).float(), k

    def log_prob(self, x: Float[Tensor, "*B D"], alpha_bar: float | Shaped[Tensor, "..."] = 1.0) -> Float[Tensor, "*B"]:
        """log p_t(x) in nats."""
        return self._joint(*self._seen_from_each(x, alpha_bar)[:2]).logsumexp(-1).to(x.dtype)

    def responsibilities(
        self, x: Float[Tensor, "*B D"], alpha_bar: float | Shaped[Tensor, "..."] = 1.0
    ) -> Float[Tensor, "*B K"]:
        """How likely each Gaussian is to have made x: r_k = w_k N_k(x) / p_t(x)."""
        return self._joint(*self._seen_from_each(x, alpha_bar)[:2]).softmax(-1).to(x.dtype)

    def score(self, x: Float[Tensor, "*B D"], alpha_bar: float | Shaped[Tensor, "..."] = 1.0) -> Float[Tensor, "*B D"]:
        """The gradient of log p_t(x): sum_k r_k C_k^-1 (sqrt(abar) mu_k - x), C_k the covariance under noise."""
        along, variances, _ = self._seen_from_each(x, alpha_bar)
        pulls = torch.einsum("kij,...kj->...ki", self._directions[1], -along / variances)
        return (self._joint(along, variances).softmax(-1)[..., None] * pulls).sum(-2).to(x.dtype)

    def denoise(self, x_t: Float[Tensor, "*B D"], alpha_bar: float | Shaped[Tensor, "..."]) -> Float[Tensor, "*B D"]:
        """E[x_0 | x_t] = sum_k r_k ( mu_k + sqrt(abar) S_k C_k^-1 (x_t - sqrt(abar) mu_k) ).

        By Tweedie's formula also (x_t + (1 - abar) score) / sqrt(abar), which loses digits where abar is small.
        """
        along, variances, abar = self._seen_from_each(x_t, alpha_bar)
        own, axes = self._directions
        guesses = self.means + torch.einsum("kij,...kj->...ki", axes, abar.sqrt() * own / variances * along)
        return (self._joint(along, variances).softmax(-1)[..., None] * guesses).sum(-2).to(x_t.dtype)

    def denoiser(self, schedule: NoiseSchedule) -> Denoise:
        """`denoise` with steps in place of abar: what a perfect network would say."""
        return lambda x_t, t: self.denoise(x_t, schedule.alpha_bar(t))

    def _seen_from_each(self, x: Tensor, alpha_bar: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - sqrt(abar) mu_k along the eigenvectors of each Gaussian, its variances there, and abar with two axes more."""
        abar = torch.as_tensor(alpha_bar, dtype=torch.float64)[..., None, None]  # (..., 1, 1), for K and D
        own, axes = self._directions
        off = x.to(torch.float64)[..., None, :] - abar.sqrt() * self.means  # (*B, K, D)
        return torch.einsum("kij,...ki->...kj", axes, off), abar * own + 1 - abar, abar

    def _joint(self, along: Tensor, variances: Tensor) -> Tensor:
        """log( w_k N_k(x) ), (*B, K)."""
        nats = (along.square() / variances + variances.log() + math.log(2 * math.pi)).sum(-1) / 2
        return self.weights.log() - nats


def ring(K: int = 8, radius: float = 1.6, spread: float = 0.15) -> GaussianMixture:
    """K equal round Gaussians, evenly on a circle.

    Args:
        spread: standard deviation of each, in each direction.
    """
    angles = 2 * math.pi * torch.arange(K, dtype=torch.float64) / K
    means = radius * torch.stack([angles.cos(), angles.sin()], 1)
    return GaussianMixture(torch.ones(K), means, spread**2 * torch.eye(2).expand(K, 2, 2))


def spiral(K: int = 60, turns: float = 2.0, radius: float = 1.9, spread: float = 0.07) -> GaussianMixture:
    """A thin spiral of K equal round Gaussians, evenly spread along its length; its mean is 0.

    Args:
        turns:  how often it goes round.
        radius: of its outer end.
        spread: standard deviation of each Gaussian, in each direction.
    """
    s = torch.linspace(0.06, 1, K, dtype=torch.float64).sqrt()  # the length grows with the square of the radius
    angles = 2 * math.pi * turns * s
    means = radius * s[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    return GaussianMixture(torch.ones(K), means - means.mean(0), spread**2 * torch.eye(2).expand(K, 2, 2))
