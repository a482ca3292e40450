"""Four families: likelihoods that add up to 1, an inverse that undoes, volumes against autograd, bounds that bound."""

import math

import pytest
import torch

from aigc_lessons.models.families import (
    GAN,
    VAE,
    Autoregressive,
    Coupling,
    CouplingFlow,
    forger_loss,
    judge_loss,
    log_normal,
    nll_loss,
    vae_loss,
)
from aigc_lessons.recipes import seeded


def stirred(build, seed=0, size=0.4):
    """A network none of whose weights is special."""
    model = seeded(build, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator) / max(1, p.shape[-1]) ** 0.5)
    return model


def grid(reach, n):
    side = torch.linspace(-reach, reach, n + 1)
    middle = (side[:-1] + side[1:]) / 2
    return torch.cartesian_prod(middle, middle), (2 * reach / n) ** 2


# ---------------------------------------------------------------------------------------------------- bins in turn


@torch.no_grad()
def test_the_bins_add_up_to_one_and_nothing_lies_outside():
    model = stirred(lambda: Autoregressive(16, 12, reach=2.0))
    x, area = grid(2.0, 64)
    assert (model.log_prob(x).exp().sum() * area).item() == pytest.approx(1, abs=1e-5)
    assert model.log_prob(torch.tensor([[2.1, 0.0], [0.0, -2.5]])).tolist() == [-math.inf] * 2
    assert model.log_prob(torch.tensor([[2.0, -2.0]])).isfinite().all()


@torch.no_grad()
def test_draws_fall_into_bins_as_often_as_they_should(generator):
    """n = 40,000: every one of 64 cells within 5 standard errors (one in 2 million a cell), and turned round not."""
    model = stirred(lambda: Autoregressive(8, 12, reach=2.0), size=2.0)
    x, area = grid(2.0, 8)
    wanted = model.log_prob(x).exp() * area
    bins = model.bin_of(model.draw(40_000, generator))
    seen = torch.bincount(bins[:, 0] * 8 + bins[:, 1], minlength=64) / 40_000
    error = (wanted * (1 - wanted) / 40_000).sqrt()
    assert ((seen - wanted).abs() / error).max() < 5
    turned = torch.bincount(bins[:, 1] * 8 + bins[:, 0], minlength=64) / 40_000
    assert ((turned - wanted).abs() / error).max() > 20


def test_the_loss_is_minus_the_mean_log_likelihood(generator):
    model, x = stirred(Autoregressive), torch.randn(9, 2, generator=generator)
    assert nll_loss(model, (x,), generator).item() == pytest.approx(-model.log_prob(x).mean().item())


# ---------------------------------------------------------------------------------------------------- VAE


def linear_gaussian(a=1.5, noise=0.6):
    """z ~ N(0, I), x | z ~ N(a z + c, noise^2 I), as a VAE with the exact posterior as encoder: all in closed form."""
    model, c = seeded(VAE, 0), torch.tensor([0.3, -0.2])

    class Decoder(torch.nn.Module):
        def forward(self, z):
            return torch.cat([a * z + c, torch.full_like(z, 2 * math.log(noise))], -1)

    class Encoder(torch.nn.Module):
        def __init__(self, moved=0.0):
            super().__init__()
            self.moved = moved

        def forward(self, x):
            variance = 1 / (1 + a**2 / noise**2)
            mean = variance * a / noise**2 * (x - c) + self.moved
            return torch.cat([mean, torch.full_like(x, math.log(variance))], -1)

    model.encoder, model.decoder = Encoder(), Decoder()
    return model, lambda x: log_normal(x, c, torch.tensor(math.log(a**2 + noise**2)).expand(2)), Encoder


@torch.no_grad()
def test_the_bound_is_tight_with_the_exact_posterior_and_below_by_the_kl_with_another(generator):
    """n = 5,000 draws of eps for each of 5 points; 4 standard errors."""
    model, truth, encoder = linear_gaussian()
    x = torch.randn(5, 2, generator=generator)
    many = x.repeat_interleave(5000, 0)

    def bound():
        values = model.elbo(many, torch.randn(len(many), 2, generator=generator)).view(5, -1)
        return values.mean(1), values.std(1) / 5000**0.5

    mean, error = bound()
    assert ((mean - truth(x)).abs() < 4 * error + 1e-5).all()
    model.encoder = encoder(moved=0.3)
    variance = 1 / (1 + 1.5**2 / 0.36)
    mean, error = bound()
    assert ((mean - (truth(x) - 2 * 0.3**2 / (2 * variance))).abs() < 4 * error).all()
    assert (mean < truth(x) - 4 * error).all()


@torch.no_grad()
def test_more_weights_bring_the_bound_to_the_likelihood(generator):
    """With a wrong encoder: 1 weight is the ELBO on average; 1,000 are within 0.05 nats."""
    model, truth, encoder = linear_gaussian()
    model.encoder = encoder(moved=0.3)
    x = torch.randn(300, 2, generator=generator)
    one, many = model.log_prob(x, generator, k=1), model.log_prob(x, generator, k=1000)
    assert (many - truth(x)).abs().mean() < 0.05
    assert (truth(x) - one).mean() > 0.2


@torch.no_grad()
def test_weights_give_the_integral_over_z_of_a_real_vae(generator):
    """Quadrature over the latent plane, for a network with random weights; the ELBO lies below."""
    model = stirred(lambda: VAE(width=16))
    x = torch.randn(6, 2, generator=generator)
    z, area = grid(6.0, 200)
    mean, log_variance = model.decode(z)
    log_prior = -(z**2 + math.log(2 * math.pi)).sum(1) / 2
    joint = log_prior + log_normal(x[:, None], mean, log_variance)
    integral = joint.logsumexp(1) + math.log(area)
    assert torch.allclose(model.log_prob(x, generator, k=5000), integral, atol=0.1)
    eps = torch.randn(200, 6, 2, generator=generator)
    assert (torch.stack([model.elbo(x, e) for e in eps]).mean(0) < integral).all()


def test_the_weight_of_the_kl_is_its_weight(generator):
    model, x = stirred(VAE), torch.randn(40, 2, generator=generator)
    eps = torch.randn(40, 2, generator=generator)
    full, half, none = (model.elbo(x, eps, weight) for weight in (1.0, 0.5, 0.0))
    assert torch.allclose(half, (full + none) / 2, atol=1e-5)
    q = torch.distributions.Normal(model.encode(x)[0], (model.encode(x)[1] / 2).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(none - full, kl, atol=1e-4)
    losses = [vae_loss(model, batch, torch.Generator().manual_seed(1)).item() for batch in (x, (x,), (x, 1.0), (x, 0.5))]
    assert losses[0] == losses[1] == losses[2] > losses[3]


# ---------------------------------------------------------------------------------------------------- GAN


def test_each_player_s_loss_is_the_formula(generator):
    model, x = stirred(GAN), torch.randn(64, 2, generator=generator)
    seed = torch.Generator().manual_seed(3)
    fake = model.draw(64, torch.Generator().manual_seed(3))
    D = lambda points: torch.sigmoid(model.discriminator(points)[:, 0])  # noqa: E731
    assert torch.allclose(judge_loss(model, x, seed), -D(x).log().mean() - (1 - D(fake)).log().mean(), atol=1e-5)
    assert torch.allclose(forger_loss(model, x, torch.Generator().manual_seed(3)), -D(fake).log().mean(), atol=1e-5)


def test_the_penalty_is_the_slope_of_the_logit(generator):
    model, x, h = stirred(GAN).double(), torch.randn(6, 2, generator=generator, dtype=torch.float64), 1e-5
    model.draw = lambda n, generator: torch.zeros(n, 2, dtype=torch.float64)
    slopes = [(model.discriminator(x + h * e) - model.discriminator(x - h * e)) / (2 * h) for e in torch.eye(2).double()]
    wanted = torch.cat(slopes, 1).square().sum(1).mean() / 2
    found = judge_loss(model, x, generator, r1=1.0) - judge_loss(model, x, generator)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


# ---------------------------------------------------------------------------------------------------- flow


def test_the_inverse_undoes_the_flow(generator):
    flow, x = stirred(lambda: CouplingFlow(6, 16)).double(), torch.randn(50, 2, generator=generator).double()
    with torch.no_grad():
        z, _ = flow(x)
        assert torch.allclose(flow.inverse(z), x, atol=1e-9)
        assert (z - x).abs().max() > 0.1


@pytest.mark.parametrize("stays", [0, 1])
def test_volumes_are_those_of_autograd(stays, generator):
    x = torch.randn(5, 2, generator=generator).double()
    for layer in (stirred(lambda: Coupling(stays, 8)).double(), stirred(lambda: CouplingFlow(6, 16)).double()):
        jacobians = torch.stack([torch.autograd.functional.jacobian(lambda row: layer(row[None])[0][0], row) for row in x])  # noqa: B023
        volume = torch.linalg.slogdet(jacobians).logabsdet
        assert torch.allclose(layer(x)[1], volume, atol=1e-9)
        assert not torch.allclose(-layer(x)[1], volume, atol=1e-2)


@torch.no_grad()
def test_the_density_of_a_flow_adds_up_to_one_and_is_that_of_its_draws(generator):
    """n = 40,000, three means, 4 standard errors."""
    flow = stirred(lambda: CouplingFlow(6, 16))
    x, area = grid(8.0, 400)
    p = flow.log_prob(x).exp() * area
    assert p.sum().item() == pytest.approx(1, abs=2e-3)
    draws = flow.draw(40_000, generator)
    for f in (lambda x: x[:, 0].sin(), lambda x: x[:, 1].cos(), lambda x: (x[:, 0] * x[:, 1]).tanh()):
        values = f(draws)
        assert abs(values.mean() - (p * f(x)).sum()) < 4 * values.std() / 200
    assert abs(draws[:, 0].sin().mean()) > 8 * draws[:, 0].sin().std() / 200  # a flow that does nothing would have 0


@torch.no_grad()
def test_a_new_flow_is_the_identity(generator):
    x = torch.randn(4, 2, generator=generator)
    assert torch.equal(seeded(CouplingFlow, 0)(x)[0], x)
