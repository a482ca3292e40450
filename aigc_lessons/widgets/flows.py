"""The same flow driven in one step, in two, in thirty-two: where few steps leave the road, and where they do not."""

from dataclasses import dataclass
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.flow import Velocity, integrate, straightness
from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.evaluation.points import landing

REACH = 3.0  # the plane is shown from -REACH to REACH
MOST = 32  # steps
FINE = 128  # steps that stand for the true path
OFF, TORN = 0.10, 0.15  # share of points off the data; distance from the true end: the limits


@dataclass(frozen=True, eq=False)
class Drives:
    """What Euler's method makes of one velocity, for every number of steps from 1 to MOST.

    walks: one for each number of steps n: n + 1 states of N points, noise first.
    true:  the path by FINE steps, FINE + 1 states.
    off:   for each n, the share of points that ended off the data (see `landing`); `off_true` for FINE steps.
    torn:  for each n, the mean distance of the ends from the ends of the true path.
    S:     straightness of the true path, 0 for straight.
    """

    walks: list[Float[Tensor, "K N 2"]]
    true: Float[Tensor, "K N 2"]
    off: list[float]
    off_true: float
    torn: list[float]
    S: float

    @classmethod
    def of(cls, velocity: Velocity, x_1: Float[Tensor, "N 2"], data: GaussianMixture) -> "Drives":
        """Drive the points x_1 of noise."""
        walks = [_states(velocity, x_1, n) for n in range(1, MOST + 1)]
        fine = list(integrate(velocity, x_1, steps=FINE))
        true = torch.stack([x_1, *(step.x for step in fine)])
        return cls(
            walks, true,
            off=[landing(data, walk[-1])[0] / len(x_1) for walk in walks],
            off_true=landing(data, true[-1])[0] / len(x_1),
            torn=[(walk[-1] - true[-1]).norm(dim=1).mean().item() for walk in walks],
            S=straightness(x_1, fine),
        )  # fmt: skip


def _states(velocity: Velocity, x_1: Tensor, n: int) -> Tensor:
    return torch.stack([x_1, *(step.x for step in integrate(velocity, x_1, steps=n))])


def verdict(drives: Drives, n: int) -> str:
    """What the explorer says about n steps, in words."""
    off, torn, N = drives.off[n - 1], drives.torn[n - 1], drives.true.shape[1]
    extra = off - drives.off_true
    if extra > OFF:
        head = "Broken: the steps cut the bends, and many points end where there is no data."
    elif torn > TORN:
        head = "Bent: the points lie on the data, but not where the flow itself takes them."
    else:
        head = "Holds: these steps arrive where the flow itself does."
    return (
        f"{head} {n} step{'s' * (n > 1)}: {round(off * N)} of {N} off the data ({round(drives.off_true * N)} with {FINE}"
        f" steps); mean distance from the true end {torn:.2f}. Straightness of the flow S = {drives.S:.3f}."
    )


class FlowExplorer(anywidget.AnyWidget):
    """Flows to compare, a number of steps, a time to scrub, a point to follow; sent once and drawn in the browser.

    Args:
        flows: name -> velocity; the first is shown first.
        data:  the mixture that the points should reach.
        x_1:   the points of noise, the same for every flow.
        steps: shown first, 1..MOST.
    Raises: ValueError if there is no flow.
    """

    _esm = Path(__file__).with_name("flows.js")
    _css = Path(__file__).with_name("flows.css")
    given = traitlets.Dict().tag(sync=True)
    flow = traitlets.Unicode().tag(sync=True)
    steps = traitlets.Int(1).tag(sync=True)
    percent = traitlets.Int(100).tag(sync=True)  # of the way from noise to data
    point = traitlets.Int(0).tag(sync=True)

    def __init__(self, flows: dict[str, Velocity], data: GaussianMixture, x_1: Float[Tensor, "N 2"], steps: int = 1):
        if not flows:
            raise ValueError("need at least one flow")
        self.drives = {name: Drives.of(velocity, x_1, data) for name, velocity in flows.items()}
        shown, _ = data.draw(1500, torch.Generator().manual_seed(1))
        super().__init__(
            given={
                "reach": REACH, "most": MOST, "fine": FINE, "points": len(x_1), "data": _packed(shown),
                "flows": {
                    name: {
                        "walks": _packed(torch.cat(drives.walks)), "true": _packed(drives.true), "torn": drives.torn,
                        "verdicts": [verdict(drives, n) for n in range(1, MOST + 1)],
                    }
                    for name, drives in self.drives.items()
                },
            },
            flow=next(iter(flows)),
            steps=steps,
        )  # fmt: skip

    @traitlets.validate("flow")
    def _a_flow(self, proposal):
        if proposal.value not in (offered := list(self.given["flows"])):
            raise ValueError(f"flow must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.validate("steps")
    def _some_steps(self, proposal):
        if not 1 <= proposal.value <= MOST:
            raise ValueError(f"steps must lie in 1..{MOST}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the flow explorer: {', '.join(self.given['flows'])} (needs a running kernel)"


def _packed(x: Tensor) -> bytes:
    """Coordinates as whole numbers of 16 bits, in thousandths: half the bytes, and finer than a pixel."""
    return (1000 * x.detach().double()).round().clamp(-32_000, 32_000).short().contiguous().numpy().astype("<i2").tobytes()
