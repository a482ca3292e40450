"""The n-gram model: count what followed the last few tokens. A network has to beat this to be worth its training."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class NGram:
    """Interpolated Kneser-Ney smoothing with three discounts.

    With c the context (up to order - 1 tokens), c' the same without its first token, a(c w) the adjusted count of the
    n-gram c w, and D the discount, which depends on the count alone:

        p(w | c) = (a(c w) - D(a(c w))) / a(c)  +  share(c) p(w | c')          (the first term is 0 where a(c w) = 0)
        a(c)     = sum over w of a(c w),      share(c) = sum over w of D(a(c w)) / a(c)

    In place of p(w | c') the empty context has 1 / V. A context that never occurred is skipped: p(w | c) = p(w | c').

    At the full order, a counts occurrences; below it, how many different tokens were seen on the left of c w (the beginning
    of the text is one more). A shorter context is asked only where the longer one is no help, so what has stood in many
    places is a better guess there than what is frequent in one.

    Source: Kneser & Ney 1995; Chen & Goodman 1998 (the three discounts, eq. 26).
    """

    def __init__(self, levels: "list[_Level]", vocab_size: int):
        self._levels, self.vocab_size = levels, vocab_size

    @classmethod
    def fit(cls, ids: Int[Tensor, " N"], order: int, vocab_size: int) -> "NGram":
        """Count. 1 M characters at order 7 take about a second.

        Args:
            ids:   the training text as token ids.
            order: length of the longest n-gram counted: order 7 sees 6 tokens back.
        Raises: ValueError if order is below 1, the text is shorter than order, or an id is outside 0..vocab_size - 1.
        """
        ids = _checked(ids, vocab_size)
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        if len(ids) < order:
            raise ValueError(f"n-grams of order {order} need a text of at least {order} tokens, got {len(ids)}")
        # gram[j] numbers the k-gram that begins at j: the same number for the same tokens. An n-gram is then a pair
        # (number of its context, last token), and one 64-bit key holds it at any order
        gram, counted = np.zeros(len(ids) + 1, np.int64), []
        for k in range(order):
            keys, longer, count = np.unique(gram[:-1] * vocab_size + ids[k:], return_inverse=True, return_counts=True)
            if k > 0:  # each different (k+1)-gram is one neighbour on the left of the k-gram inside it
                inside = np.empty(len(keys), np.int64)
                inside[longer] = gram[1:]
                counted[-1][1] = np.bincount(inside, minlength=len(counted[-1][0]))
                counted[-1][1][gram[0]] += 1
            counted.append([keys, count])
            gram = longer
        sizes = [1] + [len(keys) for keys, _ in counted]  # of the contexts of each level
        levels = [_Level.from_counts(*level, n, vocab_size) for level, n in zip(counted, sizes, strict=False)]
        return cls(levels, vocab_size)

    @property
    def order(self) -> int:
        return len(self._levels)

    def next(self, context: Int[Tensor, " T"]) -> Float[Tensor, " V"]:
        """p(w | context) for every token w, in float64; of the context, the last order - 1 tokens matter.

        Raises: ValueError for an id outside the vocabulary.
        """
        seen = _checked(context, self.vocab_size)[max(0, len(context) - self.order + 1) :]
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for level, contexts, _ in self._walk(seen):
            c = contexts[-1]  # the one that reaches to the end
            p *= level.share[c]
            first, last = np.searchsorted(level.keys, [c * self.vocab_size, (c + 1) * self.vocab_size])
            p[level.keys[first:last] - c * self.vocab_size] += level.kept[first:last]
        return torch.from_numpy(p)

    def surprisal(self, ids: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """-log p(token | the tokens before it) in nats, for every token; the first ones have less before them."""
        ids = _checked(ids, self.vocab_size)
        p = np.full(len(ids), 1 / self.vocab_size)
        for k, (level, contexts, grams) in enumerate(self._walk(ids)):
            p[k:] = level.kept[grams] + level.share[contexts[:-1]] * p[k:]
        return torch.from_numpy(-np.log(p))

    def nats(self, ids: Int[Tensor, " N"]) -> float:
        """Mean cross-entropy in nats per token: the mean of `surprisal`. Raises ValueError for an empty text."""
        if not len(ids):
            raise ValueError("there is nothing to predict: the text is empty")
        return self.surprisal(ids).mean().item()

    def write(self, context: Int[Tensor, " T"], n: int, generator: torch.Generator) -> Iterator[int]:
        """Draw `n` tokens, one after the other, each from `next` of what is there so far."""
        written = context.tolist()
        for _ in range(n):
            p = self.next(torch.tensor(written[max(0, len(written) - self.order + 1) :], dtype=torch.long))
            written.append(torch.multinomial(p, 1, generator=generator).item())
            yield written[-1]

    def _walk(self, ids: np.ndarray) -> "Iterator[tuple[_Level, np.ndarray, np.ndarray]]":
        """For k = 0, 1, ..: the level, the numbers of all ids[j : j + k] and of all ids[j : j + k + 1]; -1: never seen."""
        contexts = np.zeros(len(ids) + 1, np.int64)
        for k, level in enumerate(self._levels):
            grams = level.find(contexts[:-1] * self.vocab_size + ids[k:])
            yield level, contexts, grams
            if not len(grams):
                return
            contexts = grams


@dataclass(frozen=True, eq=False)
class _Level:
    """All n-grams of one length. Number -1 stands for what was never seen: its `kept` is 0, its `share` is 1."""

    keys: np.ndarray  # (G,) context * V + last token, sorted: n-gram number i has key i
    kept: np.ndarray  # (G + 1,) (a(c w) - D) / a(c)
    share: np.ndarray  # (C + 1,) of each context, what is left for the shorter one

    @classmethod
    def from_counts(cls, keys: np.ndarray, count: np.ndarray, n_contexts: int, vocab_size: int) -> "_Level":
        discount = discounts(count)[np.minimum(count, 3) - 1]
        context = keys // vocab_size
        total = np.bincount(context, weights=count, minlength=n_contexts)
        held_back = np.bincount(context, weights=discount, minlength=n_contexts)
        # the text's very last k-gram may be no one's context: nothing is known after it, and its share is 1
        share = np.divide(held_back, total, out=np.ones(n_contexts), where=total > 0)
        return cls(keys, np.append((count - discount) / total[context], 0.0), np.append(share, 1.0))

    def find(self, keys: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1)


def discounts(count: Int[np.ndarray, " G"]) -> Float[np.ndarray, "3"]:
    """What is taken off a count of 1, of 2, and of 3 or more, estimated from how many n-grams have counts 1 to 4.

    D_i = i - (i + 1) Y n_(i+1) / n_i,   Y = n_1 / (n_1 + 2 n_2)                 (Chen & Goodman 1998, eq. 26)

    Where there are too few n-grams for that (an n_i is 0, or D_i leaves 0..i), 1/2, 1 and 3/2.
    """
    n1, n2, n3, n4 = (int((count == i).sum()) for i in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        Y = n1 / (n1 + 2 * n2)
        D = np.array([1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3])
        if (D > 0).all() and (D < [1, 2, 3]).all():
            return D
    return np.array([0.5, 1.0, 1.5])


def _checked(ids: Tensor, vocab_size: int) -> np.ndarray:
    ids = ids.cpu().numpy().astype(np.int64)
    outside = ((ids < 0) | (ids >= vocab_size)).nonzero()[0]
    if len(outside):
        raise ValueError(f"id {ids[outside[0]]} at position {outside[0]} is outside the vocabulary, 0..{vocab_size - 1}")
    return ids
