"""Weights and operations by formula, against real networks and PyTorch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aigc_lessons.models.counts import flops, parameters
from aigc_lessons.models.gpt import GPT, GPTConfig

SIZES = [(31, 24, 3, 2, 16), (68, 40, 2, 4, 32), (7, 1, 1, 1, 2), (101, 64, 1, 3, 12)]  # V, T, L, heads, C


def network(config):
    with torch.random.fork_rng():
        return GPT(config).eval()


def counted(config, tokens, rows=1, backward=False):
    """Operations that PyTorch sees, where attention is two matrix products."""
    model, ids = network(config), torch.zeros(rows, tokens, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(backward), FlopCounterMode(display=False) as counter:
        logits = model(ids)
        if backward:
            logits.logsumexp(-1).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_weights_are_those_of_the_network(sizes, style):
    config = GPTConfig(*sizes, style=style)
    model, parts = network(config), parameters(config)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    inside = lambda name: sum(p.numel() for n, p in model.named_parameters() if f".{name}." in n)  # noqa: E731
    assert parts["attention"] == inside("attention")
    assert parts["feed-forward"] == inside("feed_forward")
    assert parts["embedding"] == model.embed.weight.numel()


def test_known_sizes():
    """GPT-2 small has 124,439,808 weights; GPT-3 "175 billion"."""
    assert sum(parameters(GPTConfig(50257, 1024, 12, 12, 768, style="gpt2")).values()) == 124_439_808
    assert round(sum(parameters(GPTConfig(50257, 2048, 96, 96, 12288, style="gpt2")).values()) / 1e9) == 175


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_operations_are_those_that_pytorch_counts(sizes, style):
    config = GPTConfig(*sizes, style=style)
    assert sum(flops(config).values()) == counted(config, config.block_size)
    if config.block_size > 5:
        assert sum(flops(config, 5).values()) == counted(config, 5)
        assert 3 * sum(flops(config, 5).values()) == counted(config, 5, rows=3)


def test_a_training_step_takes_three_times_as_many():
    config = GPTConfig(31, 24, 3, 2, 16, style="gpt2")
    assert counted(config, 24, backward=True) == 3 * sum(flops(config).values())


@pytest.mark.parametrize("part", ["scores", "head", "projections", "feed-forward"])
def test_a_part_forgotten_would_show(part):
    config = GPTConfig(31, 24, 3, 2, 16, style="gpt2")
    parts = flops(config)
    assert sum(parts.values()) - parts[part] != counted(config, 24)


def test_tokens_outside_the_block_are_refused():
    config = GPTConfig(31, 24, 3, 2, 16)
    for wrong in (0, 25):
        with pytest.raises(ValueError, match=f"block_size = 24, got {wrong}"):
            flops(config, wrong)
