"""The next-token explorer without a browser: probabilities, texts of tokens, the kernel's answers, the still figure."""

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from aigc_lessons.language.generation import filter_logits
from aigc_lessons.language.tokenizer import BPETokenizer, CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.widgets import next_token
from aigc_lessons.widgets.next_token import NextToken, after_controls, next_logits, show_next, token_texts

LETTERS = CharTokenizer("\n abcdefgh")


@pytest.fixture
def model(generator):
    with torch.random.fork_rng():
        network = GPT(GPTConfig(10, 6, 1, 2, 8, dropout=0.5, style="gpt2"))
    for p in network.parameters():
        p.data.normal_(std=0.5, generator=generator)
    return network


def test_after_controls_is_the_softmax_of_filter_logits(generator):
    logits = torch.randn(50, generator=generator) * 3
    for how in [(1.0, None, None), (0.7, 5, None), (1.3, None, 0.8), (2.0, 30, 0.5)]:
        assert torch.equal(after_controls(logits, *how), filter_logits(logits[None], *how)[0].softmax(-1))
    assert torch.equal(after_controls(logits), logits.softmax(-1))


def test_temperature_0_is_greedy_and_takes_the_first_of_equals():
    assert after_controls(torch.tensor([1.0, 2.0, 2.0]), 0).tolist() == [0, 1, 0]
    assert after_controls(torch.tensor([1.0, 2.0, 2.0]), 0, 3, 0.1).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        after_controls(torch.zeros(3), 0, 0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        after_controls(torch.zeros(3), -1.0)


def test_entropy_of_a_certain_and_of_an_even_choice():
    assert str(next_token.entropy(torch.tensor([1.0]))) == "0.0"
    assert next_token.entropy(torch.full((8,), 0.125)) == pytest.approx(math.log(8), abs=1e-12)
    assert next_token.entropy(torch.tensor([0.5, 0.5, 0.0])) == pytest.approx(math.log(2), abs=1e-12)


def test_tokens_can_be_seen():
    assert token_texts(CharTokenizer(" \n\t\ra中\x00")) == ["␣", "⏎", "⇥", "␍", "a", "中", "U+0000"]
    bpe = BPETokenizer.train("to be, or not to be 中中 中中", 264, special_tokens=["<|end|>"])
    texts = token_texts(bpe)
    assert len(texts) == bpe.vocab_size
    assert texts[bpe.encode(" be")[-1]] == "␣be"
    assert texts[-1] == "<|end|>"
    halves = [texts[i] for i in range(256) if bpe.decode_bytes([i]) == b"\xe4"]
    assert halves == ["⟨e4⟩"]
    assert not any("\ufffd" in text or " " in text.strip("⟨⟩ 0123456789abcdef") for text in texts)


def test_the_context_is_cropped_and_dropout_is_off(model):
    ids = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    model.train()
    first = next_logits(model, ids)
    assert model.training
    assert torch.equal(first, next_logits(model, ids[-6:]))
    assert not torch.equal(first, next_logits(model, ids[-5:]))
    model.eval()
    with torch.no_grad():
        assert torch.equal(first, model(torch.tensor([ids[-6:]]))[0, -1])
    assert not first.requires_grad
    with pytest.raises(ValueError, match="at least one token"):
        next_logits(model, [])
    with pytest.raises(FloatingPointError, match="not finite"):
        next_logits(lambda ids: torch.full((1, 1, 3), float("nan")), [1])


def logits_sent(explorer):
    return np.frombuffer(explorer.answer["logits"], "<f4")


def test_the_kernel_answers_what_was_added(model):
    explorer = NextToken(model, LETTERS, "abc")
    assert explorer.answer["added"] == []
    assert explorer.answer["context"] == [3, 3]
    assert np.array_equal(logits_sent(explorer), next_logits(model, LETTERS.encode("abc")).numpy())
    explorer.added = LETTERS.encode("de\nf")
    assert explorer.answer["added"] == LETTERS.encode("de\nf")
    assert explorer.answer["written"] == "de\nf"
    assert explorer.answer["context"] == [6, 7]
    assert np.array_equal(logits_sent(explorer), next_logits(model, LETTERS.encode("bcde\nf")).numpy())
    explorer.added = []
    assert explorer.answer["written"] == ""
    assert np.array_equal(logits_sent(explorer), next_logits(model, LETTERS.encode("abc")).numpy())


def test_parts_of_characters_become_whole_when_they_meet(generator):
    bpe = BPETokenizer.train("to be, or not to be", 258)
    explorer = NextToken(lambda ids: torch.zeros(1, ids.shape[1], 258), bpe, "to be")
    parts = bpe.encode("中")
    assert len(parts) == 3
    explorer.added = parts
    assert explorer.answer["written"] == "中"


def test_repr_has_no_address(model):
    assert repr(NextToken(model, LETTERS, "abc")) == "the next-token explorer, 10 tokens (needs a running kernel)"


def test_mistakes_are_told(model):
    with pytest.raises(ValueError, match="the prompt is empty: give the model at least one token"):
        NextToken(model, LETTERS, "")
    with pytest.raises(ValueError, match="'z'"):
        NextToken(model, LETTERS, "abz")
    with pytest.raises(ValueError, match="10 logits and the tokenizer 9 tokens: was another tokenizer used"):
        NextToken(model, CharTokenizer("abcdefghi"), "abc")
    explorer = NextToken(model, LETTERS, "abc")
    for name, wrong in {"temperature": -1.0, "top_k": 0, "top_p": 0.0, "added": [10]}.items():
        with pytest.raises(ValueError, match=r"must|outside"):
            setattr(explorer, name, wrong)
    with pytest.raises(ValueError, match=r"at least 0\.01"):
        explorer.temperature = float("nan")
    assert (explorer.temperature, explorer.top_k, explorer.top_p, explorer.added) == (1.0, None, None, [])
    explorer.temperature, explorer.top_k, explorer.top_p = 0.0, 7, 0.5


@pytest.fixture
def ax():
    yield plt.figure().add_subplot()
    plt.close("all")


def test_the_still_figure_shows_before_after_and_out(ax):
    tokenizer = CharTokenizer("\n abcdefghijklmnopqrstuvwx$中")
    p = torch.arange(1.0, 29).square()
    logits = (p / p.sum()).log()
    show_next(ax, logits, tokenizer, 0.5, 10, 0.6)
    before, after = ax.patches[::2], ax.patches[1::2]
    after_p = after_controls(logits, 0.5, 10, 0.6)
    assert len(before) == len(after) == 20
    assert [bar.get_width() for bar in before] == pytest.approx(logits.softmax(-1).flip(0)[:20].tolist())
    assert [bar.get_width() for bar in after] == pytest.approx(after_p.flip(0)[:20].tolist())
    out = sum(p == 0 for p in after_p.flip(0)[:20].tolist())
    assert 10 < out < 20
    assert sum(bar.get_linestyle() == ":" for bar in before) == out
    words = [text.get_text() for text in ax.texts]
    assert words.count("out") == out
    assert [label.get_text() for label in ax.get_yticklabels()[:3]] == ["U+4E2D", r"\$", "x"]
    assert f"{28 - 8 - out} of 28" in ax.get_title(loc="left")
    ax.figure.canvas.draw()  # a missing character would warn
    with pytest.raises(ValueError, match="another tokenizer"):
        show_next(ax, logits, LETTERS)


def test_what_rounds_to_0_still_remains(ax):
    show_next(ax, torch.tensor([0.0, 20.0, 10.0]), CharTokenizer("abc"), temperature=0.05)
    assert "out" not in [text.get_text() for text in ax.texts]
    assert ax.get_title(loc="left") == "3 of 3 tokens remain; entropy 0.00 → 0.00 nats"
