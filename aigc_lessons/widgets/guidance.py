"""How hard to pull towards the label: ten digits, sampled anew at every touch of the slider."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets
import torch
from jaxtyping import Float, Int
from matplotlib import pyplot as plt
from torch import Tensor, nn

from aigc_lessons import plots
from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import NoiseSchedule

STEPS = 6  # network evaluations a digit, halved by no one: few enough for an answer while the hand still moves


@dataclass(frozen=True, eq=False)
class Guided:
    """Samples, what the judge reads in each, and the share of pixels at the ends of the scale (within 2 %)."""

    images: Float[Tensor, "N 1 H W"]
    reads: Int[Tensor, " N"]
    saturated: float


def guided_digits(
    denoise: Callable, schedule: NoiseSchedule, judge: nn.Module, x_T: Tensor, labels: Tensor, null_label: int, scale: float
) -> Guided:
    """Sample once at a guidance scale, deterministically from x_T.

    Args:
        denoise: conditional denoiser (x_t, t, labels) -> x_0; not clipped, so that too strong a pull shows.
    """
    walk = sample(classifier_free(denoise, labels, null_label, scale), schedule, x_T, method="dpmpp_2m", steps=STEPS)
    images = final(walk)
    with torch.no_grad():
        reads = judge(images.clamp(-1, 1)).argmax(1)
    return Guided(images, reads, ((images.abs() - 1).abs() < 0.02).double().mean().item())


class GuidanceExplorer(ipywidgets.VBox):
    """A slider for the guidance scale, and the digits it gives.

    Args:
        draw: scale -> Guided, for fixed noise and labels (partial of `guided_digits`).
        labels: what was asked for.
    """

    def __init__(self, draw: Callable[[float], Guided], labels: list[int], start: float = 1.0):
        self.draw, self.labels = draw, labels
        self.slider = ipywidgets.FloatSlider(
            start, min=0, max=8, step=0.25, description="guidance scale", style={"description_width": "110px"},
            layout={"width": "520px"},
        )  # fmt: skip
        self.slider.add_class("guidance-slider")
        self.picture = ipywidgets.Image(format="png", layout={"width": "800px"})
        self.picture.add_class("guidance-picture")
        self.words = ipywidgets.HTML()
        self.words.add_class("guidance-words")
        with plt.ioff():
            self.figure, (self.ax,) = plots.panels(1, width=8.0, height=1.35)
        self.ax.axis("off")
        self.sheet = None
        self.slider.observe(lambda change: self.show(change["new"]), "value")
        super().__init__([self.slider, self.picture, self.words])
        self.show(start)
        plt.close(self.figure)

    def show(self, scale: float) -> None:
        """Sample at a scale and put the picture on the page."""
        guided = self.draw(scale)
        sheet = plots.tile(guided.images, len(guided.images))
        if self.sheet is None:
            self.sheet = self.ax.imshow(sheet, cmap="gray", vmin=0, vmax=1)
            step = guided.images.shape[-1] + 2
            self.marks = [
                self.ax.text(i * step + 14, 37, "", ha="center", va="center", fontsize=11) for i in range(len(self.labels))
            ]
            self.ax.set_ylim(42, -1)
        self.sheet.set_data(sheet)
        right = 0
        for mark, wanted, read in zip(self.marks, self.labels, guided.reads.tolist(), strict=True):
            right += wanted == read
            mark.set(text="✓" if wanted == read else f"reads {read}", color=plots.GREEN if wanted == read else plots.RED)
        png = io.BytesIO()
        self.figure.savefig(png, format="png", dpi=100)
        self.picture.value = png.getvalue()
        plain = f"{guided.saturated:.0%} of the pixels are plain paper or ink"
        self.words.value = f"The judge reads {right} of {len(self.labels)} as asked; {plain}."

    def __repr__(self) -> str:
        return "the guidance explorer (needs a running kernel)"
