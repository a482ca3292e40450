"""02.5, the network to beat; and 02.4's and 02.1's answers that are wrong in form."""

import re

import pytest
import torch
from torch import nn

from aigc_lessons.exercises import check, lesson_02


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


def waves(std, count=128, *, squash=False):
    def make():
        first = nn.Linear(2, count)
        nn.init.normal_(first.weight, std=std)
        return nn.Sequential(first, Sine(), nn.Linear(count, 1), *[nn.Tanh()] * squash)

    return make


@pytest.mark.parametrize("budget", ["full", "tiny"])
def test_a_network_that_beats_the_lesson_passes(monkeypatch, budget):
    """Five digits, or two; 300 steps each."""
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", budget)
    assert check("02.5", waves(9, 140, squash=True)).passed


def test_networks_that_do_not_are_told_why(monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    threads = torch.get_num_threads()
    for answer, says in [
        (lesson_02.Waves, "lesson's network itself"),
        (waves(30), "guesses wildly between"),
        (lambda: nn.Linear(2, 1), "Not even the seen pixels"),
        (waves(11), "On the way"),
    ]:
        result = check("02.5", answer)
        assert not result.passed
        assert says in result.hint
        assert "got " in result.message
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (waves(9, 200), "801 weights"),
        (lambda: nn.Linear(3, 1), "RuntimeError"),
        (lambda: nn.Linear(2, 2), r"gives \(784, 2\)"),
        (lambda: 3, "not a int"),
        (lambda points: points, "keep the parameters of the stub"),
        (7, "expected a function"),
    ],
)
def test_unusable_networks_get_a_verdict(answer, says):
    result = check("02.5", answer)
    assert not result.passed
    assert re.search(says, result.message)


@pytest.mark.parametrize("answer", [None, ..., lambda: None, lambda: ...])
def test_an_unsolved_network_is_not_an_error(answer):
    assert check("02.5", answer).message.startswith("Not solved yet")


def test_buffers_count_as_weights():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 1))
            self.register_buffer("known", torch.zeros(784))

        def forward(self, points):
            return points @ self.weight

    assert "786 weights" in check("02.5", Table).message


def test_an_overflow_is_named():
    result = check("02.1", lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True))
    assert "nan" in result.message
    assert "largest score" in result.hint


def test_gradients_must_be_four_and_in_shape():
    assert "return the four gradients dW1, db1, dW2, db2" in check("02.4", lambda **given: given["W1"]).message
    right = lesson_02.backward

    def turned(X, y, W1, b1, W2, b2):
        dW1, db1, dW2, db2 = right(X, y, W1, b1, W2, b2)
        return dW1.T, db1, dW2, db2

    result = check("02.4", turned)
    assert "gradient = 'dW1'" in result.message
    assert "(2, 4)" in result.hint
