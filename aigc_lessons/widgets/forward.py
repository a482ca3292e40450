"""The forward process, played with: a schedule to shape by hand, and what it does to pictures, pixels and steps."""

from functools import lru_cache
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.forward import EDGES, Curves, facts
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule

PLACES = [1, 20, 100, 300, 500, 700, 900, 980, 1000]  # steps at which a hand can take hold of a schedule,
LOWEST, HIGHEST = -13.0, 12.0  # and the log-SNRs that it can reach


def drawn(log_snrs: list[float]) -> NoiseSchedule:
    """The schedule of 1000 steps whose log-SNR runs in straight lines through these heights at t = 1, 20, 100, ..., 1000.

    Args:
        log_snrs: one for each of PLACES.
    Raises: ValueError unless there are as many heights as places, each below the one before.
    """
    heights = np.asarray(log_snrs, dtype=float)
    if len(heights) != len(PLACES) or not (np.diff(heights) < 0).all():
        said = [float(height) for height in heights]
        raise ValueError(f"need {len(PLACES)} log-SNRs, at t = {PLACES}, each below the one before; got {said}")
    log_snr = torch.from_numpy(np.interp(np.arange(1, PLACES[-1] + 1), PLACES, heights))
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), log_snr.sigmoid()]))


def verdict(seen: Curves, pixels: int = 784) -> str:
    """What the explorer says about a schedule, in words."""
    T, most = len(seen.work), seen.work.max().item()
    if seen.kl > 1e-3:
        head = f"It never gets there: a pixel of x_T still has mean {seen.mean:+.3f}, and noise to start from has mean 0."
    elif seen.late > T / 5:
        head = "It destroys too early: the last steps move noise about, and a sampler must walk back through them."
    elif seen.early > T / 5:
        head = "It starts too late: the first steps hardly touch the digits."
    elif most > 3:
        head = "It destroys in a rush: a sampler must undo much in few steps."
    elif most < 1.25:
        head = "Even: no step does much more than its share."
    else:
        head = "It arrives, and few steps are wasted."
    return (
        f"{head} Wasted steps: {100 * (seen.early + seen.late) / T:.1f} % ({seen.early} early, {seen.late} late)."
        f" The largest step, t = {seen.largest}, destroys {most:.2f} fair shares."
        f" KL at T: {_small(seen.kl)} nats a pixel, {_small(pixels * seen.kl)} a picture."
    )


def _small(x: float) -> str:
    """Two digits; below 0.01 with an exponent, written as a browser writes it."""
    if x >= 0.01:
        return f"{x:.2f}"
    digits, exponent = f"{x:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


@lru_cache(maxsize=1)
def named() -> dict[str, NoiseSchedule]:
    """The schedules that the explorer offers: two that people use, and two that break something."""
    return {
        "linear": linear_schedule(),
        "cosine": cosine_schedule(),
        "too early": drawn([9, 4, -3, -6, -8, -9.5, -11, -12, -12.5]),
        "never": drawn([10, 9, 8, 6, 4.5, 3.4, 2.4, 1.6, 1]),
    }


class ForwardExplorer(anywidget.AnyWidget):
    """A schedule to shape by its log-SNR, and its consequences for pictures, pixels and steps while the hand still moves.

    Data and schedules are sent once; everything is computed and drawn in the browser. The kernel hears `t`, `choice` and
    `handles` once the hand is still; `schedule` is the one on show.

    Args:
        digit:    (S, S) picture in [-1, 1].
        spiral:   (N, 2) points, each coordinate of mean 0 and variance 1.
        sentence: (H, W) picture in [-1, 1].
        images:   the data set that the schedule is judged on.
        t:        the step shown first.
        seed:     of the noise that the three are mixed with.
    Raises: ValueError unless t lies in 1..1000.
    """

    _esm = Path(__file__).with_name("forward.js")
    _css = Path(__file__).with_name("forward.css")
    given = traitlets.Dict().tag(sync=True)
    choice = traitlets.Unicode("linear").tag(sync=True)
    handles = traitlets.List(traitlets.Float()).tag(sync=True)
    t = traitlets.Int(300).tag(sync=True)

    def __init__(
        self,
        digit: Float[Tensor, "S S"],
        spiral: Float[Tensor, "N 2"],
        sentence: Float[Tensor, "H W"],
        images: Float[Tensor, "M 1 R R"],
        t: int = 300,
        seed: int = 0,
    ):
        generator = torch.Generator().manual_seed(seed)
        things = {"digit": digit, "spiral": spiral, "sentence": sentence}
        noise = {name: torch.randn(x.shape, generator=generator) for name, x in things.items()}
        self.facts = data = facts(images)
        given = {
            "T": PLACES[-1],
            "places": PLACES,
            "pixels": images[0].numel(),
            "mean": data.mean,
            "mean_square": data.mean_square,
            "edges": _floats(EDGES),
            "power": _floats(data.power),
            "count": _floats(data.count),
            "levels": _floats(data.levels),
            "shares": _floats(data.shares),
            "things": {
                name: {"shape": list(x.shape), "x0": _floats(x), "eps": _floats(noise[name])} for name, x in things.items()
            },
            "schedules": {name: _floats(schedule.log_snr(torch.arange(1, 1001))) for name, schedule in named().items()},
        }
        super().__init__(given=given, handles=heights(named()["linear"]), t=t)

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule on show; the one drawn by hand after a handle was moved."""
        return drawn(self.handles) if self.choice == "own" else named()[self.choice]

    @traitlets.validate("choice")
    def _a_choice(self, proposal):
        if proposal.value not in (offered := [*named(), "own"]):
            raise ValueError(f"choice must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.validate("t")
    def _a_step(self, proposal):
        if not 1 <= proposal.value <= 1000:
            raise ValueError(f"t must lie in 1..1000, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the forward-process explorer, {len(named())} schedules and one to draw (needs a running kernel)"


def heights(schedule: NoiseSchedule) -> list[float]:
    """A schedule's log-SNR at PLACES, rounded to 0.01: where drawing by hand begins."""
    at_places = schedule.log_snr(torch.tensor(PLACES))
    return [round(height, 2) for height in at_places.clamp(LOWEST, HIGHEST).tolist()]


def _floats(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().double().numpy().astype("<f8").tobytes()
