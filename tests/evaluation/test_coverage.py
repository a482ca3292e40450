"""Density and coverage: against a slow count, against what is known of equal distributions, and where they must differ."""

import pytest
import torch
from strict_typing import unchecked

from aigc_lessons.evaluation.coverage import density_coverage


def cloud(n, seed, shift=0.0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) + shift


def test_it_counts_what_it_says():
    samples, real, k = cloud(40, 0), cloud(30, 1), 4
    held = torch.zeros(30, 40, dtype=torch.bool)
    for j in range(30):
        others = sorted((real[j] - real[m]).norm().item() for m in range(30) if m != j)
        for i in range(40):
            held[j, i] = (real[j] - samples[i]).norm().item() <= others[k - 1]
    found = density_coverage(samples, real, k)
    assert found.density == pytest.approx(held.sum().item() / (k * 40))
    assert found.coverage == pytest.approx(held.any(1).double().mean().item())


def test_equal_distributions_have_density_one_and_the_coverage_of_the_paper():
    """E[coverage] = 1 - (N-1)...(N-k) / ((2N-1)...(2N-k)): 0.969 for N = 400, k = 5; ten pairs of clouds."""
    pairs = [density_coverage(cloud(400, 2 * s), cloud(400, 2 * s + 1)) for s in range(10)]
    density = torch.tensor([p.density for p in pairs])
    coverage = torch.tensor([p.coverage for p in pairs])
    expected = 1.0
    for j in range(1, 6):
        expected *= (400 - j) / (800 - j)
    for values, wanted in ((density, 1.0), (coverage, 1 - expected)):
        assert abs(values.mean() - wanted) < 4 * values.std() / 10**0.5


def test_they_tell_lost_diversity_from_lost_fidelity():
    real, one_place = cloud(400, 0), 0.05 * cloud(400, 1)
    narrow, wide = density_coverage(one_place, real), density_coverage(4 * cloud(400, 2), real)
    assert narrow.density > 0.8
    assert narrow.coverage < 0.1
    assert wide.density < 0.4
    assert wide.coverage < 0.5 < 0.9 < density_coverage(cloud(400, 2), real).coverage


@pytest.mark.parametrize(
    ("samples", "real", "k", "says"),
    [
        (cloud(5, 0), cloud(5, 1)[:, :2], 2, "equal length"),
        (cloud(0, 0), cloud(5, 1), 2, "equal length"),
        (cloud(5, 0), cloud(5, 1), 5, "between 1 and 4"),
        (cloud(5, 0), cloud(5, 1), 0, "between 1 and 4"),
    ],
)
def test_bad_input_is_named(samples, real, k, says):
    with pytest.raises(ValueError, match=says):
        unchecked(density_coverage)(samples, real, k)
