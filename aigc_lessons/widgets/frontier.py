"""Quality against evaluations, played with: a sampler, a guidance, a price, and the digits that they give."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from aigc_lessons.diffusion.grids import most_steps
from aigc_lessons.studio.frontier import BUDGETS, METHODS, SCALES, Gallery

NAMES = {"ddpm": "DDPM", "ddim": "DDIM", "heun": "Heun", "dpmpp_2m": "2M"}
MEASURES = ("ratio", "accuracy", "distance")
NUMBERS = ("steps", "evaluations", "accuracy", "ratio", "low", "high", "distance")


def points(rows: Sequence[dict], grids: dict[str, tuple[float, float]]) -> dict[tuple[str, int, float], dict]:
    """(sampler, price, guidance) -> the row of the series "samplers" that was measured there, with the first seed.

    Raises: ValueError naming the first point that has no row.
    """
    first = [row for row in rows if row["seed"] == 1]
    measured = {(row["method"], row["steps"], row["early"], row["late"], row["scale"]): row for row in first}
    found = {}
    for scale in SCALES:
        for method in METHODS:
            for price in BUDGETS:
                row = measured.get((method, most_steps(method, price, scale), *grids[method], scale))
                if row is None:
                    raise ValueError(f"the series has no row for {method}, {price} evaluations, guidance {scale:g}")
                found[method, price, scale] = row
    return found


def ends(found: dict[tuple[str, int, float], dict]) -> dict[float, float]:
    """Guidance -> the Fréchet ratio of the full deterministic walk: that of a row, less how far it is from there."""
    rows = {scale: found["dpmpp_2m", BUDGETS[-1], scale] for scale in SCALES}
    return {scale: row["ratio"] - row["difference"] for scale, row in rows.items()}


def verdict(row: dict, end: float, plain: float) -> str:
    """What the explorer says about a point.

    Args:
        row:   of the series.
        end:   Fréchet ratio of the full deterministic walk with this guidance.
        plain: the same without guidance.
    """
    if row["ratio"] > 1.5 * end:
        head = f"Broken: too few evaluations for {NAMES[row['method']]}."
    elif end > 1.5 * plain:
        head = f"Guidance {row['scale']:g} is too strong: read with ease, but too much alike, and no price mends that."
    elif row["method"] == "ddpm":
        head = "Dice: other digits than the walk's, however many steps; their distance says nothing."
    elif row["distance"] < 0.1:
        head = "The digits of the full walk, to the eye."
    else:
        head = "Good digits, but not yet those of the full walk."
    return (
        f"{head} {row['evaluations']} evaluations ({row['steps']} steps): Fréchet ratio {row['ratio']:.2f}"
        f" ({row['low']:.2f} to {row['high']:.2f}; the full walk {end:.2f}), read right"
        f" {100 * row['accuracy']:.1f} %, distance to the full walk {row['distance']:.3f}."
    )


class FrontierExplorer(anywidget.AnyWidget):
    """Samplers at every price: a point on the frontier, and the ten digits that it stands for.

    Pictures and measurements are sent once; everything is drawn in the browser. The kernel hears `method`, `price`, `scale`
    and `measure` once the hand is still.

    Args:
        gallery: digits at every setting.
        rows:    of the series "samplers".
    Raises: ValueError if a setting of the gallery was never measured.
    """

    _esm = Path(__file__).with_name("frontier.js")
    _css = Path(__file__).with_name("frontier.css")
    given = traitlets.Dict().tag(sync=True)
    method = traitlets.Unicode("dpmpp_2m").tag(sync=True)
    price = traitlets.Int(8).tag(sync=True)
    scale = traitlets.Float(1.0).tag(sync=True)
    measure = traitlets.Unicode("ratio").tag(sync=True)

    def __init__(self, gallery: Gallery, rows: Sequence[dict]):
        self.points = points(rows, gallery.grids)
        self.ends = ends(self.points)
        cells = [[[self.points[m, b, s] for b in BUDGETS] for m in METHODS] for s in SCALES]
        given = {
            "methods": list(METHODS),
            "names": NAMES,
            "prices": list(BUDGETS),
            "scales": list(SCALES),
            "measures": list(MEASURES),
            "ends": [self.ends[scale] for scale in SCALES],
            **{name: [[[row[name] for row in line] for line in block] for block in cells] for name in NUMBERS},
            "drawn": gallery.drawn.contiguous().numpy().tobytes(),
            "end": gallery.end.contiguous().numpy().tobytes(),
        }
        super().__init__(given=given)

    def verdict(self, method: str, price: int, scale: float) -> str:
        """What is said about a point.

        Raises: KeyError for a point that is not offered.
        """
        return verdict(self.points[method, price, scale], self.ends[scale], self.ends[SCALES[0]])

    @traitlets.validate("method", "price", "scale", "measure")
    def _offered(self, proposal):
        offered = {"method": METHODS, "price": BUDGETS, "scale": SCALES, "measure": MEASURES}[proposal.trait.name]
        if proposal.value not in offered:
            said = ", ".join(map(str, offered))
            raise ValueError(f"{proposal.trait.name} must be one of {said}, got {proposal.value!r}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the solver frontier, {len(self.points)} settings with ten digits each (needs a running kernel)"
