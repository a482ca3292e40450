"""17.5, the solver to beat; and what the checkers of lesson 17 say to answers that are wrong in form."""

from itertools import pairwise

import pytest
import torch

from aigc_lessons.diffusion.flow import integrate
from aigc_lessons.diffusion.samplers import final
from aigc_lessons.exercises import check, lesson_17


def adams(velocity, x):
    """Adams and Bashforth's second method on even times: each step uses the slope before it."""
    before, h = None, -1 / lesson_17.CALLS
    for k in range(lesson_17.CALLS):
        here = velocity(x, torch.full((len(x),), 1 + k * h, dtype=x.dtype))
        x = x + h * (here if before is None else 1.5 * here - 0.5 * before)
        before = here
    return x


def test_a_solver_that_beats_the_lessons_passes():
    result = check("17.5", adams)
    assert result.passed, result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lesson_17.lesson_solver, "lesson's solver itself"),
        (lambda velocity, x_1: final(integrate(velocity, x_1, steps=6)), "lesson's solver itself"),
        (lambda velocity, x_1: final(integrate(velocity, x_1, times=[1, 0.5, 0.2, 0.0])), "Where do the paths bend"),
        (lambda velocity, x_1: 0 * x_1, "Where do the paths bend"),
    ],
)
def test_solvers_that_do_not_are_told_why(answer, says):
    result = check("17.5", answer)
    assert not result.passed
    assert says in result.hint
    assert "got " in result.message
    assert "expected " in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda velocity, x_1: final(integrate(velocity, x_1, steps=7)), "more than 6 calls"),
        (lambda velocity, x_1: x_1[:3], "a tensor of shape (200, 2)"),
        (lambda velocity, x_1: x_1 / 0, "not finite"),
        (lambda velocity: 0, "keep the parameters"),
        (torch.zeros(3), "expected a function"),
    ],
)
def test_unusable_solvers_get_a_verdict(answer, says):
    result = check("17.5", answer)
    assert not result.passed
    assert says in result.message


def test_other_ways_to_write_a_right_answer_pass():
    def by_hand(network, x0, eps, t):  # the loss with a sum and a division, and t with its own axis
        x_t = torch.einsum("b,bd->bd", 1 - t, x0) + torch.einsum("b,bd->bd", t, eps)
        return ((network(x_t, t) + x0 - eps) ** 2).sum() / x0.numel()

    def short(network, x, t, alpha_bars):  # (a + b) v + (b^2 - a^2) x
        a, b = alpha_bars[t].sqrt()[:, None], (1 - alpha_bars[t]).sqrt()[:, None]
        return (a + b) * network((a + b) * x, t) + (b**2 - a**2) * x

    def by_loop(velocity, x, times):  # one time for all rows, as a number with no axis
        for t, s in pairwise(times):
            one = velocity(x, torch.tensor(t))
            two = velocity(x + (s - t) * one, torch.tensor(s))
            x = x + (s - t) * (one + two) / 2
        return x

    def safe(x, t, points):  # log-sum-exp by hand
        e = -torch.cdist(x, (1 - t) * points).square() / (2 * t * t)
        w = (e - e.amax(1, keepdim=True)).exp()
        return (x - (w / w.sum(1, keepdim=True)) @ points) / t

    for name, answer in (("17.1", by_hand), ("17.2", by_loop), ("17.3", short), ("17.4", safe)):
        result = check(name, answer)
        assert result.passed, result


def test_weights_that_round_to_zero_fail_near_the_data():
    def naive(x, t, points):
        w = (-(x[:, None] - (1 - t) * points).square().sum(-1) / (2 * t**2)).exp()
        return (x - w @ points / w.sum(1, keepdim=True)) / t

    result = check("17.4", naive)
    assert not result.passed
    assert "softmax" in result.hint
