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


def sliced_wasserstein(
    a: Float[Tensor, "N D"], b: Float[Tensor, "N D"], generator: torch.Generator, directions: int = 200
) -> float:
    """Look at both clouds along a random direction, sort, and take the mean distance of equal ranks; mean over directions.

    mean over u of  1/N sum_i | (a u)_(i) - (b u)_(i) |,   u uniform on the unit sphere (Wasserstein-1 of each projection)

    Clouds of one distribution are not at 0, but at a few N^-1/2: compare with two clouds of data.

    Raises: ValueError unless the clouds have equally many points, at least one, and there is a direction.
    Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures", with W1 in place of W2.
    """
    if a.shape != b.shape or not len(a) or directions < 1:
        raise ValueError(
            f"need two clouds of one shape and at least one direction, got {tuple(a.shape)}, {tuple(b.shape)}, {directions}"
        )
    u = torch.randn(a.shape[1], directions, generator=generator, dtype=torch.float64)
    u = u / u.norm(dim=0)
    return ((a.double() @ u).sort(0).values - (b.double() @ u).sort(0).values).abs().mean().item()


def mmd(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"], width: float) -> float:
    """The squared maximum mean discrepancy with the kernel k(x, y) = exp(-|x - y|^2 / (2 width^2)), without bias:

    E k(A, A') + E k(B, B') - 2 E k(A, B), pairs of different points only

    0 if and only if both come from the same distribution; the estimate scatters about 0 then, and may be below it. It sees
    best what differs on the scale of `width`.

    Raises: ValueError for fewer than two points in a cloud, or a width that is not above 0.
    Source: Gretton et al. 2012, "A kernel two-sample test", JMLR 13, eq. 3.
    """
    N, M = len(a), len(b)
    if min(N, M) < 2 or not width > 0:
        raise ValueError(f"each cloud needs at least two points, and width must be above 0; got {N}, {M} and {width:g}")
    a, b = a.double(), b.double()

    def kernel(distance: Tensor) -> float:
        return (-(distance**2) / (2 * width**2)).exp().mean().item()

    return kernel(torch.pdist(a)) + kernel(torch.pdist(b)) - 2 * kernel(torch.cdist(a, b))


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
