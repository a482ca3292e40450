"""What the forward process does to data, against simulations and torch's own formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lessons.data import digits
from aigc_lessons.diffusion import forward
from aigc_lessons.diffusion.schedule import linear_schedule
from aigc_lessons.exercises import lesson_10


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    """Facts that resemble the digits': their bands, and two values of a pixel."""
    levels, shares = torch.tensor([-1.0, 1.0]).double(), torch.tensor([0.87, 0.13]).double()
    return forward.Facts(torch.tensor(lesson_10.DIGITS).double(), torch.tensor(lesson_10.COUNT), levels, shares)


def test_noise_is_flat_and_powers_add_up_to_the_variance():
    x = noise(0, 4000, 1, 12, 12)
    power, count = forward.band_power(x)
    assert int(count.sum()) == 144
    assert torch.isclose((count * power).sum() / 144, x.var(dim=0, correction=0).mean())
    # a mean square of 4000 n_k normal numbers, half of them mirrored, scatters by about sqrt(4 / (4000 n_k))
    assert ((power - 1).abs() < 5 * (4 / (4000 * count)).sqrt()).all()


def test_a_wave_lies_in_its_own_band():
    phase = 2 * math.pi * torch.rand(50, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    column = torch.arange(16) / 16
    for k in (2, 5, 7):
        power, count = forward.band_power((2 * math.pi * k * column + phase).cos().expand(50, 1, 16, 16))
        energy = power * count
        assert energy[k] > 0.99 * energy.sum()


def test_band_power_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="got 3 of 4 x 5"):
        forward.band_power(torch.zeros(3, 1, 4, 5))
    with pytest.raises(ValueError, match="at least two"):
        forward.band_power(torch.zeros(1, 1, 4, 4))


def test_what_is_recoverable_is_what_regression_recovers():
    """n = 200,000 draws of three independent coefficients; the best factor found by least squares; 1 % tolerance."""
    power, count = torch.tensor([4.0, 0.5, 0.02]).double(), torch.tensor([1, 1, 1])
    y = noise(0, 200_000, 3) * power.sqrt()
    for abar in (0.95, 0.5, 0.1):
        z = abar**0.5 * y + (1 - abar) ** 0.5 * noise(1, 200_000, 3)
        g = (y * z).sum(0) / (z * z).sum(0)
        explained = 1 - (y - g * z).square().sum() / y.square().sum()
        R = forward.recoverable(torch.tensor([abar]), power, count).item()
        assert pytest.approx(explained.item(), abs=0.01) == R
        for below in (abar * power + 1, abar**0.5 * power + 1 - abar):  # planted: the noise of the end; a root too many
            planted = (abar * power / below * power).sum() / power.sum()
            assert abs(planted - explained) > 0.01


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e2), min_size=1, max_size=6), st.integers(0, 10**6))
def test_recoverable_falls_from_one_to_zero(powers, seed):
    abar = (
        torch.cat([torch.rand(20, generator=torch.Generator().manual_seed(seed)), torch.tensor([0.0, 1.0])])
        .double()
        .sort()
        .values
    )
    R = forward.recoverable(abar, torch.tensor(powers).double(), torch.ones(len(powers), dtype=torch.int64))
    assert R[0] == 0
    assert R[-1] == pytest.approx(1)
    assert (R.diff() >= 0).all()


def test_kl_is_torchs():
    normal, x0 = torch.distributions.Normal, 0.3 + noise(0, 500)
    for abar in (0.9, 0.3, 1e-3, 1e-6):
        q = normal(abar**0.5 * x0, (1 - abar) ** 0.5)
        expected = torch.distributions.kl_divergence(q, normal(0.0, 1.0)).mean()
        got = forward.kl_to_noise(torch.tensor(abar), x0.square().mean().item())
        assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_histogram_is_the_one_that_would_be_counted():
    """n = 400,000 pixels; a bin's share p scatters by sqrt(p / n)."""
    n, levels, shares = 400_000, torch.tensor([-1.0, 0.2, 1.0]), torch.tensor([0.7, 0.1, 0.2])
    x0 = levels[torch.multinomial(shares, n, replacement=True, generator=torch.Generator().manual_seed(0))]
    for abar in (0.99, 0.4, 0.01):
        x = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise(1, n)
        counted = torch.histogram(x.double(), forward.EDGES).hist / n
        exact = forward.pixel_histogram(levels, shares, abar)
        assert ((counted - exact).abs() < 5 * (exact / n).sqrt() + 1e-5).all()
        planted = forward.pixel_histogram(levels, shares, abar**0.5)  # a root forgotten
        assert not ((counted - planted).abs() < 5 * (exact / n).sqrt() + 1e-5).all()
    clean = forward.pixel_histogram(levels + 0.02, shares, 1.0)  # away from the edges of bins
    assert clean[clean > 1e-9].tolist() == pytest.approx([0.7, 0.1, 0.2])


def test_the_distance_to_the_normal_has_its_meaning():
    normal = torch.special.ndtr(forward.EDGES).diff()
    assert forward.distance_to_normal(normal) == pytest.approx(0, abs=1e-12)
    assert forward.distance_to_normal(torch.zeros_like(normal)) == pytest.approx(normal.sum().item())
    shifted = forward.pixel_histogram(torch.ones(1), torch.ones(1), 0.5)  # N(0.707, 0.5)
    x = np.linspace(-9, 9, 200_001)
    p = np.exp(-((x - 0.5**0.5) ** 2)) / math.pi**0.5
    q = np.exp(-(x**2) / 2) / (2 * math.pi) ** 0.5
    assert forward.distance_to_normal(shifted) == pytest.approx(np.abs(p - q).sum() * (x[1] - x[0]) / 2, abs=2e-3)


def test_facts_count_grey_values():
    images = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    seen = forward.facts(images)
    assert seen.mean == pytest.approx(0.5)
    assert seen.mean_square == pytest.approx(1.0)
    assert (seen.shares[0].item(), seen.shares[255].item()) == (0.25, 0.75)


def test_curves_agree_with_a_slow_second_computation(data):
    schedule = linear_schedule()
    seen = forward.curves(schedule, data)
    P, n = data.power.tolist(), data.count.tolist()

    def R(abar):
        return sum(c * p * abar * p / (abar * p + 1 - abar) for p, c in zip(P, n, strict=True)) / sum(
            c * p for p, c in zip(P, n, strict=True)
        )

    work = [1000 * (R(schedule.alpha_bars[t - 1].item()) - R(schedule.alpha_bars[t].item())) for t in range(1, 1001)]
    assert seen.work.tolist() == pytest.approx(work, abs=1e-9)
    assert seen.work.mean().item() == pytest.approx(1, abs=1e-3)
    assert (seen.early, seen.late) == (0, sum(w < 0.1 for w in work))
    assert seen.largest == 1 + work.index(max(work))
    assert (seen.signal**2 + seen.noise**2).tolist() == pytest.approx([1] * 1001)
    assert seen.mean == pytest.approx(schedule.alpha_bars[-1].item() ** 0.5 * -0.74)


def test_the_exercise_has_the_digits_bands():
    train, _ = digits.load(stand_in=True)
    if not train.source.startswith("MNIST"):
        pytest.skip("the real digits are not here")
    power, count = forward.band_power(train.images)
    assert count.tolist() == lesson_10.COUNT
    assert power.tolist() == pytest.approx(lesson_10.DIGITS, rel=0.04)
