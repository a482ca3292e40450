"""One step back, played with: prior times likelihood gives the posterior, and a wrong guess of x_0 costs nats."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

import anywidget
import numpy as np
import traitlets

from aigc_lessons.diffusion.bound import Choice, evenly_cut, prices, reverse_variances
from aigc_lessons.diffusion.schedule import NoiseSchedule, linear_schedule

REACH, NOISE = 3.0, 4.0  # how far from 0 the x_0, its guess, and eps can be moved


@lru_cache(maxsize=1)
def roads() -> dict[str, NoiseSchedule]:
    """The schedules that the explorer offers: one road cut into 10, 100 and 1000 steps, and DDPM's own thousand."""
    return {f"{T} steps": evenly_cut(T) for T in (10, 100, 1000)} | {"linear": linear_schedule()}


@dataclass(frozen=True)
class Normal:
    """A mean and a standard deviation; 0 where all is known."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Step:
    """A step back from x_t, in one dimension.

    prior:      q(x_{t-1} | x_0).
    likelihood: q(x_t | x_{t-1}) as a function of x_{t-1}: where it peaks, and how wide it is.
    posterior:  q(x_{t-1} | x_t, x_0), their product.
    reverse:    p(x_{t-1} | x_t), with the guess in the place of x_0.
    weight:     nats for a squared error of 1 in the guess.
    nats:       KL( posterior || reverse ); at t = 1, -log of the reverse step's density at x_0.
    """

    x_t: float
    prior: Normal
    likelihood: Normal
    posterior: Normal
    reverse: Normal
    weight: float
    nats: float


def step_back(schedule: NoiseSchedule, t: int, x0: float, eps: float, guess: float, variance: Choice = "posterior") -> Step:
    """Everything that the explorer shows of one step.

    Args:
        t:        in 1..T.
        eps:      the noise that leads from x0 to x_t.
        guess:    of x_0.
        variance: of the reverse step, as in `bound.reverse_variances`.
    """
    now, before = schedule.alpha_bars[t].item(), schedule.alpha_bars[t - 1].item()
    a = now / before
    x_t = now**0.5 * x0 + (1 - now) ** 0.5 * eps
    of_x0, of_x_t = before**0.5 * (1 - a) / (1 - now), a**0.5 * (1 - before) / (1 - now)
    sigmas = reverse_variances(schedule, variance)
    fixed, weight = prices(schedule, sigmas)
    return Step(
        x_t=x_t,
        prior=Normal(before**0.5 * x0, (1 - before) ** 0.5),
        likelihood=Normal(x_t / a**0.5, ((1 - a) / a) ** 0.5),
        posterior=Normal(of_x0 * x0 + of_x_t * x_t, ((1 - before) * (1 - a) / (1 - now)) ** 0.5),
        reverse=Normal(of_x0 * guess + of_x_t * x_t, sigmas[t - 1].item() ** 0.5),
        weight=weight[t - 1].item(),
        nats=(fixed + weight * (x0 - guess) ** 2)[t - 1].item(),
    )


def verdict(step: Step, t: int, x0: float, eps: float, guess: float) -> str:
    """What the explorer says about a step, in words."""
    off = abs(x0 - guess)
    if t == 1:
        return (
            f"The last step: x_0 has no width left, so there is no KL. The term is -log p(x_0 | x_1) = {_nats(step.nats)}"
            f" nats, a density: it may be negative. An error of {off:.2f} adds {_nats(step.weight * off**2)} of them."
        )
    ratio = step.posterior.sd / step.reverse.sd
    if off == 0 and ratio > 0.9999:
        head = "The guess is right, and so is the width: this step costs nothing."
    elif off == 0:
        head = f"The guess is right, and the step still costs: its width is {1 / ratio:.2f} times the posterior's."
    elif step.nats > 1:
        head = f"Expensive: at this t, an error of {off:.2f} in the guess is seen at once."
    elif step.nats < 1e-3:
        head = f"Nearly free: at this t, an error of {off:.2f} in the guess hardly matters."
    else:
        head = f"An error of {off:.2f} in the guess has its price."
    seldom = " (x_t lies where noise leads less than once in 300 times.)" if abs(eps) > 3 else ""
    cost = "" if step.nats == 0 else f"It costs {_nats(step.nats)} nats; "
    return f"{head} {cost}w_t = {_nats(step.weight)}.{seldom}"


def _nats(x: float) -> str:
    """Two decimals; far from 1 with an exponent, written as a browser writes it."""
    if x == 0 or 0.01 <= abs(x) < 1000:
        return f"{x:.2f}"
    digits, exponent = f"{x:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


class PosteriorExplorer(anywidget.AnyWidget):
    """x_0, x_t and a guess to move by hand; prior, likelihood, posterior, and what the guess costs, while the hand moves.

    The schedules are sent once; everything is computed and drawn in the browser. The kernel hears `road`, `t`, `x0`, `eps`,
    `guess` and `variance` once the hand is still; `step` is the one on show.

    Args:
        road: one of `roads()`.
        t:    the step shown first.
    Raises: ValueError for a road, a variance, a t or a place that is out of reach.
    """

    _esm = Path(__file__).with_name("posterior.js")
    _css = Path(__file__).with_name("posterior.css")
    given = traitlets.Dict().tag(sync=True)
    road = traitlets.Unicode().tag(sync=True)
    variance = traitlets.Unicode("posterior").tag(sync=True)
    t = traitlets.Int(5).tag(sync=True)
    x0 = traitlets.Float(-1.0).tag(sync=True)
    eps = traitlets.Float(0.8).tag(sync=True)
    guess = traitlets.Float(-0.5).tag(sync=True)

    def __init__(self, road: str = "10 steps", t: int = 5):
        roads_sent = {name: np.asarray(s.alpha_bars, "<f8").tobytes() for name, s in roads().items()}
        super().__init__(given={"roads": roads_sent, "reach": REACH, "noise": NOISE}, road=road, t=t)

    @property
    def schedule(self) -> NoiseSchedule:
        return roads()[self.road]

    @property
    def step(self) -> Step:
        """The step on show."""
        return step_back(self.schedule, self.t, self.x0, self.eps, self.guess, self.variance)

    @traitlets.validate("road", "variance")
    def _a_choice(self, proposal):
        offered = roads() if proposal.trait.name == "road" else get_args(Choice)
        if proposal.value not in offered:
            raise ValueError(f"{proposal.trait.name} must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.observe("road")
    def _not_beyond_its_end(self, _):
        self.t = min(self.t, self.schedule.T)

    @traitlets.validate("t")
    def _a_step(self, proposal):
        T = self.schedule.T if self.road else math.inf
        if not 1 <= proposal.value <= T:
            raise ValueError(f"t must lie in 1..{T}, got {proposal.value}")
        return proposal.value

    @traitlets.validate("x0", "eps", "guess")
    def _a_place(self, proposal):
        limit = NOISE if proposal.trait.name == "eps" else REACH
        if not abs(proposal.value) <= limit:
            raise ValueError(f"{proposal.trait.name} must lie in {-limit:g}..{limit:g}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the posterior explorer, {len(roads())} roads (needs a running kernel)"
