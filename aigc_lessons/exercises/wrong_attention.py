"""Lesson 31's weights, heads and RoPE: as they should be, and with the usual mistakes."""

import torch
import torch.nn.functional as F

from aigc_lessons.exercises.core import Mistake

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
