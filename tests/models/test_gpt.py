import math

import pytest
import torch
from strict_typing import unchecked
from transformers import GPT2Config, GPT2LMHeadModel

from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.layers import rope_turns, rotate


def made(style="modern", seed=0, wild=True, **sizes):
    """A small GPT; `wild` fills every weight, so that no zero hides a mistake."""
    config = GPTConfig(**{"vocab_size": 31, "block_size": 24, "n_layer": 3, "n_head": 2, "n_embd": 16, **sizes}, style=style)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT(config).eval()
        if wild:
            for p in model.parameters():
                p.data.normal_(std=0.3)
    return model


def theirs(seed=0):
    config = GPT2Config(vocab_size=31, n_positions=24, n_embd=16, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).eval()
        for p in model.parameters():
            p.data.normal_(std=0.3)
    return model


def tokens(generator, B=3, T=20, V=31):
    return torch.randint(V, (B, T), generator=generator)


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def test_gpt2_gives_the_logits_of_transformers(generator):
    reference, ids = theirs(), tokens(generator)
    model = GPT.from_gpt2(reference.state_dict(), n_head=2).eval()
    wanted = reference(ids).logits
    assert relative(model(ids), wanted) < 1e-5
    with pytest.raises(AssertionError):  # the comparison can fail: another number of heads is another model
        assert relative(GPT.from_gpt2(reference.state_dict(), n_head=4).eval()(ids), wanted) < 1e-5


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.blocks[1].norm2.bias.data.add_(0.1),
        lambda m: m.position.weight.data.copy_(m.position.weight.data.roll(1, 0)),
        lambda m: m.blocks[0].attention.qkv.weight.data.copy_(m.blocks[0].attention.qkv.weight.data.roll(16, 0)),
    ],
    ids=["a bias", "positions off by one", "q, k, v in another order"],
)
@torch.no_grad()
def test_a_planted_difference_from_transformers_shows(spoil, generator):
    reference, ids = theirs(), tokens(generator)
    model = GPT.from_gpt2(reference.state_dict(), n_head=2).eval()
    spoil(model)
    assert relative(model(ids), reference(ids).logits) > 1e-3


@torch.no_grad()
def test_transformers_loads_what_we_export(generator):
    model, reference, ids = made("gpt2"), theirs(seed=5), tokens(generator)
    missing = reference.load_state_dict(model.to_gpt2(), strict=False)
    assert not missing.unexpected_keys
    assert not missing.missing_keys
    assert relative(model(ids), reference(ids).logits) < 1e-5


def test_gradients_agree_with_transformers(generator):
    reference, ids = theirs(), tokens(generator)
    model = GPT.from_gpt2(reference.state_dict(), n_head=2)
    model(ids).logsumexp(-1).sum().backward()
    reference(ids).logits.logsumexp(-1).sum().backward()
    assert relative(model.embed.weight.grad, reference.transformer.wte.weight.grad) < 1e-4
    assert relative(model.blocks[1].feed_forward.fc.weight.grad, reference.transformer.h[1].mlp.c_fc.weight.grad.T) < 1e-4


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_the_future_is_not_seen(style, generator):
    model, ids = made(style), tokens(generator)
    changed = ids.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 31
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("pieces", [[1] * 20, [7, 1, 5, 7], [19, 1]])
@torch.no_grad()
def test_the_cache_changes_nothing(style, pieces, generator):
    model, ids = made(style), tokens(generator)
    cache = model.new_cache()
    parts = [model(piece, cache) for piece in ids.split(pieces, 1)]
    assert cache.length == 20
    assert relative(torch.cat(parts, 1), model(ids)) < 1e-5


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_a_cache_that_was_cut_has_never_read_the_rest(style, generator):
    model, ids, other = made(style), tokens(generator), tokens(generator)
    cache = model.new_cache()
    model(torch.cat([ids[:, :7], other[:, 7:15]], 1), cache)
    cache.cut(7)
    assert relative(model(ids[:, 7:], cache), model(ids)[:, 7:]) < 1e-5
    with pytest.raises(ValueError, match="has read 20 tokens; it cannot be cut to 21"):
        cache.cut(21)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_the_short_way_of_a_cache_knows_replaced_parts_and_hooks(style, generator):
    """An adapter in place of a linear layer works in both ways, and so does a hook."""

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model, ids, heard = made(style), tokens(generator), []
    before = model(ids)
    old = model.blocks[1].attention.proj
    with torch.random.fork_rng():
        model.blocks[1].attention.proj = Doubled(16, 16, bias=old.bias is not None)
    model.blocks[1].attention.proj.load_state_dict(old.state_dict())
    model.blocks[2].norm2.register_forward_hook(lambda *all: heard.append(1))
    cache = model.new_cache()
    got = torch.cat([model(one, cache) for one in ids.split(1, 1)], 1)
    assert len(heard) == 20
    assert relative(got, model(ids)) < 1e-5
    assert relative(got, before) > 1e-2


@torch.no_grad()
def test_the_cache_takes_its_room_once(generator):
    """2 x layers x rows x block_size x width numbers, from the first token on."""
    model, cache = made(), made().new_cache()
    for k in (1, 9):
        model(tokens(generator, T=k), cache)
        held = [part for pair in cache.kept.values() for part in pair]
        assert sum(part.numel() for part in held) == 2 * 3 * 3 * 24 * 16
    with pytest.raises(ValueError, match="made for 3 texts, got 1"):
        model(tokens(generator, B=1, T=1), cache)


@torch.no_grad()
def test_modern_attention_is_the_formula(generator):
    """softmax(q k^T / sqrt(hs)) v, row by row, with queries and keys of length sqrt(hs), turned by hand."""
    model = made(n_layer=1, n_head=2, n_embd=8)
    attention, x = model.blocks[0].attention, torch.randn(1, 6, 8, generator=generator)
    q, k, v = (x @ attention.qkv.weight.T).view(6, 3, 2, 4).unbind(1)

    def turned(a, position):
        a = a / a.square().mean(-1, keepdim=True).sqrt()
        first, second = a[:, ::2], a[:, 1::2]  # the pair turns like the hand of a clock, against its sense
        angles = position * torch.tensor([1.0, 10_000**-0.5])
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(1)

    rows = []
    for i in range(6):
        heads = []
        for h in range(2):
            scores = torch.stack([turned(q[i], i)[h] @ turned(k[j], j)[h] / 2 for j in range(i + 1)])
            heads.append(scores.softmax(0) @ v[: i + 1, h])
        rows.append(torch.cat(heads))
    wanted = torch.stack(rows) @ attention.proj.weight.T
    got = attention(x, model.turns[:6], None)[0]
    assert torch.allclose(got, wanted, atol=1e-5)


def test_rope_sees_distances_only(generator):
    turns = rope_turns(40, 8)
    q, k = torch.randn(2, 1, 1, 1, 1, 8, generator=generator).unbind(0)

    def dot(m, n):
        return (rotate(q, turns[m : m + 1]) * rotate(k, turns[n : n + 1])).sum().item()

    assert dot(5, 3) == pytest.approx(dot(35, 33), abs=1e-5)
    assert dot(5, 3) != pytest.approx(dot(5, 4), abs=1e-3)
    assert rotate(q, turns[:1]) == pytest.approx(q)
    with pytest.raises(ValueError, match="even, got 7"):
        rope_turns(4, 7)


@torch.no_grad()
def test_the_first_loss_is_ln_v(generator):
    ids = tokens(generator)
    logits = made(wild=False)(ids)
    assert torch.equal(logits, torch.zeros_like(logits))
    guessed = torch.nn.functional.cross_entropy(made("gpt2", wild=False)(ids).flatten(0, 1), ids.roll(-1, 1).flatten())
    assert guessed.item() == pytest.approx(math.log(31), abs=0.05)


def test_every_weight_learns(generator):
    for style in ("gpt2", "modern"):
        model = made(style).train()
        model(tokens(generator, T=24)).logsumexp(-1).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()), style


def test_dropout_drops_in_training_only(generator):
    ids = tokens(generator)
    model = made(dropout=0.3)
    assert torch.equal(model(ids), model(ids))
    with torch.random.fork_rng():
        assert not torch.equal(model.train()(ids), model(ids))


def test_what_does_not_fit_is_refused(generator):
    model = made()
    with pytest.raises(ValueError, match=r"0\.\.30, got 0\.\.31"):
        model(torch.tensor([[0, 31]]))
    with pytest.raises(ValueError, match=r"0\.\.30, got -1\.\.3"):
        model(torch.tensor([[-1, 3]]))
    with pytest.raises(ValueError, match="context of 25 tokens is longer than block_size = 24"):
        model(tokens(generator, T=25))
    with pytest.raises(ValueError, match="no token"):
        model(torch.zeros(1, 0, dtype=torch.long))
    cache = model.new_cache()
    model(tokens(generator, T=20), cache)
    with pytest.raises(ValueError, match="context of 25"):
        model(tokens(generator, T=5), cache)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n_head": 3}, "n_head must divide n_embd, got 3 and 16"),
        ({"n_head": 16}, "must be even, got 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"n_layer": 0}, "n_layer must be at least 1"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong, says):
    sizes = {"vocab_size": 31, "block_size": 24, "n_layer": 3, "n_head": 2, "n_embd": 16}
    with pytest.raises(ValueError, match=says):
        GPTConfig(**{**sizes, **wrong})
    with pytest.raises(ValueError, match="gpt2, modern"):
        unchecked(GPTConfig.__init__)(object.__new__(GPTConfig), **sizes, style="llama")


def test_foreign_weights_are_named(generator):
    state = theirs().state_dict()
    for change, says in [
        (lambda s: s.pop("transformer.wte.weight"), "no wte.weight"),
        (lambda s: s.pop("transformer.h.1.ln_2.bias"), r"lacks h\.1\.ln_2\.bias"),
        (lambda s: s.update({"transformer.extra": torch.zeros(1)}), "no place for: extra"),
        (lambda s: s.update({"transformer.ln_f.weight": torch.zeros(3)}), "do not fit"),
    ]:
        spoiled = dict(state)
        change(spoiled)
        with pytest.raises(ValueError, match=says):
            GPT.from_gpt2(spoiled, n_head=2)
    with pytest.raises(ValueError, match="only the 'gpt2' style"):
        made().to_gpt2()


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_what_may_be_seen_can_be_told(style, generator):
    """The causal mask, given, changes nothing; of two texts in a row each is what it is alone (RoPE sees distances)."""
    model, ids = made(style), tokens(generator)
    causal = torch.ones(1, 1, 20, 20, dtype=torch.bool).tril()
    assert relative(model(ids, sees=causal), model(ids)) < 1e-5
    which = torch.tensor([0] * 8 + [1] * 12)
    apart = model(ids, sees=(which[:, None] == which[None, :]) & causal)
    assert relative(apart[:, :8], model(ids[:, :8])) < 1e-5
    if style == "modern":
        assert relative(apart[:, 8:], model(ids[:, 8:])) < 1e-5
    assert relative(model(ids)[:, 8:], apart[:, 8:]) > 1e-2, "the plain mask leaks"
    with pytest.raises(ValueError, match="not both"):
        model(ids, model.new_cache(), causal)
