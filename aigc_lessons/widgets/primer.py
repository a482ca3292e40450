"""For those who meet torch for the first time: memory, broadcasting and a graph of derivatives, drawn; and an explorer."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from aigc_lessons.plots import BLUE, FAINT, GREEN, INK, ORANGE, RED, show_line

Shape = tuple[int, ...]
LIGHT = {BLUE: "#cfe3f1", ORANGE: "#fbe7bf", GREEN: "#c9e9df"}  # the same colours on paper, for text to stand on
STRIPES = ["#cfe3f1", "#fbe7bf", "#c9e9df", "#f3dbe8"]  # one for each row of the tensor that owns the memory


@dataclass(frozen=True)
class Alignment:
    """Two shapes laid on one another.

    columns: from the first axis to the last, (size of a or None, size of b or None, result or None, what happens).
    shape:   of the result; None where torch refuses.
    refusal: torch's own words, or "".
    """

    columns: tuple[tuple[int | None, int | None, int | None, str], ...]
    shape: Shape | None
    refusal: str


def align(a: Shape, b: Shape) -> Alignment:
    """Broadcasting: shapes are aligned at their last axes; a missing axis counts as 1; a 1 is stretched to the other's size.

    Returns: an Alignment that says the same as torch does for `torch.empty(a) + torch.empty(b)`.
    Source: the rule of NumPy (Harris et al. 2020, arXiv:2006.10256), which torch follows.
    """
    n = max(len(a), len(b))
    columns, refusal = [], ""
    for axis in range(n):
        i, j = axis - n + len(a), axis - n + len(b)
        p, q = a[i] if i >= 0 else None, b[j] if j >= 0 else None
        columns.append((p, q, *_pair(p, q)))
        if columns[-1][2] is None:  # the last one counts: torch compares from the last axis to the first, and stops there
            refusal = f"The size of tensor a ({p}) must match the size of tensor b ({q}) at non-singleton dimension {axis}"
    return Alignment(tuple(columns), None if refusal else tuple(column[2] for column in columns), refusal)


def _pair(p: int | None, q: int | None) -> tuple[int | None, str]:
    if p is None:
        return q, "missing in a: stretched" if q != 1 else "missing in a"
    if q is None:
        return p, "missing in b: stretched" if p != 1 else "missing in b"
    if p == q:
        return p, "equal"
    if p == 1:
        return q, "a stretched"
    if q == 1:
        return p, "b stretched"
    return None, "refused"


def remedies(a: Shape, b: Shape, most: int = 2) -> list[tuple[str, Shape]]:
    """For shapes that torch refuses: new last axes of size 1 that make them fit, as code, with the shape that comes out."""
    found = []
    for count in (1, 2, 3):
        code = ", ".join(["...", *["None"] * count])
        for name, p, q in (("a", (*a, *[1] * count), b), ("b", a, (*b, *[1] * count))):
            if (shape := align(p, q).shape) is not None:
                found.append((f"a[{code}] + b" if name == "a" else f"a + b[{code}]", shape))
    return found[:most]


def verdict(a: Shape, b: Shape) -> str:
    """What the explorer says about two shapes, in words."""
    alignment = align(a, b)
    if alignment.shape is None:
        cures = "; ".join(f"{code} has shape {shape}" for code, shape in remedies(a, b))
        why = next(f"{p} against {q}" for p, q, out, _ in reversed(alignment.columns) if out is None)
        return f"Refused: {why}, and neither is 1. {alignment.refusal}." + (f" These fit: {cures}." if cures else "")
    says = f"a + b has shape {alignment.shape}: {prod(alignment.shape)} sums from {prod(a)} and {prod(b)} numbers."
    if prod(a) == prod(b) < prod(alignment.shape):
        says += " No error, but each number of a met each number of b."
        says += " If it should meet only its partner, give both the same shape."
    return says


class BroadcastExplorer(anywidget.AnyWidget):
    """Two shapes that can be typed, or changed axis by axis; aligned, stretched or refused while the hand still moves.

    Args:
        a, b:     the shapes at the start.
        examples: name -> (a, b), offered as buttons.
    Raises: ValueError for a negative size or more than four axes.
    """

    _esm = Path(__file__).with_name("primer.js")
    _css = Path(__file__).with_name("primer.css")
    a = traitlets.List(traitlets.Int()).tag(sync=True)
    b = traitlets.List(traitlets.Int()).tag(sync=True)
    examples = traitlets.List().tag(sync=True)

    def __init__(self, a: Shape, b: Shape, examples: dict[str, tuple[Shape, Shape]] | None = None):
        for shape in (a, b):
            if len(shape) > 4 or any(size < 0 for size in shape):
                raise ValueError(f"a shape here has up to four axes, none negative; got {tuple(shape)}")
        shown = [{"name": name, "a": list(p), "b": list(q)} for name, (p, q) in (examples or {}).items()]
        super().__init__(a=list(a), b=list(b), examples=shown)

    def __repr__(self) -> str:
        return "the broadcasting explorer (needs a running kernel)"


def show_broadcast(axes: list[Axes], a: Tensor, b: Tensor) -> list[Axes]:
    """a, b and a + b side by side, each in the shape of the result; cells that are only stretched copies are dashed.

    Args:
        axes: three of them.
        a, b: up to two axes each.
    Raises: RuntimeError, torch's own, where the shapes do not fit.
    """
    result = a + b
    for ax, name, tensor, colour in zip(axes, ("a", "b", "a + b"), (a, b, result), (BLUE, ORANGE, GREEN), strict=True):
        full = tensor.broadcast_to(result.shape)
        real = [1] * (result.ndim - tensor.ndim) + list(tensor.shape)  # cells beyond these are copies
        values = full.reshape(1, -1) if full.ndim < 2 else full
        rows, columns = ([1, *real] if full.ndim < 2 else real)[-2:]
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                _cell(ax, j, i, value, LIGHT[colour] if i < rows and j < columns else "white", colour,
                      copied=i >= rows or j >= columns)  # fmt: skip
        ax.set_title(f"{name}   {tuple(tensor.shape)}", color=INK, fontsize=11)
        _sheet(ax, values.shape[1], values.shape[0])
    for ax, sign in zip(axes[1:], "+=", strict=True):
        ax.text(-0.14, 0.5, sign, transform=ax.transAxes, fontsize=16, ha="center", va="center", color=INK)
    return axes


def show_views(ax: Axes, views: dict[str, Tensor]) -> Axes:
    """The memory that some views share, as one strip, and under it each view as a sheet, with its strides and its start.

    Args:
        views: name -> a view of one or two axes; the first owns the memory, and its rows give the colours.
    """
    owner = next(iter(views.values()))
    stripe = lambda place: STRIPES[place // owner.shape[-1] % len(STRIPES)]  # noqa: E731
    left = 0.0
    for name, view in views.items():
        rows, columns = (1, *view.shape)[-2:]
        start = view.storage_offset()
        for i in range(rows):
            for j in range(columns):
                place = start + sum(step * k for step, k in zip(view.stride(), (i, j)[-view.ndim :], strict=True))
                _cell(ax, left + j, i, view.as_strided((), (), place).item(), stripe(place), INK)
        says = f"shape {tuple(view.shape)}\nstrides {view.stride()}" + (f", start {start}" if start else "")
        ax.text(left + columns / 2, -1.15, name, ha="center", va="bottom", fontsize=11, color=BLUE, family="monospace")
        ax.text(left + columns / 2, -0.1, says, ha="center", va="bottom", fontsize=9, color=INK)
        left += max(columns, 3) + 1
    middle = (left - 1 - owner.numel()) / 2
    for place, value in enumerate(owner.flatten().tolist()):
        _cell(ax, middle + place, -3.4, value, stripe(place), INK)
        ax.text(middle + place + 0.5, -2.2, str(place), ha="center", va="center", fontsize=8, color="#51606f")
    ax.text(middle - 0.2, -2.9, "memory", ha="right", va="center", fontsize=11, color=INK)
    ax.text(middle - 0.2, -2.2, "place", ha="right", va="center", fontsize=8, color="#51606f")
    ax.set_xlim(-0.2, left - 0.8)
    ax.set_ylim(max((1, *view.shape)[-2] for view in views.values()) + 0.1, -3.6)
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def show_walk(ax: Axes, surface: Callable[[Tensor], Tensor], path: Float[Tensor, "K 2"], title: str) -> Axes:
    """A walk over a surface of two weights: the surface as contour lines, the walk as dots joined by a line.

    Args:
        surface: (..., 2) -> heights (...), drawn on -5..5 by -3..3; a walk may leave it.
    """
    across, up = torch.linspace(-5, 5, 101), torch.linspace(-3, 3, 61)
    heights = surface(torch.stack(torch.broadcast_tensors(across[None, :], up[:, None]), dim=-1))
    levels = heights.max() * torch.tensor([0.01, 0.04, 0.12, 0.25, 0.45, 0.7])
    ax.contour(across, up, heights, levels=levels.tolist(), colors=FAINT, linewidths=0.8)
    show_line(ax, *path.T, marker=".", linewidth=0.9, markersize=4)
    ax.set(xlim=(-5, 5), ylim=(-3, 3), xticks=[-4, 0, 4], yticks=[-2, 0, 2])
    ax.set_title(title, fontsize=10, color=INK)
    return ax


def _cell(ax: Axes, x: float, y: float, value: float, face: str, edge: str, copied: bool = False) -> None:
    style = {"linestyle": (0, (3, 2)), "linewidth": 0.9} if copied else {"linewidth": 1.3}
    ax.add_patch(plt.Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, facecolor=face, edgecolor=edge, **style))
    ax.text(x + 0.5, y + 0.5, f"{value:g}", ha="center", va="center", fontsize=10, color="#7a8794" if copied else INK)


def _sheet(ax: Axes, width: float, height: float) -> None:
    ax.set_xlim(-0.1, width + 0.1)
    ax.set_ylim(height + 0.1, -0.1)
    ax.set_aspect("equal")
    ax.axis("off")


def show_graph(ax: Axes, values: dict[str, float], slopes: dict[str, float]) -> Axes:
    """The graph of  z = w x + b,  h = sin z,  p = a h,  e = p - y,  L = e^2:  values above, dL/d... below.

    Args:
        values: "x", "w", "b", "a", "y", "z", "h", "p", "e", "L".
        slopes: dL/d of any of them; those that are missing are not asked for.
    """
    at = {"x": (0, 2), "w": (0, 1), "b": (0, 0), "z": (1.6, 1), "h": (3.2, 1), "a": (3.2, 0),
          "p": (4.8, 1), "y": (4.8, 0), "e": (6.4, 1), "L": (8.0, 1)}  # fmt: skip
    how = {"z": "w x + b", "h": "sin z", "p": "a h", "e": "p − y", "L": "e²"}
    for start, end in ("xz", "wz", "bz", "zh", "hp", "ap", "pe", "ye", "eL"):
        (x, y), (to, level) = at[start], at[end]
        ax.annotate("", (to - 0.46, level + 0.16 * (y - level)), (x + 0.46, y),
                    arrowprops={"arrowstyle": "-|>", "color": "#7a8794", "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    for name, (x, y) in at.items():
        leaf = name in "wba"
        ax.add_patch(plt.Rectangle((x - 0.45, y - 0.3), 0.9, 0.6, facecolor=LIGHT[ORANGE] if leaf else "white",
                                   edgecolor=ORANGE if leaf else INK if name in how else FAINT, linewidth=1.5))  # fmt: skip
        says = f"{name} = {values[name]:.4g}"
        ax.text(x, y + 0.1 if name in slopes else y, says, ha="center", va="center", fontsize=9.5, color=INK)
        if name in slopes:
            ax.text(x, y - 0.14, f"{slopes[name]:+.4g}", ha="center", va="center", fontsize=9.5, color=RED, weight="bold")
        if name in how:
            ax.text(x, y + 0.42, how[name], ha="center", va="bottom", fontsize=10, color=BLUE, style="italic")
    ax.set_xlim(-0.6, 8.6)
    ax.set_ylim(-0.45, 2.45)
    ax.axis("off")
    return ax
