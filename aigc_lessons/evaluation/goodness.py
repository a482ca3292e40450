"""Do points in the plane follow a given density? A chi-square test."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.tilted import Table


@dataclass(frozen=True)
class Fit:
    """statistic: sum of (counted - expected)^2 / expected; freedom: bins less one; p: how often honest points do worse."""

    statistic: float
    freedom: int
    p: float

    def __str__(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 1e-3 else "p below 0.001"
        return f"chi-square {self.statistic:.0f} on {self.freedom} degrees of freedom, {p}"


def chi_square(points: Float[Tensor, "N 2"], density: Table, block: int = 6, least: float = 5.0) -> Fit:
    """Pearson's test that independent points come from a tabulated density.

    Bins are squares of block x block cells; those that expect fewer than `least` points, and all that lies outside the
    table, together make one more bin.

    Raises: ValueError if the table cannot be cut into such squares, or fewer than two bins are left: too few points.
    Source: Pearson 1900; the rule of five, Cochran 1954.
    """
    from scipy.special import chdtrc  # P(a chi-square variable exceeds ...); scipy is slow to import

    G = len(density.side)
    if block < 1 or G % block:
        raise ValueError(f"block must divide the {G} cells of a side, got {block}")
    n = G // block
    p = density.p.unfold(0, block, block).unfold(1, block, block).sum((2, 3)).flatten()  # (n n,)
    low = density.side[0] - density.cell / 2
    at = ((points.double() - low) / (block * density.cell)).floor().long()  # (N, 2)
    inside = ((at >= 0) & (at < n)).all(1)
    counted = torch.bincount(at[inside, 0] * n + at[inside, 1], minlength=n * n).double()
    own = p * len(points) >= least
    expected = torch.cat([p[own], 1 - p[own].sum()[None]]) * len(points)
    counted = torch.cat([counted[own], len(points) - counted[own].sum()[None]])
    if expected[-1] < least:  # hardly anything is left over: to the rarest of the others
        k = int(expected[:-1].argmin()) if own.any() else 0
        for values in (expected, counted):
            values[k] += values[-1] * (k != len(values) - 1)
        expected, counted = expected[:-1], counted[:-1]
    if len(expected) < 2:
        raise ValueError(f"{len(points)} points are too few: only {len(expected)} bin expects {least:g} of them")
    statistic = ((counted - expected) ** 2 / expected).sum().item()
    return Fit(statistic, len(expected) - 1, float(chdtrc(len(expected) - 1, statistic)))
