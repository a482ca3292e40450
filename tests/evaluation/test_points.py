"""Judging points in the plane: against closed forms, and shown able to tell wrong from right."""

import math

import pytest
import torch

from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.evaluation.points import energy_distance, landing


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
