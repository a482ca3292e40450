"""LoRA is the formula, begins as nothing, learns beside frozen weights, and can be merged into them."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aigc_lessons.language.generation import generate
from aigc_lessons.language.objective import next_token_loss
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.lora import LoRALinear, add_lora, load_lora, lora_layers, lora_state, merged
from aigc_lessons.models.mlp import MLP
from aigc_lessons.recipes import seeded
from aigc_lessons.training.loop import TrainConfig, train


def gpt(style="modern"):
    model = seeded(lambda: GPT(GPTConfig(11, 16, 2, 2, 8, style=style)), 3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return model


def taught(model, rank=2, **how):
    """With LoRA whose B is not zero any more."""
    generator = torch.Generator().manual_seed(8)
    add_lora(model, rank, generator=generator, **how)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator, dtype=layer.B.dtype))
    return model


IDS = torch.arange(20).reshape(2, 10) % 11


def test_it_is_the_formula(generator):
    linear = seeded(lambda: nn.Linear(6, 5), 0).double()
    layer = LoRALinear(linear, 3, 12.0, generator)
    nn.init.normal_(layer.B, generator=generator)
    x = torch.randn(4, 7, 6, generator=generator, dtype=torch.float64)
    each = [[linear.weight @ v + linear.bias + 12 / 3 * layer.B @ (layer.A @ v) for v in row] for row in x]
    assert torch.allclose(layer(x), torch.stack([torch.stack(row) for row in each]), rtol=1e-13)
    assert torch.linalg.matrix_rank(layer.change) == 3
    assert torch.allclose(F.linear(x, layer.weight, layer.bias), layer(x), rtol=1e-12)


@pytest.mark.parametrize("style", ["modern", "gpt2"])
def test_a_new_one_changes_nothing_and_only_it_can_learn(style, generator):
    model = gpt(style)
    before = model(IDS)
    names = add_lora(model, 2, generator=generator)
    assert torch.equal(model(IDS), before)
    assert names == [f"blocks.{i}.{n}" for i in (0, 1) for n in (
        "attention.qkv", "attention.proj", "feed_forward.fc", "feed_forward.proj")]  # fmt: skip
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learns == {f"{n}.{p}" for n in names for p in "AB"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_moves_the_change_and_nothing_else(optimizer, generator):
    model = gpt()
    add_lora(model, 2, layers={"qkv"}, generator=generator)
    before = deepcopy(model.state_dict())
    batch = (IDS[:, :-1], IDS[:, 1:])
    config = TrainConfig(steps=30, lr=0.02, optimizer=optimizer, ema=None, log_every=1)
    losses = [log.loss for log in train(model, next_token_loss(), lambda step: batch, config)]
    assert losses[-1] < losses[0] - 0.1
    moved = {n for n, p in model.state_dict().items() if not torch.equal(p, before[n])}
    assert moved == {f"blocks.{i}.attention.qkv.{p}" for i in (0, 1) for p in "AB"}


@pytest.mark.parametrize("style", ["modern", "gpt2"])
def test_merged_is_the_same_function_in_plain_layers(style):
    model = taught(gpt(style).double(), alpha=5.0)
    plain, before = merged(model), model(IDS)
    assert not lora_layers(plain)
    assert len(lora_layers(model)) == 8
    assert torch.equal(model(IDS), before)
    assert ((plain(IDS) - before).abs().max() / before.abs().max()).item() <= 1e-10
    assert all(p.requires_grad for p in plain.parameters())
    forgotten = merged(model)  # the test can fail: without alpha / r the same comparison sees it
    for name, layer in lora_layers(model).items():
        forgotten.get_submodule(name).weight.data = layer.linear.weight + layer.B @ layer.A
    assert ((forgotten(IDS) - before).abs().max() / before.abs().max()).item() > 1e-3


def test_writing_with_a_cache_obeys_the_change():
    model = taught(gpt()).eval()
    written = [
        torch.stack(list(generate(m, IDS[:1, :3], 8, temperature=0.0, use_cache=cache)))
        for m, cache in ((model, True), (model, False), (merged(model), True))
    ]
    assert torch.equal(written[0], written[1])
    assert torch.equal(written[0], written[2])


def test_what_was_learned_can_be_carried_to_another_copy():
    first, second = taught(gpt()), gpt()
    add_lora(second, 2, generator=torch.Generator().manual_seed(99))
    load_lora(second, lora_state(first))
    assert torch.equal(first(IDS), second(IDS))
    state = lora_state(second)
    for wrong in ({}, {**state, "else.A": state.popitem()[1]}, {n: p[:1] for n, p in lora_state(second).items()}):
        before = lora_state(second)
        with pytest.raises(ValueError, match=r"the model has .* the state"):
            load_lora(second, wrong)
        assert all(torch.equal(p, before[n]) for n, p in lora_state(second).items())


def test_any_network_can_wear_it(generator):
    network = seeded(lambda: MLP(2, width=16, layers=2), 0)
    assert add_lora(network, 1, layers=["enter"], generator=generator) == ["enter"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rank": 0}, r"1\.\.8 for a layer of 24 x 8, got 0"),
        ({"rank": 9}, r"1\.\.8 .* got 9"),
        ({"rank": 9, "layers": ["head"]}, "no linear layer named head"),
        ({"rank": 2, "alpha": 0.0}, "alpha must be above 0, got 0.0"),
        ({"rank": 2, "layers": {"query", "qkv"}}, "no linear layer named query; it has: fc, proj, qkv"),
        ({"rank": 2, "layers": ()}, "it has: fc, proj, qkv"),
    ],
)
def test_what_makes_no_sense_is_named_and_leaves_the_model_alone(how, message, generator):
    model = gpt()
    with pytest.raises(ValueError, match=message):
        add_lora(model, **how, generator=generator)
    assert not lora_layers(model)
    assert all(p.requires_grad for p in model.parameters())


def test_twice_is_once_too_often(generator):
    model = taught(gpt())
    with pytest.raises(ValueError, match="already"):
        add_lora(model, 2, generator=generator)
