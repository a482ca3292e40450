"""Labelled reviews of plays that nobody wrote: made by this file, so every label is exact, and said to be synthetic.

A plain review asserts two things of one kind:

    The plot was always, to me, moving, I say, and truly, to me, clever, I say.

A trap holds one word of praise and one of blame, and says that one of the two is *not* so. Exchange the two words, and the
review has the same words, and the opposite label:

    The plot was never, to me, dull, I say, and always, to me, moving, I say.     praise
    The plot was never, to me, moving, I say, and always, to me, dull, I say.     blame

The two words before a judging word, and the two behind it, are the same in both halves: so the two reviews have the same
pairs and triples of words, too, and whatever counts them must say the same of both.
"""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PRAISE = ("moving", "clever", "honest", "lively", "bright", "tender")
BLAME = ("dull", "clumsy", "hollow", "tired", "wooden", "stale")
THINGS = ("plot", "cast", "music", "ending", "acting", "pace", "staging", "verse")
ASSERTING, DENYING = ("always", "truly", "surely"), ("never", "hardly", "not")
BEFORE = ("to me", "for one", "to us", "as such")  # two words before a judging word, and
BEHIND = ("I say", "all told", "you see", "no doubt")  # two behind it: in one review, the same in both halves


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews with their labels.

    texts:  what is read; at most 128 characters.
    labels: 1 praises, 0 blames.
    traps:  where the words alone do not tell.
    """

    texts: list[str]
    labels: Int[Tensor, " N"]
    traps: Bool[Tensor, " N"]
    source: str = "synthetic: made by this course, nobody wrote them"

    def __len__(self) -> int:
        return len(self.texts)


def reviews(n: int, generator: torch.Generator, *, traps: float = 0.5) -> Reviews:
    """Draw n reviews: labels are fair coins, a share of `traps` are traps.

    Args:
        traps: 0 makes all of them plain, 1 all of them traps.
    Raises: ValueError if n is below 1 or traps leaves 0..1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= traps <= 1:
        raise ValueError(f"traps is a share in 0..1, got {traps}")
    labels = torch.randint(2, (n,), generator=generator)
    trapped = torch.rand(n, generator=generator) < traps
    texts = [review(label, trap, generator) for label, trap in zip(labels.tolist(), trapped.tolist(), strict=True)]
    return Reviews(texts, labels, trapped)


def review(label: int, trap: bool, generator: torch.Generator) -> str:
    """One review. In a trap a coin decides which half denies."""

    def one_of(words):
        return words[int(torch.randint(len(words), (), generator=generator))]

    def two_of(words):
        first, second = torch.randperm(len(words), generator=generator)[:2].tolist()
        return words[first], words[second]

    so, not_so = (PRAISE, BLAME) if label else (BLAME, PRAISE)
    thing, before, behind = one_of(THINGS), one_of(BEFORE), one_of(BEHIND)
    if trap:
        halves = [(one_of(ASSERTING), one_of(so)), (one_of(DENYING), one_of(not_so))]
        if torch.rand((), generator=generator) < 0.5:
            halves.reverse()
    else:
        halves = [(one_of(ASSERTING), word) for word in two_of(so)]
    (how1, word1), (how2, word2) = halves
    return f"The {thing} was {how1}, {before}, {word1}, {behind}, and {how2}, {before}, {word2}, {behind}."


def mirror(text: str) -> str:
    """The review with its two judging words exchanged: the same words. Of a trap, the opposite label.

    Raises: ValueError if the text is not a review of two halves with one judging word each.
    """
    found = [word for word in re.findall(r"[a-z]+", text) if word in PRAISE + BLAME]
    if len(found) != 2:
        raise ValueError(f"a review has two judging words, this text has {len(found)}: {text!r}")
    turned = iter(found[::-1])
    return re.sub(rf"\b({'|'.join(PRAISE + BLAME)})\b", lambda _: next(turned), text)
