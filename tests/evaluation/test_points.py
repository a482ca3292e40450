"""Judging points in the plane: against closed forms, and shown able to tell wrong from right."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from strict_typing import unchecked

from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.evaluation.points import energy_distance, landing, mmd, sliced_wasserstein


def test_energy_distance_of_two_normals_is_the_closed_form(generator):
    """E|X| of N(m, s^2) in one dimension is known; n = 4,000 each; the estimate's scatter is about 0.03."""
    a = torch.randn(4000, 1, generator=generator)
    b = 1 + torch.randn(4000, 1, generator=generator)
    s = math.sqrt(2)
    across = s * math.sqrt(2 / math.pi) * math.exp(-1 / (2 * s * s)) + math.erf(1 / (s * math.sqrt(2)))
    within = s * math.sqrt(2 / math.pi)
    assert abs(energy_distance(a, b) - (2 * across - 2 * within)) < 0.06


def test_energy_distance_has_no_bias_and_notices_a_shift(generator):
    """Mean of 100 pairs of clouds of 50 within 4 standard errors of 0; the biased form (all pairs) is far off."""
    clouds = torch.randn(200, 50, 2, generator=generator)
    same = torch.tensor([energy_distance(a, b) for a, b in clouds.unflatten(0, (100, 2))])
    assert abs(same.mean()) < 4 * same.std() / 10
    biased = torch.tensor(
        [(2 * torch.cdist(a, b) - torch.cdist(a, a) - torch.cdist(b, b)).mean() for a, b in clouds.unflatten(0, (100, 2))]
    )
    assert biased.mean() > 4 * biased.std() / 10
    assert energy_distance(clouds[0], clouds[1] + 0.8) > same.max()
    with pytest.raises(ValueError, match="at least two points, got 1 and 50"):
        energy_distance(clouds[0, :1], clouds[1])


def test_real_points_land_and_reach_everything(generator):
    """The share off is that of the tail, 1 % (n = 20,000, within 4 standard errors)."""
    x, _ = ring().draw(20_000, generator)
    off, reached = landing(ring(), x)
    assert abs(off - 200) < 4 * math.sqrt(200)
    assert reached == 8


def test_points_elsewhere_do_not_count(generator):
    mixture = ring()
    x, k = mixture.draw(2000, generator)
    assert landing(mixture, x[k != 3])[1] == 7
    assert landing(mixture, torch.zeros(5, 2)) == (5, 0)
    assert landing(mixture, mixture.means[:2].float()) == (0, 2)


def test_sliced_wasserstein_is_scipys_along_every_direction(generator):
    """scipy's Wasserstein-1 of each projection, with the same directions; n = 300."""
    a, b = torch.randn(300, 2, generator=generator), 0.5 * torch.randn(300, 2, generator=generator) + 1
    u = torch.randn(2, 50, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    u = u / u.norm(dim=0)
    each = [wasserstein_distance((a.double() @ u[:, k]).numpy(), (b.double() @ u[:, k]).numpy()) for k in range(50)]
    found = sliced_wasserstein(a, b, torch.Generator().manual_seed(4), directions=50)
    assert found == pytest.approx(sum(each) / 50, abs=1e-9)
    unsorted = ((a.double() @ u) - (b.double() @ u)).abs().mean().item()
    assert abs(unsorted - found) > 0.1, "without sorting it would be something else"


def test_sliced_wasserstein_of_a_shift_is_its_length_times_two_over_pi(generator):
    """Mean of |cos| over all directions of the plane; 20,000 directions, 4 standard errors of 0.308 / sqrt(n)."""
    a = torch.randn(50, 2, generator=generator)
    found = sliced_wasserstein(a, a + torch.tensor([3.0, 4.0]), generator, directions=20_000)
    assert abs(found / 5 - 2 / math.pi) < 4 * 0.308 / 20_000**0.5
    assert sliced_wasserstein(a, a.flip(0), generator) < 1e-12
    with pytest.raises(ValueError, match="one shape"):
        unchecked(sliced_wasserstein)(a, a[:3], generator)


def test_mmd_of_two_normals_is_the_closed_form(generator):
    """E k = (h^2 / (h^2 + 2))^(D/2) exp(-|m|^2 / (2 (h^2 + 2))) for unit normals; 60 pairs of 300, 4 standard errors."""
    h, m = 0.8, 1.0
    same = h**2 / (h**2 + 2)
    wanted = 2 * same - 2 * same * math.exp(-(m**2) / (2 * (h**2 + 2)))
    a, b = torch.randn(2, 60, 300, 2, generator=generator)
    shift = torch.tensor([m, 0.0])
    found = torch.tensor([mmd(x, y + shift, h) for x, y in zip(a, b, strict=True)])
    error = found.std() / 60**0.5
    assert abs(found.mean() - wanted) < 4 * error
    none = torch.tensor([mmd(x, y, h) for x, y in zip(a, b, strict=True)])
    assert abs(none.mean()) < 4 * none.std() / 60**0.5
    biased = torch.tensor([sum(_all_pairs(x, x, h) for x in xy) - 2 * _all_pairs(*xy, h) for xy in zip(a, b, strict=True)])
    assert biased.mean() > 4 * biased.std() / 60**0.5, "with each point paired with itself it is never 0"
    with pytest.raises(ValueError, match="width must be above 0"):
        mmd(a[0], b[0], 0.0)


def _all_pairs(x, y, h):
    return (-(torch.cdist(x, y) ** 2) / (2 * h**2)).exp().mean().item()
