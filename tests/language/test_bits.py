"""Bits against scipy, against a code that really is written and read, and against a text of known entropy rate."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aigc_lessons.language.bits import bits_per_byte, entropy, entropy_rate, kl, shannon_code
from aigc_lessons.language.ngram import NGram


def drawn(seed, V):
    return torch.rand(V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).pow(3)


@pytest.mark.parametrize("seed", range(6))
def test_entropy_and_kl_are_scipys(seed):
    p, q = (drawn(s, 2 + 5 * seed) for s in (seed, seed + 100))
    p, q = p / p.sum(), q / q.sum()
    assert entropy(p) == pytest.approx(stats.entropy(p.numpy(), base=2))
    assert kl(p, q) == pytest.approx(stats.entropy(p.numpy(), q.numpy(), base=2))
    assert kl(p, p) == pytest.approx(0, abs=1e-12)
    assert kl(p, q) > 0


def test_values_known_by_heart():
    assert entropy(torch.tensor([1.0, 0.0])) == 0
    assert math.copysign(1, entropy(torch.tensor([1.0, 0.0]))) == 1
    assert entropy(torch.full((8,), 1 / 8)) == pytest.approx(3)
    assert entropy(torch.tensor([0.5, 0.25, 0.125, 0.125])) == 1.75
    assert kl(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])) == pytest.approx(2)
    assert kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])) == math.inf
    assert shannon_code(torch.tensor([0.5, 0.25, 0.125, 0.125])) == ["0", "10", "110", "111"]
    assert shannon_code(torch.tensor([0.25, 0.5, 0.25])) == ["10", "0", "11"]
    assert shannon_code(torch.tensor([1.0])) == [""]
    assert bits_per_byte(torch.full((3,), math.log(2)), "ab三") == pytest.approx(3 / 5)


def prefix_free(words):
    return not any(b.startswith(a) for a, b in itertools.permutations(words, 2))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=40))
def test_a_shannon_code_can_be_read_and_is_within_one_bit(counts):
    p = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    words = shannon_code(p)
    assert prefix_free(words)
    mean = sum(x * len(word) for x, word in zip(p.tolist(), words, strict=True))
    assert entropy(p) - 1e-9 <= mean < entropy(p) + 1


def test_the_test_of_prefixes_can_fail():
    assert not prefix_free(["0", "10", "101"])


def chain(V=5):
    table = drawn(1, V * V).reshape(V, V)
    return table / table.sum(1, keepdim=True)


def test_the_rate_of_a_chain_is_what_a_long_text_costs():
    """100,000 tokens of a chain, weighed by the chain itself: the mean is within 4 standard errors of the rate."""
    table, n = chain(), 100_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    edges, text = table.cumsum(1).tolist(), [0]
    for x in u.tolist():
        text.append(min(sum(x > edge for edge in edges[text[-1]]), len(edges) - 1))
    bits = -torch.stack([table[a, b] for a, b in itertools.pairwise(text)]).log2()
    error = bits.std() / n**0.5  # neighbours hardly depend on each other here: the second number is close to 0
    assert abs(bits.mean() - entropy_rate(table)) < 4 * error
    wrong = sum(entropy(row) for row in table) / len(table)  # every token equally often: not this chain
    assert abs(bits.mean() - wrong) > 4 * error
    fitted = NGram.fit(torch.tensor(text), 2, len(table)).surprisal(torch.tensor(text)).mean() / math.log(2)
    assert fitted == pytest.approx(entropy_rate(table), abs=0.01)


def test_a_chain_without_memory_has_the_entropy_of_its_row():
    row = torch.tensor([0.5, 0.25, 0.25])
    assert entropy_rate(row.expand(3, 3)) == pytest.approx(1.5)
    assert entropy_rate(torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: entropy(torch.tensor([0.5, 0.6])), "a sum of 1.1"),
        (lambda: entropy(torch.tensor([1.5, -0.5])), "least -0.5"),
        (lambda: kl(torch.tensor([1.0]), torch.tensor([0.5, 0.5])), "p has 1 probabilities and q 2"),
        (lambda: kl(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.6])), "q must be probabilities"),
        (lambda: entropy_rate(torch.ones(2, 3) / 3), "square"),
        (lambda: entropy_rate(torch.tensor([[0.5, 0.5], [0.5, 0.4]])), "row 1 must be"),
        (lambda: shannon_code(torch.tensor([1.0, 0.0])), "number 1 has probability 0"),
        (lambda: bits_per_byte(torch.zeros(0), ""), "empty"),
    ],
)
def test_what_makes_no_sense_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
