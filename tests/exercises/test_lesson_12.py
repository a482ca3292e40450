"""Exercises 12.4 and 12.5: models that work and models with a usual mistake, told apart; plans that are too large."""

import pytest
import torch

from aigc_lessons.diffusion.schedule import cosine_schedule, linear_schedule
from aigc_lessons.exercises import check, lesson_12
from aigc_lessons.models.mlp import MLP
from aigc_lessons.training.loop import TrainConfig

DATA = lesson_12.hidden_mixture()


def perfect(points, n):
    return DATA.draw(n, torch.Generator().manual_seed(5))[0]


def blurred(points, n):
    return perfect(points, n) + 0.4 * torch.randn(n, 2, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def one_thread():
    """As the lesson runs: for matrices as small as these a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_points_of_the_same_figure_pass_in_full():
    result = check("12.4", perfect)
    assert result.passed
    assert "5 of 5" in result.message


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        (lambda points, n: torch.randn(n, 2, generator=torch.Generator().manual_seed(6)), "still noise"),
        (lambda points, n: DATA.means[torch.arange(n) % 5].float() + 1e-3 * torch.arange(n)[:, None] / n, "densest"),
        (blurred, "On the way"),
        (lambda points, n: points[:n, 0], "Return the points"),
        (lambda points, n: torch.full((n, 2), torch.nan), "Return the points"),
        (lambda points: points, "cannot be called"),
    ],
    ids=["noise", "no noise added", "blurred", "wrong shape", "not finite", "wrong parameters"],
)  # fmt: skip
def test_usual_mistakes_get_their_own_hint(model, hint):
    result = check("12.4", model)
    assert not result.passed
    assert hint in result.hint + result.message


def test_copies_of_the_learners_own_points_are_points_of_the_figure():
    """Handing back what one was given is a working model of these points, and the lesson does not ask for more."""
    assert check("12.4", lambda points, n: points[:n]).passed


def plan(steps=800, width=64, T=200):
    return MLP(width=width), "eps", cosine_schedule(T), TrainConfig(steps=steps, lr=0.03, optimizer="muon")


@pytest.mark.parametrize("large", [{"steps": 801}, {"width": 128}, {"T": 201}], ids=str)
def test_a_plan_beyond_the_effort_is_not_trained(large):
    result = check("12.5", lambda: plan(**large))
    assert not result.passed
    assert "Nothing was trained" in result.hint


def test_the_lessons_own_plan_is_not_good_enough_and_a_better_one_is(monkeypatch, one_thread):
    """On one seed, in full: the recipe of section 5 fails, cosine steps and Muon pass."""
    monkeypatch.setattr(lesson_12, "SEEDS", (0,))
    training = TrainConfig(steps=800, lr=0.01, warmup=50, decay=0.9, optimizer="adamw", ema=0.95)
    as_shown = check("12.5", lambda: (MLP(width=64), "eps", linear_schedule(200, 5e-4, 0.1), training))
    assert not as_shown.passed
    assert "noise levels" in as_shown.hint
    better = TrainConfig(steps=800, lr=0.03, warmup=50, decay=0.9, optimizer="muon", ema=0.95)
    assert check("12.5", lambda: (MLP(width=64), "eps", cosine_schedule(200), better)).passed


def test_a_plan_of_the_wrong_form_says_what_to_return():
    assert "Return four things" in check("12.5", lambda: 3).hint
