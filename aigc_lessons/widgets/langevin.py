"""Langevin dynamics, played with: five hundred walkers on two far hills, and what steps, noise and annealing make of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from scipy.special import ndtr

from aigc_lessons.diffusion.mixture import GaussianMixture

FAR, SPREAD, LEFT = 1.8, 0.3, 0.8  # the hills stand at -FAR and FAR, this wide; the left one holds this share
WALKERS, SEED = 500, 14
SIZES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 1.8, 1.9, 2.0, 2.1, 2.5]  # in variances of a hill
LOWEST, HIGHEST = -6.0, 6.0  # log-SNRs within reach
NOISIEST, ANNEALED = -5.0, 200  # annealing starts at this log-SNR, and takes so many steps to the chosen one
STARTS = ["noise", "left", "middle"]


@dataclass(frozen=True)
class Setting:
    """What one step is taken with.

    size:    h in variances of a hill at this noise level.
    log_snr: the noise level; with `anneal`, the one that is reached after 200 steps, from -5.
    start:   "noise": N(0, I); "left": on the left hill; "middle": all at 0.
    """

    size: float = 0.1
    log_snr: float = 5.0
    anneal: bool = False
    start: str = "noise"

    def level(self, k: int) -> float:
        """log-SNR of step number k = 0, 1, ..."""
        if not self.anneal or k >= ANNEALED:
            return self.log_snr
        return NOISIEST + (self.log_snr - NOISIEST) * k / ANNEALED


def hills() -> GaussianMixture:
    """The data: 80 % on the left, 20 % on the right, twelve widths apart."""
    means = torch.tensor([[-FAR, 0.0], [FAR, 0.0]])
    return GaussianMixture(torch.tensor([LEFT, 1 - LEFT]), means, SPREAD**2 * torch.eye(2).expand(2, 2, 2))


def normals(draw: int, seed: int = SEED) -> Float[np.ndarray, "500 2"]:
    """Standard normal numbers, number `draw` of the walk: the small generator mulberry32, then Box and Muller's formula.

    A browser draws the same ones.
    """
    with np.errstate(over="ignore"):
        counter = np.arange(1, 2 * WALKERS + 1, dtype=np.uint32) + np.uint32(2 * WALKERS * draw)
        a = np.uint32(seed) + counter * np.uint32(0x6D2B79F5)
        t = (a ^ (a >> 15)) * (a | 1)
        t = (t + (t ^ (t >> 7)) * (t | 61)) ^ t
    u = ((t ^ (t >> 14)) / 2**32).reshape(WALKERS, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


@dataclass(frozen=True, eq=False)
class Walk:
    """Where the walkers are after `steps` steps, the share left of the middle all along, and how often one crossed it."""

    x: Float[np.ndarray, "500 2"]
    shares: list[float]
    crossings: int
    steps: int


def walk(settings: Sequence[Setting], seed: int = SEED) -> Walk:
    """One Langevin step for each setting: x <- x + h score(x) + sqrt(2 h) z, with the hills' exact score."""
    data, z = hills(), normals(0, seed)
    where = {"noise": z, "left": np.array([-FAR, 0.0]) + SPREAD * z, "middle": np.zeros_like(z)}
    x = torch.from_numpy(where[settings[0].start if settings else "noise"])
    shares, crossings = [_left(x)], 0
    for k, setting in enumerate(settings):
        abar, variance = noise(setting.level(k))
        h = setting.size * variance
        before = x
        x = x + h * data.score(x, abar) + (2 * h) ** 0.5 * torch.from_numpy(normals(k + 1, seed))
        crossings += int(((x[:, 0] < 0) != (before[:, 0] < 0)).sum())
        shares.append(_left(x))
    return Walk(x.numpy(), shares, crossings, len(settings))


def noise(log_snr: float) -> tuple[float, float]:
    """abar, and the variance of a hill under that noise."""
    abar = 1 / (1 + np.exp(-log_snr))
    return float(abar), float(abar * SPREAD**2 + 1 - abar)


def true_share(log_snr: float) -> float:
    """The share of p_t left of the middle."""
    abar, variance = noise(log_snr)
    z = abar**0.5 * FAR / variance**0.5
    return float(LEFT * ndtr(z) + (1 - LEFT) * ndtr(-z))


def verdict(walked: Walk, setting: Setting) -> str:
    """What the explorer says, in words.

    Args:
        setting: of the last step.
    """
    k, r = walked.steps, setting.size
    level = setting.level(max(k - 1, 0))
    abar, variance = noise(level)
    if not np.abs(walked.x).max() < 20:
        return (
            "It flew apart: with a step of 2 hill variances or more, each step overshoots by more than it corrects. Restart."
        )
    share, truth = walked.shares[-1], true_share(level)
    off = abs(share - truth) / (truth * (1 - truth) / WALKERS) ** 0.5
    spread = float(np.square(walked.x[:, 1]).mean() / variance)
    if k == 0:
        head = "Not a step yet: press run."
    elif setting.anneal and k < ANNEALED:
        head = "Annealing: the noise is still falling."
    elif abar**0.5 * FAR < 1.5 * variance**0.5:
        head = "One hill: walkers get everywhere at this noise level, but they are noisy data, not data."
    elif r >= 0.4 and spread > 1.2:
        head = "Too wide: steps this large shake more than the score can gather."
    elif off > 4:
        head = "Wrong weights: the shares are frozen, since hardly anybody crosses the valley at this noise level."
    elif abs(spread - 1) > 0.3:
        head = "Not there yet: the walkers are still moving in."
    else:
        head = "Right: both weights and spread agree with the truth."
    return (
        f"{head} Left of the middle: {100 * share:.1f} %, the truth is {100 * truth:.1f} % ({off:.1f} standard errors off)."
        f" Variance across: {spread:.2f} of the right one. The middle was crossed {walked.crossings} times."
    )


def _left(x: torch.Tensor) -> float:
    return (x[:, 0] < 0).double().mean().item()


class LangevinExplorer(anywidget.AnyWidget):
    """Five hundred walkers follow the exact score of two far hills; steps, noise and annealing change while they walk.

    Everything is computed and drawn in the browser, from one seed. The kernel hears `size`, `log_snr`, `anneal` and `start`
    once the hand is still.

    Args:
        setting: what is shown first.
    Raises: ValueError for a size or a start that is not offered, or a log-SNR out of reach.
    """

    _esm = Path(__file__).with_name("langevin.js")
    _css = Path(__file__).with_name("langevin.css")
    given = traitlets.Dict().tag(sync=True)
    size = traitlets.Float(0.1).tag(sync=True)
    log_snr = traitlets.Float(5.0).tag(sync=True)
    anneal = traitlets.Bool(False).tag(sync=True)
    start = traitlets.Unicode("noise").tag(sync=True)

    def __init__(self, setting: Setting | None = None):
        given = {
            "far": FAR, "spread": SPREAD, "left": LEFT, "walkers": WALKERS, "seed": SEED, "sizes": SIZES, "starts": STARTS,
            "lowest": LOWEST, "highest": HIGHEST, "noisiest": NOISIEST, "annealed": ANNEALED,
        }  # fmt: skip
        super().__init__(given=given, **asdict(setting or Setting()))

    @property
    def setting(self) -> Setting:
        """What the next step is taken with."""
        return Setting(self.size, self.log_snr, self.anneal, self.start)

    @traitlets.validate("size")
    def _a_size(self, proposal):
        if proposal.value not in SIZES:
            raise ValueError(f"size must be one of {', '.join(map(str, SIZES))}, got {proposal.value:g}")
        return proposal.value

    @traitlets.validate("log_snr")
    def _within_reach(self, proposal):
        if not LOWEST <= proposal.value <= HIGHEST:
            raise ValueError(f"log_snr must lie in {LOWEST:g}..{HIGHEST:g}, got {proposal.value:g}")
        return proposal.value

    @traitlets.validate("start")
    def _a_start(self, proposal):
        if proposal.value not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, got {proposal.value!r}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the Langevin explorer, {WALKERS} walkers on two hills (needs a running kernel)"
