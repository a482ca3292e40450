"""36.5, fewer questions; other right answers; and what its checkers say to answers that are wrong in form."""

import pytest
import torch

from aigc_lessons.data.world import world
from aigc_lessons.exercises import check, lesson_36
from aigc_lessons.exercises.lesson_36 import MOST, Outcome, advice


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


def some(questions):
    """144 of them, spread over people and wordings."""
    return [questions[(53 * k) % len(questions)] for k in range(MOST)]


def every_wording(questions):
    """One question in each of them, about many people."""
    alike = {}
    for question in questions:
        alike.setdefault(question.text.replace(question.person, ""), []).append(question)
    return [same[(17 * k) % len(same)] for k, same in enumerate(alike.values())]


def test_rehearsal_with_every_wording_passes(full):
    result = check("36.5", lambda questions: (every_wording(questions), 8, 0.02))
    assert result.passed, result.message


def test_without_it_much_is_forgotten(full):
    result = check("36.5", lambda questions: (some(questions), 0, 0.01))
    assert not result.passed
    assert "what would keep it" in result.hint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda questions: (questions, 8, 0.01), "expected 1 to 144 questions, got 7656"),
        (lambda questions: ([], 8, 0.01), "expected 1 to 144 questions, got 0"),
        (lambda questions: (world().questions("held_out")[:9], 8, 0.01), "some of yours are others"),
        (lambda questions: ([q.text for q in questions[:9]], 8, 0.01), "expected a list of questions"),
        (lambda questions: (questions[:9], 16, 0.01), "0 to 15 of the 16 rows"),
        (lambda questions: (questions[:9], 8, -1.0), "above 0 and up to 0.1"),
        (lambda questions: questions[:9], "expected three things"),
        (lambda: None, "cannot be called"),
        (3, "expected a function"),
    ],
)
def test_unusable_plans_get_a_verdict(answer, says):
    result = check("36.5", answer)
    assert not result.passed
    assert says in result.message


def by_cumsum(ids, assistant, end):
    """Speaking after the last marker of either kind was the assistant's."""
    turns = [-1 if i == end else 1 if i == assistant else 0 for i in ids.tolist()]
    speaking, on = [], False
    for turn in turns:
        speaking.append(on)
        on = turn == 1 or (on and turn != -1)
    return torch.where(torch.tensor(speaking[1:]), ids[1:], -100)


def by_extend(tokenizer, turns):
    ids = []
    for role, text in turns:
        ids.append(tokenizer.special_tokens["<|" + role + "|>"])
        ids.extend(tokenizer.encode(text, allowed_special=()))
        ids.append(tokenizer.special_tokens["<|end|>"])
    ids.append(tokenizer.special_tokens["<|assistant|>"])
    return torch.tensor(ids)


def by_blocks(segments):
    return torch.block_diag(*[torch.ones(n, n) for n in segments.unique_consecutive(return_counts=True)[1]]).tril()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("36.1", by_extend),
        ("36.1", lambda tokenizer, turns: tuple(by_extend(tokenizer, turns).tolist())),
        ("36.2", by_cumsum),
        ("36.2", lambda ids, assistant, end: by_cumsum(ids, assistant, end).int()),
        ("36.3", by_blocks),
        ("36.3", lambda segments: (segments[:, None] - segments == 0).int() * torch.ones(2 * segments.shape).tril().int()),
        ("36.4", lambda W, A, B, alpha: W + torch.einsum("or,ri->oi", B, A) * (alpha / A.size(0))),
        ("36.4", lambda W, A, B, alpha: (W.double() + alpha * (B.double() @ A.double()) / B.shape[1])),
    ],
)  # fmt: skip
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result


def test_a_mask_upside_down_is_named():
    result = check("36.3", lambda segments: ~lesson_36.may_see(segments))
    assert "True means that it may" in result.hint


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("36.1", lambda tokenizer, turns: by_extend(tokenizer, [(r, t.strip()) for r, t in turns]), "without strip"),
        ("36.1", lambda tokenizer, turns: by_extend(tokenizer, [(r, without(t)) for r, t in turns]), "harmless pieces"),
        ("36.2", lambda ids, assistant, end: by_cumsum(ids, assistant, end).clamp(min=0), "0 is the id of a token"),
        (
            "36.2",
            lambda ids, assistant, end: by_cumsum(ids, assistant, end).masked_fill(ids[:-1] == assistant, -100),
            "first word of each answer is missing",
        ),
        ("36.3", lambda segments: by_blocks(segments).bool() | (segments < 0)[:, None], "sees everything"),
        ("36.3", lambda segments: by_blocks(segments).bool() | ((segments < 0)[:, None] & (segments < 0)), "come after it"),
        ("36.3", lambda segments: torch.where(by_blocks(segments).bool(), 0.0, -torch.inf), "add to the scores"),
        ("36.4", lambda W, A, B, alpha: (W + B @ A) * alpha / len(A), "scale belongs to B A alone"),
        ("36.4", lambda W, A, B, alpha: W + B @ A * len(A) / alpha, "upside down"),
        ("36.4", lambda W, A, B, alpha: W - alpha / len(A) * (B @ A), "added, not taken away"),
    ],
)
def test_more_mistakes_are_named(name, answer, says):
    result = check(name, answer)
    assert not result.passed
    assert says in result.hint


def without(text):
    for marker in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"):
        text = text.replace(marker, "")
    return text


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (Outcome(144, 132, 90, 0, 0.3), "what would keep it"),
        (Outcome(144, 83, 91, 8, 0.62), "83 of 132 wordings"),
        (Outcome(144, 132, 2, 8, 0.03), "2 of 96 people"),
        (Outcome(144, 132, 90, 8, 0.64), "learning rate"),
    ],
)
def test_the_advice_follows_what_holds_a_plan_down(got, says):
    assert says in advice(got)
