"""14.3, the annealing to beat; and what the checkers of lesson 14 say to answers that are wrong in form."""

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.score import annealing
from aigc_lessons.exercises import check, lesson_14


def pieces(corners, log_snrs, sizes):
    def my_levels(N, variance):
        way = np.linspace(0, 1, N)
        abars = 1 / (1 + np.exp(-np.interp(way, corners, log_snrs)))
        return [(a, s * (a * variance + 1 - a)) for a, s in zip(abars, np.interp(way, corners, sizes), strict=True)]

    return my_levels


def test_an_annealing_that_beats_the_lessons_passes():
    result = check("14.3", pieces([0, 0.5, 0.8, 1], [-0.7, 1.5, 6, 8], [0.5, 0.45, 0.3, 0.08]))
    assert result.passed, result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lesson_14.lesson_levels, "lesson's annealing itself"),
        (lambda N, v: annealing(0.01, 0.999, N, 0.8, v), "too wide"),
        (lambda N, v: [(0.999, 0.1 * v)] * N, "shares freeze wrong"),
        (pieces([0, 1], [-0.5, 6], [0.5, 0.5]), "too wide"),
    ],
)
def test_annealings_that_do_not_are_told_why(answer, says):
    result = check("14.3", answer)
    assert not result.passed
    assert says in result.hint
    assert "got " in result.message
    assert "expected " in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda N, v: annealing(0.01, 0.999, N - 1, 0.3, v), "60 pairs (alpha_bar, h), got 59"),
        (lambda N, v: [0.5] * N, "a list of pairs"),
        (lambda N, v: [(1.5, 0.1)] * N, "alpha_bar must lie between 0 and 1"),
        (lambda N, v: [(0.5, 0.0)] * N, "h above 0"),
        (lambda N, v: [(0.5, 9.0)] * N, "flew apart"),
        (lambda N: [], "keep the parameters"),
        (torch.zeros(3), "expected a function"),
    ],
)
def test_unusable_levels_get_a_verdict(answer, says):
    result = check("14.3", answer)
    assert not result.passed
    assert says in result.message


def test_a_score_that_computes_p_fails_far_outside():
    def naive(x, weights, means, variances):
        off = means - x[:, None]
        n = weights * (-off.square().sum(-1) / (2 * variances)).exp() / variances ** (x.shape[1] / 2)
        return (n[..., None] * off / variances[:, None]).sum(1) / n.sum(1, keepdim=True)

    result = check("14.1", naive)
    assert not result.passed
    assert "softmax" in result.hint
