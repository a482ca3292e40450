"""The n-gram model against its definition in dictionaries, counted token by token."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lessons.data.text import plays
from aigc_lessons.language.ngram import NGram, discounts
from aigc_lessons.language.tokenizer import CharTokenizer


class Slow:
    """Interpolated Kneser-Ney from its formula. `wrong` plants a mistake."""

    def __init__(self, ids, order, V, wrong=""):
        self.order, self.V, self.wrong = order, V, wrong
        self.adjusted = [self.count(ids, n) for n in range(1, order + 1)]
        self.D = [self.discounts(a) for a in self.adjusted]

    def count(self, ids, n):
        places = range(len(ids) - n + 1)
        if n == self.order or self.wrong == "occurrences at every order":
            return Counter(tuple(ids[j : j + n]) for j in places)
        left = defaultdict(set)
        for j in places:
            if j > 0 or self.wrong != "nothing stands before the text":
                left[tuple(ids[j : j + n])].add(ids[j - 1] if j > 0 else "beginning")
        return {gram: len(neighbours) for gram, neighbours in left.items()}

    def discounts(self, a):
        n = [None] + [sum(count == i for count in a.values()) for i in (1, 2, 3, 4)]
        if 0 in n:
            return [0, 0.5, 1, 1.5]
        Y = n[1] / (n[1] + 2 * n[2])
        D = [0] + [i - (i + 1) * Y * n[i + 1] / n[i] for i in (1, 2, 3)]
        if not all(0 < D[i] < i for i in (1, 2, 3)):
            return [0, 0.5, 1, 1.5]
        return [0, Y, Y, Y] if self.wrong == "one discount" else D

    def p(self, w, context):
        context = tuple(context)[max(0, len(context) - self.order + 1) :]
        a, D = self.adjusted[len(context)], self.D[len(context)]
        below = self.p(w, context[1:]) if context else 1 / self.V
        counts = {gram[-1]: n for gram, n in a.items() if gram[:-1] == context}
        if not counts:
            return below
        total = sum(counts.values())
        held_back = sum(D[min(n, 3)] for n in counts.values())
        here = max(counts.get(w, 0) - D[min(counts.get(w, 0), 3)], 0)
        return here / total + held_back / total * below


def markov(n, V, seed=0):
    """A text with some order in it, so that counts of all sizes occur."""
    draw = np.random.default_rng(seed)
    likely, ids = draw.dirichlet(np.full(V, 0.3), size=(V, V)), [0, 1]
    while len(ids) < n:
        ids.append(int(draw.choice(V, p=likely[ids[-2], ids[-1]])))
    return ids


def tokens(ids):
    return torch.tensor(ids, dtype=torch.long)


def largest_difference(ids, order, V, wrong=""):
    model, slow = NGram.fit(torch.tensor(ids), order, V), Slow(ids, order, V, wrong)
    contexts = [[], ids[:2], ids[-order:], *(markov(6, V, seed) for seed in range(12))]
    return max(abs(p - slow.p(w, c)) for c in contexts for w, p in enumerate(model.next(tokens(c)).tolist()))


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 2), min_size=4, max_size=25), order=st.integers(1, 4))
def test_probabilities_equal_the_definition_on_short_texts(ids, order):
    assert largest_difference(ids, order, 4) < 1e-12


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_equal_the_definition_with_estimated_discounts(order):
    ids = markov(3000, 9)
    assert largest_difference(ids, order, 9) < 1e-12
    if order > 2:  # else the counts are too few or too large, and the discounts the fixed ones
        assert any(D[1] != 0.5 for D in Slow(ids, order, 9).D)


@pytest.mark.parametrize("wrong", ["occurrences at every order", "nothing stands before the text", "one discount"])
def test_the_comparison_can_fail(wrong):
    assert largest_difference(markov(3000, 9), 3, 9, wrong) > 1e-6


@settings(max_examples=100, deadline=None)
@given(
    ids=st.lists(st.integers(0, 5), min_size=5, max_size=60),
    order=st.integers(1, 5),
    context=st.lists(st.integers(0, 6), max_size=8),
)
def test_probabilities_are_positive_and_sum_to_one(ids, order, context):
    """Also for the token 6, which never occurs, and after contexts that never did."""
    p = NGram.fit(torch.tensor(ids), order, 7).next(tokens(context))
    assert p.shape == (7,)
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert p.min() > 0


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 3), min_size=4, max_size=40), held_out=st.lists(st.integers(0, 4), min_size=1))
def test_surprisal_is_minus_log_of_next(ids, held_out):
    model, held_out = NGram.fit(torch.tensor(ids), 4, 5), torch.tensor(held_out)
    surprisal = model.surprisal(held_out)
    for i, token in enumerate(held_out):
        assert surprisal[i].item() == pytest.approx(-model.next(held_out[:i])[token].log().item(), abs=1e-12)
    assert model.nats(held_out) == pytest.approx(surprisal.mean().item())


def test_discounts():
    """n_1 .. n_4 = 8, 4, 2, 1: Y = 1/2, D = 1/2, 5/4, 2. Without a count of 4, the fixed ones."""
    assert discounts(np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 5])).tolist() == [0.5, 1.25, 2.0]
    assert discounts(np.repeat([1, 2, 3], [8, 4, 2])).tolist() == [0.5, 1.0, 1.5]
    assert discounts(np.repeat([1, 2, 3, 4], [5, 1, 9, 1])).tolist() == [0.5, 1.0, 1.5]  # D_2 < 0


def test_more_context_helps_on_a_play():
    """Macbeth, the last tenth held out; a longer memory than the text can fill does little harm."""
    text = plays()["Macbeth"]
    characters = CharTokenizer.from_text(text)
    ids = torch.tensor(characters.encode(text))
    cut = round(0.9 * len(ids))
    nats = [NGram.fit(ids[:cut], order, characters.vocab_size).nats(ids[cut:]) for order in (1, 2, 3, 5, 7)]
    assert math.log(characters.vocab_size) > nats[0] > nats[1] > nats[2] > nats[3]
    assert nats[4] < nats[3] + 0.03
    assert nats[3] == pytest.approx(1.628, abs=0.001)


def test_written_text_follows_the_probabilities(generator):
    """5,000 draws after one context, each token within 5 standard deviations; the same seed writes the same text."""
    ids = torch.tensor(markov(500, 5))
    model = NGram.fit(ids, 3, 5)
    context = torch.tensor([1, 2])
    n = 5_000
    drawn = torch.tensor([next(model.write(context, 1, generator)) for _ in range(n)])
    p = model.next(context)
    assert ((drawn.bincount(minlength=5) - n * p).abs() < 5 * (n * p * (1 - p)).sqrt()).all()
    one, other = (list(model.write(context, 30, torch.Generator().manual_seed(3))) for _ in range(2))
    assert one == other
    assert len(one) == 30
    assert one == list(model.write(torch.cat([ids, context]), 30, torch.Generator().manual_seed(3)))


def test_large_vocabularies_fit_into_a_key(generator):
    """50,000 tokens at order 6 would need 94 bits as one number."""
    ids = torch.randint(50_000, (3000,), generator=generator)
    model = NGram.fit(torch.cat([ids, ids]), 6, 50_000)
    assert model.next(ids[:5])[ids[5]] > 0.4
    assert model.nats(ids) < 2


def test_mistakes_are_named():
    ids = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGram.fit(ids, 0, 3)
    with pytest.raises(ValueError, match="order 4 need a text of at least 4 tokens, got 3"):
        NGram.fit(ids, 4, 3)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=rf"id {wrong} at position 1 is outside the vocabulary, 0\.\.2"):
            NGram.fit(torch.tensor([0, wrong]), 1, 3)
        with pytest.raises(ValueError, match=rf"id {wrong} at position 1"):
            NGram.fit(ids, 2, 3).next(torch.tensor([0, wrong]))
    with pytest.raises(ValueError, match="text is empty"):
        NGram.fit(ids, 2, 3).nats(tokens([]))
