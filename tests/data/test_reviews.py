"""Reviews: labels by a second reading, and traps that no counting of words can see through."""

import re
from collections import Counter

import pytest
import torch

from aigc_lessons.data import reviews as module
from aigc_lessons.data.reviews import BLAME, DENYING, PRAISE, mirror, reviews


def made(n=400, seed=0, **how):
    return reviews(n, torch.Generator().manual_seed(seed), **how)


def read(text):
    """A reader of its own: each half asserts or denies; all that is said must agree."""
    halves = text.split(" and ")
    said = []
    for half in halves:
        words = re.findall(r"[a-z]+", half)
        kind = any(w in PRAISE for w in words)
        said.append(kind != any(w in DENYING for w in words))
    assert len(halves) == 2
    assert said[0] == said[1]
    return int(said[0])


def grams(text, n):
    words = re.findall(r"[A-Za-z']+", text)
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def test_labels_are_what_a_reader_says():
    found = made()
    assert [read(text) for text in found.texts] == found.labels.tolist()
    assert [
        any(d in text.split(" ", 3)[3].replace(",", "").split() for d in DENYING) for text in found.texts
    ] == found.traps.tolist()
    assert max(map(len, found.texts)) <= 128
    assert 150 < found.labels.sum() < 250
    assert 150 < found.traps.sum() < 250


def test_the_mirror_of_a_trap_has_the_same_counts_and_the_opposite_label():
    found = made(traps=1.0)
    for text, label in zip(found.texts, found.labels.tolist(), strict=True):
        other = mirror(text)
        assert other != text
        assert mirror(other) == text
        assert read(other) == 1 - label
        for n in (1, 2, 3):
            assert grams(other, n) == grams(text, n)
        for n in range(1, 5):
            letters = [Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (text, other)]
            assert letters[0] == letters[1]
    assert grams(other, 4) != grams(text, 4), "four words in a row reach the word that denies"


def test_a_review_that_gives_itself_away_is_noticed(monkeypatch):
    """If what follows differed between the halves, triples would tell."""
    text = made(1, traps=1.0).texts[0]
    cut = text.rsplit(", ", 1)[0] + "."
    assert grams(mirror(cut), 3) != grams(cut, 3)


def test_both_orders_are_drawn_and_the_seed_decides():
    found = made(traps=1.0)
    first = [any(d in t.split(" and ")[0].split(" was ")[1] for d in DENYING) for t in found.texts]
    assert 150 < sum(first) < 250
    assert made().texts == made().texts != made(seed=1).texts


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: made(0), "at least 1, got 0"),
        (lambda: made(3, traps=1.5), r"0\.\.1, got 1.5"),
        (lambda: mirror("The plot was never dull."), "this text has 1"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_words_and_their_kinds_are_apart():
    assert not set(PRAISE) & set(BLAME)
    assert len(set(module.ASSERTING + DENYING)) == 6
