import pytest
import torch

from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.models.convnet import ConvNet, ConvNetConfig
from aigc_lessons.models.guess import GaussianGuess
from aigc_lessons.models.unet import UNet, UNetConfig


def fresh(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


@pytest.fixture(scope="module")
def network():
    return fresh(lambda: UNet(UNetConfig(size=12, classes=3, width=8, rank=5, T=50)))


def test_output_has_the_shape_of_the_input(network, generator):
    x = torch.randn(4, 1, 12, 12, generator=generator)
    t, labels = torch.tensor([1, 10, 20, 50]), torch.tensor([0, 1, 2, 3])
    assert network(x, t, labels).shape == x.shape
    assert network(x, torch.tensor(7)).shape == x.shape


def test_an_untrained_network_without_a_guess_says_zero(network, generator):
    x = torch.randn(2, 1, 12, 12, generator=generator)
    assert network(x, torch.tensor([3, 40]), torch.tensor([0, 1])).abs().max() < 1e-5


def test_every_parameter_gets_a_gradient_after_one_step(generator):
    network = fresh(lambda: UNet(UNetConfig(size=8, width=8, rank=4)))
    for p in network.parameters():
        p.data.add_(torch.randn(p.shape, generator=generator) * 0.05)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    network(x, torch.tensor([5, 200, 500, 900]), torch.tensor([0, 1, 2, 10])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def gaussian_data(generator, n=6000, d=16, rank=3):
    """Pictures of 4 x 4 from a Gaussian with three large directions, two labels with their own means."""
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    variances = torch.tensor([4.0, 2.0, 1.0] + [0.1] * (d - rank), dtype=torch.float64)
    means = torch.randn(2, d, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % 2
    x = means[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64) * variances.sqrt() @ basis.T
    return x.float().view(n, 1, 4, 4), labels, means, basis @ torch.diag(variances) @ basis.T


@pytest.mark.parametrize("planted", [False, True], ids=["right", "planted mistake"])
def test_the_guess_is_the_conditional_mean_of_a_gaussian(generator, planted):
    """Against mu + a S (a^2 S + s^2 I)^-1 (x_t - a mu), solved directly; 6,000 pictures, so to about 5 %."""
    images, labels, means, S = gaussian_data(generator)
    schedule = cosine_schedule(T=50)
    guess = GaussianGuess(16, 2, rank=3, T=50).fit(images, labels, schedule.alpha_bars)
    t = torch.tensor([5, 20, 30, 45])
    y = torch.tensor([0, 1, 0, 1])
    x_t = torch.randn(4, 1, 4, 4, generator=generator)
    x0, v = guess(x_t, t, y)
    off = []
    for i in range(4):
        abar = schedule.alpha_bars[t[i]]
        a, mu, x = abar if planted else abar.sqrt(), means[y[i]], x_t[i].flatten().double()
        wanted = mu + a * S @ torch.linalg.solve(abar * S + (1 - abar) * torch.eye(16), x - a * mu)
        off.append(((x0[i].flatten() - wanted).norm() / wanted.norm()).item())
        assert torch.allclose(
            v[i],
            ((schedule.alpha_bars[t[i]].sqrt() * x_t[i] - x0[i]) / (1 - schedule.alpha_bars[t[i]]).sqrt()).float(),
            atol=1e-4,
        )
    assert (max(off) < 0.05) != planted


def test_the_guess_is_harmless_at_both_ends(generator):
    images, labels, _, _ = gaussian_data(generator)
    guess = GaussianGuess(16, 2, rank=3, T=50).fit(images, labels, cosine_schedule(T=50).alpha_bars)
    x0, v = guess(images[:2], torch.tensor([0, 50]), labels[:2])
    assert torch.allclose(x0[0], images[0], atol=1e-5)
    assert x0.isfinite().all()
    assert v.isfinite().all()


def test_a_guess_that_cannot_be_fitted_says_why(generator):
    images, labels, _, _ = gaussian_data(generator, n=40)
    with pytest.raises(ValueError, match="T = 50, the schedule has 60"):
        GaussianGuess(16, 2, 3, 50).fit(images, labels, cosine_schedule(T=60).alpha_bars)
    with pytest.raises(ValueError, match="no picture has the label 2"):
        GaussianGuess(16, 3, 3, 50).fit(images, labels, cosine_schedule(T=50).alpha_bars)


def test_sizes_that_do_not_halve_twice_are_refused():
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        UNet(UNetConfig(size=30))


def test_the_classifier_describes_and_classifies(generator):
    judge = fresh(lambda: ConvNet(ConvNetConfig(width=4, features=7))).eval()
    x = torch.randn(3, 1, 28, 28, generator=generator)
    assert judge.features(x).shape == (3, 7)
    assert judge(x).shape == (3, 10)
