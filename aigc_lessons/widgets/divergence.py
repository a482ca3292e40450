"""The two directions of KL, played with: one Gaussian to place on a density with two humps."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from jaxtyping import Float
from scipy.optimize import minimize

LEFT, SPREAD = 0.6, 0.5  # the left hump holds this share; both are this wide
FARTHEST, NARROWEST, WIDEST = 4.0, 0.2, 4.0  # limits of the mean, the width
APART = (0.0, 4.0)  # the humps stand at -apart/2 and apart/2
GRID = np.linspace(-24, 24, 2401)  # both integrals are sums over these places
NEAR = 0.02  # nats above the lowest that count as found
DIRECTIONS = {"forward": "KL(p || q)", "reverse": "KL(q || p)"}


@dataclass(frozen=True)
class Placed:
    """The Gaussian, the distance of the humps, and which direction is looked at."""

    mean: float = 0.0
    width: float = 1.0
    apart: float = 3.2
    direction: str = "forward"


def log_p(x: Float[np.ndarray, "*N"], apart: float) -> Float[np.ndarray, "*N"]:
    """log density of the two humps."""
    left, right = log_normal(x, -apart / 2, SPREAD), log_normal(x, apart / 2, SPREAD)
    return np.logaddexp(np.log(LEFT) + left, np.log(1 - LEFT) + right)


def log_normal(x: Float[np.ndarray, "*N"], mean: float, width: float) -> Float[np.ndarray, "*N"]:
    """log N(x; mean, width^2)."""
    return -((x - mean) ** 2) / (2 * width**2) - np.log(width) - np.log(2 * np.pi) / 2


def integrand(placed: Placed, x: Float[np.ndarray, "*N"] = GRID) -> Float[np.ndarray, "*N"]:
    """p log(p / q), or q log(q / p): its area is the KL of the direction."""
    p, q = log_p(x, placed.apart), log_normal(x, placed.mean, placed.width)
    return np.exp(p) * (p - q) if placed.direction == "forward" else np.exp(q) * (q - p)


def kl(placed: Placed) -> float:
    """The KL of the direction, in nats."""
    return float(integrand(placed).sum() * (GRID[1] - GRID[0]))


@lru_cache(maxsize=64)
def lowest(apart: float, direction: str) -> list[Placed]:
    """Every local minimum over mean and width, the lowest first.

    Forward there is one, the Gaussian with the mean and the variance of p. Reverse they are searched for from three places.
    """
    if direction == "forward":
        variance = SPREAD**2 + LEFT * (1 - LEFT) * apart**2
        return [Placed((1 - 2 * LEFT) * apart / 2, variance**0.5, apart, direction)]
    found: list[Placed] = []
    for start, width in ((-apart / 2, SPREAD), (apart / 2, SPREAD), (0.0, 1.5)):
        best = minimize(
            lambda v: kl(Placed(v[0], float(np.exp(v[1])), apart, direction)),
            [start, np.log(width)],
            method="Nelder-Mead",
            options={"xatol": 1e-4, "fatol": 1e-9},
        )
        placed = Placed(float(best.x[0]), float(np.exp(best.x[1])), apart, direction)
        if not any(abs(placed.mean - other.mean) < 1e-2 for other in found):
            found.append(placed)
    return sorted(found, key=kl)


def verdict(placed: Placed) -> str:
    """What the explorer says about the place, in words."""
    minima, here = lowest(placed.apart, placed.direction), kl(placed)
    best = kl(minima[0])
    near = min(minima, key=lambda m: abs(m.mean - placed.mean))
    between = abs(placed.mean) < placed.apart / 4 and placed.width < placed.apart / 4 and placed.apart >= 2
    if here < best + NEAR:
        head = "Found: no Gaussian is better in this direction."
    elif placed.direction == "reverse" and abs(near.mean - placed.mean) < 0.3 and here < kl(near) + NEAR:
        head = "A trap: every small move makes it worse, but another place is better."
    elif between and placed.direction == "forward":
        head = "Between the humps: p has points where q has next to nothing, and each of them costs."
    elif between:
        head = "Between the humps: q has its points where p has next to nothing, and each of them costs."
    elif placed.direction == "forward" and placed.width < near.width / 1.4:
        head = "Too narrow: a part of p is left out, and pays for it."
    elif placed.direction == "reverse" and placed.width > near.width * 1.4 and placed.apart >= 2:
        head = "Too wide: q spills into places where p has next to nothing."
    else:
        head = "Not there yet."
    return f"{head} {DIRECTIONS[placed.direction]} = {here:.3f} nats, the lowest is {best:.3f}."


class KLExplorer(anywidget.AnyWidget):
    """A Gaussian q to drag over a density p with two humps; both KLs as numbers, one of them as an area.

    Everything is computed and drawn in the browser. The kernel hears `mean`, `width`, `apart` and `direction` once the hand
    is still.

    Args:
        placed: what is shown first.
    Raises: ValueError for a value out of reach, or an unknown direction.
    """

    _esm = Path(__file__).with_name("divergence.js")
    _css = Path(__file__).with_name("divergence.css")
    given = traitlets.Dict().tag(sync=True)
    mean = traitlets.Float(0.0).tag(sync=True)
    width = traitlets.Float(1.0).tag(sync=True)
    apart = traitlets.Float(3.2).tag(sync=True)
    direction = traitlets.Unicode("forward").tag(sync=True)

    def __init__(self, placed: Placed | None = None):
        minima = {
            f"{apart / 10:g}": {name: [[m.mean, m.width, kl(m)] for m in lowest(apart / 10, name)] for name in DIRECTIONS}
            for apart in range(int(10 * APART[0]), int(10 * APART[1]) + 1, 4)
        }
        super().__init__(
            given={
                "left": LEFT, "spread": SPREAD, "farthest": FARTHEST, "narrowest": NARROWEST, "widest": WIDEST,
                "apart": list(APART), "grid": [float(GRID[0]), float(GRID[-1]), len(GRID)], "near": NEAR,
                "directions": DIRECTIONS, "minima": minima,
            },
            **asdict(placed or Placed()),
        )  # fmt: skip

    @property
    def placed(self) -> Placed:
        """Where the Gaussian stands."""
        return Placed(self.mean, self.width, self.apart, self.direction)

    @traitlets.validate("mean", "width", "apart")
    def _within_reach(self, proposal):
        name = proposal.trait.name
        low, high = {"mean": (-FARTHEST, FARTHEST), "width": (NARROWEST, WIDEST), "apart": APART}[name]
        if not low <= proposal.value <= high:
            raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {proposal.value:g}")
        return proposal.value

    @traitlets.validate("direction")
    def _a_direction(self, proposal):
        if proposal.value not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {proposal.value!r}")
        return proposal.value

    def __repr__(self) -> str:
        return "the KL explorer, one Gaussian on two humps (needs a running kernel)"
