"""The closed forms of a mixture under noise, against torch.distributions, autograd and Monte Carlo."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from aigc_lessons.diffusion.mixture import GaussianMixture, ring, spiral
from aigc_lessons.diffusion.schedule import linear_schedule

COVARIANCES = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.04, 0.0], [0.0, 1.5]], [[0.2, -0.1], [-0.1, 0.1]]])


@pytest.fixture
def mixture():
    return GaussianMixture(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([[1.0, 0.0], [-1.5, 0.5], [0.3, -2.0]]), COVARIANCES)


def reference(mixture, abar=1.0):
    noisy = abar * mixture.covariances + (1 - abar) * torch.eye(2).double()
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(abar**0.5 * mixture.means, noisy))


@pytest.mark.parametrize("abar", [1.0, 0.9, 0.3, 1e-4])
def test_density_and_score_are_those_of_torch(mixture, abar, generator):
    x = 2 * torch.randn(50, 2, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    log_p = reference(mixture, abar).log_prob(x)
    assert torch.allclose(mixture.log_prob(x, abar), log_p, atol=1e-10)
    assert torch.allclose(mixture.score(x, abar), torch.autograd.grad(log_p.sum(), x)[0], atol=1e-8)


@pytest.mark.parametrize("abar", [0.99, 0.4, 0.02])
def test_denoising_is_tweedies_formula(mixture, abar, generator):
    x = torch.randn(50, 2, dtype=torch.float64, generator=generator)
    assert torch.allclose(mixture.denoise(x, abar), (x + (1 - abar) * mixture.score(x, abar)) / abar**0.5, atol=1e-9)


def test_denoising_is_the_mean_of_what_x_t_may_have_come_from(mixture, generator):
    """n = 400,000 pairs; the mean of x_0 over those whose x_t fell near a place, within 4 standard errors."""
    abar = 0.5
    x0, _ = mixture.draw(400_000, generator)
    x_t = abar**0.5 * x0 + (1 - abar) ** 0.5 * torch.randn(x0.shape, generator=generator)
    for place in torch.tensor([[0.5, 0.0], [-1.0, 0.5], [0.0, -1.0]]):
        near = (x_t - place).norm(dim=1) < 0.1
        guesses = mixture.denoise(x_t[near], abar)
        error = (x0[near] - guesses).mean(0)
        assert (error.abs() < 4 * (x0[near] - guesses).std(0) / near.sum() ** 0.5).all()
        forgetful = x0[near] - abar**0.5 * guesses  # the planted mistake: a forgotten root
        assert (forgetful.mean(0).abs() > 4 * forgetful.std(0) / near.sum() ** 0.5).any()


def test_draws_have_the_right_moments(mixture, generator):
    """n = 100,000; mean and covariance of each Gaussian's draws within 5 standard errors."""
    x, k = mixture.draw(100_000, generator)
    assert x.dtype == torch.float32
    for i in range(3):
        mine = x[k == i].double()
        n = len(mine)
        assert abs(n / 100_000 - mixture.weights[i]) < 5 * (0.25 / 100_000) ** 0.5
        S = mixture.covariances[i]
        assert ((mine.mean(0) - mixture.means[i]).abs() < 5 * (S.diag() / n).sqrt()).all()
        assert ((mine.T.cov() - S).abs() < 5 * ((S**2 + S.diag()[:, None] * S.diag()) / n).sqrt()).all()


def test_every_row_may_have_its_own_step(mixture, generator):
    schedule = linear_schedule(100)
    x, t = torch.randn(5, 2, generator=generator), torch.tensor([1, 20, 50, 99, 100])
    together = mixture.denoiser(schedule)(x, t)
    apart = torch.cat([mixture.denoiser(schedule)(row[None], step[None]) for row, step in zip(x, t, strict=True)])
    assert torch.allclose(together, apart)
    assert together.dtype == torch.float32


def test_responsibilities_add_up_and_choose_the_nearest(mixture):
    r = mixture.responsibilities(mixture.means)
    assert torch.allclose(r.sum(1), torch.ones(3).double())
    assert r.argmax(1).tolist() == [0, 1, 2]


def test_bad_mixtures_are_refused():
    one, zero, eye = torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None]
    with pytest.raises(ValueError, match="weights must be positive"):
        GaussianMixture(-one, zero, eye)
    with pytest.raises(ValueError, match="symmetric"):
        GaussianMixture(one, zero, torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]))
    with pytest.raises(ValueError, match="positive definite"):
        GaussianMixture(one, zero, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))


def test_named_mixtures_have_about_unit_variance_and_lie_where_they_should(generator):
    for mixture in (ring(), spiral()):
        x, _ = mixture.draw(20_000, generator)
        assert (x.mean(0).abs() < 0.25).all()
        assert ((x.var(0) > 0.7) & (x.var(0) < 1.5)).all()
    assert torch.allclose(ring(5).means.norm(dim=1), torch.full((5,), 1.6).double())
    gaps = spiral().means.diff(dim=0).norm(dim=1)
    assert gaps.max() < 2.5 * spiral().covariances[0, 0, 0].sqrt() * 2, "no holes along the spiral"
