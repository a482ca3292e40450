"""Lesson 31: causal weights, a head, several heads, RoPE, and a copier by hand to make better."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.models.heads import after_earlier

# ---------------------------------------------------------------------------------------------------------- the references


def causal_softmax(scores):
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def attend(x, Wq, Wk, Wv):
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def multi_head(qkv, n_head):
    q, k, v = (part.unflatten(-1, (n_head, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)


def rope(x, positions, longest):
    hs = x.shape[-1]
    angles = positions[:, None].to(x.dtype) * longest ** (-torch.arange(0, hs, 2, dtype=x.dtype) / hs)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _masked(scores, diagonal=1, fill=-torch.inf, dim=-1):
    return scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(diagonal), fill).softmax(dim)


def _head(x, Wq, Wk, Wv, scale=None, *, masked=True, swap=False, values=True):
    q, k, v = x @ Wq, x @ Wk, x @ Wv if values else x
    if swap:
        q, k = k, q
    scores = q @ k.transpose(-2, -1) / (Wq.shape[1] ** 0.5 if scale is None else scale)
    return (causal_softmax(scores) if masked else scores.softmax(-1)) @ v


def _softmax_first(x, Wq, Wk, Wv):
    return _late_mask(x @ Wq @ (x @ Wk).transpose(-2, -1) / Wq.shape[1] ** 0.5) @ (x @ Wv)


def _late_mask(scores):
    return scores.softmax(-1).tril()


def _from(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)


def _parts(qkv):
    return qkv.chunk(3, -1)


def _viewed(qkv, n_head):
    B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
    return _from(*(p.reshape(B, n_head, T, C // n_head) for p in _parts(qkv)))


def _viewed_back(qkv, n_head):
    B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
    y = F.scaled_dot_product_attention(*(p.unflatten(-1, (n_head, -1)).transpose(1, 2) for p in _parts(qkv)), is_causal=True)
    return y.reshape(B, T, C)


def _interleaved(qkv, n_head):
    q, k, v = qkv.unflatten(-1, (n_head, 3, -1)).unbind(3)
    return _from(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))


def _strided(qkv, n_head):
    heads = [p.unflatten(-1, (-1, n_head)).movedim(-1, 1) for p in _parts(qkv)]
    return F.scaled_dot_product_attention(*heads, is_causal=True).movedim(1, -1).flatten(-2)


def _wrong_scale(qkv, n_head):
    q, k, v = (p.unflatten(-1, (n_head, -1)).transpose(1, 2) for p in _parts(qkv))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=(qkv.shape[-1] // 3) ** -0.5)
    return y.transpose(1, 2).flatten(-2)


def _not_scaled(qkv, n_head):
    q, k, v = _parts(qkv)
    return multi_head(torch.cat([q * (q.shape[-1] // n_head) ** 0.5, k, v], -1), n_head)


def _reordered(*order):
    return lambda qkv, n_head: multi_head(torch.cat([_parts(qkv)[part] for part in order], -1), n_head)


def _viewed_both_ways(qkv, n_head):
    B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
    heads = [p.reshape(B, n_head, T, C // n_head) for p in _parts(qkv)]
    return F.scaled_dot_product_attention(*heads, is_causal=True).reshape(B, T, C)


def _shuffled_back(qkv, n_head):
    return multi_head(qkv, n_head).unflatten(-1, (n_head, -1)).transpose(-2, -1).flatten(-2)


def _strided_in(qkv, n_head):
    return _strided(qkv, n_head).unflatten(-1, (-1, n_head)).transpose(-2, -1).flatten(-2)


def _across_heads(qkv, n_head):
    q, k, v = (p.unflatten(-1, (n_head, -1)) for p in _parts(qkv))
    return F.scaled_dot_product_attention(q, k, v).flatten(-2)


def _no_mask(qkv, n_head):
    q, k, v = (p.unflatten(-1, (n_head, -1)).transpose(1, 2) for p in _parts(qkv))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


def _one_head(qkv, n_head):
    return multi_head(qkv, 1)


def _halves(x, positions, longest):
    hs = x.shape[-1]
    angles = positions[:, None].to(x.dtype) * longest ** (-torch.arange(0, hs, 2, dtype=x.dtype) / hs)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


def _halves_of_pairs(x, positions, longest):
    turned = rope(x, positions, longest)
    return torch.cat([turned[..., ::2], turned[..., 1::2]], -1)


def _slow(x, positions, longest):
    return rope(x, positions, longest**0.5)


def _one_angle(x, positions, longest):
    return rope(x, positions, 1.0)


def _fast(x, positions, longest):
    return rope(x, positions, longest**2)


def _from_one(x, positions, longest):
    hs = x.shape[-1]
    angles = positions[:, None].to(x.dtype) * longest ** (-torch.arange(2, hs + 2, 2, dtype=x.dtype) / hs)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).flatten(-2)


def _overwritten(x, positions, longest):
    hs = x.shape[-1]
    angles = positions[:, None].to(x.dtype) * longest ** (-torch.arange(0, hs, 2, dtype=x.dtype) / hs)
    a, b = x[..., ::2], x[..., 1::2]
    a = a * angles.cos() - b * angles.sin()
    return torch.stack([a, a * angles.sin() + b * angles.cos()], -1).flatten(-2)


MISTAKES = {
    "31.1": [
        Mistake(_late_mask,
                "You masked after the softmax: the rows no longer add up to 1. Put -infinity into the scores first."),
        Mistake(lambda scores: scores.tril().softmax(-1),
                "A finite score is not 'do not look': e^0 = 1, and -100 wins over -600. It needs -infinity."),
        Mistake(lambda scores: _masked(scores, 0),
                "Off by one: the diagonal is masked too, so a token cannot see itself, and the first sees nothing."),
        Mistake(lambda scores: _masked(scores, 0).nan_to_num(),
                "Off by one: the diagonal is masked too, so a token cannot see itself, and the first sees nothing."),
        Mistake(lambda scores: _masked(scores, 2), "Off by one: each token still sees the one after it."),
        Mistake(lambda scores: _masked(scores.transpose(-2, -1)).transpose(-2, -1),
                "You kept the upper triangle: i is the row that looks, j the column, and j > i is the future."),
        Mistake(lambda scores: causal_softmax(scores.flip(-2, -1)).flip(-2, -1),
                "You kept the upper triangle: i is the row that looks, j the column, and j > i is the future."),
        Mistake(lambda scores: _late_mask(scores) / _late_mask(scores).sum(-1, keepdim=True),
                "With large scores all weights up to i may round to 0 beside a later one, and 0 / 0 is left: mask first."),
        Mistake(lambda scores: _masked(scores, dim=-2),
                "The softmax runs down the columns. Each *row* adds up to 1: dim = -1."),
        Mistake(lambda scores: scores.softmax(-1), "There is no mask yet: tokens look ahead."),
        Mistake(lambda scores: scores.exp().tril() / scores.exp().tril().sum(-1, keepdim=True),
                "exp of a large score is infinite. Subtract the largest of each row first, or use softmax, which does."),
    ],
    "31.2": [
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, 1.0), "The scores are not divided by sqrt(hs)."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, Wq.shape[1]),
                "You divided by hs. The standard deviation of q.k is its root: divide by sqrt(hs)."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, x.shape[-1] ** 0.5),
                "You divided by sqrt(C), the width of x. The dot product has hs terms, the number of columns of Wq."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, x.shape[1] ** 0.5),
                "You divided by sqrt(T). The dot product has hs terms, the number of columns of Wq."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, Wq.shape[1] ** -0.5),
                "You multiplied by sqrt(hs) instead of dividing."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, masked=False), "There is no mask: tokens look ahead."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, swap=True),
                "Queries and keys have changed places: row i of the scores is q_i . k_j over j, so q @ k^T."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, values=False),
                "You averaged x itself. What is gathered are the values, x Wv."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wk), "You averaged the keys; gather the values, x Wv."),
        Mistake(_softmax_first, "You masked after the softmax: the rows no longer add up to 1."),
        Mistake(lambda x, Wq, Wk, Wv: _head(x, Wq, Wk, Wv, 1.0) / Wq.shape[1] ** 0.5,
                "You divided what comes out. It is the scores that are divided by sqrt(hs), before the softmax."),
    ],
    "31.3": [
        Mistake(_viewed,
                "`view` cannot move an axis: cut the last axis into (n_head, hs) first, then transpose T and n_head."),
        Mistake(_viewed_both_ways,
                "`view` cannot move an axis: cut the last axis into (n_head, hs) first, then transpose T and n_head."),
        Mistake(_viewed_back, "On the way back the heads must be transposed behind T before they are laid side by side."),
        Mistake(_interleaved,
                "You cut the columns as (n_head, 3, hs). The first third of the columns are all queries: (3, n_head, hs)."),
        Mistake(_strided, "A head is hs columns side by side, (n_head, hs), not every n_head-th column."),
        Mistake(_strided_in, "A head is hs columns side by side, (n_head, hs), not every n_head-th column."),
        Mistake(_shuffled_back, "Laid side by side, the heads stay whole: all hs numbers of head 0, then those of head 1."),
        Mistake(_not_scaled, "The scores are not divided by sqrt(hs)."),
        *(Mistake(_reordered(*order), "The thirds of the columns are queries, keys, values, in this order.")
          for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))),
        Mistake(_wrong_scale, "You divided by sqrt(C). Each head's dot product has hs = C / n_head terms."),
        Mistake(_across_heads,
                "The attention ran over the heads of one token. T and hs must be the last two axes: transpose(1, 2)."),
        Mistake(_no_mask, "There is no mask: tokens look ahead."),
        Mistake(_one_head, "You used all columns as one head: cut them into n_head groups."),
    ],
    "31.4": [
        Mistake(lambda x, positions, longest: rope(x, -positions, longest),
                "The sign of a sine: (a, b) becomes (a cos - b sin, a sin + b cos), a turn to the left."),
        Mistake(_halves, "You paired x_j with x_(j + hs/2). Here pairs are neighbours: (x_0, x_1), (x_2, x_3), ..."),
        Mistake(_halves_of_pairs,
                "The pairs are turned correctly, but put back as two halves. x_2j and x_2j+1 belong side by side."),
        Mistake(_slow, "The frequencies fall too slowly: theta_j = longest^(-2j / hs), with the 2."),
        Mistake(_fast, "The frequencies fall too fast: arange(0, hs, 2) holds 2j already; theta_j = longest^(-2j / hs)."),
        Mistake(_from_one, "j counts from 0: the first pair has theta_0 = 1, a radian a place."),
        Mistake(lambda x, positions, longest: rope(x, positions, 10_000.0), "Use `longest`; it is not always 10000."),
        Mistake(_overwritten, "You overwrote a before b was computed from it: both new numbers need the old pair."),
        Mistake(_one_angle, "All pairs turn equally fast; each has its own theta_j."),
        Mistake(lambda x, positions, longest: rope(x, torch.arange(len(positions)), longest),
                "You counted 0, 1, 2, ... yourself. Use the positions that you are given: with a cache they start later."),
        Mistake(lambda x, positions, longest: rope(x, positions + 1, longest),
                "Position 0 does not turn: m starts where it is."),
        Mistake(lambda x, positions, longest: rope(x, positions, 1 / longest),
                "The exponent has the wrong sign: theta_j falls from 1 to about 1 / longest."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@exercise("31.1")
def check_causal_softmax(answer) -> CheckResult:
    shapes = [(4, 4), (2, 5, 5), (2, 3, 6, 6), (7, 7), (3, 2, 2)]
    inputs = [{"scores": (1 + k) * noise(k, *shape).double()} for k, shape in enumerate(shapes)]
    inputs.append({"scores": noise(8, 1, 1).double()})
    inputs.append({"scores": 1000 + 3 * noise(9, 5, 5).double()})
    inputs.append({"scores": 800 * noise(10, 6, 6).double()})
    return compare(
        "31.1", answer, causal_softmax, inputs, MISTAKES["31.1"],
        praise="Right on eight sets of scores, from a single token to scores of thousands.",
        hint="Row i is a softmax over the columns 0..i; all later columns are exactly 0.",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("31.2")
def check_attend(answer) -> CheckResult:
    inputs = []
    for k, (B, T, C, hs) in enumerate([(2, 5, 4, 4), (1, 7, 6, 3), (3, 4, 10, 5), (2, 6, 5, 7), (1, 3, 4, 9), (2, 1, 6, 2)]):
        W = [noise(100 * k + i, C, hs).double() / C**0.5 * 1.5 for i in range(3)]
        inputs.append({"x": noise(k, B, T, C).double(), "Wq": W[0], "Wk": W[1], "Wv": W[2]})
    return compare(
        "31.2", answer, attend, inputs, MISTAKES["31.2"],
        praise="Right on six sets of texts, a text of one token included.",
        hint="q, k, v = x @ Wq, x @ Wk, x @ Wv; scores q @ k.transpose(-2, -1) / sqrt(hs); 31.1; times v.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("31.3")
def check_multi_head(answer) -> CheckResult:
    shapes = [(2, 5, 12, 2), (1, 6, 12, 3), (3, 4, 8, 4), (2, 7, 10, 2), (1, 3, 6, 1), (2, 6, 24, 3)]
    inputs = [{"qkv": 1.5 * noise(k, B, T, 3 * C).double(), "n_head": n} for k, (B, T, C, n) in enumerate(shapes)]
    return compare(
        "31.3", answer, multi_head, inputs, MISTAKES["31.3"],
        praise="Right on six shapes, one head included.",
        hint="qkv -> three parts (B, T, C) -> (B, T, n_head, hs) -> transpose(1, 2) -> attention -> and all the way back.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("31.4")
def check_rope(answer) -> CheckResult:
    inputs = []
    for k, (B, hs, longest) in enumerate(
        [(2, 4, 10_000.0), (1, 8, 10_000.0), (3, 2, 100.0), (2, 6, 500.0), (1, 16, 10_000.0)]
    ):
        positions = [
            torch.arange(5),
            torch.arange(7, 12),
            torch.tensor([3, 0, 9, 1]),
            torch.arange(0, 40, 10),
            torch.arange(90, 96),
        ][k]
        inputs.append({"x": noise(k, B, len(positions), hs).double(), "positions": positions, "longest": longest})
    inputs.append(inputs[1] | {"x": noise(30, 2, 3, 5, 8).double()})
    return compare(
        "31.4", answer, rope, inputs, MISTAKES["31.4"],
        praise="Right on six inputs: positions that start late, jump, and run backwards, and with an axis of heads.",
        hint="theta_j for each pair, angles of shape (T, hs / 2), then (a cos - b sin, a sin + b cos) with a = x[..., ::2].",
        tolerance=1e-6,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- 31.5, a copier by hand to beat

LETTERS, LENGTH, TEXTS, GOAL = 26, 72, 96, 0.7


@lru_cache(maxsize=1)
def texts() -> Tensor:
    """Random letters, repeated with a period of 12 to 30; one letter in eight is wrong in the copy."""
    generator = torch.Generator().manual_seed(31)
    period = torch.randint(12, 31, (TEXTS, 1), generator=generator)
    ids = torch.randint(LETTERS, (TEXTS, 30), generator=generator).gather(1, torch.arange(LENGTH) % period)
    wrong = (torch.rand(ids.shape, generator=generator) < 1 / 8) & (torch.arange(LENGTH) >= period)
    return torch.where(wrong, torch.randint(LETTERS, ids.shape, generator=generator), ids)


def after_the_last_letter(ids, n_letters):
    """The lesson's: even weights on the places after earlier occurrences of one letter, and a fifth of even chances."""
    weights = after_earlier(ids).double()
    found = weights.sum(-1, keepdim=True)
    copied = weights @ F.one_hot(ids, n_letters).double() / found.clamp(min=1)
    sure = torch.where(found > 0, 0.8, 0.0)
    return sure * copied + (1 - sure) / n_letters


def copier_nats(answer) -> float:
    """Mean -ln p of the next letter, from the first place where every text repeats."""
    ids = texts()
    p = call(answer, ids=ids.clone(), n_letters=LETTERS)
    if not isinstance(p, Tensor) or p.shape != (TEXTS, LENGTH, LETTERS):
        got = tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__
        raise ValueError(f"return probabilities of shape {(TEXTS, LENGTH, LETTERS)}, got {got}")
    p = p.detach().double()
    if not (p >= 0).all() or not ((p.sum(-1) - 1).abs() < 1e-4).all():
        sums = p.sum(-1)
        raise ValueError(
            "every row must be probabilities that add up to 1;"
            f" the sums run from {sums.min():.3g} to {sums.max():.3g}, the least entry is {p.min():.3g}"
        )
    if p[:, 31:-1].gather(-1, ids[:, 31:-1, None]).mean() > 0.5:
        raise ValueError("row i bets on letter i, which it has seen; it must tell letter i + 1")
    changed = ids.clone()
    changed[:, LENGTH // 2 :] = (changed[:, LENGTH // 2 :] + 7) % LETTERS  # another future
    other = call(answer, ids=changed, n_letters=LETTERS)
    if not torch.allclose(other[:, : LENGTH // 2].double(), p[:, : LENGTH // 2], atol=1e-6):
        raise ValueError("your predictions change when only later letters change: row i may use ids[:, : i + 1] alone")
    return -p[:, 31:-1].gather(-1, ids[:, 32:, None]).clamp(min=1e-12).log().mean().item()


@lru_cache(maxsize=1)
def lesson_nats() -> float:
    return copier_nats(after_the_last_letter)


@exercise("31.5")
def check_copier(answer) -> CheckResult:
    mine = attempt("31.5", answer, copier_nats)
    if isinstance(mine, CheckResult):
        return mine
    lesson = lesson_nats()
    message = (
        f"got      {mine:.3f} nats a letter\n"
        f"expected below {GOAL * lesson:.3f}, which is {GOAL:.0%} of the lesson's {lesson:.3f}"
    )
    hint = ""
    if mine >= GOAL * lesson:
        if abs(mine - lesson) < 1e-3:
            hint = "That is the lesson's rule itself."
        elif abs(mine - math.log(LETTERS)) < 0.01:
            hint = "These are even chances, ln 26. Look where the last letters stood before, and predict what came next."
        elif mine > 1.2 * lesson:
            hint = (
                "Some letters got next to no probability and cost a fortune: mix in even chances, for one in eight is wrong."
            )
        else:
            hint = "One letter is a poor key: 'a' came many times. Weigh the places by how many letters before them agree."
    return CheckResult("31.5", not hint, message, hint)


REFERENCES = {"31.1": causal_softmax, "31.2": attend, "31.3": multi_head, "31.4": rope}
