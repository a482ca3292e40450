"""The few-bits explorer without a browser: outliers that change nothing, sizes, settings, what it refuses."""

import numpy as np
import pytest
import torch

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.quantize import quantize
from aigc_lessons.widgets import fewbits
from aigc_lessons.widgets.fewbits import LENGTH, PARTS, PRESETS, FewBits, nats, nearest_points, planted, squeezed
from aigc_lessons.widgets.playground import weights_of

LETTERS = "\n abcd"


def network(style="modern", vocab_size=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size, 128, 2, 2, 16, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.3)
    return model


def explorer(**settings):
    return FewBits(network(), CharTokenizer(LETTERS), "abba cad\n" * 20, prompt="ab", **settings)


def test_outliers_change_the_weights_and_not_the_function():
    model, other, ids = network(), network(), torch.randint(6, (2, 30), generator=torch.Generator().manual_seed(0))
    changed = planted(model.state_dict(), 64.0)
    other.load_state_dict(changed)
    with torch.no_grad():
        torch.testing.assert_close(other(ids), model(ids), rtol=1e-4, atol=1e-4)
    name = "blocks.0.feed_forward.proj.weight"
    assert changed[name].abs().max() > 20 * model.state_dict()[name].abs().max()
    lost = [(w - quantize(w, 4).dequantize()).norm() / w.norm() for w in (model.state_dict()[name],)]
    rest = torch.ones(64, dtype=torch.bool)
    rest[5::32] = False
    w = changed[name]
    assert (w - quantize(w, 4).dequantize())[:, rest].norm() / w[:, rest].norm() > 5 * lost[0]


def test_parts_sizes_and_errors():
    state = network().state_dict()
    total = sum(w.numel() for w in state.values())
    same, size, error = squeezed(state, 4, parts=())
    assert (size, error) == (4 * total, 0.0)
    assert all(torch.equal(same[name], w) for name, w in state.items())
    everything, size, error = squeezed(state, 4, 0)
    rows = sum(len(w) for w in state.values())
    assert size == sum(-(-w.numel() * 4 // 8) for w in state.values()) + 2 * rows
    assert 0.02 < error < 0.3
    assert not any(torch.equal(everything[name], w) for name, w in state.items())
    head, _, _ = squeezed(state, 2, parts=("head",))
    assert [name for name, w in state.items() if not torch.equal(head[name], w)] == ["head.weight"]


def test_the_passage_is_priced_in_windows():
    model, ids = network(), [1, 2, 3, 4] * 50
    wanted = 0.0
    with torch.no_grad():
        for i in range(len(ids) - 1):
            start = i // 128 * 128
            wanted -= model(torch.tensor([ids[start : i + 1]]))[0, -1].log_softmax(-1)[ids[i + 1]].item()
    assert nats(model, ids) == pytest.approx(wanted / (len(ids) - 1), rel=1e-4)


def test_what_travels():
    one = explorer(bits=3, outlier=16, parts=["head", "embedding"])
    assert np.array_equal(np.frombuffer(one.given["weights"], "<f4"), weights_of(network()).numpy())
    assert one.given["length"] == LENGTH
    assert one.parts == ["embedding", "head"]
    for preset in PRESETS.values():
        assert set(preset) <= {"bits", "group", "outlier", "search", "parts"}
        explorer(**preset)
    assert "weights (needs a running kernel)" in repr(one)
    assert set(PARTS) == {"embedding", "attention", "feed-forward", "head"}


def test_settings_are_checked():
    one = explorer()
    for name, value, says in [
        ("bits", 9, "bits must be one of 2, 3"),
        ("group", 7, "group must be one of 8, 16"),
        ("outlier", 3, "outlier must be one of 1, 4"),
        ("parts", ["tail"], "got 'tail'"),
    ]:
        with pytest.raises(Exception, match=says):
            setattr(one, name, value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FewBits(network("gpt2"), CharTokenizer(LETTERS), "abab", "a"), "'modern' style only"),
        (lambda: FewBits(network(vocab_size=7), CharTokenizer(LETTERS), "abab", "a"), "7 tokens and the tokenizer 6"),
        (lambda: FewBits(network(), CharTokenizer(LETTERS), "a", "a"), "got 1 and 1"),
        (lambda: FewBits(network(), CharTokenizer(LETTERS), "abab", ""), "got 4 and 0"),
        (lambda: FewBits(network(), CharTokenizer(LETTERS), "abab", "a" * 40), "do not fit into 128"),
    ],
)
def test_what_does_not_fit_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_the_still_picture_rounds_as_the_package_does():
    weights = torch.randn(20, generator=torch.Generator().manual_seed(1))
    to, grid = nearest_points(weights, 3)
    assert torch.equal(to, quantize(weights[None], 3).dequantize()[0])
    assert len(grid) == 7
    assert ((to[:, None] - grid).abs().min(1).values < 1e-6).all()
    assert fewbits.TEMPERATURE > 0
