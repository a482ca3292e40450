import pytest
import torch
from strict_typing import unchecked
from torch import nn

from aigc_lessons.diffusion.objective import denoiser, diffusion_loss, stratified_steps, target_of, to_x0
from aigc_lessons.diffusion.schedule import cosine_schedule, linear_schedule

TARGETS = ["eps", "x0", "v"]


class Affine(nn.Module):
    """A network small enough to be worked out by hand: a x_t + b."""

    def __init__(self, a=0.0, b=0.0):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x_t, t, *conditions):
        return self.a * x_t + self.b


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_leads_back_to_x0(target, generator):
    schedule = cosine_schedule()
    x0, eps = (torch.randn(64, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.randint(1, 900, (64,), generator=generator)
    x_t = schedule.add_noise(x0, t, eps)
    assert torch.allclose(to_x0(target_of(x0, eps, t, schedule, target), x_t, t, schedule, target), x0, atol=1e-9)


def test_v_is_noise_minus_picture_along_the_arc(generator):
    """v is the derivative of x_t by the angle a, where cos a = sqrt(abar): checked by a finite difference."""
    schedule = linear_schedule()
    x0, eps = (torch.randn(1, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([300])
    a = schedule.alpha_bars[300].sqrt().arccos()
    x = lambda angle: torch.cos(angle) * x0 + torch.sin(angle) * eps  # noqa: E731
    slope = (x(a + 1e-6) - x(a - 1e-6)) / 2e-6
    assert torch.allclose(target_of(x0, eps, t, schedule, "v"), slope, atol=1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_loss_of_a_constant_network_is_the_second_moment_of_the_target(target, generator):
    """A network that says 0 has loss E[target^2]; for unit-variance data that is 1 for every target (n = 400,000)."""
    x0 = torch.randn(20_000, 20, generator=generator)
    loss = diffusion_loss(linear_schedule(), target)(Affine(), x0, generator)
    assert loss.item() == pytest.approx(1.0, abs=4 * (2 / x0.numel()) ** 0.5)


def test_loss_takes_a_bare_tensor_or_a_tuple(generator):
    x0, labels = torch.randn(8, 3, generator=generator), torch.zeros(8, dtype=torch.long)
    loss = diffusion_loss(linear_schedule())
    a, b, c = (loss(Affine(), batch, torch.Generator().manual_seed(1)) for batch in (x0, (x0,), (x0, labels)))
    assert a == b == c


def test_loss_has_a_gradient_and_repeats_with_its_generator(generator):
    network, x0 = Affine(0.1, 0.2), torch.randn(16, 3, generator=generator)
    first = diffusion_loss(cosine_schedule(), "v")(network, x0, torch.Generator().manual_seed(3))
    again = diffusion_loss(cosine_schedule(), "v")(network, x0, torch.Generator().manual_seed(3))
    other = diffusion_loss(cosine_schedule(), "v")(network, x0, torch.Generator().manual_seed(4))
    assert first == again != other
    first.backward()
    assert network.a.grad is not None


def test_logit_normal_steps_follow_their_distribution(generator):
    """Kolmogorov-Smirnov distance of 20,000 stratified draws to sigmoid(N(0, 1)); uniform draws are far away."""
    exact = torch.sigmoid(torch.special.ndtri((torch.arange(20_000) + 0.5) / 20_000))
    for weighting, near in (("logit_normal", True), ("simple", False)):
        t = stratified_steps(20_000, 1000, generator, weighting) / 1000
        assert ((t.sort().values - exact).abs().max() < 0.005) == near


def test_stratified_steps_cover_1_to_T(generator):
    t = stratified_steps(1000, 1000, generator)
    assert sorted(t.tolist()) == list(range(1, 1001))
    assert t.tolist() != sorted(t.tolist())
    few = torch.stack([stratified_steps(4, 1000, generator) for _ in range(5000)])
    standard_error = 1000 / 12**0.5 / 5000**0.5
    assert ((few.double().mean(0) - 500.5).abs() < 4 * standard_error).all()


class Narrow(nn.Module):
    def forward(self, x_t, t):
        return x_t[:, :2]


def test_unknown_choices_and_wrong_shapes_are_named(generator):
    schedule, x = linear_schedule(), torch.randn(2, 3, generator=generator)
    with pytest.raises(ValueError, match="one of eps, x0, v, got 'noise'"):
        unchecked(diffusion_loss)(schedule, "noise")
    with pytest.raises(ValueError, match="weighting must be one of"):
        unchecked(diffusion_loss)(schedule, "eps", "p2")
    with pytest.raises(ValueError, match="prediction has shape"):
        unchecked(to_x0)(x[:1], x, torch.tensor([1, 1]), schedule, "eps")
    with pytest.raises(ValueError, match="network returned shape"):
        diffusion_loss(schedule)(Narrow(), x, generator)


def test_denoiser_refuses_nan():
    denoise = denoiser(Affine(float("nan")), linear_schedule(), "eps")
    with pytest.raises(FloatingPointError, match="t = 7"):
        denoise(torch.ones(2, 3), torch.tensor([7, 7]))
