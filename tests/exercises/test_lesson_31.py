"""31.5, the copier to beat; and answers to the others that are right in another way, or look right."""

import pytest
import torch
import torch.nn.functional as F

from aigc_lessons.exercises import check, lesson_31
from aigc_lessons.models.heads import after_earlier


def longer_key(ids, n_letters, sharpness=2.5, sure=0.85):
    """Weigh the places by how many letters before them agree."""
    T = ids.shape[1]
    length, agrees = torch.zeros(len(ids), T, T, dtype=torch.float64), after_earlier(ids).double()
    for back in range(8):
        shifted = F.pad(agrees, (back, 0, back, 0))[:, :T, :T]
        length += shifted if back else agrees
    weights = (sharpness * length).masked_fill(torch.ones(T, T, dtype=torch.bool).triu(), -torch.inf)
    weights[:, 0, 0] = 0
    p = weights.softmax(-1) @ F.one_hot(ids, n_letters).double()
    return sure * p + (1 - sure) / n_letters


def test_a_longer_key_beats_the_lesson():
    result = check("31.5", longer_key)
    assert result.passed, result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lesson_31.after_the_last_letter, "the lesson's rule itself"),
        (lambda ids, n_letters: longer_key(ids, n_letters, sure=1 - 1e-12), "mix in even chances"),
        (lambda ids, n_letters: longer_key(ids, n_letters, sharpness=0.4), "One letter is a poor key"),
        (lambda ids, n_letters: torch.full((*ids.shape, n_letters), 1 / n_letters), "even chances, ln 26"),
    ],
)
def test_copiers_that_do_not_are_told_why(answer, says):
    result = check("31.5", answer)
    assert not result.passed
    assert says in result.hint
    assert "got " in result.message
    assert "expected " in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda ids, n_letters: torch.zeros(3), r"shape (96, 72, 26), got (3,)"),
        (lambda ids, n_letters: "text", "got str"),
        (lambda ids, n_letters: torch.ones(*ids.shape, n_letters), "add up to 1; the sums run from 26 to 26"),
        (lambda ids, n_letters: F.one_hot(ids.roll(-1, 1), n_letters).double(), "only later letters change"),
        (lambda ids, n_letters: 0.9 * F.one_hot(ids, n_letters) + 0.1 / n_letters, "must tell letter i + 1"),
        (lambda ids: ids, "keep the parameter names"),
    ],
)
def test_unusable_copiers_get_a_verdict(answer, says):
    result = check("31.5", answer)
    assert not result.passed
    assert says in result.message


def test_other_ways_to_be_right_pass():
    def by_rows(scores):
        out = torch.zeros_like(scores)
        for i in range(scores.shape[-1]):
            row = scores[..., i, : i + 1]
            row = (row - row.amax(-1, keepdim=True)).exp()
            out[..., i, : i + 1] = row / row.sum(-1, keepdim=True)
        return out

    def by_heads(qkv, n_head):
        q, k, v = qkv.chunk(3, -1)
        heads = zip(q.chunk(n_head, -1), k.chunk(n_head, -1), v.chunk(n_head, -1), strict=True)
        return torch.cat([by_rows(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5) @ c for a, b, c in heads], -1)

    def by_matrix(x, positions, longest):
        hs = x.shape[-1]
        angles = positions[:, None] * longest ** (-torch.arange(0, hs, 2) / hs).double()
        R = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).unflatten(-1, (2, 2))
        return torch.einsum("tjab,...tjb->...tja", R, x.unflatten(-1, (-1, 2))).flatten(-2)

    for name, answer in (("31.1", by_rows), ("31.3", by_heads), ("31.4", by_matrix)):
        assert check(name, answer).passed, name


def test_a_large_negative_number_is_not_minus_infinity():
    """With scores of thousands, -100 in the place of -infinity lets the future through, and the message says so."""
    result = check("31.1", lambda scores: scores.masked_fill(_everywhere(scores).triu(1), -100.0).softmax(-1))
    assert not result.passed
    assert "It needs -infinity" in result.hint


def _everywhere(scores):
    return torch.ones(scores.shape[-2:], dtype=torch.bool)


def _turn(x, positions, exponent, longest):
    angles = positions[:, None].double() * longest**exponent
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).flatten(-2)


def _heads_of(qkv, n_head):
    return [part.unflatten(-1, (n_head, -1)).transpose(1, 2) for part in qkv.chunk(3, -1)]


def _gathered(q, k, v, scale=None):
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(_everywhere(scores).triu(1), -torch.inf).softmax(-1) @ v


def _in_place(x, positions, longest):
    angles = positions[:, None].double() * longest ** (-torch.arange(0, x.shape[-1], 2).double() / x.shape[-1])
    y = x.clone()
    y[..., ::2] = y[..., ::2] * angles.cos() - y[..., 1::2] * angles.sin()
    y[..., 1::2] = y[..., ::2] * angles.sin() + y[..., 1::2] * angles.cos()
    return y


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        (
            "31.1",
            lambda scores: scores.masked_fill(_everywhere(scores).tril(-1), -torch.inf).softmax(-1),
            "the upper triangle",
        ),
        ("31.1", lambda scores: F.normalize(scores.softmax(-1).tril(), p=1, dim=-1, eps=0), "0 / 0 is left"),
        ("31.2", lambda x, Wq, Wk, Wv: _gathered(x @ Wq, x @ Wk, x @ Wv, 1) / Wq.shape[1] ** 0.5, "divided what comes out"),
        (
            "31.3",
            lambda qkv, n_head: _gathered(*_heads_of(qkv, n_head), 1).transpose(1, 2).flatten(-2),
            "not divided by sqrt(hs)",
        ),
        (
            "31.3",
            lambda qkv, n_head: _gathered(*(_heads_of(qkv, n_head)[part] for part in (1, 0, 2))).transpose(1, 2).flatten(-2),
            "queries, keys, values, in this order",
        ),
        (
            "31.3",
            lambda qkv, n_head: _gathered(*_heads_of(qkv, n_head)).permute(0, 2, 3, 1).flatten(-2),
            "the heads stay whole",
        ),
        (
            "31.3",
            lambda qkv, n_head: _gathered(
                *(part.reshape(len(qkv), n_head, qkv.shape[1], -1) for part in qkv.chunk(3, -1))
            ).reshape(*qkv.shape[:2], -1),
            "`view` cannot move an axis",
        ),
        (
            "31.3",
            lambda qkv, n_head: (
                _gathered(*(part.unflatten(-1, (-1, n_head)).permute(0, 3, 1, 2) for part in qkv.chunk(3, -1)))
                .transpose(1, 2)
                .flatten(-2)
            ),
            "not every n_head-th column",
        ),
        (
            "31.4",
            lambda x, positions, longest: _turn(
                x, positions, -2 * torch.arange(0, x.shape[-1], 2).double() / x.shape[-1], longest
            ),
            "holds 2j already",
        ),
        (
            "31.4",
            lambda x, positions, longest: _turn(
                x, positions, -torch.arange(2, x.shape[-1] + 2, 2).double() / x.shape[-1], longest
            ),
            "j counts from 0",
        ),
        (
            "31.4",
            lambda x, positions, longest: _turn(
                x, positions, -torch.arange(0, x.shape[-1], 2).double() / x.shape[-1], 10_000
            ),
            "not always 10000",
        ),
        ("31.4", _in_place, "overwrote a"),
    ],
)
def test_slips_written_in_the_learners_way_are_named(name, answer, says):
    result = check(name, answer)
    assert not result.passed
    assert says in result.hint


def test_the_message_shows_where_the_numbers_differ():
    """The first row of causal attention is right whatever the scale is: the first entries would show nothing."""
    result = check("31.2", lambda x, Wq, Wk, Wv: _gathered(x @ Wq, x @ Wk, x @ Wv, 1))
    assert "they differ first at [0, 1, 0]: got " in result.message
