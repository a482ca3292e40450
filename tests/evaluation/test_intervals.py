"""Intervals: their coverage by simulation, closed forms, scipy."""

import math

import pytest
import torch
from scipy import stats

from aigc_lessons.evaluation import intervals
from aigc_lessons.evaluation.intervals import mcnemar, paired_interval, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 7), (1, 1), (870, 1000), (0, 1)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_wilson_is_scipys(right, n, confidence):
    theirs = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    ours = wilson(right, n, confidence)
    assert (ours.value, ours.low, ours.high) == pytest.approx((right / n, theirs.low, theirs.high), abs=1e-12)


def test_the_ends_are_where_the_share_becomes_surprising():
    found = wilson(17, 20)
    for p in (found.low, found.high):
        assert abs(17 / 20 - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / 20), rel=1e-5)


@pytest.mark.parametrize(("n", "p"), [(20, 0.95), (30, 0.5), (100, 0.02)])
def test_coverage(n, p):
    """Exact: the probability, summed over all outcomes, that the interval holds p. Wald's falls far below near 0 and 1."""
    mass = [stats.binom.pmf(k, n, p) for k in range(n + 1)]
    covered = sum(m for k, m in enumerate(mass) if wilson(k, n).low <= p <= wilson(k, n).high)
    assert 0.91 < covered < 0.99
    if p != 0.5:
        half = [1.96 * math.sqrt(k / n * (1 - k / n) / n) for k in range(n + 1)]
        assert sum(m for k, m in enumerate(mass) if abs(k / n - p) <= half[k]) < 0.9


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 1), (30, 17), (4, 4), (0, 9)])
def test_mcnemar_is_the_binomial_test(b, c):
    first = torch.tensor([True] * b + [False] * c + [True] * 20 + [False] * 8)
    second = torch.tensor([False] * b + [True] * c + [True] * 20 + [False] * 8)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)


def test_the_bootstrap_covers_and_narrows(generator):
    """200 samples of 60 normal differences: the interval covers the mean in 95 % of them, within four standard errors."""
    covered, n = 0, 200
    for _ in range(n):
        found = paired_interval(torch.randn(60, generator=generator) + 0.3, generator, draws=400)
        covered += found.low <= 0.3 <= found.high
    assert abs(covered / n - 0.95) < 4 * math.sqrt(0.95 * 0.05 / n) + 0.01  # the bootstrap is a little narrow at 60
    wide = paired_interval(torch.randn(50, generator=generator), generator)
    narrow = paired_interval(torch.randn(5000, generator=generator), generator)
    assert narrow.high - narrow.low < 0.2 * (wide.high - wide.low)


def test_it_prints_itself():
    assert str(wilson(9, 10)) == "90.0 % (59.6 to 98.2)"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wilson(1, 0), "got 1 of 0"),
        (lambda: wilson(5, 4), "got 5 of 4"),
        (lambda: wilson(-1, 4), "got -1 of 4"),
        (lambda: wilson(1, 4, 1.0), "between 0 and 1, got 1.0"),
        (lambda: paired_interval(torch.ones(1), torch.Generator()), "at least two stretches, got 1"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_planted_mistakes_are_caught(monkeypatch):
    class Half:
        def inv_cdf(self, p):
            return stats.norm.ppf(2 * p - 1)  # one-sided

    monkeypatch.setattr(intervals, "NormalDist", Half)
    with pytest.raises(AssertionError):
        test_wilson_is_scipys(3, 7, 0.95)
