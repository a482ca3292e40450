"""Lesson 30: bits per byte, Kneser and Ney's bigram, one merge, spelling with merges, and a way of cutting to beat."""

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import regex
import torch

from aigc_lessons.data.text import shakespeare
from aigc_lessons.exercises import core
from aigc_lessons.exercises import wrong_bpe as wrong
from aigc_lessons.exercises.core import CheckResult, Mistake, Unusable, attempt, call, compare, exercise, show
from aigc_lessons.language import bits, bpe
from aigc_lessons.language.ngram import NGram
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.training import budget


def bits_per_byte(log_p, text):
    return bits.bits_per_byte(-log_p, text)


def bigram(counts, D):
    total, seen = counts.sum(1, keepdim=True), (counts > 0).double()
    below = seen.sum(0) / seen.sum()  # in how many places each token was seen
    table = ((counts - D).clamp(min=0) + D * seen.sum(1, keepdim=True) * below) / total.clamp(min=1)
    return torch.where(total > 0, table, below)


def merge_step(words, new):
    count = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            count[pair] += times
    best = min(count, key=lambda pair: (-count[pair], pair))
    return best, {wrong.merged(word, best, new): times for word, times in words.items()}


def spell(ids, new_id):
    return bpe.apply_merges(ids, new_id)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _table(top: Callable, share: Callable, below: Callable):
    """A wrong bigram from its three parts, each a function of (counts, seen, D)."""

    def wrong(counts, D):
        seen, total = (counts > 0).double(), counts.sum(1, keepdim=True)
        lower = below(counts, seen)
        table = (top(counts, seen, D) + share(counts, seen, D) * lower) / total.clamp(min=1)
        return torch.where(total > 0, table, lower.expand_as(table))

    return wrong


def _left(counts, seen, D):
    return (counts - D).clamp(min=0)


def _held_back(counts, seen, D):
    return D * seen.sum(1, keepdim=True)


def _places(counts, seen):
    return seen.sum(0) / seen.sum()


MISTAKES = {
    "30.1": [
        Mistake(lambda log_p, text: -log_p.sum() / math.log(2) / len(text),
                "You divided by the characters. A Chinese character is three bytes: len(text.encode())."),
        Mistake(lambda log_p, text: -log_p.mean() / math.log(2),
                "That is bits per token: another tokenizer has other tokens. Divide the sum by the bytes of the text."),
        Mistake(lambda log_p, text: -log_p.sum() / len(text.encode()),
                "Those are nats: divide by ln 2 to have bits."),
        Mistake(lambda log_p, text: -log_p.sum() * math.log(2) / len(text.encode()),
                "A nat is more than a bit: divide by ln 2, do not multiply."),
        Mistake(lambda log_p, text: log_p.sum() / math.log(2) / len(text.encode()),
                "The sign: a logarithm of a probability is negative, what one pays is not."),
        Mistake(lambda log_p, text: -log_p.sum() / math.log(2),
                "That is the price of the whole text: divide by its bytes."),
        Mistake(lambda log_p, text: -log_p.exp().log2().mean() / len(text.encode()),
                "You divided twice: the sum of the bits over the bytes, not their mean."),
    ],
    "30.2": [
        Mistake(_table(_left, _held_back, lambda counts, seen: counts.sum(0) / counts.sum()),
                "Below, you used how often a token occurs. Kneser and Ney ask after how many different tokens it was seen."),
        Mistake(_table(_left, lambda counts, seen, D: 0 * _held_back(counts, seen, D), _places),
                "The rows do not sum to 1: what the discount took away must be given back, spread like the continuation."),
        Mistake(_table(lambda counts, seen, D: counts - D, _held_back, _places),
                "Counts of 0 became negative: nothing can be taken from them. clamp(min=0)."),
        Mistake(_table(lambda counts, seen, D: counts, _held_back, _places),
                "Nothing was taken away at the top, but something is given below: the rows sum to more than 1."),
        Mistake(_table(_left, lambda counts, seen, D: D + 0 * _held_back(counts, seen, D), _places),
                "D is taken from every pair that was seen, so D times the number of different tokens after a is free."),
        Mistake(_table(_left, _held_back, lambda counts, seen: torch.full((len(counts),), 1 / len(counts)).double()),
                "You spread what is left evenly: spread it like the continuation counts."),
        Mistake(lambda counts, D: bigram(counts.T, D).T,
                "Rows and columns have changed places: counts[a, b] is how often b followed a."),
        Mistake(lambda counts, D: _table(_left, _held_back, _places)(counts, D)
                * (counts.sum(1, keepdim=True) > 0) + 0.0,
                "After a token that was never followed by anything, p(b | a) is the continuation probability, not 0."),
    ],
    "30.3": [
        Mistake(wrong.merge_with(lambda words: wrong.pairs(words, weigh=False), wrong.best, wrong.merged),
                "Each word must count as often as it occurs in the text."),
        Mistake(wrong.merge_with(lambda words: wrong.pairs(words, apart=True), wrong.best, wrong.merged),
                "In (a, a, a) the pair (a, a) stands in two places, and both count; only merging has to choose one."),
        Mistake(wrong.merge_with(wrong.pairs, lambda count: max(count, key=lambda pair: (count[pair], pair)), wrong.merged),
                "Of pairs that are equally frequent, the smallest is taken: the lower left id, then the lower right one."),
        Mistake(wrong.merge_with(wrong.pairs, lambda count: max(count, key=count.get), wrong.merged),
                "Of pairs that are equally frequent, the smallest is taken; you took the one that was met first."),
        Mistake(wrong.merge_with(wrong.pairs, wrong.best, wrong.first_place_only),
                "You merged one place in each word. Every place where the pair stands is merged, from the left."),
        Mistake(wrong.merge_with(wrong.pairs, wrong.best, wrong.from_the_right),
                "You merged from the right: (a, a, a) becomes (new, a), not (a, new)."),
        Mistake(wrong.merge_with(wrong.pairs, lambda count: min(count, key=lambda pair: (count[pair], pair)), wrong.merged),
                "That is the rarest pair: take the most frequent one."),
        Mistake(wrong.merge_with(wrong.pairs, wrong.best, lambda word, pair, new: word),
                "The pair is right, but the words were not changed: the pair becomes `new` wherever it stands."),
    ],
    "30.4": [
        Mistake(wrong.while_any(lambda found: min(found, key=lambda f: f[1])),
                "You merged the leftmost pair that can be merged. The lowest new id comes first, wherever it is."),
        Mistake(wrong.greedy_longest,
                "You took the longest token at each place. BPE knows no longest: of all pairs that stand there, the one"
                " learned first is merged first, and that may cut a longer token in two."),
        Mistake(wrong.while_any(lambda found: max(found, key=lambda f: (f[0], -f[1]))),
                "You merged the pair learned last. The lowest new id comes first."),
        Mistake(wrong.while_any(lambda found: min(found, key=lambda f: (f[0], -f[1]))),
                "The right pair, but from the right: in (a, a, a) the two on the left are merged."),
        Mistake(wrong.once, "You stopped after one pair: go on until no pair that stands there can be merged."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@exercise("30.1")
def check_bits(answer) -> CheckResult:
    texts = ["话说天下大势", "To be, or not to be", "naïve café", "😀", "三国演义 by Luo Guanzhong", "a"]
    inputs = []
    for seed, text in enumerate(texts):
        n = 1 + (seed * 5 + 3) % 7
        log_p = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log() * 2
        inputs.append({"log_p": log_p.float() if seed == 3 else log_p, "text": text})
    certain = {"log_p": torch.zeros(2, dtype=torch.float64), "text": "ab"}
    return compare(
        "30.1", answer, bits_per_byte, [*inputs, certain], MISTAKES["30.1"],
        praise="Right, for one byte a character and for four; who is certain and right pays nothing.",
        hint="The sum of -log_p, divided by ln 2 and by len(text.encode()).",
    )  # fmt: skip


def _counts(seed: int, V: int):
    generator = torch.Generator().manual_seed(seed)
    rare = torch.rand(V, V, generator=generator, dtype=torch.float64) ** 4
    return (12 * rare * torch.rand(V, generator=generator, dtype=torch.float64)).round()


@exercise("30.2")
def check_bigram(answer) -> CheckResult:
    inputs = [{"counts": _counts(seed, V), "D": D} for seed, V, D in
              [(0, 5, 0.75), (1, 8, 0.5), (2, 3, 0.9), (4, 12, 0.2), (5, 6, 0.6), (7, 5, 1.0)]]  # fmt: skip
    unfollowed = _counts(8, 6)
    unfollowed[2] = 0
    inputs += [{"counts": unfollowed, "D": 0.75}, {"counts": torch.tensor([[3.0, 0.0], [1.0, 0.0]]).double(), "D": 0.5}]
    return compare(
        "30.2", answer, bigram, inputs, MISTAKES["30.2"], tolerance=1e-5,
        praise="Right: every row sums to 1, also after a token that nothing ever followed.",
        hint="(counts - D).clamp(min=0) / total, plus D * (different tokens after a) / total times the continuation of b.",
    )  # fmt: skip


def _words(seed: int, n: int, V: int) -> dict[tuple[int, ...], int]:
    generator = torch.Generator().manual_seed(seed)
    words = {}
    for _ in range(n):
        length = int(torch.randint(1, 7, (1,), generator=generator))
        word = tuple(torch.randint(97, 97 + V, (length,), generator=generator).tolist())
        words[word] = int(torch.randint(1, 5, (1,), generator=generator))
    return words


def _exact(name, answer, reference, inputs, form, *, praise, hint) -> CheckResult:
    """As `compare`, for results of whole numbers, in lists, tuples or dictionaries: `form` gives them one form."""
    for given in inputs:
        described = core.describe(given)
        got = attempt(name, answer, lambda f: form(call(f, **copy.deepcopy(given))), described, hint)  # noqa: B023
        if isinstance(got, CheckResult):
            return got
        if got != (expected := reference(**given)):
            message = f"{described}\n  got      {show(got)}\n  expected {show(expected)}"
            return CheckResult(name, False, message, core.diagnose(got, given, expected, MISTAKES[name], 0.0) or hint)
    return CheckResult(name, True, praise)


def _as_step(got) -> tuple:
    try:
        pair, words = got
        return tuple(map(int, pair)), {tuple(map(int, word)): int(times) for word, times in dict(words).items()}
    except (TypeError, ValueError):
        raise Unusable(
            f"return two things, the pair and the new dictionary of words: (a, b), {{word: times}}; got {show(got)}"
        ) from None


@exercise("30.3")
def check_merge_step(answer) -> CheckResult:
    inputs = [
        {"words": {(1, 2): 1, (5, 6, 5, 6): 1, (3, 4): 5}, "new": 256},
        {"words": {(7, 2): 2, (7, 1): 2, (8, 9): 2, (1, 1): 1}, "new": 256},
        {"words": {(97, 97, 97): 2, (98, 99): 3, (100, 99): 3}, "new": 256},
        {"words": {(97, 97, 97, 97, 97): 3, (98, 98): 4}, "new": 300},
        {"words": {(5, 6): 2, (3, 9): 2, (6, 5, 6): 1, (3, 9, 3, 9): 1}, "new": 256},
        {"words": {(300, 97): 1, (97,): 50, (98, 97): 2, (98, 97, 98, 97): 1}, "new": 301},
        *({"words": _words(seed, 4 + 3 * seed, 2 + seed), "new": 256} for seed in range(6)),
    ]
    return _exact(
        "30.3", answer, merge_step, inputs, _as_step, praise="Right, with overlaps, ties, and words of one token.",
        hint="Count the pairs of neighbours, each as often as its word; take the best; write `new` in its place.",
    )  # fmt: skip


@lru_cache(maxsize=1)
def _merges() -> tuple[dict[tuple[int, int], int], list[list[int]]]:
    """Merges of the plays, and words to spell with them."""
    text = shakespeare(stand_in=True)
    new_id = {pair: 256 + k for k, pair in enumerate(BPETokenizer.train(text.train[:60_000], 456).merges)}
    words = sorted(set(bpe.split(text.held_out[:4000])), key=lambda word: (len(word), word))[-60:]
    return new_id, [bpe.byte_ids(word) for word in words]


def _flat(got) -> list[int]:
    try:
        return [int(i) for i in got]
    except (TypeError, ValueError):
        raise Unusable(f"return a flat list of ids, got {show(got)}") from None


@exercise("30.4")
def check_spell(answer) -> CheckResult:
    a, b, c, d = 97, 98, 99, 100
    new_id, words = _merges()
    inputs = [
        {"ids": [b, b, c, b, b, b, b], "new_id": {(c, b): 256, (b, b): 257, (b, 256): 258, (b, 258): 259}},
        {"ids": [a, b, c], "new_id": {(b, c): 256, (a, b): 257, (257, c): 258}},  # the longest is out of reach
        {"ids": [a, a, a, a, a], "new_id": {(a, a): 256, (256, 256): 257}},
        {"ids": [a, b, a, b, c, d], "new_id": {(c, d): 256, (a, b): 257, (257, 257): 258, (b, c): 259}},
        {"ids": [], "new_id": {(a, b): 256}},
        {"ids": [d], "new_id": {}},
        *({"ids": ids, "new_id": new_id} for ids in words),
    ]
    return _exact(
        "30.4", answer, spell, inputs, _flat, praise=f"Right for {len(inputs)} words, {len(words)} of them from the plays.",
        hint="Find the pairs of neighbours that are in new_id; merge the one with the lowest id, wherever it stands.",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- 30.5, a way of cutting to beat

SIZE, READ, JUDGED = 1024, 1_000_000, 100_000  # ids; characters learned from and judged on
GOAL = 2.38  # bytes a token; the lesson's pattern has 2.28
LONGEST_WORD = 200  # characters; the time of training grows with the square of it


@dataclass(frozen=True)
class Cutting:
    """Of a pattern: bytes per token on held-out plays, and the bits per byte of a 3-gram on these tokens."""

    bytes_per_token: float
    bits_per_byte: float


@lru_cache(maxsize=4)
def cutting(pattern: str, size: int = READ) -> Cutting:
    """Train 1,024 ids on the first `size` characters of the plays, cut by `pattern`.

    Raises: ValueError if the pattern is none, leaves characters out, or makes words that are too long or too few.
    """
    text = shakespeare(stand_in=True)
    read, judged = text.train[:size], text.held_out[: min(JUDGED, size)]
    for name, part in (("training", read), ("held-out", judged)):
        longest = max(bpe.split(part, pattern), key=len)
        if len(longest) > LONGEST_WORD:
            raise ValueError(
                f"the longest word of the {name} text has {len(longest):,} characters, at most {LONGEST_WORD} are allowed"
            )
    tokenizer = BPETokenizer.train(read, SIZE, pattern)
    learned, asked = (torch.tensor(tokenizer.encode(part)) for part in (read, judged))
    nats = NGram.fit(learned, 3, SIZE).surprisal(asked)
    return Cutting(len(judged.encode()) / len(asked), bits.bits_per_byte(nats, judged))


@exercise("30.5")
def check_cutting(answer) -> CheckResult:
    size = budget.steps(READ, at_least=50_000)

    def judged(function: Callable) -> Cutting:
        pattern = call(function)
        if not isinstance(pattern, str):
            raise Unusable(f"return the pattern as a text, got {type(pattern).__name__}: {show(pattern)}")
        try:
            return cutting(pattern, size)
        except (ValueError, regex.error) as error:
            raise Unusable(f"{show(pattern)}: {error}") from None

    got = attempt("30.5", answer, judged, hint=_CUT)
    if isinstance(got, CheckResult):
        return got
    usual = cutting(bpe.GPT2_PATTERN, size)
    message = (
        f"got      {got.bytes_per_token:.3f} bytes a token (and a 3-gram pays {got.bits_per_byte:.3f} bits a byte)\n"
        f"expected above {GOAL} bytes a token; GPT-2's pattern has {usual.bytes_per_token:.3f}, and its 3-gram pays"
        f" {usual.bits_per_byte:.3f}"
    )
    if budget.is_tiny() or got.bytes_per_token > GOAL:
        return CheckResult("30.5", True, message)
    return CheckResult("30.5", False, message, _CUT)


_CUT = "Which signs always stand together in a play and are kept apart by the pattern? Print bpe.split of a few lines."


REFERENCES = {"30.1": bits_per_byte, "30.2": bigram, "30.3": merge_step, "30.4": spell}
