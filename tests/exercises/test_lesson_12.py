"""Exercises 12.4 and 12.5: models that work and models with a usual mistake, told apart; plans that are too large."""

import pytest
import torch

from aigc_lessons.diffusion.schedule import cosine_schedule, linear_schedule
from aigc_lessons.exercises import check, lesson_12
from aigc_lessons.exercises.core import noise
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
        (lambda points, n: points[:2].mean(0) + 1e-2 * noise(9, n, 2), "few parts"),
        (lambda points, n: points.mean(0) + points.std(0) * noise(10, n, 2), "plain Gaussian"),
        (blurred, "On the way"),
        (lambda points, n: points[:n, 0], "Return the points"),
        (lambda points, n: torch.full((n, 2), torch.nan), "Return the points"),
        (lambda points: points, "cannot be called"),
    ],
    ids=["noise", "no noise added", "collapsed", "one Gaussian", "blurred", "wrong shape", "not finite", "wrong parameters"],
)  # fmt: skip
def test_usual_mistakes_get_their_own_hint(model, hint):
    result = check("12.4", model)
    assert not result.passed
    assert hint in result.hint + result.message


@pytest.mark.parametrize("jitter", [0.0, 0.003])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_copies_of_the_given_points_are_no_model(share, jitter):
    def copier(points, n):
        one = torch.Generator().manual_seed(8)
        rows = torch.randint(len(points), (int(share * n),), generator=one)
        drawn = torch.cat([points[rows], perfect(points, n - len(rows))]) if share < 1 else points[rows]
        return drawn + jitter * torch.randn(n, 2, generator=one)

    result = check("12.4", copier)
    assert not result.passed
    assert "copies" in result.hint


@pytest.mark.parametrize(
    "loss",
    [
        lambda *given: lesson_12.ddpm_loss(*given).item(),
        lambda *given: lesson_12.ddpm_loss(*given).detach(),
        torch.no_grad()(lambda *given: lesson_12.ddpm_loss(*given)),
    ],
    ids=["item", "detach", "no_grad"],
)
def test_a_loss_that_cannot_be_trained_on_is_told_so(loss):
    result = check("12.1", lambda network, x0, t, eps, alpha_bars: loss(network, x0, t, eps, alpha_bars))
    assert not result.passed
    assert "backward()" in result.message
    assert "trained" in result.hint


def test_only_a_missing_axis_is_called_a_missing_axis():
    def flat(network, x0, t, eps, alpha_bars):
        abar = alpha_bars[t]
        return (network(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, t) - eps).square().mean()

    assert "second axis" in check("12.1", flat).hint
    assert "second axis" not in check("12.1", lambda network, x0, t, eps, alpha_bars: x0.mean()).hint


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
    as_x0 = TrainConfig(steps=800, lr=0.03, warmup=50, decay=0.9, optimizer="adamw", ema=0.95)
    sharp = check("12.5", lambda: (MLP(width=64), "x0", linear_schedule(200, 5e-4, 0.1), as_x0))
    assert not sharp.passed
    assert "not the same distribution" in sharp.hint
    better = TrainConfig(steps=800, lr=0.03, warmup=50, decay=0.9, optimizer="muon", ema=0.95)
    assert check("12.5", lambda: (MLP(width=64), "eps", cosine_schedule(200), better)).passed


def test_a_plan_of_the_wrong_form_says_what_to_return():
    assert "Return four things" in check("12.5", lambda: 3).hint
