"""What the checkers of lesson 30 accept, and what they say to answers that are almost right; 30.5, the pattern to beat."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from aigc_lessons.exercises import check, lesson_30
from aigc_lessons.language import bpe
from aigc_lessons.language.ngram import NGram


def replay(ids, new_id):
    """Every merge in the order learned, once: not by rank, and the same."""
    ids = list(ids)
    for pair, new in sorted(new_id.items(), key=lambda item: item[1]):
        bpe.merge(ids, pair, new)
    return ids


def by_rank(ids, new_id):
    ids = list(ids)
    while pairs := [pair for pair in pairwise(ids) if pair in new_id]:
        best, out, i = min(pairs, key=new_id.get), [], 0
        while i < len(ids):
            if tuple(ids[i : i + 2]) == best:
                out.append(new_id[best])
                i += 2
            else:
                out.append(ids[i])
                i += 1
        ids = out
    return ids


@pytest.mark.parametrize("answer", [replay, by_rank, lambda ids, new_id: tuple(by_rank(ids, new_id))])
def test_other_ways_to_spell_pass(answer):
    assert check("30.4", answer).passed


def test_a_merge_step_may_use_lists_and_counters():
    def mine(words, new):
        count = Counter()
        for word, times in words.items():
            for i in range(len(word) - 1):
                count[word[i : i + 2]] += times
        best = sorted(count, key=lambda pair: (-count[pair], pair[0], pair[1]))[0]
        return list(best), Counter({tuple(replay(word, {best: new})): times for word, times in words.items()})

    assert check("30.3", mine).passed


def test_the_bigram_loop_by_loop_passes():
    def mine(counts, D):
        V = len(counts)
        kinds = [sum(counts[a, b] > 0 for a in range(V)) for b in range(V)]
        table = torch.zeros(V, V, dtype=torch.float64)
        for a in range(V):
            total, after = counts[a].sum(), sum(counts[a, b] > 0 for b in range(V))
            for b in range(V):
                low = kinds[b] / sum(kinds)
                table[a, b] = max(counts[a, b] - D, 0) / total + D * after / total * low if total > 0 else low
        return table.float()

    assert check("30.2", mine).passed


def test_the_reference_bigram_sums_to_1_and_keeps_the_shares_of_single_tokens():
    """Kneser and Ney's condition: averaged over what came before, the bigram gives how often each token follows."""
    counts = lesson_30._counts(3, 7)
    table = lesson_30.bigram(counts, 0.75)
    assert torch.allclose(table.sum(1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(counts.sum(1) / counts.sum() @ table, counts.sum(0) / counts.sum())
    by_frequency = lesson_30.MISTAKES["30.2"][0].answer(counts, 0.75)
    assert not torch.allclose(counts.sum(1) / counts.sum() @ by_frequency, counts.sum(0) / counts.sum(), atol=1e-3)


def test_the_reference_bigram_is_nearly_the_packages():
    """On a long text the package's three discounts and its floor of 1 / V are all that differs."""
    ids = torch.randint(0, 12, (40_000,), generator=torch.Generator().manual_seed(0)) ** 2 % 13 // 2
    counts = torch.zeros(7, 7, dtype=torch.float64)
    counts.index_put_((ids[:-1], ids[1:]), torch.ones(len(ids) - 1, dtype=torch.float64), accumulate=True)
    package = torch.stack([NGram.fit(ids, 2, 7).next(torch.tensor([a])) for a in range(7)])
    rows = counts.sum(1) > 0
    assert (lesson_30.bigram(counts, 0.5)[rows] - package[rows]).abs().max() < 2e-3


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        ("30.3", lambda words, new: (1, 2), "return two things"),
        ("30.3", lambda words, new: {(1, 2): 3, (2, 3): 4}, "got "),
        ("30.4", lambda ids, new_id: [[1]], "a flat list of ids"),
        ("30.5", lambda: 5, "return the pattern as a text"),
        ("30.5", lambda: "(", "not a regular expression"),
        ("30.5", lambda: "(a)|[^a]", "capturing groups"),
        ("30.5", lambda: "[a-z]+", "leaves out"),
        ("30.5", lambda: r"(?s).+", "at most 200 are allowed"),
        ("30.5", lambda: r"(?s).", "supports at most"),
        ("30.5", lambda text: text, "keep the parameters"),
    ],
)
def test_unusable_answers_get_a_verdict(exercise, answer, says):
    result = check(exercise, answer)
    assert not result.passed
    assert says in result.message


def test_a_pattern_that_beats_the_lessons_passes_and_the_lessons_does_not():
    assert check("30.5", lambda: r" ?\p{L}+|[^\p{L}\n ]+\n*| |\n+").passed
    result = check("30.5", lambda: bpe.GPT2_PATTERN)
    assert not result.passed
    assert "2.278 bytes a token (and a 3-gram pays 2.437" in result.message
    assert "stand together" in result.hint


def test_a_quick_run_learns_from_little_and_judges_nothing(monkeypatch):
    """AIGC_LESSONS_BUDGET=tiny tests the form of a pattern, and no more."""
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    result = check("30.5", lambda: bpe.GPT2_PATTERN)
    assert result.passed
    assert "expected above" in result.message
    assert not check("30.5", lambda: r"\p{L}+").passed
