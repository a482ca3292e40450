"""What a text shares with another, letter by letter: copies, leaks, and how exposed a secret is."""

import math

import numpy as np
from jaxtyping import Float
from torch import Tensor


class Copies:
    """Looks for stretches of a text in a large one.

    Stretches of `n` letters are looked up by one 64-bit number each; a longer copy is a run of them in neighbouring places.

    Args:
        text: the large one, for example what a model was trained on.
        n:    letters of the shortest copy of interest.
    Raises: ValueError if n is below 1 or the text is shorter.
    """

    def __init__(self, text: str, n: int = 12):
        if n < 1 or len(text) < n:
            raise ValueError(f"a text of {len(text)} letters has no stretch of {n}")
        self.n = n
        self._known = np.unique(_numbers(text, n))

    def marked(self, text: str) -> np.ndarray:
        """For each letter of `text`, whether it lies in a stretch of n letters that the large text has too."""
        mark = np.zeros(len(text), bool)
        if len(text) >= self.n:
            numbers = _numbers(text, self.n)
            at = np.searchsorted(self._known, numbers).clip(max=len(self._known) - 1)
            for start in np.flatnonzero(self._known[at] == numbers):
                mark[start : start + self.n] = True
        return mark

    def share(self, text: str) -> float:
        """Share of the letters that lie in a copied stretch of n letters: the overlap by which leaks are looked for."""
        return float(self.marked(text).mean()) if text else 0.0


def longest_copy(text: str, source: str) -> str:
    """The longest stretch of `text` that stands somewhere in `source`; of equals, the first.

    A window grows at its end while it is found and lets go of its first letter when it is not: at most 2 len(text)
    look-ups, since if no stretch of L letters ends here, none of L + 1 does.
    """
    start, best = 0, ""
    for end in range(1, len(text) + 1):
        while text[start:end] not in source:
            start += 1
        if end - start > len(best):
            best = text[start:end]
    return best


def exposure(log_p: Float[Tensor, " R"], secret: int) -> float:
    """log2 R - log2 rank: bits that a model gives away about a secret among R that were equally likely beforehand.

    0: the secret is nowhere above the others (rank R); log2 R: the model thinks it the likeliest of all.

    Args:
        log_p:  what the model gives to each candidate.
        secret: the place of the true one. Of equals it is ranked last: ties give nothing away.
    Source: Carlini et al. 2018, The secret sharer, arXiv:1802.08232, definition 2.
    """
    if not 0 <= secret < len(log_p):
        raise ValueError(f"the secret must be one of the {len(log_p)} candidates, got place {secret}")
    rank = int((log_p >= log_p[secret]).sum())
    return math.log2(len(log_p)) - math.log2(rank)


def _numbers(text: str, n: int) -> np.ndarray:
    """One number for each stretch of n letters: a polynomial in the letters, modulo 2^64."""
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    letters = (letters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # odd: neighbouring letters become far apart
    letters ^= letters >> np.uint64(29)
    total, factor = np.zeros(len(letters) - n + 1, np.uint64), np.uint64(0xBF58476D1CE4E5B9)
    with np.errstate(over="ignore"):
        for k in range(n):
            total = total * factor + letters[k : len(letters) - n + 1 + k]
    return total
