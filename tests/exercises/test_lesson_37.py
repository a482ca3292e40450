"""37.5, features to find; other right answers; and what the checkers say to answers that are wrong in form."""

import re

import pytest
import torch
import torch.nn.functional as F

from aigc_lessons.exercises import check
from aigc_lessons.exercises.lesson_37 import GOAL, score
from aigc_lessons.language.preference import dpo_loss
from aigc_lessons.language.verse import syllables
from aigc_lessons.studio import alignment
from aigc_lessons.training import budget


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


def letters(line):
    return [float(line.count(c)) for c in "abcdefghijklmnopqrstuvwxyz ,.;:'!?"]


def test_the_distance_from_ten_syllables_passes(full):
    assert not budget.is_tiny()
    result = check("37.5", lambda line: [abs(syllables(line) - 10)])
    assert result.passed, result
    assert check("37.5", lambda line: torch.tensor([float(abs(syllables(line) - 10)), 1.0])).passed


def groups_of_vowels(line):
    return len(re.findall(r"[aeiouy]+", line.lower()))


def without_silent_e(line):
    """What the second hint says, and nothing from the package."""
    words = re.findall(r"[a-z']+", line.lower())
    return [abs(sum(max(1, groups_of_vowels(word.removesuffix("e"))) for word in words) - 10)]


def test_the_hints_lead_to_the_goal(full):
    assert score(without_silent_e)[0] >= GOAL
    for peak in (10, 11, 12):
        assert score(lambda line, peak=peak: [abs(groups_of_vowels(line) - peak)])[0] < GOAL


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (letters, "hardly sees"),
        (lambda line: [abs(len(line.split()) - 8)], "It sees something"),
        (lambda line: [abs(groups_of_vowels(line) - 11)], "silent e"),
    ],
)
def test_features_that_fall_short_are_told_why(full, answer, says):
    result = check("37.5", answer)
    assert not result.passed
    assert says in result.hint


def test_letters_fall_short_by_far_however_many_are_drawn(full):
    assert max(score(letters, (1, 2, 4, 8, 16))) < GOAL - 0.05


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda line: "many", "expected a list of numbers, got str"),
        (lambda line: [], "1 to 100 finite numbers"),
        (lambda line: [float("nan")], "1 to 100 finite numbers"),
        (lambda line: [1.0] * len(line), "stack"),
        (lambda: [1.0], "cannot be called"),
        (3, "expected a function"),
    ],
)
def test_unusable_features_get_a_verdict(answer, says, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    result = check("37.5", answer)
    assert not result.passed
    assert says in result.message


@pytest.mark.parametrize("ask", [lambda verse: verse, lambda verse: verse.spelled, lambda verse: verse.strict])
def test_the_rule_is_not_to_be_asked(ask, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    rule = alignment.stage().verse
    before = rule("If music be the food of love, play on")
    result = check("37.5", lambda line: [ask(rule)(line)])
    assert not result.passed
    assert "must not be called" in result.message
    assert rule("If music be the food of love, play on") == before == 1


def loop_log_prob(logits, ids, start, stop):
    out = []
    for row, scores in zip(ids, logits.double().log_softmax(-1), strict=True):
        total = 0.0
        for t in range(start, len(row)):
            total = total + scores[t - 1, row[t]]
            if row[t] == stop:
                break
        out.append(total)
    return torch.stack(out)


def masked_nan(log_p, log_old, rewards, mask, clip):
    A = (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, correction=0, keepdim=True) + 1e-9)
    A = A.nan_to_num().reshape(-1, 1)
    rho = torch.exp(log_p - log_old)
    loss = torch.max(-rho * A, -torch.clip(rho, 1 - clip, 1 + clip) * A) * mask
    return (loss.sum(-1) / mask.sum(-1)).mean()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("37.1", loop_log_prob),
        ("37.2", lambda chosen, rejected: -F.logsigmoid(chosen - rejected).mean()),
        ("37.2", lambda chosen, rejected: torch.logaddexp(torch.zeros_like(chosen), rejected - chosen).mean().item()),
        ("37.3", dpo_loss),
        ("37.4", masked_nan),
    ],
)
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result
