"""Guidance in the plane, steered by hand: what it is said to sample beside what it samples, and ways to break it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.guidance import away_from, within
from aigc_lessons.diffusion.samplers import sample, sample_times
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.diffusion.tilted import three_classes

POINTS, STEPS, SEED, T = 300, 50, 16, 1000
REACH, CELLS = 4.0, 100  # the plane is shown from -REACH to REACH, the tilted density on CELLS x CELLS cells
NAMES = ["A", "B", "C", "any"]
STRONGEST = 10.0
OFF = 9.21  # squared distance, in variances, that 99 % of a Gaussian's own points do not reach
MANY, WRONG, OUTSIDE = 0.1, 0.12, 0.01  # shares: points off the data, points in the wrong place, claim out of sight


@dataclass(frozen=True)
class Setting:
    """How to steer.

    label:   0, 1, 2: towards A, B, C.
    against: 0, 1, 2, or 3 for any: what stands in place of the empty label.
    scale:   0..10.
    first, last: guided where first <= t <= last; elsewhere the label is obeyed and no more.
    """

    label: int = 0
    against: int = 3
    scale: float = 3.0
    first: int = 0
    last: int = T


@dataclass(frozen=True, eq=False)
class Steered:
    """frames: where the points are after 0, 1, ... 50 steps. The rest is about the last frame and about the claim.

    shares, claimed: of the points, and of the tilted density, at each of the seven Gaussians; the eighth is off all of them.
    asked:   mean of p(y | x) over the points.
    outside: how much of the tilted density lies at the border of the picture, or beyond.
    """

    frames: Float[Tensor, "K N 2"]
    shares: Float[Tensor, " 8"]
    claimed: Float[Tensor, " 8"]
    asked: float
    outside: float

    @property
    def wrong(self) -> float:
        """Half the sum of the differences of shares: how much of the points would have to move."""
        return (self.shares - self.claimed).abs().sum().item() / 2


DATA, SCHEDULE = three_classes(), cosine_schedule(T)


def start() -> Float[Tensor, "300 2"]:
    """The noise that every walk begins with; a browser gets it in float32."""
    return torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(SEED)).double()


def steer(setting: Setting) -> Steered:
    """DDIM in 50 steps with exact denoisers, guided as the setting says; and the density that this is said to sample."""
    labels, denoise = torch.full((POINTS,), setting.label), DATA.denoiser(SCHEDULE)
    guided = away_from(denoise, labels, torch.full((POINTS,), setting.against), setting.scale)
    if setting.first <= setting.last:
        guided = within(guided, lambda x, t: denoise(x, t, labels), setting.first, setting.last)
    else:
        guided = away_from(denoise, labels, labels, 1.0)
    walk = sample(guided, SCHEDULE, x_T := start(), method="ddim", steps=STEPS)
    frames = torch.stack([x_T, *(step.x for step in walk)])
    x = frames[-1]
    shares = torch.bincount(_place(x), minlength=8).double() / POINTS
    side = 2 * REACH / CELLS * (torch.arange(CELLS, dtype=torch.float64) + 0.5) - REACH
    grid = torch.cartesian_prod(side, side)
    p = DATA.log_tilted(grid, setting.label, setting.scale, setting.against).softmax(0)
    claimed = torch.zeros(8, dtype=torch.float64).index_add(0, _place(grid), p)
    edge = p.view(CELLS, CELLS)
    outside = max(1 - edge[1:-1, 1:-1].sum().item(), 0.0)
    return Steered(frames, shares, claimed, DATA.log_label(x, setting.label).exp().mean().item(), outside)


def _place(x: Tensor) -> Tensor:
    """The nearest Gaussian of each point, or 7 if it lies off even that."""
    squared, k = ((x[:, None] - DATA.mixture.means) ** 2).sum(-1).min(1)
    return torch.where(squared > OFF * DATA.mixture.covariances[0, 0, 0], 7, k)


def verdict(steered: Steered, setting: Setting) -> str:
    """What the explorer says, in words."""
    if steered.outside > OUTSIDE or steered.claimed[7] > MANY:
        head = "Sent away: away from one class only, the density that is asked for leaves the data, and the points follow."
    elif steered.shares[7] > MANY:
        head = "Off the data: pushed too hard, many points end where nothing is. The tilted density never leaves the data."
    elif steered.asked < 0.9:
        head = "Not as asked: the label counts too little."
    elif steered.wrong > WRONG:
        head = "Wrong shares: every point may be a good one, but they crowd where the tilted density does not."
    else:
        head = "As claimed: the points lie where the tilted density says."
    mine = DATA.labels == setting.label
    numbers = " : ".join(f"{100 * s:.0f}" for s in steered.shares[:7][mine])
    claim = " : ".join(f"{100 * s:.0f}" for s in steered.claimed[:7][mine])
    return (
        f"{head} Percent at the hills of {NAMES[setting.label]}: {numbers}, claimed {claim}."
        f" Off the data: {round(POINTS * steered.shares[7].item())} of {POINTS}. Read as {NAMES[setting.label]} by the exact"
        f" classifier: {100 * steered.asked:.0f} %."
    )


class SteeringExplorer(anywidget.AnyWidget):
    """Left the tilted density, right the points of a guided flow; everything is computed and drawn in the browser.

    The kernel hears `label`, `against`, `scale`, `first` and `last` once the hand is still.

    Args:
        setting: what is shown first.
    Raises: ValueError for a label that there is not, or a number out of reach.
    """

    _esm = Path(__file__).with_name("steering.js")
    _css = Path(__file__).with_name("steering.css")
    given = traitlets.Dict().tag(sync=True)
    label = traitlets.Int(0).tag(sync=True)
    against = traitlets.Int(3).tag(sync=True)
    scale = traitlets.Float(3.0).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)
    last = traitlets.Int(T).tag(sync=True)

    def __init__(self, setting: Setting | None = None):
        m, times = DATA.mixture, sample_times(T, STEPS)
        given = {
            "noise": start().float().numpy().astype("<f4").tobytes(), "means": m.means.tolist(),
            "labels": DATA.labels.tolist(), "variance": m.covariances[0, 0, 0].item(), "names": NAMES,
            "times": times, "abars": [SCHEDULE.alpha_bars[t].item() for t in times],
            "reach": REACH, "cells": CELLS, "strongest": STRONGEST, "off": OFF,
            "many": MANY, "wrong": WRONG, "outside": OUTSIDE, "T": T,
        }  # fmt: skip
        super().__init__(given=given, **asdict(setting or Setting()))

    @property
    def setting(self) -> Setting:
        """What is shown, once the hand is still."""
        return Setting(self.label, self.against, self.scale, self.first, self.last)

    @traitlets.validate("label", "against")
    def _a_label(self, proposal):
        most = 2 if proposal.trait.name == "label" else 3
        if not 0 <= proposal.value <= most:
            raise ValueError(f"{proposal.trait.name} must lie in 0..{most}, got {proposal.value}")
        return proposal.value

    @traitlets.validate("scale")
    def _a_scale(self, proposal):
        if not 0 <= proposal.value <= STRONGEST:
            raise ValueError(f"scale must lie in 0..{STRONGEST:g}, got {proposal.value:g}")
        return proposal.value

    @traitlets.validate("first", "last")
    def _a_time(self, proposal):
        if not 0 <= proposal.value <= T:
            raise ValueError(f"{proposal.trait.name} must lie in 0..{T}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the steering explorer, {POINTS} guided points beside the tilted density (needs a running kernel)"
