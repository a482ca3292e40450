"""Samplers against diffusers, against one another, and against an exact denoiser."""

import math
from itertools import pairwise

import diffusers
import pytest
import torch
from scipy.integrate import solve_ivp
from strict_typing import unchecked

from aigc_lessons.diffusion import samplers
from aigc_lessons.diffusion.samplers import final, sample, sample_times
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule

SHAPE = (3, 1, 6, 6)
METHODS = ["ddpm", "ddim", "heun", "dpmpp_2m"]


def gaussian_denoiser(schedule, mean=0.3, spread=0.5):
    """E[x_0 | x_t] for data N(mean, spread^2): exact, smooth, and different at every t."""

    def denoise(x_t, t):
        abar = schedule.alpha_bars[t].reshape(-1, *[1] * (x_t.ndim - 1))
        gain = abar.sqrt() * spread**2 / (abar * spread**2 + 1 - abar)
        return (mean + gain * (x_t - abar.sqrt() * mean)).to(x_t.dtype)

    return denoise


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def peer(method, T, eta):
    common = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
              "timestep_spacing": "trailing", "prediction_type": "sample"}  # fmt: skip
    if method == "ddpm":
        return diffusers.DDPMScheduler(**common, clip_sample=False), {}
    if method == "ddim":
        return diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True), {"eta": eta}
    return diffusers.DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2,
                                                 final_sigmas_type="zero"), {}  # fmt: skip


@pytest.mark.parametrize("steps", [1000, 50])
@pytest.mark.parametrize(("method", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0), ("dpmpp_2m", 0.0)])
def test_every_state_equals_diffusers(method, eta, steps, generator):
    """Same network, schedule and noise, in float64.

    DDPM and DDIM are given our abar in float64 in place of theirs in float32, and then agree to rounding; DPM-Solver++ keeps
    its noise levels in float32 and agrees to 1e-5.
    """
    schedule = linear_schedule()
    denoise = gaussian_denoiser(schedule)
    x_T = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    ours = sample(denoise, schedule, x_T, method=method, steps=steps, eta=eta, generator=torch.Generator().manual_seed(5))

    scheduler, extra = peer(method, 1000, eta)
    assert relative(scheduler.alphas_cumprod.double(), schedule.alpha_bars[1:]) < 1e-6
    scheduler.set_timesteps(steps)
    x, tolerance = x_T, 1e-5
    if method != "dpmpp_2m":
        scheduler.alphas_cumprod, scheduler.one = schedule.alpha_bars[1:], torch.tensor(1.0, dtype=torch.float64)
        scheduler.final_alpha_cumprod = scheduler.one
        extra["generator"], tolerance = torch.Generator().manual_seed(5), 1e-9
    for t, step in zip(scheduler.timesteps, ours, strict=True):
        x0 = denoise(x, torch.full((len(x),), int(t) + 1))
        x = scheduler.step(x0, t, x, **extra).prev_sample
        assert relative(step.x, x) <= tolerance, f"at t = {step.t}"
    assert step.t == 0


def test_the_comparison_with_diffusers_can_fail(generator):
    """A planted off-by-one in time is far outside the tolerance."""
    schedule = linear_schedule()
    exact = gaussian_denoiser(schedule)
    late = lambda x, t: exact(x, (t - 1).clamp(min=0))  # noqa: E731
    x_T = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    right, wrong = (final(sample(d, schedule, x_T, method="ddim", steps=50)) for d in (exact, late))
    assert relative(wrong, right) > 1e-4


def test_heun_equals_a_direct_formulation(generator):
    """Karras et al. 2022, algorithm 1, in its own variables: x / sqrt(abar) and sigma."""
    schedule, steps = cosine_schedule(), 25
    denoise = gaussian_denoiser(schedule)
    x_T = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    abar = schedule.alpha_bars[sample_times(1000, steps)]
    sigmas = ((1 - abar) / abar).sqrt()
    times = sample_times(1000, steps)

    def D(y, i):
        return denoise(y * abar[i].sqrt(), torch.full((len(y),), times[i]))

    y = x_T / abar[0].sqrt()
    walk = sample(denoise, schedule, x_T, method="heun", steps=steps)
    for i, step in enumerate(walk):
        d = (y - D(y, i)) / sigmas[i]
        euler = y + (sigmas[i + 1] - sigmas[i]) * d
        if sigmas[i + 1] > 0:
            d2 = (euler - D(euler, i + 1)) / sigmas[i + 1]
            y = y + (sigmas[i + 1] - sigmas[i]) * (d + d2) / 2
        else:
            y = euler
        assert relative(step.x, y * abar[i + 1].sqrt()) <= 1e-10


def test_ddim_at_eta_one_has_ddpm_s_mean(generator, monkeypatch):
    """With the noise switched off, both take the same step; with it on, they draw from the same Gaussian."""
    schedule = cosine_schedule(T=20)
    denoise = gaussian_denoiser(schedule)
    x_T = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    walks = {
        method: final(sample(denoise, schedule, x_T, method=method, eta=eta, generator=torch.Generator().manual_seed(1)))
        for method, eta in (("ddpm", 0.0), ("ddim", 1.0))
    }
    assert relative(walks["ddim"], walks["ddpm"]) < 1e-10


def test_first_order_dpm_solver_is_ddim(generator):
    schedule = cosine_schedule()
    denoise = gaussian_denoiser(schedule)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    for t, s in [(1000, 900), (500, 499), (40, 0)]:
        ddim, _, _ = samplers.ddim_step(denoise, schedule, x, t, s, None)
        dpm, _, _ = samplers.dpmpp_2m_step(denoise, schedule, x, t, s, None)
        assert relative(dpm, ddim) < 1e-9


ORDERS = [("ddim", 0.95, 1.3), ("heun", 1.9, 2.4), ("dpmpp_2m", 1.8, 2.4)]


def mixture_denoiser(schedule):
    """E[x_0 | x_t] for the mixture of N(-1, 0.2^2) and N(0.5, 0.3^2), in each coordinate."""
    means, spreads = torch.tensor([-1.0, 0.5]).double(), torch.tensor([0.2, 0.3]).double()

    def denoise(x_t, t):
        abar = schedule.alpha_bars[t][:, None, None]
        variance = abar * spreads**2 + 1 - abar
        off = x_t[..., None] - abar.sqrt() * means
        weight = torch.softmax(-(off**2) / (2 * variance) - variance.log() / 2, -1)
        return (weight * (means + abar.sqrt() * spreads**2 / variance * off)).sum(-1)

    return denoise


def walk_on_uniform_log_snr(method, steps, x_T):
    """From half-log-SNR -4 to 3 in equal steps; the sample there."""
    grid = torch.linspace(3, -4, steps + 1, dtype=torch.float64)  # index 1 .. steps+1 of the schedule
    schedule = NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(2 * grid)]))
    denoise, step, memory, x = mixture_denoiser(schedule), samplers._step_for(method, None, 0.0), None, x_T
    for t in range(steps + 1, 1, -1):
        x, _, memory = step(denoise, schedule, x, t, t - 1, memory)
    return x


@pytest.fixture(scope="module")
def exact():
    """The probability-flow ODE from half-log-SNR -4 to 3, by a Runge-Kutta method of order 8 at a tolerance of 1e-12.

    In y = x / sqrt(abar) and sigma = sqrt((1 - abar) / abar) = exp(-lambda):  dy/dsigma = (y - x0(x, t)) / sigma.
    """
    x_T = torch.randn(64, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scale = lambda sigma: 1 / math.sqrt(1 + sigma**2)  # noqa: E731  (sqrt of abar)

    def slope(sigma, y):
        abar = torch.tensor([1.0, scale(sigma) ** 2], dtype=torch.float64)
        y = torch.from_numpy(y).view(64, 2)
        x0 = mixture_denoiser(NoiseSchedule(abar))(y * scale(sigma), torch.ones(64, dtype=torch.long))
        return ((y - x0) / sigma).flatten().numpy()

    far, near = math.exp(4), math.exp(-3)
    solved = solve_ivp(slope, (far, near), (x_T / scale(far)).flatten().numpy(), "DOP853", rtol=1e-12, atol=1e-12)
    return x_T, torch.from_numpy(solved.y[:, -1]).view(64, 2) * scale(near)


@pytest.mark.parametrize(("method", "least", "most"), ORDERS)
def test_order_of_convergence(method, least, most, exact):
    """Slope of log error against log steps, from 100 to 400 steps."""
    x_T, reference = exact
    errors = {n: (walk_on_uniform_log_snr(method, n, x_T) - reference).abs().mean().item() for n in (100, 200, 400)}
    slope = math.log(errors[100] / errors[400]) / math.log(4)
    assert least <= slope <= most


@pytest.mark.parametrize("method", METHODS)
def test_a_sampler_is_a_generator_and_ends_at_zero(method, generator):
    schedule = cosine_schedule(T=30)
    x_T = torch.randn(SHAPE, generator=generator)
    walk = sample(gaussian_denoiser(schedule), schedule, x_T, method=method, steps=7, generator=generator)
    first = next(walk)
    assert first.t == sample_times(30, 7)[1]
    rest = list(walk)
    assert [step.t for step in rest] == sample_times(30, 7)[2:]
    assert rest[-1].t == 0
    assert rest[-1].x.dtype == torch.float32
    assert rest[-1].x.shape == first.x0.shape == SHAPE


@pytest.mark.parametrize("method", METHODS)
def test_samples_have_the_right_distribution(method, generator):
    """4,000 samples of N(0.3, 0.5^2) with the exact denoiser: mean and standard deviation within 4 standard errors, plus the
    discretisation error of 200 steps (0.01)."""
    schedule = cosine_schedule()
    x_T = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    x0 = final(sample(gaussian_denoiser(schedule), schedule, x_T, method=method, steps=200, generator=generator))
    assert abs(x0.mean().item() - 0.3) < 4 * 0.5 / 4000**0.5 + 0.01
    assert abs(x0.std().item() - 0.5) < 4 * 0.5 / 8000**0.5 + 0.01


@pytest.mark.parametrize(("T", "steps"), [(1000, 50), (1000, 1000), (1000, 7), (10, 10), (5, 1)])
def test_times_are_evenly_spread(T, steps):
    times = sample_times(T, steps)
    assert (times[0], times[-1], len(times)) == (T, 0, steps + 1)
    assert all(a > b for a, b in pairwise(times))


def test_mistakes_are_named_at_the_call(generator):
    schedule, x = cosine_schedule(T=10), torch.randn(SHAPE, generator=generator)
    denoise = gaussian_denoiser(schedule)
    with pytest.raises(ValueError, match=r"1\.\.10 .* got 11"):
        sample(denoise, schedule, x, steps=11, generator=generator)
    with pytest.raises(ValueError, match="one of ddpm, ddim, heun, dpmpp_2m"):
        unchecked(sample)(denoise, schedule, x, method="euler")
    with pytest.raises(ValueError, match="pass generator"):
        sample(denoise, schedule, x)
    with pytest.raises(ValueError, match="belongs to 'ddim'"):
        sample(denoise, schedule, x, method="heun", eta=0.5)
    with pytest.raises(FloatingPointError, match="t = 10"):
        next(sample(lambda x, t: x * float("nan"), schedule, x, method="ddim"))
    with pytest.raises(ValueError, match="denoiser returned shape"):
        next(sample(lambda x, t: x[:1], schedule, x, method="ddim"))
