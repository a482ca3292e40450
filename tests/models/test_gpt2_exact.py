"""The "gpt2" style is GPT-2: logits of `transformers` in float64 to 1e-9, at several shapes; its weights there and back."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from aigc_lessons.models.gpt import GPT, GPTConfig

SHAPES = [(31, 24, 3, 2, 16, 3), (68, 40, 2, 4, 32, 1), (101, 16, 1, 1, 12, 5), (50, 33, 4, 3, 24, 2), (5, 1, 2, 2, 4, 2)]


def theirs(V, T, L, heads, C, seed=0):
    """Random everywhere: a zero would hide a mistake."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (
            GPT2LMHeadModel(
                GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=heads, bos_token_id=0, eos_token_id=0)
            )
            .double()
            .eval()
        )
        for p in model.parameters():
            p.data.normal_(std=0.3)
    return model


def apart(model, reference, ids):
    with torch.no_grad():
        return (model(ids) - reference(ids).logits).abs().max().item()


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_agree_to_a_billionth(shape, generator):
    V, T, L, heads, C, B = shape
    reference = theirs(V, T, L, heads, C)
    model = GPT.from_gpt2(reference.state_dict(), heads).eval()
    assert model.embed.weight.dtype == torch.float64
    for length in {1, (T + 1) // 2, T}:
        assert apart(model, reference, torch.randint(V, (B, length), generator=generator)) <= 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_there_and_back_are_the_same_bits(shape):
    V, T, L, heads, C, _ = shape
    state = theirs(V, T, L, heads, C).state_dict()
    back = GPT.from_gpt2(state, heads).to_gpt2()
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    with torch.random.fork_rng():
        ours = GPT(GPTConfig(V, T, L, heads, C, style="gpt2"))
    again = GPT.from_gpt2(ours.to_gpt2(), heads)
    assert again.embed.weight.dtype == torch.float32
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert again.head.weight is again.embed.weight, "tied"


def with_exact_gelu(model):
    for block in model.blocks:
        block.feed_forward.bend = torch.nn.functional.gelu


def with_another_eps(model):
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def with_scores_not_scaled(model):
    for block in model.blocks:
        block.attention.qkv.weight.data[: model.config.n_embd] *= 8**0.5


@pytest.mark.parametrize("spoil", [with_exact_gelu, with_another_eps, with_scores_not_scaled, lambda m: m.float().double()])
def test_small_differences_show(spoil, generator):
    """The exact GELU, another epsilon, unscaled scores, a detour through float32: all are far above 1e-9."""
    reference = theirs(31, 24, 3, 2, 16)
    model = GPT.from_gpt2(reference.state_dict(), 2).eval()
    spoil(model)
    assert apart(model, reference, torch.randint(31, (2, 24), generator=generator)) > 1e-8
