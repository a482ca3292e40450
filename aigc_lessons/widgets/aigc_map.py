"""The map of AIGC: classes, techniques and areas of use, with the lesson that builds each. A tree to open, and a still."""

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import traitlets
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.image import imsave
from torch import Tensor

from aigc_lessons.plots import BLUE, GREEN, INK, ORANGE, PINK, tile
from aigc_lessons.studio import taxonomy

ROOT = "aigc"
SLATE = "#51606f"
COLOURS = {"text": BLUE, "audio": ORANGE, "image": GREEN, "space": PINK, "areas": SLATE}


@dataclass(frozen=True, eq=False)
class Sample:
    """What a model of the course made, to be shown on a leaf: images, or a text.

    Args:
        made_by: which model, and how it was asked.
        images:  shown on one sheet, ten to a row.
    """

    made_by: str
    images: Float[Tensor, "N 1 H W"] | None = None
    text: str = ""


class AigcMap(anywidget.AnyWidget):
    """A tree: AIGC, its branches, and the leaves of the open branch. Choosing an entry tells about it.

    Args:
        parts:   from `lessons.course_map()`: which lessons there are, and which are only planned.
        samples: key of a leaf -> a Sample; other leaves show none.
    Raises: KeyError naming a sample that belongs to no leaf.
    """

    _esm = Path(__file__).with_name("aigc_map.js")
    _css = Path(__file__).with_name("aigc_map.css")
    tree = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Unicode(ROOT).tag(sync=True)

    def __init__(self, parts: list[dict], samples: Mapping[str, Sample] | None = None):
        super().__init__(tree=tree_of(parts, samples or {}))

    def __repr__(self) -> str:
        return "the map of AIGC, interactive (needs a running kernel)"


def tree_of(parts: list[dict], samples: Mapping[str, Sample]) -> dict:
    """Everything the browser draws, as plain data: the taxonomy, with each leaf's lesson, sample and neighbours."""
    if unknown := sorted(set(samples) - set(taxonomy.leaves())):
        raise KeyError(f"the map has no leaf {unknown[0]!r} to show a sample on")
    lessons = {lesson["number"]: lesson for part in parts for lesson in part["lessons"]}

    def leaf(entry: taxonomy.Leaf) -> dict:
        used_in = [area.key for area in taxonomy.AREAS.leaves if entry.key in area.uses]
        facts = asdict(entry) | {"products": list(entry.products), "uses": list(entry.uses), "used_in": used_in}
        facts |= {"sample": None, "lesson": None}
        if entry.key in samples:
            facts["sample"] = _packed(samples[entry.key])
        if entry.built_by is not None:
            lesson = lessons[entry.built_by]
            facts["lesson"] = {key: lesson.get(key) for key in ("number", "title", "ready", "file")}
        return facts

    branches = [
        asdict(branch) | {"colour": COLOURS[branch.key], "leaves": [leaf(entry) for entry in branch.leaves]}
        for branch in taxonomy.BRANCHES
    ]
    words = {"name": taxonomy.NAME, "chinese": taxonomy.CHINESE, "means": taxonomy.MEANS, "works": taxonomy.WORKS}
    return {"key": ROOT, **words, "branches": branches}


def _packed(sample: Sample) -> dict:
    picture = None
    if sample.images is not None:
        png = io.BytesIO()
        imsave(png, tile(sample.images, columns=10), cmap="gray", vmin=0, vmax=1, format="png")
        picture = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return {"made_by": sample.made_by, "picture": picture, "text": sample.text}


def show_aigc(ax: Axes, parts: list[dict]) -> Axes:
    """The whole map, still: every leaf with its lesson (filled where it is written, open where it is planned) and products.

    Args:
        parts: from `lessons.course_map()`.
    """
    ready = {lesson["number"] for part in parts for lesson in part["lessons"] if lesson["ready"]}
    y, middles = 0.0, []
    for branch in taxonomy.BRANCHES:
        colour, rows = COLOURS[branch.key], [y + k for k in range(len(branch.leaves))]
        middles.append((sum(rows) / len(rows), colour))
        frame = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": colour, "linewidth": 1.8}
        ax.text(2.2, middles[-1][0], branch.name.replace(" and ", "\nand "), ha="center", va="center", fontsize=9.5,
                color=INK, bbox=frame)  # fmt: skip
        for row, leaf in zip(rows, branch.leaves, strict=True):
            _curve(ax, 2.2, middles[-1][0], 4.0, row, colour)
            filled = leaf.built_by in ready
            ax.scatter([4.0], [row], s=190, facecolor=colour if filled else "white", edgecolor=colour, linewidth=1.2)
            ax.text(4.0, row, leaf.built_by or "–", ha="center", va="center_baseline", fontsize=7,
                    color="white" if filled else INK)  # fmt: skip
            ax.text(4.25, row, leaf.name, va="center_baseline", fontsize=9, color=INK)
            ax.text(7.3, row, ", ".join(map(_latin, leaf.products)), va="center_baseline", fontsize=7.5, color="#6b7783")
        y = rows[-1] + 1.7
    centre = (middles[0][0] + middles[-1][0]) / 2
    for middle, colour in middles:
        _curve(ax, 0.45, centre, 2.2, middle, colour)
    ax.text(0.45, centre, taxonomy.NAME, ha="center", va="center", fontsize=12, color="white", fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.5", "facecolor": INK, "edgecolor": INK})  # fmt: skip
    ax.set_xlim(0, 11)
    ax.set_ylim(y - 1, -0.7)
    ax.axis("off")
    return ax


def _curve(ax: Axes, x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
    """A branch of the tree: level at both ends."""
    share = [k / 24 for k in range(25)]
    ease = [s * s * (3 - 2 * s) for s in share]
    ax.plot([x0 + (x1 - x0) * s for s in share], [y0 + (y1 - y0) * e for e in ease], color=colour, linewidth=1.1, zorder=0)


def _latin(product: str) -> str:
    """A product's name in Latin letters: plots have no Chinese font. "可灵 (Kling)" -> "Kling"."""
    match = re.fullmatch(r"[^\x00-\u024f]+ \((.+)\)", product)
    return match[1] if match else product
