"""Byte-pair encoding (BPE), the algorithm: cut a text into words, learn merges from them, spell a word with merges.

A word is a list of ids. 0..255 are the bytes, so that any text can be written; merge number k makes the id 256 + k.
Source: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (GPT-2: bytes, and the way of cutting).
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import regex

Pair = tuple[int, int]

# an English ending, or letters, numbers, other signs (each with one space before), or white space up to the last one
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# id -> byte. GPT-2 counts the bytes that Latin-1 can print first, then the others; ties between pairs go by these ids
_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTE_ORDER = (*_PRINTABLE, *sorted({*range(256)} - {*_PRINTABLE}))
_ID_OF_BYTE = [BYTE_ORDER.index(byte) for byte in range(256)]


def split(text: str, pattern: str = GPT2_PATTERN) -> list[str]:
    """Cut text into words, the pieces inside which merges happen: "It's 2 pm!" -> ["It", "'s", " 2", " pm", "!"].

    Raises: ValueError for text that is not valid Unicode, or a pattern that is no regular expression, has capturing groups
        or leaves characters out.
    """
    check_unicode(text)
    words = compiled(pattern).findall(text)
    if sum(map(len, words)) < len(text):
        covered = 0
        for match in compiled(pattern).finditer(text):
            if match.start() > covered:
                break
            covered = match.end()
        raise ValueError(f"the pattern leaves out {text[covered]!r} at position {covered}: every character needs a word")
    return words


def check_unicode(text: str) -> None:
    """Raises ValueError if the text holds half of a surrogate pair, which UTF-8 cannot write; it names the position."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not valid Unicode: a lone surrogate U+{ord(text[error.start]):04X} at position {error.start}."
            " text.encode('utf-8', 'replace').decode() puts a question mark there"
        ) from None


def byte_ids(word: str) -> list[int]:
    """The UTF-8 bytes of a word as ids 0..255."""
    return [_ID_OF_BYTE[byte] for byte in word.encode()]


def learn_merges(words: Mapping[str, int], n: int) -> list[Pair]:
    """The `n` merges of byte-pair encoding: each time the most frequent pair of neighbours; among equals the smallest ids.

    Args:
        words: word -> how often it occurs. A text has few different words, so each is looked at once.
        n:     how many merges; fewer come back when every word has become one id.
    Returns: pairs of ids; pair number k becomes the id 256 + k.
    """
    spelled, times = [byte_ids(word) for word in words], list(words.values())
    count: dict[Pair, int] = defaultdict(int)  # how often each pair occurs in the text, kept up to date
    where: dict[Pair, set[int]] = defaultdict(set)  # the words it was seen in
    for k, ids in enumerate(spelled):
        for pair in pairwise(ids):
            count[pair] += times[k]
            where[pair].add(k)
    heap = [(-c, pair) for pair, c in count.items()]  # Python's heap gives the smallest, so counts are negative
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n:
        negative, pair = heapq.heappop(heap)
        if -negative != count[pair]:  # earlier merges took some of these pairs away: back in line, with today's count
            if count[pair] > 0:
                heapq.heappush(heap, (-count[pair], pair))
            continue
        new = 256 + len(merges)
        merges.append(pair)
        born = set()
        for k in where.pop(pair):
            for gone, seen in merge(spelled[k], pair, new):
                count[gone] -= times[k]
                count[seen] += times[k]
                where[seen].add(k)
                born.add(seen)
        for pair in born:
            if count[pair] > 0:
                heapq.heappush(heap, (-count[pair], pair))
    return merges


def merge(ids: list[int], pair: Pair, new: int) -> list[tuple[Pair, Pair]]:
    """Every occurrence of `pair`, from the left, becomes `new`, in place: [1, 1, 1, 2], (1, 1), 9 -> [9, 1, 2].

    Returns: the pairs of neighbours that changed, each as (what it was, what it is): [((1, 1), (9, 1))].
    """
    (left, right), changed, i = pair, [], 0
    while i + 1 < len(ids):
        if ids[i] == left and ids[i + 1] == right:
            ids[i : i + 2] = [new]
            if i > 0:
                changed.append(((ids[i - 1], left), (ids[i - 1], new)))
            if i + 1 < len(ids):
                changed.append(((right, ids[i + 1]), (new, ids[i + 1])))
        i += 1
    return changed


def apply_merges(ids: list[int], new_id: Mapping[Pair, int]) -> list[int]:
    """Spell a word with learned merges: as long as a pair can be merged, the one learned first, leftmost first.

    n bytes take O(n log n) steps, also where a hundred thousand letters come without a space.

    Args:
        ids:    the bytes of one word, as ids 0..255.
        new_id: pair -> its id; a lower id was learned earlier.
    """
    ids, n = list(ids), len(ids)
    before, after = [*range(-1, n - 1)], [*range(1, n + 1)]  # who stands next to whom; n and -1 are the ends
    heap = [(new_id[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in new_id]
    heapq.heapify(heap)
    while heap:
        new, i = heapq.heappop(heap)
        j = after[i]
        if j == n or new_id.get((ids[i], ids[j])) != new:  # one of the two was merged with somebody else meanwhile
            continue
        ids[i], ids[j] = new, -1  # the id at j is gone
        h, k = before[i], after[j]
        after[i] = k
        if k < n:
            before[k] = i
            if (pair := (new, ids[k])) in new_id:
                heapq.heappush(heap, (new_id[pair], i))
        if h >= 0 and (pair := (ids[h], new)) in new_id:
            heapq.heappush(heap, (new_id[pair], h))
    return [i for i in ids if i >= 0]


@lru_cache
def compiled(pattern: str) -> regex.Pattern:
    """The regular expression, checked. Raises ValueError as `split` does."""
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"the pattern is not a regular expression: {error}") from None
    if compiled.groups:
        raise ValueError(f"the pattern has {compiled.groups} capturing groups: write (?:...) in place of (...)")
    return compiled
