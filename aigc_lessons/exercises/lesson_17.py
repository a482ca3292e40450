"""Lesson 17: the loss, Heun's method, a v-network as a flow, the velocity of finitely many points, a solver to beat."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from aigc_lessons.diffusion.flow import Velocity, between, exact_velocity, integrate
from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.samplers import final
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise


def flow_loss(network, x0, eps, t):
    return (network(between(x0, eps, t), t) - (eps - x0)).square().mean()


def heun(velocity, x, times):
    return final(integrate(velocity, x, times=times, method="heun"))


def as_flow(network, x, t, alpha_bars):
    """By a diffusion's own words: x_VP, then both estimates out of v."""
    abar = alpha_bars[t][:, None]
    signal, spread = abar.sqrt(), (1 - abar).sqrt()
    x_vp = (signal + spread) * x
    v = network(x_vp, t)
    return (spread * x_vp + signal * v) - (signal * x_vp - spread * v)


def marginal_velocity(x, t, points):
    off = x[:, None] - (1 - t) * points  # (B, N, D)
    w = (-off.square().sum(-1) / (2 * t**2)).softmax(dim=1)
    return (x - w @ points) / t


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _loss(road, answer, *, pool=torch.mean):
    def wrong(network, x0, eps, t):
        s = t[:, None]
        return pool((network(road(x0, eps, s), t) - answer(x0, eps)).square())

    return wrong


def _road(x0, eps, s):
    return (1 - s) * x0 + s * eps


def _velocity(x0, eps):
    return eps - x0


def _heun(step):
    def wrong(velocity, x, times):
        for t, s in pairwise(times):
            x = step(lambda y, at: velocity(y, torch.full((len(y),), at, dtype=y.dtype)), x, t, s)
        return x

    return wrong


def _averaged(second):
    """A step whose second slope is asked for elsewhere."""
    return lambda v, x, t, s: x + (s - t) / 2 * (v(x, t) + second(v, x, t, s))


def _as_flow(prepare, combine):
    def wrong(network, x, t, alpha_bars):
        abar = alpha_bars[t][:, None]
        a, b = abar.sqrt(), (1 - abar).sqrt()
        x_vp = prepare(x, a, b)
        return combine(x, x_vp, network(x_vp, t), a, b)

    return wrong


def _scaled(x, a, b):
    return (a + b) * x


def _marginal(exponent, end=lambda x, t, mean: (x - mean) / t):
    def wrong(x, t, points):
        return end(x, t, exponent(x[:, None], t, points).softmax(dim=1) @ points)

    return wrong


def _exponent(x, t, points):
    return -(x - (1 - t) * points).square().sum(-1) / (2 * t**2)


MISTAKES = {
    "17.1": [
        Mistake(_loss(_road, lambda x0, eps: x0 - eps),
                "The sign: t grows from data to noise, so dx_t/dt = eps - x_0."),
        Mistake(_loss(lambda x0, eps, s: s * x0 + (1 - s) * eps, _velocity),
                "Data and noise have changed ends: here t = 0 is data, x_t = (1 - t) x_0 + t eps. (Some papers differ.)"),
        Mistake(_loss(lambda x0, eps, s: (1 - s * s).sqrt() * x0 + s * eps, _velocity),
                "That is the road of a diffusion. A flow's is straight: (1 - t) x_0 + t eps, without a root."),
        Mistake(_loss(_road, lambda x0, eps: eps),
                "The network is asked for the velocity eps - x_0, not for the noise."),
        Mistake(_loss(_road, lambda x0, eps: x0),
                "The network is asked for the velocity eps - x_0, not for the data."),
        Mistake(_loss(_road, _velocity, pool=torch.sum),
                "Take the mean, not the sum: the learning rate should not depend on the size of the batch."),
        Mistake(_loss(_road, _velocity, pool=lambda d: d.sum(1).mean()),
                "Take the mean over the coordinates too (this is D times too large)."),
    ],
    "17.2": [
        Mistake(_heun(lambda v, x, t, s: x + (s - t) * v(x, t)),
                "That is Euler's method: one slope. Ask again where the step arrives, and average."),
        Mistake(_heun(_averaged(lambda v, x, t, s: v(x + (s - t) * v(x, t), t))),
                "The second slope belongs to the time of arrival s, not to t."),
        Mistake(_heun(_averaged(lambda v, x, t, s: v(x, s))),
                "The second slope belongs to the place of arrival: first make Euler's step, and ask there."),
        Mistake(_heun(lambda v, x, t, s: x + (s - t) * (v(x, t) + v(x + (s - t) * v(x, t), s))),
                "You added the two slopes; the step takes their mean."),
        Mistake(_heun(lambda v, x, t, s: x - (s - t) / 2 * (v(x, t) + v(x - (s - t) * v(x, t), s))),
                "The sign: s - t is negative already, and the step is x + (s - t) times the slope."),
        Mistake(_heun(lambda v, x, t, s: x + (s - t) * v(x + (s - t) / 2 * v(x, t), (t + s) / 2)),
                "That is the midpoint method: a good one, of the same order. Here the slopes at both ends are averaged."),
    ],
    "17.3": [
        Mistake(_as_flow(lambda x, a, b: x, lambda x, y, v, a, b: (b * y + a * v) - (a * y - b * v)),
                "The network knows x_VP = (a + b) x only: scale x before you ask."),
        Mistake(_as_flow(lambda x, a, b: x / (a + b), lambda x, y, v, a, b: (b * y + a * v) - (a * y - b * v)),
                "The scale the other way round: x_VP / (a + b) is x, so x_VP is (a + b) x."),
        Mistake(_as_flow(_scaled, lambda x, y, v, a, b: v),
                "v is the velocity along the quarter circle. Along the straight road it is eps - x_0: get both from v."),
        Mistake(_as_flow(_scaled, lambda x, y, v, a, b: (b * x + a * v) - (a * x - b * v)),
                "eps = b x_VP + a v and x_0 = a x_VP - b v: both need the scaled x."),
        Mistake(_as_flow(_scaled, lambda x, y, v, a, b: (a * y - b * v) - (b * y + a * v)),
                "The sign: eps - x_0, and you have x_0 - eps."),
        Mistake(_as_flow(_scaled, lambda x, y, v, a, b: ((b * y + a * v) - (a * y - b * v)) / (a + b)),
                "No last division: eps and x_0 are the same in both worlds, only x_t is scaled."),
    ],
    "17.4": [
        Mistake(_marginal(lambda x, t, p: -(x - p).square().sum(-1) / (2 * t**2)),
                "Given x_0, the mean of x_t is (1 - t) x_0: compare x with (1 - t) x_0, not with x_0."),
        Mistake(_marginal(lambda x, t, p: -(x - (1 - t) * p).square().sum(-1) / (2 * t)),
                "Given x_0, x_t has the standard deviation t, so the exponent has 2 t^2 below."),
        Mistake(_marginal(lambda x, t, p: -(x - (1 - t) * p).square().sum(-1) / t**2),
                "The factor 2 is missing: exp(-|x - (1 - t) x_0|^2 / (2 t^2))."),
        Mistake(_marginal(lambda x, t, p: _exponent(x, t, p).mul(0)),
                "You took all points alike. Each counts by how likely it is to have led to x."),
        Mistake(_marginal(_exponent, lambda x, t, mean: (mean - x) / t),
                "The sign: eps - x_0 = (x_t - x_0) / t, since x_t = x_0 + t (eps - x_0)."),
        Mistake(_marginal(_exponent, lambda x, t, mean: x - mean),
                "x - E[x_0 | x] is t times the velocity: divide by t."),
        Mistake(_marginal(_exponent, lambda x, t, mean: mean),
                "That is E[x_0 | x_t]. The velocity is (x - E[x_0 | x_t]) / t."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@dataclass(frozen=True)
class Net:
    """A small fixed network (x, t) -> D numbers, named so that a message can show it."""

    seed: int
    D: int

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
        return torch.tanh(x @ noise(self.seed, self.D, self.D).to(x.dtype) + 0.1 * t) + t.cos() * x / 2


@exercise("17.1")
def check_flow_loss(answer) -> CheckResult:
    inputs = [
        {"network": Net(k, D), "x0": noise(k, B, D).double(), "eps": noise(40 + k, B, D).double(),
         "t": noise(80 + k, B).double().sigmoid()}
        for k, (B, D) in enumerate([(4, 2), (3, 5), (2, 2), (6, 1), (1, 3)])
    ]  # fmt: skip
    inputs.append(inputs[0] | {"t": torch.zeros(4).double()})
    inputs.append(inputs[1] | {"t": torch.ones(3).double()})
    return compare(
        "17.1", answer, flow_loss, inputs, MISTAKES["17.1"],
        praise="Right on seven batches: a 2 x 2 one, where a missing axis raises no error, and both ends of the road.",
        hint="s = t[:, None]; x_t = (1 - s) x0 + s eps; the mean of (network(x_t, t) - (eps - x0))^2.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("17.2")
def check_heun(answer) -> CheckResult:
    grids = [[1.0, 0.5, 0.0], [1.0, 0.0], [1.0, 0.7, 0.65, 0.2, 0.1], [0.9, 0.4], [1.0, 0.9, 0.8, 0.7, 0.6, 0.0]]
    inputs = [
        {"velocity": Net(k, D), "x": noise(20 + k, B, D).double(), "times": times}
        for k, ((B, D), times) in enumerate(zip([(3, 2), (2, 3), (4, 2), (1, 1), (5, 4)], grids, strict=True))
    ]
    return compare(
        "17.2", answer, heun, inputs, MISTAKES["17.2"],
        praise="Right on five drives, with even and uneven times.",
        hint="From t to the next s: v1 = velocity(x, t); v2 = velocity(x + (s - t) v1, s); x + (s - t) (v1 + v2) / 2.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("17.3")
def check_as_flow(answer) -> CheckResult:
    inputs = []
    for k, (B, D, T) in enumerate([(3, 2, 10), (2, 3, 50), (5, 1, 4), (4, 4, 100), (2, 2, 8)]):
        alpha_bars = torch.cat([torch.ones(1), 1 - noise(70 + k, T).sigmoid()]).double().sort(descending=True).values
        t = 1 + noise(60 + k, B).abs().mul(1e4).long() % T
        inputs.append({"network": Net(k, D), "x": noise(k, B, D).double(), "t": t, "alpha_bars": alpha_bars})
    inputs.append(inputs[1] | {"t": torch.full((2,), 50)})
    return compare(
        "17.3", answer, as_flow, inputs, MISTAKES["17.3"],
        praise="Right on six networks and schedules, the last step included.",
        hint="a = sqrt(abar), b = sqrt(1 - abar), x_VP = (a + b) x; then eps = b x_VP + a v and x_0 = a x_VP - b v.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("17.4")
def check_marginal_velocity(answer) -> CheckResult:
    inputs = [
        {"x": noise(k, B, D).double(), "t": t, "points": 1.5 * noise(50 + k, N, D).double()}
        for k, (B, D, N, t) in enumerate([(3, 2, 4, 0.5), (2, 3, 6, 0.8), (4, 1, 3, 0.3), (5, 2, 1, 0.6), (2, 5, 9, 1.0)])
    ]
    inputs.append(inputs[0] | {"t": 0.01, "x": 3 + noise(9, 3, 2).double()})  # every exp(-...) is 0 in floating point here
    return compare(
        "17.4", answer, marginal_velocity, inputs, MISTAKES["17.4"],
        praise="Right at six times, t = 1 included, and near t = 0, where every weight alone rounds to 0.",
        hint="Weights: softmax over the points of -|x - (1 - t) x_i|^2 / (2 t^2); the velocity is (x - their mean) / t.",
        tolerance=1e-6,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ 17.5, a solver to beat

CALLS, GOAL = 6, 0.75


@lru_cache(maxsize=1)
def lands() -> list[tuple[Velocity, Tensor, Tensor]]:
    """Three flows in closed form: the velocity, where 200 points begin, and where they truly end."""

    def land(means, widths, seed):
        widths = torch.tensor(widths)
        data = GaussianMixture(torch.ones(len(widths)), torch.tensor(means), widths.square()[:, None, None] * torch.eye(2))
        x_1, velocity = noise(seed, 200, 2).double(), exact_velocity(data)
        return velocity, x_1, final(integrate(velocity, x_1, steps=200, method="heun"))

    return [
        land([[1.4, 0.0], [-1.4, 0.6]], [0.3, 0.4], 1),
        land([[1.5, 0.8], [-1.6, 0.5], [0.2, -1.6]], [0.35, 0.3, 0.4], 2),
        land([[0.0, 1.7], [1.2, -0.6], [-1.2, -0.9], [0.3, 0.2]], [0.3, 0.3, 0.4, 0.35], 3),
    ]


class _Counted:
    """A velocity that allows so many calls and no more."""

    def __init__(self, velocity: Velocity):
        self.velocity, self.calls = velocity, 0

    def __call__(self, x: Tensor, t) -> Tensor:
        self.calls += 1
        if self.calls > CALLS:
            raise ValueError(f"more than {CALLS} calls of velocity")
        return self.velocity(x, torch.as_tensor(t, dtype=x.dtype).reshape(-1).expand(len(x)))


def solver_error(answer) -> float:
    """Mean distance from where the points truly end, over the hidden lands."""
    errors = []
    for velocity, x_1, truth in lands():
        x = call(answer, _Counted(velocity), x_1.clone())
        if not isinstance(x, Tensor) or x.shape != x_1.shape:
            raise ValueError(f"return the points at t = 0, a tensor of shape {tuple(x_1.shape)}")
        if not x.isfinite().all():
            raise ValueError("the points at t = 0 are not finite")
        errors.append((x - truth).norm(dim=1).mean().item())
    return sum(errors) / len(errors)


def lesson_solver(velocity, x_1):
    """The number to beat: the better of the lesson's two solvers with six calls, which is Heun's three steps."""
    return final(integrate(velocity, x_1, steps=CALLS // 2, method="heun"))


@lru_cache(maxsize=1)
def lesson_errors() -> dict[str, float]:
    """Of Euler's six steps and Heun's three, measured here and now."""
    return {
        "euler": solver_error(lambda velocity, x_1: final(integrate(velocity, x_1, steps=CALLS))),
        "heun": solver_error(lesson_solver),
    }


@exercise("17.5")
def check_solver(answer) -> CheckResult:
    mine = attempt("17.5", answer, solver_error)
    if isinstance(mine, CheckResult):
        return mine
    lesson = lesson_errors()
    best = min(lesson, key=lesson.get)
    goal = GOAL * lesson[best]
    message = (
        f"got      {mine:.4f}, the mean distance from the true ends of three hidden flows, with {CALLS} calls\n"
        f"expected below {goal:.4f}, which is {GOAL:.0%} of the better of the lesson's two:"
        f" Euler {lesson['euler']:.4f}, Heun {lesson['heun']:.4f}"
    )
    hint = ""
    if mine >= goal:
        if any(abs(mine - error) < 1e-9 for error in lesson.values()):
            hint = "That is the lesson's solver itself, on its even times."
        else:
            hint = (
                "Where do the paths bend? Put more of the times there; and a step may use the slopes of the steps before it."
            )
    return CheckResult("17.5", not hint, message, hint)


REFERENCES = {"17.1": flow_loss, "17.2": heun, "17.3": as_flow, "17.4": marginal_velocity}
