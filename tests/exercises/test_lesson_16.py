"""16.4, the scale to beat; and what the checkers of lesson 16 say to answers that are right or wrong in form."""

from itertools import pairwise

import pytest
import torch

from aigc_lessons.exercises import check, lesson_16


def test_other_ways_to_write_it_are_right():
    def by_precision(mean_y, var_y, mean_n, var_n, scale):
        P = 1 / var_n + scale * (1 / var_y - 1 / var_n)
        mean = (mean_n / var_n + scale * (mean_y / var_y - mean_n / var_n)) / P
        return torch.cat([mean[None], (1 / P)[None]])

    def by_numbers(v_y, v_n, scale, low, high):
        from scipy.integrate import quad

        gain = sum(quad(lambda s: 1 / (v_y + s) - 1 / (v_n + s), a, b)[0] for a, b in pieces(low, high))
        return torch.tensor(v_y).double() * torch.tensor((1 - scale) * gain).double().exp()

    def pieces(low, high):
        marks = [low, *(m for m in (1.0, 10.0, 100.0, 1e4) if low < m < high), high]
        return list(pairwise(marks))

    assert check("16.1", lambda x0, gradient, abar, scale: x0 + gradient * scale * (abar**-0.5 - abar**0.5)).passed
    assert check("16.2", by_precision).passed
    assert check("16.3", by_numbers).passed


def test_a_scale_that_beats_the_lesson_passes_and_others_are_told_why():
    """On the shipped network."""
    result = check("16.4", lambda t: 3.0 if 800 <= t <= 900 else 1.0)
    assert result.passed, result.message
    for answer, says in [(lambda t: 1.0, "Too many poor digits"), (lambda t: 2.0, "The same scale at every step"),
                         (lambda t: 4.0 if t > 800 else 1.0, "the very first step")]:  # fmt: skip
        result = check("16.4", answer)
        assert not result.passed
        assert says in result.hint, result.message
        assert "got " in result.message
        assert "expected " in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda t: None, "returned None"),
        (lambda t: "two", "must be a number from 0 to 20, got 'two'"),
        (lambda t: -1.0, "must be a number from 0 to 20, got -1.0"),
        (lambda t: 25, "got 25"),
        (lambda t: True, "got True"),
        (lambda: 2.0, "keep the parameters"),
        (2.0, "expected a function"),
    ],
)
def test_unusable_scales_get_a_verdict(answer, says):
    result = check("16.4", answer)
    assert not result.passed
    assert says in result.message or "Not solved" in result.message


def test_a_scale_is_asked_for_at_every_step():
    asked = []

    def my_scale(t):
        asked.append(t)
        return torch.tensor(1.5)

    said = lesson_16.scales(my_scale)
    assert asked == [1000, 875, 750, 625, 500, 375, 250, 125]
    assert set(said.values()) == {1.5}


def test_a_quick_run_draws_a_few_digits_and_judges_none(monkeypatch):
    """AIGC_LESSONS_BUDGET=tiny tests the form of an answer, and no more."""
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    drawn, score = [], lesson_16.score
    monkeypatch.setattr(lesson_16, "score", lambda said, n, *seed: drawn.append(n) or score(said, n, *seed))
    lesson_16.constant_score.cache_clear()
    assert check("16.4", lambda t: 1.0).passed
    assert drawn == [50, 50]
    assert not check("16.4", lambda t: -1.0).passed
