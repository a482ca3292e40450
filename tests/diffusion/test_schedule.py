import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, from_betas, linear_schedule

SCHEDULES = [linear_schedule(), cosine_schedule(), cosine_schedule(T=10), linear_schedule(T=5, beta_end=0.5)]


def test_linear_schedule_is_the_product_of_its_alphas():
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    assert linear_schedule().alpha_bars[1000].item() == pytest.approx(math.prod(1 - b for b in betas), rel=1e-12)


def test_cosine_schedule_follows_the_paper_where_betas_are_not_clipped():
    f = lambda t: math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    for t in (1, 10, 500, 900):
        assert cosine_schedule().alpha_bars[t].item() == pytest.approx(f(t) / f(0), rel=1e-10)
    last = cosine_schedule().alpha_bars[-2:]
    assert (1 - last[1] / last[0]).item() == pytest.approx(0.999)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_zero_is_clean_and_snr_falls(schedule):
    log_snr = schedule.log_snr(torch.arange(schedule.T + 1))
    assert log_snr[0] == math.inf
    assert (log_snr[1:] < log_snr[:-1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_add_noise_keeps_dtype_and_returns_x0_at_zero(dtype, generator):
    x0, eps = (torch.randn(4, 3, 5, generator=generator, dtype=dtype) for _ in range(2))
    schedule = cosine_schedule()
    noisy = schedule.add_noise(x0, torch.tensor([0, 0, 0, 1000]), eps)
    assert noisy.dtype == dtype
    assert torch.equal(noisy[:3], x0[:3])
    assert torch.allclose(noisy[3], eps[3], atol=0.02)


@given(t=st.integers(1, 1000))
def test_signal_and_noise_share_the_variance(t):
    schedule = linear_schedule()
    ones, zeros = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    signal = schedule.add_noise(ones, torch.tensor([t]), zeros)
    noise = schedule.add_noise(zeros, torch.tensor([t]), ones)
    assert torch.allclose(signal**2 + noise**2, ones, atol=1e-12)


def _chain(schedule, x0, t, generator, missing_root=False):
    """x_t by t single steps q(x_t | x_{t-1}), which knows nothing of the closed form."""
    x = x0
    for k in range(1, t + 1):
        alpha = schedule.alpha_bars[k] / schedule.alpha_bars[k - 1]
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = (alpha if missing_root else alpha.sqrt()) * x + (1 - alpha).sqrt() * noise
    return x


@pytest.mark.parametrize("planted", [False, True], ids=["right", "planted mistake"])
def test_closed_form_against_single_steps(generator, planted):
    """Mean and variance of 40,000 chains of 6 steps, within 4 standard errors."""
    n, t, start = 40_000, 6, 0.7
    schedule = linear_schedule(T=8, beta_start=0.02, beta_end=0.3)
    x = _chain(schedule, torch.full((n,), start, dtype=torch.float64), t, generator, missing_root=planted)
    abar = schedule.alpha_bars[t]
    mean_off = (x.mean() - abar.sqrt() * start).abs() / ((1 - abar) / n).sqrt()
    variance_off = (x.var() - (1 - abar)).abs() / ((1 - abar) * (2 / n) ** 0.5)
    assert (max(mean_off, variance_off) < 4) != planted


@pytest.mark.parametrize("planted", [False, True], ids=["right", "planted mistake"])
def test_posterior_against_conditioning_by_monte_carlo(generator, planted):
    """q(x_s | x_t, x_0) is linear-Gaussian: regress x_s on x_t over 200,000 pairs; slope, intercept and residual variance
    within 4 standard errors of the closed form."""
    n, x0, t, s = 200_000, -0.4, 6, 3
    schedule = linear_schedule(T=8, beta_start=0.02, beta_end=0.3)
    abar_s, a = schedule.alpha_bars[s], schedule.alpha_bars[t] / schedule.alpha_bars[s]
    z1, z2 = torch.randn(2, n, generator=generator, dtype=torch.float64)
    x_s = abar_s.sqrt() * x0 + (1 - abar_s).sqrt() * z1
    x_t = a.sqrt() * x_s + (1 - a).sqrt() * z2
    slope = torch.cov(torch.stack([x_s, x_t]))[0, 1] / x_t.var()
    residual = (x_s - x_s.mean() - slope * (x_t - x_t.mean())).var()

    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    mean, variance = schedule.posterior(torch.full_like(points, x0), points, torch.tensor(t), torch.tensor(s))
    if planted:
        mean = mean * abar_s.sqrt()
    intercept = x_s.mean() - slope * x_t.mean()
    slope_off = (slope - (mean[1] - mean[0])).abs() / (residual / n / x_t.var()).sqrt()
    intercept_off = (intercept - mean[0]).abs() / (residual / n * (1 + x_t.mean() ** 2 / x_t.var())).sqrt()
    variance_off = (residual - variance).abs() / (variance * (2 / n) ** 0.5)
    assert (max(slope_off.item(), intercept_off.item(), variance_off.item()) < 4) != planted


def test_posterior_at_the_last_step_is_the_estimate_itself(generator):
    x0, x1 = (torch.randn(2, 3, generator=generator) for _ in range(2))
    mean, variance = cosine_schedule().posterior(x0, x1, torch.tensor([1, 1]))
    assert torch.allclose(mean, x0)
    assert (variance == 0).all()


def test_posterior_default_is_one_step_back(generator):
    x0, x_t = (torch.randn(3, 2, generator=generator) for _ in range(2))
    t = torch.tensor([2, 500, 1000])
    for one, other in zip(
        linear_schedule().posterior(x0, x_t, t), linear_schedule().posterior(x0, x_t, t, t - 1), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("alpha_bars", "says"),
    [
        ([1.0, 0.5, 0.6], r"alpha_bars\[1\] = 0.5 and alpha_bars\[2\] = 0.6"),
        ([1.0, 0.5, 0.5], "must decrease"),
        ([0.9, 0.5], "must be 1, got 0.9"),
        ([1.0, 0.0], "above 0"),
        ([1.0], r"\(T\+1,\)"),
        ([1.0, float("nan"), 0.5], "alpha_bars"),
    ],
)
def test_impossible_schedules_are_refused(alpha_bars, says):
    with pytest.raises(ValueError, match=says):
        NoiseSchedule(torch.tensor(alpha_bars))


def test_bad_times_and_shapes_name_the_offender(generator):
    schedule, x = linear_schedule(T=10), torch.randn(2, 3, generator=generator)
    with pytest.raises(ValueError, match=r"0\.\.10, got 11"):
        schedule.add_noise(x, torch.tensor([1, 11]), x)
    with pytest.raises(ValueError, match=r"got -1"):
        schedule.add_noise(x, torch.tensor([-1, 1]), x)
    with pytest.raises(ValueError, match=r"\(3,\).*2 rows"):
        schedule.add_noise(x, torch.tensor([1, 2, 3]), x)
    with pytest.raises(ValueError, match=r"1\.\.10, got 0"):
        schedule.posterior(x, x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="earlier"):
        schedule.posterior(x, x, torch.tensor([2, 2]), torch.tensor([2, 1]))
    with pytest.raises(ValueError, match="T = 0"):
        linear_schedule(T=0)
    with pytest.raises(ValueError, match="beta_end"):
        linear_schedule(beta_start=0.5, beta_end=0.1)


def test_from_betas_inverts():
    betas = torch.linspace(0.01, 0.2, 7, dtype=torch.float64)
    abar = from_betas(betas).alpha_bars
    assert torch.allclose(1 - abar[1:] / abar[:-1], betas)
