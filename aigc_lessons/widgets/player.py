"""A strip of pictures over time, scrubbed in the browser: all frames are sent once, and the kernel may rest."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets
from jaxtyping import UInt8
from torch import Tensor

from aigc_lessons.diffusion.samplers import SampleStep
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.plots import tile


class Player(anywidget.AnyWidget):
    """Panels that show the same moment side by side, with a slider, a play button and the arrow keys.

    Args:
        panels:   title -> frames, uint8 (K, H, W) each of the same shape, 0 black .. 255 white.
        captions: K texts, one a frame.
        label:    what the slider moves, for screen readers and on the page.
        start:    first frame shown.
    Raises: ValueError if the panels differ in shape or the captions in number.
    """

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("player.css")
    frames = traitlets.Bytes().tag(sync=True)
    shape = traitlets.List(traitlets.Int()).tag(sync=True)  # [K, H, W]
    titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)

    def __init__(self, panels: dict[str, UInt8[np.ndarray, "K H W"]], captions: list[str], label: str, start: int = 0):
        shapes = {np.shape(frames) for frames in panels.values()}
        if len(shapes) != 1 or len(shape := next(iter(shapes))) != 3:
            raise ValueError(f"every panel needs frames of the same shape (K, H, W), got {sorted(shapes)}")
        if len(captions) != shape[0]:
            raise ValueError(f"{shape[0]} frames need as many captions, got {len(captions)}")
        super().__init__(
            frames=b"".join(np.ascontiguousarray(frames, np.uint8).tobytes() for frames in panels.values()),
            shape=list(shape),
            titles=list(panels),
            captions=captions,
            label=label,
            frame=start,
        )

    def __repr__(self) -> str:
        K, H, W = self.shape
        return f"a player of {K} frames, {' | '.join(self.titles)}, {H} x {W} (needs a running kernel)"


def trajectory(
    x_T: Tensor, walk: list[SampleStep], schedule: NoiseSchedule, columns: int
) -> tuple[dict[str, np.ndarray], list[int]]:
    """A sampler's steps as two panels, x_t and the estimate of x_0, and the time t of each frame.

    Frame k shows the sample after k steps beside the estimate that its next step uses; the last frame, at t = 0, repeats
    the last estimate.
    """
    states = [x_T, *(step.x for step in walk)]
    estimates = [*(step.x0 for step in walk), walk[-1].x0]
    panels = {"x_t": states, "estimate of x_0": estimates}
    times = [schedule.T, *(step.t for step in walk)]
    return {title: np.stack([grey(x, columns) for x in xs]) for title, xs in panels.items()}, times


def grey(images: Tensor, columns: int) -> UInt8[np.ndarray, "H W"]:
    """A sheet of images (ink is dark) as grey values."""
    return (tile(images, columns) * 255).round().astype(np.uint8)
