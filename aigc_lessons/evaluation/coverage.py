"""Fidelity and diversity apart: how much of the samples lies among the data, how much of the data lies among the samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class DensityCoverage:
    """density: fidelity, about 1 for samples like the data, may exceed 1; coverage: diversity, from 0 to 1."""

    density: float
    coverage: float


def density_coverage(samples: Float[Tensor, "N F"], real: Float[Tensor, "M F"], k: int = 5) -> DensityCoverage:
    """Count samples in the neighbourhoods of real points; the neighbourhood of one reaches to its k-th nearest real one.

    density  = 1/(k N) sum over samples of the number of neighbourhoods that hold it
    coverage = share of the real points whose neighbourhood holds a sample

    Samples that all look like one real image have a high density and almost no coverage. Real samples against real ones
    have a density of 1 and, for N = M, a coverage of about 1 - 2^-k.

    Args:
        samples, real: features, for example of a judge; distances are Euclidean.
        k: which neighbour, at least 1.
    Raises: ValueError if the features differ in length, there are no samples, or fewer than k + 1 real points.
    Source: Naeem et al. 2020, arXiv:2002.09797, eq. 5 and 6.
    """
    if samples.shape[1:] != real.shape[1:] or not len(samples):
        raise ValueError(
            f"samples and real points of equal length are needed, got {tuple(samples.shape)} and {tuple(real.shape)}"
        )
    if not 1 <= k < len(real):
        raise ValueError(f"k must lie between 1 and {len(real) - 1}, one less than the real points; got {k}")
    samples, real = samples.double(), real.double()
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest of all is the point itself
    inside = torch.cdist(real, samples) <= radius[:, None]  # (M, N)
    return DensityCoverage(inside.double().sum().item() / (k * len(samples)), inside.any(1).double().mean().item())
