"""Putting a figure on the page, with words for those who cannot see it and numbers for those who check it."""

import io
import json
import os
from pathlib import Path

import numpy as np
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RECORD = "AIGC_LESSONS_FIGURES"  # names a file that receives one line of JSON for every figure shown


class _Described:
    """A figure whose plain-text form is its description."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt = figure, alt

    def _repr_png_(self):
        png = io.BytesIO()
        self.figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
        return png.getvalue(), {"alt": self.alt}

    def __repr__(self) -> str:
        return self.alt


def show(figure: Figure, alt: str) -> None:
    """Display a figure and close it.

    The description is the output's text, the picture's `alt` in exports, and a summary of what was drawn goes into the
    output's metadata, where tests compare it: pictures themselves differ from machine to machine.

    Args:
        alt: what the picture says, in a sentence.
    Raises: ValueError for an empty description.
    """
    if not alt.strip():
        raise ValueError("describe the figure in a sentence, for those who cannot see it")
    summary = summarise(figure)
    if path := os.environ.get(RECORD):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(summary) + "\n")
    display(_Described(figure, alt), metadata={"figure": summary})
    plt.close(figure)


def summarise(figure: Figure) -> list[dict]:
    """What each Axes of a figure shows: its words; its lines, images, bars and points, in a few numbers each."""
    return [_axes(ax) for ax in figure.axes]


def _axes(ax: Axes) -> dict:
    drawn = {
        "words": [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()],
        "lines": [[_numbers(line.get_xdata()), _numbers(line.get_ydata())] for line in ax.lines],
        "images": [_numbers(image.get_array()) for image in ax.images],
        "bars": _numbers([patch.get_height() for patch in ax.patches if hasattr(patch, "get_height")]),
        "widths": _numbers([patch.get_width() for patch in ax.patches if hasattr(patch, "get_width")]),
        "points": [_numbers(points.get_offsets()) for points in ax.collections],
    }
    if not (ax.lines or ax.images or ax.patches or ax.collections):
        drawn["texts"] = [text.get_text() for text in ax.texts]  # where they are all there is, they are the figure
    return drawn


def _numbers(values) -> dict:
    """Size, mean, spread, ends, and a coarse scan of an array."""
    flat = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel()
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return {"size": 0, "scan": []}
    # means of up to sixteen runs: enough to notice a shifted, flipped or reordered array
    runs = np.array_split(flat, min(16, len(flat)))
    moments = [flat.mean(), flat.std(), flat.min(), flat.max()]
    return {"size": len(flat), "scan": [float(f"{x:.6g}") for x in [*moments, *(run.mean() for run in runs)]]}


def differs(fresh: list[dict], kept: list[dict], tolerance: float = 2e-3) -> str:
    """Where two summaries disagree, in words; empty if they agree within `tolerance` of each array's largest entry."""
    return _difference(fresh, kept, "figure", tolerance)


def is_empty(summary: list[dict]) -> bool:
    """Whether nothing was drawn or written, or only constants."""
    if any(text.strip() for ax in summary for text in ax.get("texts", [])):
        return False
    arrays = [
        array  # upright bars differ in their heights, lying ones in their widths
        for ax in summary
        for array in [*ax["images"], *(y for _, y in ax["lines"]), ax["bars"], ax["widths"], *ax["points"]]
    ]
    return not any(array["size"] and array["scan"][1] > 0 for array in arrays)


def _difference(fresh, kept, where: str, tolerance: float) -> str:
    if isinstance(kept, dict):
        if "scan" in kept and isinstance(fresh, dict):
            if fresh["size"] != kept["size"]:
                return f"{where}: {fresh['size']} numbers, were {kept['size']}"
            scale = max((abs(x) for x in kept["scan"]), default=0.0)
            worst = max((abs(a - b) for a, b in zip(fresh["scan"], kept["scan"], strict=True)), default=0.0)
            return f"{where}: numbers moved by {worst:.3g} of {scale:.3g}" if worst > tolerance * scale else ""
        return next((d for key in kept if (d := _difference(fresh[key], kept[key], f"{where}, {key}", tolerance))), "")
    if isinstance(kept, list):
        if len(fresh) != len(kept):
            return f"{where}: {len(fresh)} entries, were {len(kept)}"
        pairs = enumerate(zip(fresh, kept, strict=True))
        return next((d for i, (a, b) in pairs if (d := _difference(a, b, f"{where} {i}", tolerance))), "")
    return "" if fresh == kept else f"{where}: {fresh!r}, was {kept!r}"
