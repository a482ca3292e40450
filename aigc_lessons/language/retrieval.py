"""Finding the lines of a library that a question is about, by words (BM25) or by vectors."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


@dataclass(frozen=True)
class Hit:
    """A document that was found: its place in the library, its score, its text."""

    index: int
    score: float
    text: str


def words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation; `don't` is one."""
    return WORD.findall(text.casefold())


class BM25:
    """Scores documents by the words that they share with a query.

        score(q, d) = sum over words w of q:   idf(w) * f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))
        idf(w)      = ln(1 + (N - n_w + 0.5) / (n_w + 0.5))

    with f how often w stands in d, |d| the number of words of d, N documents, n_w of them with w. A word that comes twice
    in the query counts twice. idf is above 0 for every word, the more so the rarer it is.

    Args:
        documents: at least one text; at least one of them with a word.
        k1:        0 or more; how far repeating a word helps: 0 not at all, infinity without end.
        b:         in 0..1; how much a long document pays for its length.
    Raises: ValueError for no documents, none with a word, or k1 or b out of range.
    Source: Robertson & Zaragoza 2009, The probabilistic relevance framework: BM25 and beyond, section 3.
    """

    def __init__(self, documents: Sequence[str], k1: float = 1.2, b: float = 0.75):
        if isinstance(documents, str) or not documents:
            raise ValueError("a library is a list of at least one text")
        if not (k1 >= 0 and 0 <= b <= 1):
            raise ValueError(f"k1 must be 0 or more and b in 0..1, got {k1} and {b}")
        self.documents = list(documents)
        counts = [Counter(words(text)) for text in self.documents]
        lengths = [sum(count.values()) for count in counts]
        if not any(lengths):
            raise ValueError("there is not one word in the library")
        mean = sum(lengths) / len(lengths)
        holders: dict[str, list[int]] = {}
        for d, count in enumerate(counts):
            for word in count:
                holders.setdefault(word, []).append(d)
        # what a word adds to each document that holds it: a query only adds up
        self._adds: dict[str, tuple[Tensor, Tensor]] = {}
        for word, at in holders.items():
            f = torch.tensor([counts[d][word] for d in at], dtype=torch.float64)
            size = torch.tensor([lengths[d] / mean for d in at], dtype=torch.float64)
            idf = math.log(1 + (len(counts) - len(at) + 0.5) / (len(at) + 0.5))
            self._adds[word] = torch.tensor(at), idf * f * (k1 + 1) / (f + k1 * (1 - b + b * size))

    def scores(self, query: str) -> Float[Tensor, " N"]:
        """A score for each document, 0 where no word is shared."""
        total = torch.zeros(len(self.documents), dtype=torch.float64)
        for word in words(query):
            if word in self._adds:
                at, adds = self._adds[word]
                total[at] += adds
        return total

    def search(self, query: str, k: int = 1) -> list[Hit]:
        """The k documents with the highest scores; of equals, the first. Raises ValueError if k is below 1."""
        return best(self.scores(query), self.documents, k)


class Dense:
    """Scores documents by the angle between vectors, cos(v_q - mean v_q, v_d - mean v_d).

    Questions as such lie elsewhere than statements as such: each side has its own mean taken off.

    Args:
        documents: at least one text.
        embed:     texts -> (N, C), one vector for each.
        questions: examples of questions, for their mean; without them that of the documents is taken.
    Raises: ValueError for no documents, or another number of vectors than of texts.
    """

    def __init__(
        self, documents: Sequence[str], embed: Callable[[list[str]], Tensor], questions: Sequence[str] | None = None
    ):
        if isinstance(documents, str) or not documents:
            raise ValueError("a library is a list of at least one text")
        self.documents, self._embed = list(documents), embed
        vectors = self._vectors(self.documents)
        self._directions = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
        self._mean = (self._vectors(list(questions)) if questions else vectors).mean(0)  # of the questions

    def _vectors(self, texts: list[str]) -> Tensor:
        vectors = self._embed(texts)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(f"{len(texts)} texts need as many vectors, got a tensor of shape {tuple(vectors.shape)}")
        return vectors.double()

    def scores(self, query: str) -> Float[Tensor, " N"]:
        """A cosine for each document."""
        return self._directions @ torch.nn.functional.normalize(self._vectors([query])[0] - self._mean, dim=0)

    def search(self, query: str, k: int = 1) -> list[Hit]:
        """The k documents with the highest scores; of equals, the first. Raises ValueError if k is below 1."""
        return best(self.scores(query), self.documents, k)


def best(scores: Float[Tensor, " N"], documents: Sequence[str], k: int) -> list[Hit]:
    """The k highest scores, highest first; of equals, the first."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    order = scores.sort(descending=True, stable=True).indices[:k].tolist()
    return [Hit(i, scores[i].item(), documents[i]) for i in order]


def recall(found: Sequence[Sequence[int]], wanted: Sequence[int]) -> float:
    """Share of the questions whose wanted document is among those found.

    Args:
        found:  for each question, places of the documents that were found.
        wanted: for each question, the place of the document that answers it.
    Raises: ValueError for no question, or lists of different length.
    """
    if not wanted or len(found) != len(wanted):
        raise ValueError(f"recall needs as many findings as questions, at least one; got {len(found)} and {len(wanted)}")
    return sum(right in places for places, right in zip(found, wanted, strict=True)) / len(wanted)
