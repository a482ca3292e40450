"""Arrays to matplotlib Axes. Functions draw on an Axes and return it; they never show, and never save."""

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

# Okabe and Ito's colours, which stay apart for colour-blind readers; order matters less than shape and label
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
INK, FAINT = "#1d2733", "#c9d1da"


def tile(images: Float[Tensor, "N 1 H W"], columns: int, gap: int = 2) -> Float[np.ndarray, "h w"]:
    """Images side by side, row after row, on a white ground, as one image in [0, 1] where 1 is white paper."""
    N, _, H, W = images.shape
    rows = -(-N // columns)
    sheet = np.ones((rows * (H + gap) - gap, columns * (W + gap) - gap), np.float32)
    for i, image in enumerate(images[:, 0].clamp(-1, 1).numpy()):
        y, x = divmod(i, columns)
        sheet[y * (H + gap) :, x * (W + gap) :][:H, :W] = (1 - image) / 2
    return sheet


def show_images(
    ax: Axes, images: Float[Tensor, "N 1 H W"], columns: int, *, titles: list[str] | None = None, title: str = ""
) -> Axes:
    """Dark ink on white paper, in a grid; `titles` name the columns."""
    sheet = tile(images, columns)
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks([])
    step = images.shape[-1] + 2
    ax.set_xticks(np.arange(len(titles)) * step + images.shape[-1] / 2 if titles else [], titles or [])
    ax.tick_params(length=0, labeltop=True, labelbottom=False, colors=INK)
    ax.spines[:].set_visible(False)
    ax.set_title(title, color=INK)
    return ax


def show_line(ax: Axes, x, y, *, label: str = "", color: str = BLUE, xlabel: str = "", ylabel: str = "", **how) -> Axes:
    """One curve on a quiet ground."""
    ax.plot(np.asarray(x), np.asarray(y), color=color, label=label, **how)
    return quiet(ax, xlabel, ylabel)


def quiet(ax: Axes, xlabel: str = "", ylabel: str = "") -> Axes:
    """Axes with only the left and bottom line, and a light grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    ax.set_axisbelow(True)
    if xlabel:
        ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)
    return ax


def panels(n: int, width: float = 3.0, height: float = 2.6, **how) -> tuple[plt.Figure, list[Axes]]:
    """A figure with n panels in a row, sizes in inches for each."""
    figure, axes = plt.subplots(1, n, figsize=(width * n, height), squeeze=False, layout="constrained", **how)
    figure.get_layout_engine().set(wspace=0.08)
    return figure, list(axes[0])


def show_course(ax: Axes, parts: list[dict]) -> Axes:
    """The course map, still: a row for each part, filled tiles for lessons that are written, open ones for planned.

    Args:
        parts: from `lessons.course_map()`.
    """
    columns = max(len(part["lessons"]) for part in parts)
    for y, part in enumerate(parts):
        ax.text(-0.1, -y, part["title"], ha="right", va="center", fontsize=10, color=INK)
        for x, lesson in enumerate(part["lessons"]):
            ready = lesson["ready"]
            tile = plt.Rectangle((x, -y - 0.38), 0.86, 0.76, facecolor=BLUE if ready else "white",
                                 edgecolor=BLUE if ready else FAINT, linestyle="-" if ready else "--")  # fmt: skip
            ax.add_patch(tile)
            ax.text(x + 0.43, -y + 0.06, lesson["number"], ha="center", va="bottom", fontsize=11,
                    color="white" if ready else INK)  # fmt: skip
            note = f"{lesson['reading_minutes']} min" if ready else "planned"
            ax.text(x + 0.43, -y - 0.06, note, ha="center", va="top", fontsize=6.5, color="white" if ready else "#7a8794")
    ax.set_xlim(-1.3, columns)
    ax.set_ylim(-len(parts) + 0.5, 0.5)
    ax.axis("off")
    return ax
