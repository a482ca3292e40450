"""Flow matching: a straight road from every picture to its noise, and one velocity that drives them all back at once.

x_t = (1 - t) x_0 + t eps,    t in 0..1:  0 is data, 1 is noise;    velocity along the road:  dx_t/dt = eps - x_0

A velocity is a callable (x_t, t, *conditions) -> dx/dt, with a time for each row. A diffusion model is one in other clothes:
`velocity_of` and `denoiser_of` change them, with nothing trained and nothing lost.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.samplers import SampleStep
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.types import Denoise, LossFn

Velocity = Callable[..., Tensor]  # (x_t, t, *conditions) -> dx/dt
Coupling = Literal["independent", "ot", "given"]
FlowWeighting = Literal["uniform", "logit_normal"]
Solver = Literal["euler", "heun"]


# ------------------------------------------------------------------------------------------------------------ learning it


def flow_matching_loss(coupling: Coupling = "independent", weighting: FlowWeighting = "uniform") -> LossFn:
    """The regression of a velocity as a function (network, batch, generator) -> scalar.

    Draw t from 0..1 and a pair (x_0, eps), put x_t on the road between them, and

        loss = mean of || network(x_t, t, *conditions) - (eps - x_0) ||^2 / dimension

    The batch is x0, or a tuple (x0, *conditions). t is drawn stratified: one in each of B equal parts, shuffled.

    Args:
        coupling:  which noise belongs to which picture. "independent": any; "ot": the noises drawn for a batch change places
                   so that the roads are short, see `shortest_pairs`; "given": the batch is (x0, eps, *conditions), as
                   reflow has it.
        weighting: "uniform", or "logit_normal": the middle more often, t = sigmoid(z) with z ~ N(0, 1).
    Raises: ValueError for an unknown choice, a batch without its noise, or a network whose output differs in shape.
    Source: Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003, eq. 1; "ot", Tong et al. 2023,
        arXiv:2302.00482, and Pooladian et al. 2023, arXiv:2304.14772.
    """
    _check_choice("coupling", coupling, Coupling)
    _check_choice("weighting", weighting, FlowWeighting)

    def loss_fn(network: Callable, batch, generator: torch.Generator) -> Tensor:
        x0, *conditions = batch if isinstance(batch, (tuple, list)) else (batch,)
        if coupling == "given":
            if not conditions or conditions[0].shape != x0.shape:
                raise ValueError("coupling 'given' needs a batch (x0, eps, *conditions) with eps in the shape of x0")
            eps, *conditions = conditions
        else:
            eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
            if coupling == "ot":
                eps = eps[shortest_pairs(x0, eps)]
        t = stratified_times(len(x0), generator, weighting).to(x0)
        x_t = between(x0, eps, t)
        velocity = network(x_t, t, *conditions)
        if velocity.shape != x0.shape:
            raise ValueError(f"the network returned shape {tuple(velocity.shape)} for x0 of {tuple(x0.shape)}")
        return (velocity - (eps - x0)).square().mean()

    return loss_fn


def between(x0: Float[Tensor, "B *D"], eps: Float[Tensor, "B *D"], t: Float[Tensor, " B"]) -> Float[Tensor, "B *D"]:
    """The point of the road at time t: (1 - t) x_0 + t eps."""
    t = _column(t, x0)
    return (1 - t) * x0 + t * eps


def stratified_times(B: int, generator: torch.Generator, weighting: FlowWeighting = "uniform") -> Float[Tensor, " B"]:
    """B times in 0..1, float64, one from each of B equally likely parts, in random order."""
    u = (torch.arange(B) + torch.rand(B, generator=generator, dtype=torch.float64)) / B
    if weighting == "logit_normal":
        u = torch.sigmoid(torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return u[torch.randperm(B, generator=generator)]


def shortest_pairs(x0: Float[Tensor, "B *D"], eps: Float[Tensor, "B *D"]) -> Int[Tensor, " B"]:
    """The permutation p that makes sum_i || x0_i - eps_p(i) ||^2 least: optimal transport between two batches.

    Found by the Hungarian method: exact, with a cost that grows as B^3.

    Raises: ValueError if the shapes differ.
    Source: Kuhn 1955; scipy's implementation is Crouse 2016.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    if x0.shape != eps.shape:
        raise ValueError(f"as many noises as pictures are needed, of one shape; got {tuple(x0.shape)}, {tuple(eps.shape)}")
    cost = torch.cdist(x0.detach().flatten(1).double(), eps.detach().flatten(1).double()).square()
    return torch.from_numpy(linear_sum_assignment(cost.cpu().numpy())[1]).to(x0.device)


# ----------------------------------------------------------------------------------------------------------- driving back


def integrate(
    velocity: Velocity,
    x_1: Float[Tensor, "B *D"],
    *,
    steps: int | None = None,
    method: Solver = "euler",
    times: Sequence[float] | None = None,
) -> Iterator[SampleStep]:
    """Drive from noise to data along dx/dt = velocity(x, t), yielding every step.

    euler:  x_s = x_t + (s - t) v(x_t, t)                                one evaluation a step, first order
    heun:   x_s = x_t + (s - t) ( v(x_t, t) + v(x_s of euler, s) ) / 2   two evaluations a step, second order

    Args:
        velocity: (x_t, t) -> dx/dt, with t of shape (B,) in the dtype of x.
        x_1:      standard normal noise in the shape of the data; the caller draws it.
        steps:    how many, evenly spread from t = 1 to 0.
        times:    in place of `steps`: the times themselves, falling within 0..1.
    Yields: SampleStep with t the time arrived at, x, and x0 = x_t - t v, where the velocity used would have led.
    Raises: ValueError for an unknown method, steps below 1, times that do not fall, or both or neither of the two;
        FloatingPointError when the velocity is not finite.
    """
    # checked here and not inside the generator, so that a mistake shows where it was made
    _check_choice("method", method, Solver)
    if (steps is None) == (times is None):
        raise ValueError(f"give either steps or times, got steps = {steps} and times = {times}")
    if times is None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    times = [float(t) for t in times]
    if len(times) < 2 or not 1 >= times[0] > times[-1] >= 0 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(f"times must fall within 0..1, at least two of them; got {times[:3]} ... {times[-1:]}")
    return _drive(velocity, x_1, times, method)


def _drive(velocity: Velocity, x: Tensor, times: list[float], method: Solver) -> Iterator[SampleStep]:
    for t, s in pairwise(times):
        slope = _slope(velocity, x, t)
        if method == "heun":
            slope = (slope + _slope(velocity, x + (s - t) * slope, s)) / 2
        yield SampleStep(t=s, x=(x_s := x + (s - t) * slope), x0=x - t * slope)
        x = x_s


def _slope(velocity: Velocity, x: Tensor, t: float) -> Tensor:
    v = velocity(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))
    if v.shape != x.shape:
        raise ValueError(f"the velocity has shape {tuple(v.shape)} for x of {tuple(x.shape)}")
    if not v.isfinite().all():
        raise FloatingPointError(f"the velocity is NaN or infinite at t = {t:.4g}")
    return v


def straightness(x_1: Float[Tensor, "B *D"], walk: Sequence[SampleStep]) -> float:
    """How far paths are from straight lines driven at one speed: 0 for those.

    S = integral over t of E || (x_1 - x_0) - dx_t/dt ||^2 / dimension

    For a walk the integral is a sum: of each step's own velocity, times its length in t. Take many small steps: an Euler
    walk of one step is straight whatever the flow.

    Args:
        x_1:  where the walk began, at t = 1.
        walk: the steps of `integrate`, to t = 0.
    Raises: ValueError if the walk does not end at t = 0.
    Source: Liu et al. 2022, arXiv:2209.03003, section 2.2.
    """
    if not walk or walk[-1].t != 0:
        raise ValueError("need all the steps of a walk, the last at t = 0: pass list(integrate(...))")
    states, times = [x_1, *(step.x for step in walk)], [1.0, *(float(step.t) for step in walk)]
    chord, total = x_1.double() - walk[-1].x.double(), 0.0
    for (x_t, x_s), (t, s) in zip(pairwise(states), pairwise(times), strict=True):
        own = (x_t.double() - x_s.double()) / (t - s)
        total += (t - s) * (chord - own).square().mean().item()
    return total


# --------------------------------------------------------------------------------------------------- flow and diffusion


def flow_times(schedule: NoiseSchedule) -> Float[Tensor, " T1"]:
    """The flow time of each step of a schedule, float64: where noise and signal stand in the same ratio.

    x_VP = sqrt(abar) x_0 + sqrt(1 - abar) eps;  divided by c = sqrt(abar) + sqrt(1 - abar) its two weights add up to 1:

    x_VP / c = (1 - tau) x_0 + tau eps     with     tau = sqrt(1 - abar) / c

    From 0 at step 0 up to just below 1 at step T, where a schedule keeps a trace of signal.
    """
    noise = (1 - schedule.alpha_bars).sqrt()
    return noise / (schedule.alpha_bars.sqrt() + noise)


def velocity_of(denoise: Denoise, schedule: NoiseSchedule) -> Velocity:
    """A diffusion model driven as a flow: the same estimate of x_0, in the flow's scale and on the flow's clock.

    velocity(x, tau) = ( x - denoise(c x, step) ) / tau     with c and tau of `flow_times`

    since eps - x_0 = (x_tau - x_0) / tau on the road. At tau = 0 the noise says nothing any more: E[eps] - x_0 = -x. Euler's
    steps on the times of a schedule are DDIM's, exactly. Times between those of the schedule get the answer of the nearest.

    Args:
        denoise: (x_t, t, *conditions) -> estimate of x_0, from a network that predicts v, eps or x_0 (`denoiser`); with
                 gradients if it has them.
    """
    times, scale = flow_times(schedule), schedule.alpha_bars.sqrt() + (1 - schedule.alpha_bars).sqrt()
    middles = (times[1:] + times[:-1]) / 2

    def velocity(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        t = torch.as_tensor(t, device=x.device).expand(len(x))
        step = torch.bucketize(t.double(), middles.to(x.device)).clamp(min=1)
        c, tau = (_column(table.to(x.device)[step], x).to(x.dtype) for table in (scale, times))
        return torch.where(_column(t, x) == 0, -x, (x - denoise(c * x, step, *conditions)) / tau)

    return velocity


def denoiser_of(velocity: Velocity, schedule: NoiseSchedule) -> Denoise:
    """A flow as a denoiser, for every sampler of a schedule: the way back from `velocity_of`.

    x_0 = x - tau velocity(x, tau)     with x = x_VP / c
    """
    times, scale = flow_times(schedule), schedule.alpha_bars.sqrt() + (1 - schedule.alpha_bars).sqrt()

    def denoise(x_t: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        x, tau = x_t / _column(scale.to(x_t.device)[t], x_t).to(x_t.dtype), times.to(x_t.device)[t].to(x_t.dtype)
        return x - _column(tau, x) * velocity(x, tau, *conditions)

    return denoise


def exact_velocity(data: GaussianMixture) -> Velocity:
    """E[eps - x_0 | x_t] for a mixture of Gaussians in closed form: what a perfect network would say.

    x_t / r with r = sqrt((1 - t)^2 + t^2) is the mixture under VP noise with abar = (1 - t)^2 / r^2; there E[x_0 | x_t] is
    known, and E[eps | x_t] = -sqrt(1 - abar) score.
    """

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
        r = ((1 - t).square() + t.square()).sqrt()
        y, abar = x.double() / r[:, None], ((1 - t) / r).square()
        return (-(t / r)[:, None] * data.score(y, abar) - data.denoise(y, abar)).to(x.dtype)

    return velocity


def _column(t: Tensor, like: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (like.ndim - 1))


def _check_choice(name: str, value: str, choices) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
