"""The lens explorer without a browser: what it computes, what it sends, what it refuses."""

import numpy as np
import pytest
import torch

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.widgets.lens import LensExplorer, read_line
from aigc_lessons.widgets.playground import weights_of

LETTERS = "\n abcd"


def network(style="modern", vocab_size=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size, 16, 2, 2, 8, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.4)
    return model


def explorer(text="abba", **settings):
    return LensExplorer(network(), CharTokenizer(LETTERS), text, **settings)


@torch.no_grad()
def test_a_line_through_the_lens():
    model, ids = network(), torch.tensor([2, 3, 3, 2, 5])
    line = read_line(model, ids)
    assert line.p.shape == (5, 5, 6)
    assert torch.allclose(line.p.sum(-1), torch.ones(5, 5))
    assert torch.allclose(line.p[-1], model(ids[None])[0].softmax(-1), atol=1e-5)
    wanted = torch.nn.functional.cross_entropy(model(ids[None])[0, :-1], ids[1:]).item()
    assert line.loss == pytest.approx(wanted, abs=1e-5)
    assert line.wrote[0] == pytest.approx(torch.ones(5), abs=1e-3)  # the embedding is brought to length first
    assert line.nats.shape == (5, 4)


@torch.no_grad()
def test_a_part_switched_off_writes_nothing_and_costs_something():
    model, ids = network(), torch.tensor([2, 3, 3, 2, 5])
    whole, less = read_line(model, ids), read_line(model, ids, [(0, "feed-forward")])
    assert less.wrote[2].abs().max() == 0
    assert torch.equal(less.p[1], less.p[2])
    assert torch.equal(less.p[1], whole.p[1])
    assert abs(less.loss - whole.loss) > 1e-3


def test_the_weights_travel_once_and_parts_have_names():
    given = explorer().given
    assert np.array_equal(np.frombuffer(given["weights"], "<f4"), weights_of(network()).numpy())
    assert given["names"] == ["attention 1", "feed-forward 1", "attention 2", "feed-forward 2"]
    assert given["longest"] == 16, "no longer than the block"
    assert "4 parts" in repr(explorer())


def test_settings_are_checked():
    assert explorer(off=[3, 1, 3]).off == [1, 3]
    with pytest.raises(Exception, match=r"0\.\.3, got \[4\]"):
        explorer(off=[4])
    with pytest.raises(Exception, match="position"):
        explorer(position=-1)


def test_what_does_not_fit_is_refused():
    for text in ("a", "a" * 17):
        with pytest.raises(ValueError, match=f"2 to 16 characters, got {len(text)}"):
            explorer(text)
    with pytest.raises(ValueError, match="7 tokens and the tokenizer 6"):
        LensExplorer(network(vocab_size=7), CharTokenizer(LETTERS), "abba")
    with pytest.raises(ValueError, match="'modern' style only"):
        LensExplorer(network("gpt2"), CharTokenizer(LETTERS), "abba")
    with pytest.raises(ValueError, match="at least two tokens"):
        read_line(network(), torch.tensor([2]))
