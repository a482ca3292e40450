"""Flow matching: its loss against what it must be on average, its solvers' order, its twin the diffusion model."""

import itertools
import math

import pytest
import torch
from scipy.integrate import solve_ivp
from strict_typing import unchecked

from aigc_lessons.diffusion.flow import (
    between,
    denoiser_of,
    exact_velocity,
    flow_matching_loss,
    flow_times,
    integrate,
    shortest_pairs,
    straightness,
    stratified_times,
    velocity_of,
)
from aigc_lessons.diffusion.mixture import GaussianMixture, ring
from aigc_lessons.diffusion.objective import denoiser, target_of
from aigc_lessons.diffusion.samplers import SampleStep, final, sample, sample_times
from aigc_lessons.diffusion.schedule import cosine_schedule, linear_schedule

DATA = GaussianMixture(
    torch.tensor([0.5, 0.3, 0.2]),
    torch.tensor([[-1.0, 0.4], [0.8, 1.0], [0.5, -1.2]]),
    torch.tensor([0.2, 0.3, 0.4]).square()[:, None, None] * torch.eye(2),
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small matrices: a second thread would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draws(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = DATA.draw(n, generator)[0].double()
    return x0, torch.randn(n, 2, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- the loss


class Recorder(torch.nn.Module):
    """A network that keeps what it was asked and says a half of x."""

    def forward(self, x_t, t, *conditions):
        self.asked = (x_t, t, conditions)
        return 0.5 * x_t


def test_the_loss_is_the_mean_square_of_its_own_draws():
    """Given pairs and the recorded (x_t, t), everything can be computed again."""
    x0, eps = draws(64)
    labels, network = torch.arange(64), Recorder()
    loss = flow_matching_loss("given")(network, (x0, eps, labels), torch.Generator().manual_seed(1))
    x_t, t, (told,) = network.asked
    assert torch.equal(told, labels)
    assert t.shape == (64,)
    assert 0 < t.min() < t.max() < 1
    assert torch.allclose(x_t, (1 - t)[:, None] * x0 + t[:, None] * eps)
    assert torch.isclose(loss, (0.5 * x_t - (eps - x0)).square().mean())


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_noise_is_drawn_and_conditions_stay_with_their_rows(coupling):
    x0, _ = draws(50)
    network = Recorder()
    loss = flow_matching_loss(coupling)(network, (x0, torch.arange(50)), torch.Generator().manual_seed(1))
    x_t, t, (told,) = network.asked
    eps = (x_t - (1 - t)[:, None] * x0) / t[:, None]  # the noise that must have been there
    assert torch.equal(told, torch.arange(50))
    assert torch.isclose(loss, (0.5 * x_t - (eps - x0)).square().mean())
    assert abs(eps.mean()) < 4 / 100**0.5
    assert loss.ndim == 0


def test_a_batch_may_be_the_data_alone():
    x0, _ = draws(8)
    alone, tupled = (flow_matching_loss()(Recorder(), b, torch.Generator().manual_seed(3)) for b in (x0, (x0,)))
    assert torch.equal(alone, tupled)


def test_the_exact_velocity_has_the_least_loss():
    """200,000 draws: the exact velocity beats itself times 1.05 and itself moved by 0.05, by what algebra says.

    E || v + d - u ||^2 - E || v - u ||^2 = E || d ||^2 if v is the conditional mean of u; within 4 standard errors.
    """
    x0, eps = draws(200_000)
    t = stratified_times(len(x0), torch.Generator().manual_seed(1))
    x_t, u, v = between(x0, eps, t), eps - x0, None
    v = exact_velocity(DATA)(x_t, t)
    for d in (0.05 * v, torch.full_like(v, 0.05)):
        gain = (v + d - u).square().sum(1) - (v - u).square().sum(1) - d.square().sum(1)
        assert abs(gain.mean()) < 4 * gain.std() / len(gain) ** 0.5
    wrong = exact_velocity(DATA)(x_t, (t - 0.1).clamp(min=0))  # a planted error of time is far outside
    d = wrong - v
    gain = (wrong + d - u).square().sum(1) - (wrong - u).square().sum(1) - d.square().sum(1)
    assert abs(gain.mean()) > 8 * gain.std() / len(gain) ** 0.5


def test_conditional_and_marginal_loss_have_the_same_gradient():
    """A network's gradients under both losses, on 100,000 draws: per weight within 5 standard errors of each other."""
    x0, eps = draws(100_000, seed=4)
    t = stratified_times(len(x0), torch.Generator().manual_seed(2))
    x_t = between(x0, eps, t)
    features = torch.stack([x_t[:, 0], x_t[:, 1], t, torch.ones_like(t)], 1)  # v = W features: gradients by hand
    W = torch.tensor([[0.3, -0.2, 0.5, 0.1], [0.1, 0.4, -0.3, 0.2]], dtype=torch.float64)
    both = [
        2 * (features @ W.T - target)[:, :, None] * features[:, None] for target in (eps - x0, exact_velocity(DATA)(x_t, t))
    ]
    gap = both[0] - both[1]
    assert (gap.mean(0).abs() < 5 * gap.std(0) / len(gap) ** 0.5).all()
    assert (both[1].mean(0).abs() > 50 * gap.std(0) / len(gap) ** 0.5).any()  # and they are not simply nothing


def test_times_fill_every_part_once():
    t = stratified_times(40, torch.Generator().manual_seed(0))
    assert torch.equal((t * 40).floor().long().sort().values, torch.arange(40))
    assert not torch.equal(t, t.sort().values)
    middle = stratified_times(4000, torch.Generator().manual_seed(0), "logit_normal")
    assert ((middle > 0.25) & (middle < 0.75)).double().mean() == pytest.approx(0.728, abs=0.002)  # P(|z| < log 3)


@pytest.mark.parametrize("seed", range(5))
def test_shortest_pairs_against_all_permutations(seed):
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(6, 1, 2, generator=generator), torch.randn(6, 1, 2, generator=generator)
    cost = lambda p: (x0 - eps[list(p)]).square().sum().item()  # noqa: E731
    costs = {p: cost(p) for p in itertools.permutations(range(6))}
    found = tuple(shortest_pairs(x0, eps).tolist())
    assert found == min(costs, key=costs.get)
    assert costs[found[::-1]] > costs[found]  # another one would be noticed


def test_ot_shortens_roads_and_keeps_both_ends():
    x0, eps = draws(100)
    p = shortest_pairs(x0, eps)
    assert torch.equal(p.sort().values, torch.arange(100))
    assert (x0 - eps[p]).square().sum() < 0.8 * (x0 - eps).square().sum()


# ---------------------------------------------------------------------------------------------------------- the solvers


@pytest.fixture(scope="module")
def exact():
    """The exact flow from t = 1 to 0 by a Runge-Kutta method of order 8, at a tolerance of 1e-12."""
    x_1 = torch.randn(64, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v = exact_velocity(DATA)
    slope = lambda t, x: v(torch.from_numpy(x).view(64, 2), torch.full((64,), t, dtype=torch.float64)).flatten().numpy()  # noqa: E731
    solved = solve_ivp(slope, (1, 0), x_1.flatten().numpy(), "DOP853", rtol=1e-12, atol=1e-12)
    return x_1, torch.from_numpy(solved.y[:, -1]).view(64, 2)


@pytest.mark.parametrize(("method", "least", "most"), [("euler", 0.95, 1.1), ("heun", 1.9, 2.2)])
def test_order_of_convergence(method, least, most, exact):
    """Slope of log error against log steps, from 100 to 400 steps, all the way from noise to data."""
    x_1, reference = exact
    errors = {
        n: (final(integrate(exact_velocity(DATA), x_1, steps=n, method=method)) - reference).abs().mean().item()
        for n in (100, 200, 400)
    }
    assert least <= math.log(errors[100] / errors[400]) / math.log(4) <= most


def test_the_measure_of_order_can_fail(exact):
    """Heun that asks for its second slope at the time it comes from is of first order only."""
    x_1, reference = exact
    errors = {}
    for n in (100, 400):
        x = x_1
        for k in range(n):
            t = torch.full((64,), 1 - k / n, dtype=torch.float64)
            here = exact_velocity(DATA)(x, t)
            x = x - (here + exact_velocity(DATA)(x - here / n, t)) / (2 * n)
        errors[n] = (x - reference).abs().mean().item()
    assert math.log(errors[100] / errors[400]) / math.log(4) < 1.5


def test_a_drive_is_a_generator_of_steps(generator):
    asked = []

    def velocity(x, t):
        asked.append(t)
        return torch.ones_like(x)

    x_1 = torch.randn(3, 1, 4, 4, generator=generator)
    walk = list(integrate(velocity, x_1, steps=4, method="euler"))
    assert [step.t for step in walk] == [0.75, 0.5, 0.25, 0.0]
    assert [t[0].item() for t in asked] == [1.0, 0.75, 0.5, 0.25]
    assert all(t.shape == (3,) and t.dtype == x_1.dtype for t in asked)
    assert torch.allclose(walk[-1].x, x_1 - 1)
    assert torch.allclose(walk[1].x0, walk[0].x - 0.75)
    assert [step.t for step in integrate(velocity, x_1, times=[0.9, 0.3])] == [0.3]
    assert isinstance(walk[0], SampleStep)


def test_a_straight_flow_needs_one_step(generator):
    """To one point: velocity (x - a) / t, whose paths are straight; Euler is exact in one step, and so is every number."""
    a = torch.tensor([0.3, -0.7], dtype=torch.float64)
    x_1 = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    velocity = lambda x, t: (x - a) / t[:, None]  # noqa: E731
    for n in (1, 7):
        walk = list(integrate(velocity, x_1, steps=n))
        assert torch.allclose(walk[-1].x, a.expand(20, 2))
        assert straightness(x_1, walk) < 1e-25


def test_straightness_of_a_known_path(generator):
    """x_t = x_1 + w (1 - t)^2: dx/dt = -2 w (1 - t), chord -w, S = mean w^2 int (1 - 2 s)^2 ds = mean w^2 / 3."""
    x_1, w = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    walk = [SampleStep(1 - k / 1000, x_1 + w * (k / 1000) ** 2, x_1) for k in range(1, 1001)]
    walk[-1] = SampleStep(0, walk[-1].x, x_1)
    assert straightness(x_1, walk) == pytest.approx(w.square().mean().item() / 3, rel=1e-5)
    with pytest.raises(ValueError, match="the last at t = 0"):
        straightness(x_1, walk[:-1])


# --------------------------------------------------------------------------------------------------- flow and diffusion


@pytest.mark.parametrize("schedule", [cosine_schedule(), linear_schedule(50, 2e-3, 0.3)], ids=["cosine", "linear"])
def test_flow_times_put_noise_and_signal_in_the_same_ratio(schedule):
    tau = flow_times(schedule)
    assert tau[0] == 0
    assert (tau[1:] > tau[:-1]).all()
    assert tau[-1] < 1
    assert torch.allclose(2 * ((1 - tau) / tau).log()[1:], schedule.log_snr(torch.arange(1, schedule.T + 1)))


@pytest.mark.parametrize("target", ["v", "eps", "x0"])
def test_a_perfect_network_of_any_target_becomes_the_perfect_velocity(target):
    """And back again, to rounding."""
    schedule = linear_schedule(50, 2e-3, 0.3)

    class Perfect(torch.nn.Module):
        def forward(self, x, t):
            x0 = DATA.denoiser(schedule)(x, t)
            abar = schedule.alpha_bar(t, like=x)
            return target_of(x0, (x - abar.sqrt() * x0) / (1 - abar).sqrt(), t, schedule, target)

    velocity = velocity_of(denoiser(Perfect(), schedule, target), schedule)
    t = torch.arange(1, 51)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tau = flow_times(schedule)[t]
    assert torch.allclose(velocity(x, tau), exact_velocity(DATA)(x, tau), atol=1e-10)
    assert torch.allclose(denoiser_of(velocity, schedule)(x, t), DATA.denoiser(schedule)(x, t), atol=1e-10)
    assert torch.equal(velocity(x, torch.zeros(50).double()), -x)
    assert torch.allclose(exact_velocity(DATA)(x, torch.zeros(50).double()), -x)
    late = velocity(x, flow_times(schedule)[(t + 1).clamp(max=50)])
    assert not torch.allclose(late, exact_velocity(DATA)(x, tau), atol=1e-3)  # one step late would be noticed


@pytest.mark.parametrize("steps", [1, 8, 50])
def test_euler_on_the_times_of_a_schedule_is_ddim(steps):
    schedule = cosine_schedule(T=200)
    denoise = DATA.denoiser(schedule)
    x_T = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    abar = schedule.alpha_bars[sample_times(200, steps)]
    scale = abar.sqrt() + (1 - abar).sqrt()
    times = flow_times(schedule)[sample_times(200, steps)].tolist()
    flow = integrate(velocity_of(denoise, schedule), x_T / scale[0], times=times)
    for step, c, other in zip(flow, scale[1:], sample(denoise, schedule, x_T, method="ddim", steps=steps), strict=True):
        assert torch.allclose(c * step.x, other.x, atol=1e-10)
        assert torch.allclose(step.x0, other.x0, atol=1e-10)


def test_a_flow_goes_through_every_sampler_of_a_schedule():
    """exact velocity -> denoiser -> the samples that the exact denoiser gives."""
    schedule = cosine_schedule(T=100)
    x_T = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for method in ("ddpm", "heun", "dpmpp_2m"):
        ends = [
            final(sample(d, schedule, x_T, method=method, steps=20, generator=torch.Generator().manual_seed(1)))
            for d in (denoiser_of(exact_velocity(DATA), schedule), DATA.denoiser(schedule))
        ]
        assert torch.allclose(*ends, atol=1e-8)


def test_the_exact_flow_carries_noise_to_the_data():
    """4,000 points by 40 steps of Heun: mean and covariance within 4 standard errors and 0.01 of the solver's."""
    data = ring(5, 1.2, 0.25)
    x_1 = torch.randn(4000, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x = final(integrate(exact_velocity(data), x_1, steps=40, method="heun"))
    real, _ = data.draw(200_000, torch.Generator().manual_seed(7))
    assert (x.mean(0) - real.double().mean(0)).abs().max() < 4 * x.std() / 4000**0.5 + 0.01
    assert (torch.cov(x.T) - torch.cov(real.double().T)).abs().max() < 4 * x.var() * (2 / 4000) ** 0.5 + 0.01


# --------------------------------------------------------------------------------------------------------------- errors


def test_mistakes_are_named_at_the_call(generator):
    x = torch.randn(3, 2, generator=generator)
    still = lambda x, t: x  # noqa: E731
    for call, says in [
        (lambda: unchecked(integrate)(still, x, steps=2, method="ddim"), "one of euler, heun, got 'ddim'"),
        (lambda: integrate(still, x, steps=0), "at least 1, got 0"),
        (lambda: integrate(still, x), "either steps or times"),
        (lambda: integrate(still, x, steps=3, times=[1, 0]), "either steps or times"),
        (lambda: integrate(still, x, times=[0.2, 0.5]), "must fall within"),
        (lambda: integrate(still, x, times=[1.5, 0.5]), "must fall within"),
        (lambda: list(integrate(lambda x, t: x[:1], x, steps=1)), r"shape \(1, 2\) for x of \(3, 2\)"),
        (lambda: unchecked(flow_matching_loss)("straight"), "independent, ot, given"),
        (lambda: unchecked(flow_matching_loss)("ot", "often"), "uniform, logit_normal"),
        (lambda: flow_matching_loss("given")(Recorder(), x, generator), r"batch \(x0, eps"),
        (lambda: flow_matching_loss()(lambda x, t: x[:1], x, generator), r"returned shape \(1, 2\)"),
        (lambda: unchecked(shortest_pairs)(x, x[:2]), r"\(3, 2\), \(2, 2\)"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(FloatingPointError, match=r"t = 0\.5"):
        list(integrate(lambda x, t: x / (t[:, None] != 0.5), x, steps=2))
