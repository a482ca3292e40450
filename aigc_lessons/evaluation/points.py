"""How good are points in the plane, where the truth is known? Against other points, and against a mixture."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.mixture import GaussianMixture


def energy_distance(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> float:
    """2 E|A - B| - E|A - A'| - E|B - B'|, estimated without bias from two clouds of points.

    0 if and only if both come from the same distribution; the estimate scatters about 0 then, and may be below it.

    Raises: ValueError for fewer than two points in a cloud.
    Source: Székely and Rizzo 2013, "Energy statistics", Journal of Statistical Planning and Inference 143.
    """
    N, M = len(a), len(b)
    if min(N, M) < 2:
        raise ValueError(f"each cloud needs at least two points, got {N} and {M}")
    a, b = a.double(), b.double()
    within = torch.pdist(a).mean() + torch.pdist(b).mean()  # over pairs of different points
    return (2 * torch.cdist(a, b).mean() - within).item()


def landing(mixture: GaussianMixture, x: Float[Tensor, "N 2"]) -> tuple[int, int]:
    """Where points of the plane landed: how many lie off every Gaussian, and how many Gaussians were reached.

    A point lies off if even the Gaussian that it is nearest to, counted in that one's standard deviations, has 99 % of its
    own points nearer: (x - mu)^T S^-1 (x - mu) > -2 log 0.01 in two dimensions.
    """
    off_by = x.double()[:, None] - mixture.means  # (N, K, 2)
    squared = torch.einsum("nki,kij,nkj->nk", off_by, torch.linalg.inv(mixture.covariances), off_by)
    nearest, k = squared.min(1)
    on = nearest <= -2 * math.log(0.01)
    return int((~on).sum()), len(k[on].unique())
