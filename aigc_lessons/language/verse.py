"""A rule that a program can check: is this a line of verse? Ten syllables by our counter, in words that the plays use."""

import re
from collections.abc import Collection
from dataclasses import dataclass

WORD = re.compile(r"[a-z']+")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^aeiouyl]|[aeiouy]l)e$|[^aeiouycgsxz]es$|[^aeiouytd]ed$")  # tale, tales, talked; not title, roses


def words_of(text: str) -> list[str]:
    """The words of a text: letters and apostrophes, in small letters, without apostrophes at their ends."""
    return [word for raw in WORD.findall(text.lower()) if (word := raw.strip("'"))]


def syllables(text: str) -> int:
    """How many syllables, by a rule of thumb: groups of vowels, a silent ending less, but at least one for each word.

    A dictionary of sounds would do better (this one gives "being" one syllable, and "science" one). What matters here is
    that it is a program: the same answer every time, and no way to talk it round.
    """
    count = 0
    for word in words_of(text):
        groups = len(_VOWELS.findall(word.replace("'", "")))
        count += max(1, groups - (groups > 1 and _SILENT.search(word) is not None))
    return count


@dataclass(frozen=True)
class Verse:
    """The rule: how much of a line of verse a line is, from 0 to 1.

    q = (share of its words that are known) * max(0, 1 - |syllables - wanted| / reach);   0 for a line that never ends

    Args:
        known:  the words that exist.
        wanted: syllables of a good line.
        reach:  so many syllables too many or too few, and nothing is left.
    Raises: ValueError if no word is known, or wanted or reach is below 1.
    """

    known: Collection[str]
    wanted: int = 10
    reach: int = 5

    def __post_init__(self):
        if not self.known:
            raise ValueError("a rule about words needs at least one word that is known")
        for name in ("wanted", "reach"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, line: str, ended: bool = True) -> float:
        """q of a line; `ended` says whether its end was reached."""
        if not ended:
            return 0.0
        return self.spelled(line) * max(0.0, 1 - abs(syllables(line) - self.wanted) / self.reach)

    def spelled(self, line: str) -> float:
        """The share of the words that are known; 0 where there is no word."""
        found = words_of(line)
        return sum(word in self.known for word in found) / len(found) if found else 0.0

    def strict(self, line: str, ended: bool = True) -> bool:
        """Whether nothing is missing: q = 1."""
        return self(line, ended) == 1.0
