"""The terms of the variational bound: closed forms against Monte Carlo, the bound against the truth it must not cross."""

import math
from itertools import pairwise

import pytest
import torch
from strict_typing import unchecked
from torch.distributions import Normal, kl_divergence

from aigc_lessons.diffusion import bound
from aigc_lessons.diffusion.mixture import GaussianMixture, ring, spiral
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, from_betas, linear_schedule

SCHEDULES = [bound.evenly_cut(10), linear_schedule(1000), cosine_schedule(50), from_betas(torch.tensor([0.3, 0.5, 0.2]))]


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off(draws, expected):
    """Standard errors between the mean of draws and what it should be."""
    return ((draws.mean() - expected) / (draws.std() / len(draws) ** 0.5)).abs().item()


def one_gaussian(tau2, D=2):
    return GaussianMixture(torch.ones(1), torch.zeros(1, D), tau2 * torch.eye(D)[None])


# ------------------------------------------------------------------------------------------------------- the posterior


@pytest.mark.parametrize("t", [3, 4, 6])
def test_the_posterior_is_what_simulated_steps_leave(t):
    """n = 400,000 pairs; mean, variance, and no correlation with x_t, each within 4 standard errors."""
    n, schedule = 400_000, bound.evenly_cut(10)
    before, now = schedule.alpha_bars[t - 1], schedule.alpha_bars[t]
    alpha = now / before
    x_before = before.sqrt() * 0.7 + (1 - before).sqrt() * noise(t, n, 1)
    x_t = alpha.sqrt() * x_before + (1 - alpha).sqrt() * noise(20 + t, n, 1)
    x0 = torch.full_like(x_t, 0.7)
    mean, variance = schedule.posterior(x0, x_t, torch.tensor(t))

    def errors(mean, variance):
        rest = (x_before - mean)[:, 0]
        around = x_t[:, 0] - x_t.mean()
        return off(rest, 0), off((rest - rest.mean()).square(), variance), off(rest * around, 0)

    assert max(errors(mean, variance)) < 4
    planted = {
        "abar_t for abar_{t-1}": (mean + alpha.sqrt() * (before - now) / (1 - now) * x_t, variance),
        "beta for the variance": (mean, 1 - alpha),
        "a root forgotten": (mean + (before.sqrt() - before) * (1 - alpha) / (1 - now) * x0, variance),
    }
    for name, wrong in planted.items():
        assert max(errors(*wrong)) > 4, name


def test_at_the_first_step_nothing_is_left():
    for schedule in SCHEDULES:
        mean, variance = schedule.posterior(noise(0, 5, 2), noise(1, 5, 2), torch.tensor(1))
        assert variance.item() == 0
        assert torch.allclose(mean, noise(0, 5, 2))
        assert bound.reverse_variances(schedule)[0] == 1 - schedule.alpha_bars[1]


# ------------------------------------------------------------------------------------------------------- KL of Gaussians


def test_kl_is_torchs_and_the_average_over_q():
    """n = 400,000 draws, within 4 standard errors; swapped, halved and sign-flipped formulas are further off."""
    q, p, v, s = noise(0, 1, 3), noise(1, 1, 3), torch.tensor(0.4).double(), torch.tensor(0.9).double()
    kl = bound.gaussian_kl(q, v, p, s)
    assert torch.allclose(kl, kl_divergence(Normal(q, v.sqrt()), Normal(p, s.sqrt())).sum(1))
    x = q + v.sqrt() * noise(2, 400_000, 3)
    evidence = (Normal(q, v.sqrt()).log_prob(x) - Normal(p, s.sqrt()).log_prob(x)).sum(1)
    assert off(evidence, kl) < 4
    ratio, square = v / s, (q - p).square().sum()
    flipped = (3 * (ratio - 1 + ratio.log()) + square / s) / 2
    once = (ratio - 1 - ratio.log() + square / s) / 2
    for planted in (bound.gaussian_kl(p, s, q, v), kl / 2, 2 * kl, flipped, once):
        assert off(evidence, planted) > 4


@pytest.mark.parametrize("choice", ["posterior", "beta"])
@pytest.mark.parametrize("t", [2, 5, 9])
def test_each_kl_of_the_bound_is_an_average_of_log_ratios(choice, t):
    """L_{t-1} at a fixed x_0: n = 200,000 roads through t and t - 1, within 4 standard errors; a wrong weight is not."""
    n, schedule = 200_000, bound.evenly_cut(10)
    mixture = one_gaussian(1.5)
    sigma2 = bound.reverse_variances(schedule, choice)
    x0, step = torch.tensor([[0.5, -1.0]]).double().expand(n, 2), torch.tensor(t)
    x_t = schedule.add_noise(x0, step, noise(t, n, 2))
    guess = mixture.denoise(x_t, schedule.alpha_bars[t])
    mean, v = schedule.posterior(x0, x_t, step)
    x_before = mean + v.sqrt() * noise(30 + t, n, 2)
    model, _ = schedule.posterior(guess, x_t, step)
    ratio = (Normal(mean, v.sqrt()).log_prob(x_before) - Normal(model, sigma2[t - 1].sqrt()).log_prob(x_before)).sum(1)
    fixed, weight = bound.prices(schedule, sigma2)
    kls = 2 * fixed[t - 1] + weight[t - 1] * (x0 - guess).square().sum(1)
    assert off(ratio - kls, 0) < 4, "the KL of each pair, and so its mean"
    assert off(ratio - 2 * kls, 0) > 4, "planted: a factor"
    shifted = 2 * fixed[t - 2] + weight[t - 2] * (x0 - guess).square().sum(1)
    assert off(ratio - shifted, 0) > 4, "planted: the price of the step before"


def test_the_last_and_first_term_are_averages_too():
    """L_T and L_0: n = 200,000, within 4 standard errors."""
    n, schedule = 200_000, from_betas(torch.tensor([0.3, 0.5, 0.2]))
    x0 = torch.tensor([[1.2, -0.4]]).double()
    L = bound.terms(lambda x, t: 0.5 * x, schedule, x0.expand(n, 2), torch.Generator().manual_seed(0))
    abar = schedule.alpha_bars
    x_T = abar[-1].sqrt() * x0 + (1 - abar[-1]).sqrt() * noise(3, n, 2)
    q = Normal(abar[-1].sqrt() * x0, (1 - abar[-1]).sqrt())
    evidence = (q.log_prob(x_T) - Normal(0.0, 1.0).log_prob(x_T)).sum(1)
    assert off(evidence, L[0, 3]) < 4
    assert off(evidence, 2 * L[0, 3]) > 4
    x_1 = abar[1].sqrt() * x0 + (1 - abar[1]).sqrt() * noise(4, n, 2)
    surprise = -Normal(0.5 * x_1, 0.3**0.5).log_prob(x0).sum(1)
    assert off(surprise, L[:, 0].mean()) < 4
    assert off(surprise, L[:, 0].mean() - math.log(2 * math.pi * 0.3)) > 4, "planted: the constant forgotten"


# ------------------------------------------------------------------------------------------------------------- the prices


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_are_ddpms_equation_12_and_differences_of_snr(schedule):
    now, before = schedule.alpha_bars[1:], schedule.alpha_bars[:-1]
    alpha = now / before
    beta, sigma2 = 1 - alpha, bound.reverse_variances(schedule)
    assert torch.allclose(bound.weights(schedule), beta**2 / (2 * sigma2 * alpha * (1 - now)), rtol=1e-9)
    snr = now / (1 - now)
    assert torch.allclose(bound.weights(schedule, "x0")[1:], (snr[:-1] - snr[1:]) / 2, rtol=1e-7)
    assert torch.allclose(bound.weights(schedule, "x0")[:1], 1 / (2 * beta[:1]))
    fixed, _ = bound.prices(schedule)
    assert (fixed[1:].abs() < 1e-15).all(), "with the posterior's width only errors cost"


def test_an_evenly_cut_road_has_even_weights_and_even_ends():
    for T in (10, 100):
        schedule = bound.evenly_cut(T)
        ends = schedule.log_snr(torch.tensor([1, T])).tolist()
        assert ends == pytest.approx([9.2, -10.1])
        w = bound.weights(schedule)[1:]
        assert (w.max() - w.min()).item() < 1e-9 * w.mean().item() + 1e-10
        assert w.mean().item() == pytest.approx((math.exp(19.3 / (T - 1)) - 1) / 2)
    linear = linear_schedule().log_snr(torch.tensor([1, 1000])).tolist()
    assert linear == pytest.approx(bound.ENDS, abs=0.05), "the ends are DDPM's"


# -------------------------------------------------------------------------------------------- everything in closed form


def in_closed_form(schedule, tau2, choice):
    """Bound, model and truth in nats a coordinate for data N(0, tau2) and its exact denoiser."""
    abar = schedule.alpha_bars
    error = tau2 * (1 - abar[1:]) / (abar[1:] * tau2 + 1 - abar[1:])
    sigma2 = bound.reverse_variances(schedule, choice)
    bounded = bound.from_errors(schedule, error, tau2, sigma2).sum().item()
    variance = torch.tensor(1.0).double()
    for t in range(schedule.T, 0, -1):
        x = torch.ones(1, 1).double()
        guess = abar[t].sqrt() * tau2 / (abar[t] * tau2 + 1 - abar[t]) * x
        k, _ = schedule.posterior(guess, x, torch.tensor(t))
        variance = k.item() ** 2 * variance + sigma2[t - 1]
    model = ((2 * math.pi * variance).log() + tau2 / variance).item() / 2
    return bounded, model, (math.log(2 * math.pi * tau2) + 1) / 2


@pytest.mark.parametrize("choice", ["posterior", "beta"])
@pytest.mark.parametrize("tau2", [0.04, 0.25, 1.0, 4.0])
def test_for_one_gaussian_bound_model_and_truth_stand_in_order(tau2, choice):
    gaps = []
    for T in (5, 20, 80, 320):
        bounded, model, truth = in_closed_form(bound.evenly_cut(T), tau2, choice)
        assert bounded >= model - 1e-12
        assert model >= truth - 1e-12
        gaps.append(bounded - truth)
    if (tau2, choice) == (1.0, "beta"):
        assert max(gaps) < 1e-10, "standard normal data: the step back has exactly this width"
    else:
        assert gaps == sorted(gaps, reverse=True)
        assert gaps[-1] < 0.3 * gaps[-2]


@pytest.mark.parametrize("choice", ["posterior", "beta"])
def test_terms_agree_with_the_closed_form(choice):
    """One Gaussian, 20 steps, n = 4,096: each term's mean within 4 of its plain standard errors."""
    schedule, mixture = bound.evenly_cut(20), one_gaussian(0.25)
    sigma2, dice = bound.reverse_variances(schedule, choice), torch.Generator().manual_seed(2)
    x0 = 0.5 * noise(5, 4096, 2)
    L = bound.terms(mixture.denoiser(schedule), schedule, x0, dice, sigma2)
    abar = schedule.alpha_bars[1:]
    error = 0.25 * (1 - abar) / (abar * 0.25 + 1 - abar)
    exact = 2 * bound.from_errors(schedule, error, 0.25, sigma2)
    assert ((L.mean(0) - exact).abs() < 4 * L.std(0) / 4096**0.5 + 1e-9).all()
    wrong = 2 * bound.from_errors(schedule, 1.1 * error, 0.25, sigma2)
    assert not ((L.mean(0) - wrong).abs() < 4 * L.std(0) / 4096**0.5 + 1e-9).all()


# ---------------------------------------------------------------------------------------------------- bound and truth


def gap(mixture, schedule, repeats=8, n=256, denoise=None):
    """Mean and standard error of bound less truth, nats."""
    found = []
    for seed in range(repeats):
        dice = torch.Generator().manual_seed(seed)
        x0 = mixture.draw(n, dice)[0].double()
        L = bound.terms(denoise or mixture.denoiser(schedule), schedule, x0, dice)
        found.append((L.sum(1) + mixture.log_prob(x0)).mean())
    found = torch.stack(found)
    return found.mean().item(), (found.std() / repeats**0.5).item()


def test_the_gap_is_positive_and_shrinks_with_t():
    """n = 8 x 256 points; each gap above 0 by more than 4 standard errors, and below the one before by as much."""
    gaps = [gap(ring(), bound.evenly_cut(T)) for T in (10, 30, 100)]
    assert all(mean > 4 * error for mean, error in gaps)
    for (coarse, a), (fine, b) in pairwise(gaps):
        assert coarse - fine > 4 * math.hypot(a, b)
    assert 100 * gaps[-1][0] == pytest.approx(67, abs=5), "about 67 / T for the ring"
    # planted: a bound without its prior constant, or whose steps cost half, falls below the truth or fails to shrink
    mean, error = gap(ring(), bound.evenly_cut(30))
    L0 = math.log(2 * math.pi * (1 - bound.evenly_cut(30).alpha_bars[1].item()))
    assert mean + L0 < -4 * error, "without a term below zero it would cross the truth"


def test_a_worse_denoiser_has_a_larger_bound():
    schedule, mixture = bound.evenly_cut(30), ring()
    exact = mixture.denoiser(schedule)
    best = gap(mixture, schedule)
    for denoise in (lambda x, t: 0.99 * exact(x, t), lambda x, t: exact(x, t) + 0.02, lambda x, t: 0 * x):
        worse = gap(mixture, schedule, denoise=denoise)
        assert worse[0] - best[0] > 4 * math.hypot(worse[1], best[1])


def test_halving_every_step_never_raises_the_bound():
    """A theorem: the error of the best guess falls with the SNR. Errors on one fine road, n = 4,096."""
    fine = bound.evenly_cut(65)
    for mixture in (ring(), spiral()):
        dice = torch.Generator().manual_seed(0)
        x0 = mixture.draw(1024, dice)[0].double()
        errors = []
        for t in range(1, 66):
            x_t = fine.add_noise(x0, torch.tensor(t), bound.stratified_noise(x0, dice))
            errors.append((x0 - mixture.denoise(x_t, fine.alpha_bars[t])).square().mean())
        errors, bounds = torch.stack(errors), []
        for stride in (16, 8, 4, 2, 1):
            kept = torch.arange(1, 66, stride)
            schedule = NoiseSchedule(torch.cat([fine.alpha_bars[:1], fine.alpha_bars[kept]]))
            bounds.append(bound.from_errors(schedule, errors[kept - 1], x0.square().mean().item()).sum().item())
        assert bounds == sorted(bounds, reverse=True)


# --------------------------------------------------------------------------------------------------- draws and bad input


def test_stratified_noise_is_normal_and_its_means_scatter_less():
    dice = torch.Generator().manual_seed(0)
    like = torch.empty(64, 3, dtype=torch.float64)
    draws = torch.stack([bound.stratified_noise(like, dice) for _ in range(2000)])
    first = draws[:, 7, 1]  # one row alone: as normal as ever
    assert off(first, 0) < 4
    assert off(first.square(), 1) < 4
    assert off((first < -1.5).double(), 0.0668) < 4
    assert off(draws[:, 7, 0] * draws[:, 7, 1], 0) < 4
    assert draws.mean(1).std() < 0.1 * 64**-0.5
    assert ((draws[0].sort(0).values > torch.special.ndtri(torch.arange(64) / 64)[:, None]).all(0)).all()


def test_terms_take_pictures_and_single_precision(generator):
    schedule = bound.evenly_cut(4)
    L = bound.terms(lambda x, t: 0 * x, schedule, noise(0, 6, 1, 4, 4).float(), generator)
    assert L.shape == (6, 5)
    assert L.dtype == torch.float64
    assert L.isfinite().all()


def test_bad_input_is_refused(generator):
    schedule = bound.evenly_cut(4)
    with pytest.raises(ValueError, match="T >= 2 and highest > lowest, got T = 1"):
        bound.evenly_cut(1)
    with pytest.raises(ValueError, match="highest > lowest"):
        bound.evenly_cut(5, -1.0, 2.0)
    with pytest.raises(ValueError, match="variances must be positive"):
        bound.gaussian_kl(noise(0, 2, 2), torch.tensor(0.0), noise(1, 2, 2), torch.tensor(1.0))
    with pytest.raises(ValueError, match="choice must be one of posterior, beta, got 'learned'"):
        unchecked(bound.reverse_variances)(schedule, "learned")
    with pytest.raises(ValueError, match="target must be 'eps' or 'x0', got 'v'"):
        unchecked(bound.weights)(schedule, "v")
    with pytest.raises(ValueError, match=r"need 4 positive variances, one for each step, got shape \(3,\)"):
        unchecked(bound.prices)(schedule, torch.ones(3))
    with pytest.raises(ValueError, match="need 4 positive variances"):
        bound.prices(schedule, torch.zeros(4))
    with pytest.raises(FloatingPointError, match="NaN or infinity at t = 1"):
        bound.terms(lambda x, t: x * float("nan"), schedule, noise(0, 3, 2), generator)
