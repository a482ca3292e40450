import pytest
import torch

from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.models.convnet import ConvNet, ConvNetConfig
from aigc_lessons.models.guess import MixtureGuess
from aigc_lessons.models.unet import UNet, UNetConfig


def fresh(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


@pytest.fixture(scope="module")
def network():
    return fresh(lambda: UNet(UNetConfig(size=12, classes=3, width=8, T=50, components=2, subspace=9, rank=5)))


def test_output_has_the_shape_of_the_input(network, generator):
    x = torch.randn(4, 1, 12, 12, generator=generator)
    t, labels = torch.tensor([1, 10, 20, 50]), torch.tensor([0, 1, 2, 3])
    assert network(x, t, labels).shape == x.shape
    assert network(x, torch.tensor(7)).shape == x.shape


def test_an_untrained_network_without_a_guess_says_zero(network, generator):
    x = torch.randn(2, 1, 12, 12, generator=generator)
    assert network(x, torch.tensor([3, 40]), torch.tensor([0, 1])).abs().max() < 1e-5


def test_every_parameter_gets_a_gradient_after_one_step(generator):
    network = fresh(lambda: UNet(UNetConfig(size=8, width=8, components=2, subspace=6, rank=4)))
    for p in network.parameters():
        p.data.add_(torch.randn(p.shape, generator=generator) * 0.05)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    network(x, torch.tensor([5, 200, 500, 900]), torch.tensor([0, 1, 2, 10])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def mixture_data(generator, n=12_000, d=16, rank=3):
    """Pictures of 4 x 4 with two labels; each label is a mixture of two Gaussians far apart, with three large directions."""
    covariances, means = [], 6 * torch.randn(4, d, generator=generator, dtype=torch.float64) / d**0.5
    which = torch.arange(n) % 4
    x = means[which]
    for i in range(4):
        basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
        covariances.append(
            basis @ torch.diag(torch.tensor([1.0, 0.5, 0.3] + [0.02] * (d - rank), dtype=torch.float64)) @ basis.T
        )
        mine = which == i
        noise = torch.randn(int(mine.sum()), d, generator=generator, dtype=torch.float64)
        x[mine] += noise @ torch.linalg.cholesky(covariances[i]).T
    return x.float().view(n, 1, 4, 4), which // 2, means, covariances


def exact_guess(x, abar, means, covariances, allowed):
    """E[x_0 | x_t] of a mixture, from full covariance matrices and torch's own Gaussian density."""
    logs, guesses = [], []
    for i in allowed:
        S = abar * covariances[i] + (1 - abar) * torch.eye(len(x), dtype=torch.float64)
        density = torch.distributions.MultivariateNormal(abar.sqrt() * means[i], S)
        logs.append(density.log_prob(x))
        guesses.append(means[i] + abar.sqrt() * covariances[i] @ torch.linalg.solve(S, x - abar.sqrt() * means[i]))
    return (torch.stack(logs).softmax(0)[:, None] * torch.stack(guesses)).sum(0)


@pytest.mark.parametrize("planted", [None, "a missing square root", "another label's Gaussians"])
def test_the_guess_is_the_conditional_mean_of_a_mixture(generator, planted):
    """Parameters are learned from 12,000 pictures (3,000 a Gaussian), so equal to about 5 %."""
    images, labels, means, covariances = mixture_data(generator)
    schedule = cosine_schedule(T=50)
    guess = MixtureGuess(16, 2, 2, 16, 3, T=50).fit(images, labels, schedule.alpha_bars, shrink=0.0)
    off = []
    for t in (5, 20, 30, 45):
        for label, allowed in ((0, (0, 1)), (1, (2, 3)), (2, (0, 1, 2, 3))):
            abar = schedule.alpha_bars[t]
            x0 = images[label : label + 1]
            x_t = schedule.add_noise(x0, torch.tensor([t]), torch.randn(1, 1, 4, 4, generator=generator))
            got, v = guess(x_t, torch.tensor([t]), torch.tensor([label]))
            if planted == "another label's Gaussians":
                allowed = (2, 3) if label == 0 else (0, 1)
            told = abar.square() if planted == "a missing square root" else abar
            wanted = exact_guess(x_t.flatten().double(), told, means, covariances, allowed)
            off.append(((got.flatten() - wanted).norm() / wanted.norm()).item())
            assert torch.allclose(v, ((abar.sqrt() * x_t - got) / (1 - abar).sqrt()).float(), atol=1e-4)
    assert (max(off) < 0.05) == (planted is None), max(off)


def test_shrinking_fully_gives_every_gaussian_of_a_label_the_same_covariance(generator):
    images, labels, _, _ = mixture_data(generator)
    guess = MixtureGuess(16, 2, 2, 16, 3, T=50).fit(images, labels, cosine_schedule(T=50).alpha_bars, shrink=1.0)
    assert torch.allclose(guess.variances[0], guess.variances[1])
    assert not torch.allclose(guess.variances[0], guess.variances[2], rtol=1e-3)


def test_the_guess_is_harmless_at_both_ends(generator):
    images, labels, _, _ = mixture_data(generator)
    guess = MixtureGuess(16, 2, 2, 12, 3, T=50).fit(images, labels, cosine_schedule(T=50).alpha_bars)
    x0, v = guess(images[:2], torch.tensor([0, 50]), labels[:2])
    assert torch.allclose(x0[0], images[0], atol=1e-4)
    assert x0.isfinite().all()
    assert v.isfinite().all()


def test_a_guess_that_cannot_be_fitted_says_why(generator):
    images, labels, _, _ = mixture_data(generator, n=40)
    with pytest.raises(ValueError, match="T = 50, the schedule has 60"):
        MixtureGuess(16, 2, 2, 12, 3, 50).fit(images, labels, cosine_schedule(T=60).alpha_bars)
    with pytest.raises(ValueError, match="label 2 has 0 pictures; every label needs at least 2"):
        MixtureGuess(16, 3, 2, 12, 3, 50).fit(images, labels, cosine_schedule(T=50).alpha_bars)


def test_sizes_that_do_not_halve_twice_are_refused():
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        UNet(UNetConfig(size=30))


def test_the_classifier_describes_and_classifies(generator):
    judge = fresh(lambda: ConvNet(ConvNetConfig(width=4, features=7))).eval()
    x = torch.randn(3, 1, 28, 28, generator=generator)
    assert judge.features(x).shape == (3, 7)
    assert judge(x).shape == (3, 10)
