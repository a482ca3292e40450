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

    Open signs are LoRA in the blocks alone, filled ones train the embeddings too.

    Args:
        rows: of the series "adapters".
    """
    for ax, (name, (title, colour, mark)) in zip(axes, NAMES.items(), strict=True):
        for embeddings, fill, line in ((False, "white", "--"), (True, colour, "-")):
            found = summary(rows, embeddings)
            places, told = range(len(found)), "and embeddings" if embeddings else "blocks alone"
            values = [row[name] for row in found]
            ax.plot(places, values, color=colour, linestyle=line, marker=mark, markerfacecolor=fill, label=told)
            if name == "held_out":
                low, high = ([row[end] for row in found] for end in ("low", "high"))
                ax.vlines(places, low, high, color=colour, linewidth=3, alpha=0.4)
        ax.set_xticks(places, [label(row["rank"]) for row in found])
        ax.set_title(title, fontsize=10)
        quiet(ax, "rank")
    axes[0].set_ylim(0, 1.03)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    axes[1].set_yscale("log")
    axes[2].set_ylim(0, 1.05 * axes[2].get_ylim()[1])
    return axes


class Ranks(anywidget.AnyWidget):
    """A slider over the rank, and whether the embeddings are trained too: the numbers of the series, and the singular values
    of the change, beside the full one's.

    Args:
        rows: of the series "adapters".
    """

    _esm = Path(__file__).with_name("ranks.js")
    _css = Path(__file__).with_name("ranks.css")
    given = traitlets.Dict().tag(sync=True)
    place = traitlets.Int(2, min=0).tag(sync=True)
    embeddings = traitlets.Bool(False).tag(sync=True)

    def __init__(self, rows: Sequence[dict], **settings):
        keep = ("rank", "parameters", "train", "held_out", "low", "high", "nats", "recall", "lr", "singular")
        chosen = [
            [{name: row[name] for name in keep} | {"label": label(row["rank"])} for row in summary(rows, embeddings)]
            for embeddings in (False, True)
        ]
        super().__init__(given={"rows": chosen}, **settings)

    @traitlets.validate("place")
    def _a_place(self, proposal):
        if proposal.value >= (places := len(self.given["rows"][0])):
            raise ValueError(f"place must lie in 0..{places - 1}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"an explorer of {len(self.given['rows'][0])} ranks (needs a running kernel)"
