"""Ranks of LoRA beside full fine-tuning: what each answers, what it costs, what it forgets, and the change it makes."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets
from matplotlib.axes import Axes

from aigc_lessons.plots import BLUE, INK, ORANGE, quiet
from aigc_lessons.studio.adapters import FULL, summary

NAMES = {
    "held_out": ("exact answers, held out", BLUE, "o"),
    "parameters": ("weights trained", INK, "s"),
    "nats": ("nats a token on prose", ORANGE, "^"),
}


def label(rank: int) -> str:
    """How a rank is called on the axis."""
    return "all" if rank == FULL else str(rank)


def show_ranks(axes: Sequence[Axes], rows: Sequence[dict]) -> Sequence[Axes]:
    """Three panels over the rank, all weights at the right end: exact answers, weights trained, nats on prose.

    Args:
        rows: of the series "adapters".
    """
    found = summary(rows)
    places = range(len(found))
    for ax, (name, (title, colour, mark)) in zip(axes, NAMES.items(), strict=True):
        ax.plot(places, [row[name] for row in found], color=colour, marker=mark)
        if name == "held_out":
            ax.vlines(
                places, [row["low"] for row in found], [row["high"] for row in found], color=colour, linewidth=3, alpha=0.4
            )
            ax.set_ylim(0, 1.03)
        if name == "parameters":
            ax.set_yscale("log")
        ax.set_xticks(places, [label(row["rank"]) for row in found])
        ax.set_title(title, fontsize=10)
        quiet(ax, "rank")
    return axes


class Ranks(anywidget.AnyWidget):
    """A slider over the rank: the numbers of the series, and the singular values of the change, beside the full one's.

    Args:
        rows: of the series "adapters".
    """

    _esm = Path(__file__).with_name("ranks.js")
    _css = Path(__file__).with_name("ranks.css")
    given = traitlets.Dict().tag(sync=True)
    place = traitlets.Int(2, min=0).tag(sync=True)

    def __init__(self, rows: Sequence[dict], **settings):
        found = summary(rows)
        keep = ("rank", "parameters", "train", "held_out", "low", "high", "nats", "recall", "lr", "singular")
        chosen = [{name: row[name] for name in keep} | {"label": label(row["rank"])} for row in found]
        super().__init__(given={"rows": chosen}, **settings)

    @traitlets.validate("place")
    def _a_place(self, proposal):
        if proposal.value >= len(self.given["rows"]):
            raise ValueError(f"place must lie in 0..{len(self.given['rows']) - 1}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"an explorer of {len(self.given['rows'])} ranks (needs a running kernel)"
