"""Watching a training run: a bar, a loss curve, and a picture that changes while the network learns."""

import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice

import ipywidgets
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text
from torch import nn

from aigc_lessons import plots
from aigc_lessons.training.loop import StepLog

DRAWING_SHARE = 0.05  # of the time: after a drawing of d seconds, the next one waits d / share


class TrainingView(ipywidgets.VBox):
    """One picture and a progress bar."""

    def __init__(self, total: int):
        self.bar = ipywidgets.IntProgress(max=total, layout={"width": "420px"})
        self.bar.style.bar_color = plots.BLUE
        self.words = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "860px"})
        self.picture.add_class("live-picture")
        self.words.add_class("live-words")
        super().__init__([ipywidgets.HBox([self.bar, self.words]), self.picture])

    def __repr__(self) -> str:
        return "a training run, live (needs a running kernel)"  # stands in exports and in comparisons of outputs


def watch(
    logs: Iterator[StepLog],
    total: int,
    draw: Callable[[Axes, nn.Module], object] | None = None,
    *,
    every: float = 3.5,
) -> list[StepLog]:
    """Run a training to its end while showing it: a widget in a notebook, one line in a terminal, nothing in a pipe.

    The stop button (or Ctrl-C) ends the training, not the lesson: the network keeps the best it has. Until the first log is
    there it waits, so that what follows always has one to show; pressed twice, it acts at once.

    Args:
        logs:  from `training.train`.
        total: its number of steps.
        draw:  (axes, network so far) -> draws what it makes of fixed noise; called about every `every` seconds, and less
               often if drawing would take more than a twentieth of the time.
    Returns: all logs up to the end or the stop; none after two presses before the first.
    """
    history: list[StepLog] = []
    with closing(logs), _screen(total, draw, every) as screen:
        try:
            with _stop_waits():
                history.extend(islice(logs, 1))
            if history:
                screen.update(history)
            for log in logs:
                history.append(log)
                screen.update(history)
        except KeyboardInterrupt:
            screen.stopped = True
    # outside the `with`: the generator is closed, so the network now holds the weights it will keep
    screen.finish(history)
    return history


@contextmanager
def _stop_waits():
    """Inside, a press of the stop button counts only at the end; a second one at once."""
    if threading.current_thread() is not threading.main_thread():  # the button is never heard there
        yield
        return
    pressed = False

    def press(*_):
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class _Screen:
    """Shows nothing: a pipe, a test, a server."""

    stopped = False

    def __init__(self, total: int):
        self.total = total

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, history: list[StepLog]) -> None:
        pass

    def finish(self, history: list[StepLog]) -> None:
        if self.stopped and history:
            print(f"stopped at step {history[-1].step} of {self.total}; what was learned so far is kept")
        elif self.stopped:
            print("stopped before the first step was done; the network is as it was, and running this again trains it")

    def words(self, log: StepLog) -> str:
        left = log.seconds / log.step * (self.total - log.step)
        return f"step {log.step} of {self.total}   loss {log.loss:.4f}   {log.seconds:.0f} s, about {left:.0f} s to go"


class _Terminal(_Screen):
    def __enter__(self):
        self.live = RichLive(Text("starting"), console=Console(), refresh_per_second=4)
        self.live.__enter__()
        return self

    def __exit__(self, *error):
        self.live.__exit__(*error)

    def update(self, history):
        self.live.update(Text(self.words(history[-1])))


class _Notebook(_Screen):
    def __init__(self, total, draw, every):
        super().__init__(total)
        self.draw, self.every, self.next_drawing, self.canvas = draw, every, 0.0, None
        self.view = TrainingView(total)
        display(self.view)

    def update(self, history):
        log = history[-1]
        self.view.bar.value = log.step
        self.view.words.value = self.words(log)
        if time.perf_counter() >= self.next_drawing:
            self._picture(history)

    def finish(self, history):
        if history:
            self._picture(history)
        if self.stopped:
            self.view.bar.style.bar_color = plots.ORANGE
            self.view.words.value = "stopped"
        super().finish(history)

    def _picture(self, history):
        started = time.perf_counter()
        first = self.canvas is None
        if first:
            self.canvas = self._canvas()
        loss, *made = self.canvas.figure.axes
        loss.clear()
        plots.show_line(loss, [log.step for log in history], [log.loss for log in history],
                        xlabel="step", ylabel="loss", linewidth=1.2)  # fmt: skip
        loss.set_xlim(0, self.total)
        for ax in made:
            ax.clear()
            self.draw(ax, history[-1].network)
        self.canvas.draw()
        if first:  # the places found for the first picture serve for all: half of what a picture costs
            self.canvas.figure.set_layout_engine("none")
        png = io.BytesIO()
        Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB").save(png, "png", compress_level=1)
        self.view.picture.value = png.getvalue()
        now = time.perf_counter()
        self.next_drawing = now + max(self.every, (now - started) / DRAWING_SHARE)

    def _canvas(self):
        """A figure that pyplot does not know, so that the notebook never shows it by itself; one for all pictures."""
        with plt.ioff():
            figure, _ = plots.panels(2 if self.draw else 1, width=4.3, height=4.0, dpi=100)
        plt.close(figure)
        return FigureCanvasAgg(figure)


def _screen(total: int, draw, every: float) -> _Screen:
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        return _Notebook(total, draw, every)
    return _Terminal(total) if sys.stdout.isatty() else _Screen(total)
