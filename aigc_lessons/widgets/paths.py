"""The paths of a sampler in the plane, scrubbed: where points are, where the network sends them, how surprising they are."""

from dataclasses import dataclass
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.samplers import SampleStep
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.evaluation.points import landing
from aigc_lessons.types import Denoise

REACH = 3.0  # the plane is shown from -REACH to REACH
GRID = 17  # arrows along each side
LOST, FEW, HOT = 0.15, 0.5, 0.1  # share of points off the data, share of its Gaussians reached, nats above it: the limits


@dataclass(frozen=True, eq=False)
class Walk:
    """What a sampler did: K frames of N points.

    times: of the frames, T first and 0 last.
    x:     the points.
    x0:    the estimate of x_0 that the next step uses; the last frame repeats the last estimate.
    nats:  median of -log p_t(x) over the points: their surprise. (A single point far away would rule the mean.)
    off, reached: how many points ended off the data, and how many of its Gaussians were reached (see `landing`).
    """

    times: list[int]
    x: Float[Tensor, "K N 2"]
    x0: Float[Tensor, "K N 2"]
    nats: Float[Tensor, " K"]
    off: int
    reached: int

    @classmethod
    def of(
        cls, x_T: Float[Tensor, "N 2"], steps: list[SampleStep], data: GaussianMixture, schedule: NoiseSchedule
    ) -> "Walk":
        """Gather a sampler's steps.

        Raises: ValueError if they do not end at t = 0.
        """
        if not steps or steps[-1].t != 0:
            raise ValueError("need all the steps of a sampler, the last at t = 0: pass list(sample(...))")
        times = [schedule.T, *(step.t for step in steps)]
        x = torch.stack([x_T, *(step.x for step in steps)])
        nats = torch.stack([-data.log_prob(x[k], schedule.alpha_bars[t]).median() for k, t in enumerate(times)])
        off, reached = landing(data, x[-1])
        return cls(times, x, torch.stack([*(step.x0 for step in steps), steps[-1].x0]), nats, off, reached)


def expected_nats(
    data: GaussianMixture, schedule: NoiseSchedule, times: list[int], n: int = 4000, seed: int = 0
) -> Float[Tensor, " K"]:
    """The surprise of honest x_t at each time, in nats: the median of -log p_t(x_t) over n draws."""
    generator = torch.Generator().manual_seed(seed)
    x0, _ = data.draw(n, generator)
    eps = torch.randn(x0.shape, generator=generator)
    noisy = [schedule.add_noise(x0, torch.tensor(t), eps) for t in times]
    return torch.stack([-data.log_prob(x, schedule.alpha_bars[t]).median() for x, t in zip(noisy, times, strict=True)])


def verdict(walk: Walk, data: GaussianMixture, honest: float) -> str:
    """What the explorer says about where the points ended, in words.

    Args:
        honest: surprise of the data itself, in nats.
    """
    N, K = walk.x.shape[1], len(data.weights)
    nats = walk.nats[-1].item() - honest
    if walk.off > LOST * N:
        head = "Lost: many points ended where there is no data."
    elif walk.reached < FEW * K:
        head = "Collapsed: each point may be a good one, but together they are a small part of the data."
    elif nats > HOT:
        head = "Too hot: the points lie about the data, not on it."
    else:
        head = "Home: the points lie on the data, as widely spread as it is."
    return (
        f"{head} Off the data: {walk.off} of {N}. Reached: {walk.reached} of its {K} Gaussians."
        f" Surprise {walk.nats[-1]:.2f} nats, of real data {honest:.2f}."
    )


class PathExplorer(anywidget.AnyWidget):
    """Walks to compare, a time to scrub, a point to follow; all is sent once and drawn in the browser.

    Args:
        walks:    name -> what a sampler did; the first is shown first.
        data:     the mixture that the points should come from.
        schedule: of its noise.
        denoise:  what the arrows show: they point from x to the estimate of x_0, by way of the score.
        t:        the time shown first.
    Raises: ValueError if no walk is given or the walks differ in the number of their points.
    """

    _esm = Path(__file__).with_name("paths.js")
    _css = Path(__file__).with_name("paths.css")
    given = traitlets.Dict().tag(sync=True)
    walk = traitlets.Unicode().tag(sync=True)
    t = traitlets.Int().tag(sync=True)
    point = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, walks: dict[str, Walk], data: GaussianMixture, schedule: NoiseSchedule, denoise: Denoise, t: int | None = None
    ):
        if len({walk.x.shape[1] for walk in walks.values()}) != 1:
            raise ValueError("need at least one walk, and the same number of points in each")
        times = next(iter(walks.values())).times
        expected = expected_nats(data, schedule, times)
        self.verdicts = {name: verdict(walk, data, expected[-1].item()) for name, walk in walks.items()}
        shown, _ = data.draw(1500, torch.Generator().manual_seed(1))
        super().__init__(
            given={
                "reach": REACH,
                "T": schedule.T,
                "points": walks[next(iter(walks))].x.shape[1],
                "data": _floats(shown),
                "grid": _floats(arrow_places()),
                "arrows": _floats(torch.stack([arrows(denoise, schedule, t) for t in times])),
                "arrow_times": times,
                "expected": _floats(expected),
                "walks": {
                    name: {
                        "times": walk.times, "x": _floats(walk.x), "x0": _floats(walk.x0), "nats": _floats(walk.nats),
                        "verdict": self.verdicts[name], "good": self.verdicts[name].startswith("Home"),
                    }
                    for name, walk in walks.items()
                },
            },
            walk=next(iter(walks)),
            t=schedule.T if t is None else t,
        )  # fmt: skip

    @traitlets.validate("walk")
    def _a_walk(self, proposal):
        if proposal.value not in (offered := list(self.given["walks"])):
            raise ValueError(f"walk must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.validate("t")
    def _a_time(self, proposal):
        if not 0 <= proposal.value <= self.given["T"]:
            raise ValueError(f"t must lie in 0..{self.given['T']}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the path explorer: {', '.join(self.given['walks'])} (needs a running kernel)"


def arrow_places() -> Float[Tensor, "G 2"]:
    """A grid over the plane that is shown."""
    side = torch.linspace(-REACH, REACH, GRID + 2)[1:-1]
    return torch.cartesian_prod(side, side)


def arrows(denoise: Denoise, schedule: NoiseSchedule, t: int) -> Float[Tensor, "G 2"]:
    """The way to walk at each place of the grid: the score times the noise's standard deviation, which is -eps.

    At t = 0 there is no noise left, and no way to go: zeros.
    """
    places = arrow_places()
    if t == 0:
        return torch.zeros_like(places)
    abar = schedule.alpha_bars[t].item()
    x0 = denoise(places, torch.full((len(places),), t))
    return (abar**0.5 * x0 - places) / (1 - abar) ** 0.5


def _floats(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().float().numpy().astype("<f4").tobytes()
