"""The decoding playground without a browser: its measures, its weights, what it refuses."""

import numpy as np
import pytest
import torch

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.widgets.playground import LENGTH, PRESETS, Playground, known_words, repeated, weights_of

HUMAN = {"nats": 1.5, "repeated": 0.02, "known": 0.98}
LETTERS = "\n abcd"


def network(style="modern", vocab_size=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT(GPTConfig(vocab_size, 16, 2, 2, 8, style=style)).eval()


def playground(**settings):
    return Playground(network(), CharTokenizer(LETTERS), {"abba", "cab"}, HUMAN, "ab", **settings)


def test_what_was_written_before_is_counted():
    assert repeated("abcabc", 3) == pytest.approx(1 / 4)  # abc bca cab abc
    assert repeated("aaaaaaaa", 2) == pytest.approx(6 / 7)
    assert repeated("short", 8) == 0
    assert repeated("every letter differs", 8) == 0


def test_known_words_are_whole_and_long():
    words = {"there", "that", "cut"}
    assert known_words("there That thereof x that cut there", words) == pytest.approx(2 / 3)
    assert known_words("there", words) == 0
    assert known_words("", words) == 0


def test_all_weights_travel_once():
    model = network()
    sent = np.frombuffer(playground().given["weights"], "<f4")
    assert np.array_equal(sent, weights_of(model).numpy())
    assert len(sent) == sum(p.numel() for p in model.parameters())
    assert np.array_equal(sent[-len(LETTERS) * 8 :], model.head.weight.detach().flatten().numpy())
    with pytest.raises(ValueError, match="'modern' style only, got 'gpt2'"):
        weights_of(network("gpt2"))


def test_settings_are_checked():
    explorer = playground(temperature=0.0, min_p=0.2)
    assert (explorer.temperature, explorer.min_p, explorer.top_p, explorer.penalty) == (0.0, 0.2, None, 1.0)
    for name, value, says in [
        ("temperature", 4.0, "0.05..3"),
        ("temperature", -1.0, "0.05..3"),
        ("top_k", 0, "top_k"),
        ("top_p", 1.5, "top_p"),
        ("min_p", -0.1, "min_p"),
        ("penalty", 0.5, "1..3"),
    ]:
        with pytest.raises(Exception, match=says):
            setattr(explorer, name, value)
    assert "6 characters" in repr(explorer)


def test_every_preset_is_a_setting():
    for preset in PRESETS.values():
        explorer = playground(**preset)
        assert all(getattr(explorer, name) == value for name, value in preset.items())
    assert explorer.given["length"] == LENGTH


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="prompt is empty"):
        Playground(network(), CharTokenizer(LETTERS), set(), HUMAN, "")
    with pytest.raises(ValueError, match="7 tokens and the tokenizer 6"):
        Playground(network(vocab_size=7), CharTokenizer(LETTERS), set(), HUMAN, "ab")
