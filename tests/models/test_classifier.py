"""A classifier on a trunk: pooled by hand, blind to padding, and on the network's own vectors."""

import pytest
import torch
import torch.nn.functional as F
from strict_typing import unchecked
from torch import nn

from aigc_lessons.models.classifier import PAD, Classifier, padded
from aigc_lessons.models.gpt import GPT, GPTConfig


def gpt(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT(GPTConfig(11, 6, 2, 2, 8)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.5)
    return model


IDS = padded([[[1, 2, 3], [4, 5, 6, 7, 8, 9]], [[3]], [[5, 6], [7]]], 6)


def by_hand(model, texts, pool):
    """Window by window, without padding and without batches."""
    rows = []
    for text in texts:
        x = torch.cat([stream(model, window) for window in text])
        rows.append(x.mean(0) if pool == "mean" else x[-1])
    return torch.stack(rows)


def stream(model, window):
    """The vectors that the head reads, through a hook: nothing is taken off."""
    seen = []
    handle = model.norm.register_forward_hook(lambda m, a, out: seen.append(out[0]))
    model(torch.tensor([window]))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_features_are_the_pooled_stream(pool):
    texts = [[[1, 2, 3], [4, 5, 6, 7, 8, 9]], [[3]], [[5, 6], [7]]]
    wanted = by_hand(gpt(), texts, pool)
    network = Classifier(gpt(), 8, 3, pool)
    torch.testing.assert_close(network.features(IDS), wanted)
    network.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(IDS), F.linear(wanted, network.head.weight))


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_padding_says_nothing(pool):
    network = Classifier(gpt(), 8, 2, pool)
    wide = torch.full((3, 4, 6), PAD)
    wide[:, :2] = IDS
    torch.testing.assert_close(network.features(wide), network.features(IDS))
    torch.testing.assert_close(network.features(wide[:1]), network.features(IDS)[:1])


def test_a_mean_over_padding_is_noticed():
    """What a mask forgotten would give is not what the package gives."""
    network = Classifier(gpt(), 8, 2)
    with torch.no_grad():
        careless = network.trunk(IDS.clamp(min=0).view(-1, 6)).view(3, 12, 8).mean(1)
    assert not torch.allclose(careless, network.features(IDS), atol=1e-3)


def test_a_new_head_says_one_half_and_everything_can_learn():
    network = Classifier(gpt(), 8, 2)
    assert network(IDS).tolist() == [[0.0, 0.0]] * 3
    network.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    F.cross_entropy(network(IDS), torch.tensor([0, 1, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert isinstance(network.trunk.head, nn.Identity)


def test_windows_of_ids():
    assert IDS.shape == (3, 2, 6)
    assert IDS[1].tolist() == [[3] + 5 * [PAD], 6 * [PAD]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Classifier(gpt(), 8, 1), "at least 2 classes, got 1"),
        (
            lambda: unchecked(Classifier.__init__)(Classifier.__new__(Classifier), gpt(), 8, 2, "max"),
            "mean, last, got 'max'",
        ),
        (lambda: Classifier(gpt(), 8, 2).features(torch.full((2, 1, 6), PAD)), "text 0 of 2 has no token"),
        (lambda: padded([], 6), "no text"),
        (lambda: padded([[[1] * 7]], 6), "7 tokens, the network reads 6"),
    ],
)
def test_bad_input_is_named(call, says):
    with torch.random.fork_rng(), pytest.raises(ValueError, match=says):
        call()
