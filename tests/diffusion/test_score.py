"""The score and what is done with it, against the exact mixture, scipy, autograd and Monte Carlo."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from aigc_lessons.diffusion import score
from aigc_lessons.diffusion.mixture import GaussianMixture, ring
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule

COVARIANCES = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.04, 0.0], [0.0, 1.5]], [[0.2, -0.1], [-0.1, 0.1]]])


@pytest.fixture(scope="module")
def mixture():
    means = torch.tensor([[1.0, 0.0], [-1.5, 0.5], [0.3, -2.0]])
    return GaussianMixture(torch.tensor([1.0, 3.0, 2.0]), means, COVARIANCES)


def hills(weight=0.8, spread=0.3):
    means = torch.tensor([[-1.8, 0.0], [1.8, 0.0]])
    return GaussianMixture(torch.tensor([weight, 1 - weight]), means, spread**2 * torch.eye(2).expand(2, 2, 2))


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(walk):
    *_, x = walk
    return x


# ---------------------------------------------------------------------------------------------------- the score


@pytest.mark.parametrize("abar", [0.99, 0.4, 0.02])
def test_the_score_of_a_denoiser_is_that_of_autograd(mixture, abar):
    x = (2 * noise(0, 40, 2)).requires_grad_()
    (expected,) = torch.autograd.grad(mixture.log_prob(x, abar).sum(), x)
    x0 = mixture.denoise(x, abar)
    assert torch.allclose(score.score_of(x0, x, abar), expected, atol=1e-8)
    for planted in ((x0 - x) / (1 - abar), (abar**0.5 * x0 - x) / (1 - abar) ** 0.5):  # a root missing; a root too many
        assert not torch.allclose(planted, expected, atol=1e-3)


def test_the_score_takes_an_abar_for_each_row(mixture):
    x, abar = noise(0, 3, 2), torch.tensor([0.9, 0.5, 0.1]).double()[:, None]
    together = score.score_of(mixture.denoise(x, abar[:, 0]), x, abar)
    apart = torch.cat([mixture.score(row[None], a.item()) for row, a in zip(x, abar, strict=True)])
    assert torch.allclose(together, apart)
    score.score_of(x, x, 0.5)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):  # whichever looks first
        score.score_of(x[:2], x, 0.5)


def test_three_losses_have_one_lowest_point(generator):
    """s(x) = -theta x on noisy data, n = 100,000: all three losses are quadratic in theta; 4 standard errors."""
    data, abar, n = hills(), 0.5, 100_000
    x0, eps = data.draw(n, generator)[0].double(), noise(1, n, 2)
    x = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps
    truth = data.score(x, abar)
    square = x.square().sum(1)

    def slopes(theta):  # derivative of each loss by theta, for each draw
        return {
            "explicit": (x * (theta * x + truth)).sum(1),
            "implicit": theta * square - 2,
            "denoising": (x * (theta * x - eps / (1 - abar) ** 0.5)).sum(1),
        }

    best = 2 / (abar * (1.8**2 + 2 * 0.09) + 2 * (1 - abar))  # D / E|x|^2
    for name, d in slopes(best).items():
        assert abs(d.mean()) < 4 * d.std() / n**0.5, name
    for planted in (1.05 * best, best - 0.05):
        d = slopes(planted)["implicit"]
        assert abs(d.mean()) > 4 * d.std() / n**0.5


# ---------------------------------------------------------------------------------------------------- Langevin


@pytest.mark.parametrize("h", [0.1, 0.5, 1.5])
def test_a_chain_has_the_variance_of_the_closed_form(h, generator):
    """n = 50,000 walkers on N(0, 1), 60 steps: variance 1 / (1 - h / 2) within 4 standard errors."""
    n = 50_000
    x = last(score.langevin(lambda x, _: -x, noise(0, n, 1), [(1.0, h)] * 60, generator))
    found, expected = x.var().item(), 1 / (1 - h / 2)
    assert abs(found / expected - 1) < 4 * (2 / n) ** 0.5
    planted = (h / (2 * h)) * expected  # what sqrt(h) in place of sqrt(2 h) would give
    assert abs(found / planted - 1) > 4 * (2 / n) ** 0.5


def test_far_hills_keep_wrong_weights_and_annealing_mends_them(generator):
    """n = 1,000; truth 0.8, standard error 0.013; the valley closes over a finite time, so a little is lost."""
    data, n = hills(), 1000
    plain = last(score.langevin(data.score, noise(0, n, 2), [(1.0, 0.009)] * 300, generator))
    levels = score.annealing(0.01, 0.999, 400, 0.2, 0.09)
    cured = last(score.langevin(data.score, noise(0, n, 2), levels, generator))
    assert abs((plain[:, 0] < 0).double().mean() - 0.8) > 0.2
    assert abs((cured[:, 0] < 0).double().mean() - 0.8) < 0.06


def test_annealing_levels_are_even_in_log_snr_and_fit_the_hills():
    levels = score.annealing(0.01, 0.99, 7, 0.3, 0.04)
    log_snr = [math.log(a / (1 - a)) for a, _ in levels]
    assert np.diff(log_snr) == pytest.approx([2 * math.log(99) / 6] * 6)
    assert [h for _, h in levels] == pytest.approx([0.3 * (0.04 * a + 1 - a) for a, _ in levels])
    with pytest.raises(ValueError, match=r"0 < first <= last < 1, got 0\.9 and 0\.5"):
        score.annealing(0.9, 0.5, 5, 0.1, 1.0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        last(score.langevin(lambda x, _: -x, noise(0, 2, 2), [(1.0, 0.0)], torch.Generator()))


# ---------------------------------------------------------------------------------------------------- continuous time


def test_abar_is_the_integral_of_beta():
    process = score.VP(0.2, 12.0)
    for s in (0.0, 0.1, 0.7, 1.0):
        assert process.alpha_bar(s) == pytest.approx(math.exp(-quad(process.beta, 0, s)[0]), rel=1e-9)
    exact = process.schedule(10)
    assert exact.T == 10
    assert exact.alpha_bars[3].item() == pytest.approx(process.alpha_bar(0.3))


def test_ddpms_chain_tends_to_the_sde():
    process = score.VP()
    gaps = [(process.chain(T).alpha_bars - process.schedule(T).alpha_bars).abs().max().item() for T in (100, 200, 400)]
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.15)
    assert gaps[1] / gaps[2] == pytest.approx(2, abs=0.1)
    thousand = score.VP().chain(1000)
    assert (1 - thousand.alpha_bars[-1] / thousand.alpha_bars[-2]).item() == pytest.approx(0.02)
    with pytest.raises(ValueError, match="below 1, got 20 / 20"):
        process.chain(20)


def test_the_flow_is_the_one_scipy_integrates(mixture):
    process, x = score.VP(), noise(3, 6, 2)

    def slope(s, flat):
        points = torch.from_numpy(flat).view(6, 2)
        v = -process.beta(s) / 2 * (points + mixture.score(points, process.alpha_bar(s)))
        return v.flatten().numpy()

    expected = solve_ivp(slope, (1.0, 0.02), x.flatten().numpy(), rtol=1e-9, atol=1e-9).y[:, -1]
    times = np.linspace(1, 0.02, 1001).tolist()
    found = last(score.probability_flow(mixture.score, process, x, times)).flatten().numpy()
    assert np.abs(found - expected).max() < 1e-3
    planted = last(score.probability_flow(lambda x, a: 2 * mixture.score(x, a), process, x, times)).flatten().numpy()
    assert np.abs(planted - expected).max() > 0.1


def test_both_ways_back_have_the_right_marginals(generator):
    """n = 1,000 walkers; share on the left and variance across, at three times, within 4 standard errors."""
    data, process, n = hills(), score.VP(), 1000
    times = [k / 500 for k in range(500, -1, -1)]
    x = noise(5, n, 2)  # abar(1) = 4e-5: as good as exact
    sde = list(score.reverse_sde(data.score, process, x, times, generator))
    ode = list(score.probability_flow(data.score, process, x, times[::5]))
    wrong = list(score.reverse_sde(lambda x, a: data.score(x, a) / 2, process, x, times, generator))

    def fits(x, s):
        abar = process.alpha_bar(s)
        variance = 0.09 * abar + 1 - abar
        share = 0.2 + 0.6 * torch.special.ndtr(torch.tensor(1.8 * abar**0.5 / variance**0.5)).item()
        left = (x[:, 0] < 0).double().mean().item()
        return abs(left - share) < 4 * (share * (1 - share) / n) ** 0.5 and (
            abs(x[:, 1].var().item() / variance - 1) < 4 * (2 / n) ** 0.5
        )

    for s in (0.5, 0.2, 0.05):
        k = round(500 * (1 - s)) - 1
        assert fits(sde[k], s)
        assert fits(ode[(k + 1) // 5 - 1], s)
        assert not fits(wrong[k], s)


def test_times_must_fall():
    for times in ([0.2, 0.5], [1.2, 0.5], [0.5, 0.5]):
        with pytest.raises(ValueError, match="must fall within"):
            last(score.probability_flow(lambda x, _: -x, score.VP(), noise(0, 2, 2), times))


# ---------------------------------------------------------------------------------------------------- likelihood


def within_a_hundredth(data, schedule, x):
    """The largest error of log p in nats; and of what a wrong sign, a factor 2 or no divergence would give."""
    abar_T = schedule.alpha_bars[-1].item()
    *_, end = score.flow(data.denoiser(schedule), schedule, x, range(schedule.T + 1))
    prior, truth = data.log_prob(end.x, abar_T), data.log_prob(x)
    planted = [(prior + factor * end.gained - truth).abs().max() for factor in (-1, 2, 0)]
    return (prior + end.gained - truth).abs().max(), planted


@pytest.mark.parametrize("schedule", [cosine_schedule(400), score.VP().schedule(500)], ids=["cosine", "linear"])
def test_the_likelihood_is_within_a_hundredth_of_a_nat(mixture, schedule, generator):
    """60 draws and 10 points off the hills; with the exact p_T as prior."""
    x = torch.cat([mixture.draw(60, generator)[0].double(), noise(1, 10, 2)])
    error, planted = within_a_hundredth(mixture, schedule, x)
    assert error < 0.01
    assert min(planted) > 0.5


def test_the_likelihood_is_within_a_hundredth_of_a_nat_on_eight_narrow_hills(generator):
    error, planted = within_a_hundredth(ring(), cosine_schedule(300), ring().draw(40, generator)[0].double())
    assert error < 0.01
    assert min(planted) > 0.5


def test_the_likelihood_is_prior_plus_gain(mixture):
    schedule, x, times = cosine_schedule(40), noise(0, 5, 2), [0, 1, 5, 20, 40]
    *_, end = score.flow(mixture.denoiser(schedule), schedule, x, times)
    found = score.log_likelihood(mixture.denoiser(schedule), schedule, x, times=times)
    assert torch.equal(found, score.standard_normal(end.x) + end.gained)
    other = score.log_likelihood(mixture.denoiser(schedule), schedule, x, times=times, log_prior=lambda x: 0 * x[:, 0])
    assert torch.equal(other, end.gained)


def test_a_normal_prior_loses_the_kl_at_T(mixture, generator):
    """n = 1,000; the schedule is cut where noise is not yet reached; 4 standard errors."""
    full = score.VP().schedule(100)
    for stop in (30, 45):
        short, abar = NoiseSchedule(full.alpha_bars[: stop + 1]), full.alpha_bars[stop].item()
        x = mixture.draw(1000, generator)[0].double()
        *_, end = score.flow(mixture.denoiser(short), short, x, range(stop + 1))
        lost = mixture.log_prob(end.x, abar) - score.standard_normal(end.x)
        axis = torch.linspace(-7, 7, 351, dtype=torch.float64)
        plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
        log_p = mixture.log_prob(plane, abar)
        kl = ((log_p.exp() * (log_p - score.standard_normal(plane))).sum() * (axis[1] - axis[0]) ** 2).item()
        error = lost.std().item() / 1000**0.5
        assert abs(lost.mean().item() - kl) < 4 * error
        assert abs(lost.mean().item() + kl) > 4 * error  # planted: the other sign


def test_the_flow_there_and_back_is_the_identity(mixture):
    schedule, x = cosine_schedule(200), noise(2, 10, 2)
    *_, there = score.flow(mixture.denoiser(schedule), schedule, x, range(201))
    *_, back = score.flow(mixture.denoiser(schedule), schedule, there.x, range(200, -1, -1))
    assert (back.x - x).abs().max() < 5e-3
    assert (there.gained + back.gained).abs().max() < 0.05
    assert back.t == 0


def test_the_flow_refuses_steps_that_do_not_exist(mixture):
    schedule = cosine_schedule(10)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.10, got 11"):
        last(score.flow(mixture.denoiser(schedule), schedule, noise(0, 2, 2), [0, 5, 11]))


# ---------------------------------------------------------------------------------------------------- traces


def test_the_exact_divergence_is_the_trace():
    A = noise(0, 3, 3)
    x = noise(1, 5, 3).requires_grad_()
    v = torch.tanh(x @ A)
    expected = ((1 - v**2) * A.diag()).sum(1)
    assert torch.allclose(score.divergence(v, x), expected)


def test_an_image_is_a_vector_too():
    x = noise(1, 2, 1, 3, 3).requires_grad_()
    assert torch.allclose(score.divergence(x**2, x), 2 * x.sum((1, 2, 3)))


def test_hutchinson_is_unbiased_and_has_the_variance_of_the_formula():
    """n = 40,000 probes of a linear map in five dimensions; 4 standard errors, the variance to 5 %."""
    A, n = noise(0, 5, 5), 40_000
    S = (A + A.T) / 2
    off = S - S.diag().diag()
    for z, variance in ((noise(1, n, 5).sign(), 2 * off.square().sum()), (noise(2, n, 5), 2 * S.square().sum())):
        x = torch.zeros(n, 5, dtype=torch.float64, requires_grad=True)  # one probe for each row
        found = score.divergence(x @ A, x, z[None])
        assert abs(found.mean() - A.trace()) < 4 * found.std() / n**0.5
        assert abs(found.var() / variance - 1) < 0.05
        assert abs(found.mean() - 1.1 * A.trace()) > 4 * found.std() / n**0.5
    x = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    v = x @ A
    many = score.divergence(v, x, z[:500, None])
    each = torch.cat([score.divergence(x @ A, x, probe[None, None]) for probe in z[:500]])
    assert torch.allclose(many, each.mean())
    with pytest.raises(ValueError, match=r"probe of shape \(1, 5\), got \(0, 1, 5\)"):
        score.divergence(v, x, z[:0, None])


def test_the_standard_normal_is_torchs():
    x = noise(0, 4, 3)
    assert torch.allclose(score.standard_normal(x), torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1))
