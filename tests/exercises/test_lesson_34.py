"""34.6, the filter to beat; other right answers; and what its checkers say to answers that are wrong in form."""

import pytest
import torch

from aigc_lessons.exercises import check
from aigc_lessons.language.generation import filter_logits


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


def test_heat_with_a_cut_passes(full):
    result = check("34.6", lambda logits: filter_logits(logits, 1.1, min_p=0.12))
    assert result.passed, result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda logits: filter_logits(logits, 0.8), "tail is not cut"),
        (lambda logits: filter_logits(logits, 0.5), "resemble one another"),
    ],
)
def test_filters_that_fall_short_are_told_why(full, answer, says):
    result = check("34.6", answer)
    assert not result.passed
    assert says in result.hint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda logits: logits[0], "expected logits of shape"),
        (lambda logits: logits.softmax(-1).log() * float("nan"), "expected finite logits"),
        (lambda logits: torch.full_like(logits, -torch.inf), "at least one finite"),
        (lambda: None, "cannot be called"),
        (3, "expected a function"),
    ],
)
def test_unusable_filters_get_a_verdict(answer, says):
    result = check("34.6", answer)
    assert not result.passed
    assert says in result.message


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("34.1", lambda p, T: (p.log() / T).softmax(-1)),
        ("34.1", lambda p, T: torch.pow(p.float(), 1 / T) / torch.pow(p.float(), 1 / T).sum()),
        ("34.2", lambda p, mass: filter_logits(p.log()[None], top_p=mass)[0].softmax(-1)),
        ("34.3", lambda z, seen, theta: torch.where(torch.isin(torch.arange(len(z)), seen), z * theta ** -z.sign(), z)),
        ("34.5", lambda p, q: torch.where((p == q).all(-1, keepdim=True), p, (p - q).relu() / (p - q).relu().sum(-1, True))),
    ],
)
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result


def test_one_row_by_sdpa_is_right():
    def sdpa(x, Wq, Wk, Wv, K, V):
        K, V = torch.cat([(x @ Wk)[None], K]), torch.cat([(x @ Wv)[None], V])  # in whatever order
        return torch.nn.functional.scaled_dot_product_attention((x @ Wq)[None, None], K[None], V[None])[0, 0]

    assert check("34.4", sdpa).passed


def test_logits_changed_in_place_are_noticed():
    def greedy_hands(z, seen, theta):
        z[seen] = torch.where(z[seen] > 0, z[seen] / theta, z[seen] * theta)
        return z

    result = check("34.3", greedy_hands)
    assert not result.passed
    assert "clone" in result.hint
