"""Looking into heads: against the network's own sums, against PyTorch, and by networks whose heads are known."""

import pytest
import torch
import torch.nn.functional as F

from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.heads import (
    after_earlier,
    causal_weights,
    copyable,
    distance_scores,
    induction_scores,
    look,
    mean_outputs,
    split_heads,
    switched_off,
)


def made(style="modern", **sizes):
    config = GPTConfig(**{"vocab_size": 13, "block_size": 16, "n_layer": 3, "n_head": 2, "n_embd": 24, **sizes}, style=style)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = GPT(config).eval()
        for p in model.parameters():
            p.data.normal_(std=0.4)
    return model


def tokens(generator, B=4, T=14):
    return torch.randint(13, (B, T), generator=generator)


@pytest.mark.parametrize("style", ["modern", "gpt2"])
def test_weights_times_values_are_what_the_network_gathers(style, generator):
    model, ids = made(style), tokens(generator)
    seen = look(model, ids)
    assert seen.weights.shape == (3, 4, 2, 14, 14)
    torch.testing.assert_close(seen.weights @ seen.values, seen.gathered, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(3, 4, 2, 14))
    assert (seen.weights.triu(1) == 0).all()
    mixed = (seen.weights.roll(1, 2) @ seen.values - seen.gathered).abs().max()
    assert mixed > 0.1, "weights of the wrong head would be noticed"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()), "nothing is left behind"


def test_causal_weights_are_pytorchs(generator):
    q, k, v = torch.randn(3, 2, 5, 9, 6, generator=generator, dtype=torch.float64)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_weights(q, k) @ v, wanted)
    assert (causal_weights(q * 1.1, k) @ v - wanted).abs().max() > 1e-3, "another scale would be noticed"


def test_heads_are_split_as_the_network_splits_them(generator):
    """By hand, from the definition: head h has the columns h*hs to (h+1)*hs of each third."""
    model = made("gpt2")
    qkv = torch.randn(2, 5, 72, generator=generator)
    q, k, v = split_heads(model.blocks[0].attention, qkv, None)
    for h in range(2):
        for part, third in enumerate((q, k, v)):
            assert torch.equal(third[:, h], qkv[..., 24 * part + 12 * h : 24 * part + 12 * h + 12])


@torch.no_grad()
@pytest.mark.parametrize("style", ["modern", "gpt2"])
def test_a_head_switched_off_is_a_head_whose_values_are_zero(style, generator):
    model, ids = made(style), tokens(generator)
    before = model(ids)
    with switched_off(model, [(1, 1)]) as broken:
        off = broken(ids)
    other = made(style)
    attention = other.blocks[1].attention
    attention.qkv.weight[48 + 12 : 48 + 24] = 0  # the values of head 1
    if style == "gpt2":
        attention.qkv.bias[48 + 12 : 48 + 24] = 0
    torch.testing.assert_close(off, other(ids), rtol=1e-4, atol=1e-4)
    assert (off - before).abs().max() > 0.1
    assert torch.equal(model(ids), before), "the network is as it was"


@torch.no_grad()
def test_switching_off_goes_with_several_with_means_and_with_a_cache(generator):
    model, ids = made(), tokens(generator)
    before, means = model(ids), mean_outputs(model, ids)
    with switched_off(model, []):
        assert torch.equal(model(ids), before)
    with switched_off(model, [(0, 0), (2, 1)]):
        both = model(ids)
        cache = model.new_cache()
        one_by_one = torch.cat([model(ids[:, t : t + 1], cache) for t in range(14)], 1)
        torch.testing.assert_close(one_by_one, both, rtol=1e-4, atol=1e-4)
    with switched_off(model, [(0, 0)]), switched_off(model, [(2, 1)]):
        torch.testing.assert_close(model(ids), both)
    with switched_off(model, [(1, 0)], means):
        gathered = look(model, ids).gathered
        heard = []
        with_hook = model.blocks[1].attention.proj.register_forward_hook(lambda m, given, out: heard.append(given[0]))
        model(ids)
        with_hook.remove()
    torch.testing.assert_close(heard[0][..., :12], means[1, 0].expand(4, 14, 12))
    torch.testing.assert_close(means[1, 0], look(model, ids).gathered[1, :, 0].mean((0, 1)))
    assert gathered.shape == (3, 4, 2, 14, 12)


def test_an_error_inside_puts_the_heads_back(generator):
    model, ids = made(), tokens(generator)
    before = model(ids)
    with pytest.raises(RuntimeError, match="stop"), switched_off(model, [(0, 0)]):
        raise RuntimeError("stop")
    assert torch.equal(model(ids), before)


@pytest.mark.parametrize(
    ("heads", "instead", "says"),
    [
        ([(3, 0)], None, r"layer must lie in 0\.\.2, got 3 in \(3, 0\)"),
        ([(0, 0), (1, 2)], None, r"head must lie in 0\.\.1, got 2 in \(1, 2\)"),
        ([(-1, 0)], None, r"layer must lie in 0\.\.2, got -1"),
        ([(0, 0)], torch.zeros(3, 2, 5), r"shape \(3, 2, 12\).*got \(3, 2, 5\)"),
    ],
)
def test_heads_that_do_not_exist_are_named(heads, instead, says):
    with pytest.raises(ValueError, match=says), switched_off(made(), heads, instead):
        pass


def test_the_places_after_earlier_occurrences():
    """a b c a b a a: the first again is the a at 3, whose earlier one stands at 0; right after it stands place 1."""
    ids = torch.tensor([[0, 1, 2, 0, 1, 0, 0]])
    places = after_earlier(ids)[0]
    wanted = {3: [1], 4: [2], 5: [1, 4], 6: [1, 4]}  # not 6 itself, which stands after the a at 5
    for i in range(7):
        assert places[i].nonzero()[:, 0].tolist() == wanted.get(i, [])
    told = copyable(ids)[0].tolist()  # whether the next one could be told: after a came b, a
    assert told == [False, False, False, True, False, False, False][:6]


def test_a_perfect_induction_head_has_score_one_and_an_even_one_its_share(generator):
    half = torch.stack([torch.randperm(13, generator=generator) for _ in range(3)])
    ids = torch.cat([half, half], 1)[:, :20]
    perfect = torch.zeros(2, 3, 2, 20, 20)
    perfect[..., range(20), range(20)] = 1
    perfect[1, :, 0] = 0
    for i in range(20):
        perfect[1, :, 0, i, i - 12 if i >= 13 else 0] = 1
    scores = induction_scores(perfect, ids)
    torch.testing.assert_close(scores, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    even = torch.ones(20, 20).tril()
    even = (even / even.sum(-1, keepdim=True)).expand(1, 3, 1, 20, 20)
    expected = sum(1 / (i + 1) for i in range(13, 20)) / 7
    assert induction_scores(even, ids).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="no token of these 3 texts of 13 tokens occurs twice"):
        induction_scores(even[..., :13, :13], half)


def test_distance_scores_are_diagonals(generator):
    weights = torch.rand(2, 3, 2, 8, 8, generator=generator).tril()
    by_hand = sum(weights[:, :, :, i, i - 2] for i in range(2, 8)).mean(1) / 6
    torch.testing.assert_close(distance_scores(weights, 2), by_hand)
    with pytest.raises(ValueError, match=r"back must lie in 0\.\.7, got 8"):
        distance_scores(weights, 8)
