"""The residual stream and what the head reads in it."""

import pytest
import torch

from aigc_lessons.evaluation.lens import kl_to_last, lens, parts_of, stream
from aigc_lessons.models.gpt import GPT, GPTConfig


def made(style):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(11, 12, 3, 2, 8, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.4)
    return model


@pytest.fixture
def ids(generator):
    return torch.randint(11, (2, 9), generator=generator)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_the_last_station_gives_the_networks_logits(style, ids):
    model = made(style)
    stations = stream(model, ids)
    assert stations.shape == (7, 2, 9, 8)
    assert torch.allclose(lens(model, stations[-1]), model(ids), atol=1e-5)
    assert not torch.allclose(lens(model, stations[-2]), model(ids), atol=1e-2)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_stations_differ_by_what_the_parts_write(style, ids):
    """As the forward hooks of the parts hear it."""
    model, heard = made(style), []
    for block in model.blocks:
        for part in (block.attention, block.feed_forward):
            part.register_forward_hook(lambda module, given, wrote: heard.append(wrote))
    model(ids)
    stations = stream(model, ids)
    for before, after, wrote in zip(stations[:-1], stations[1:], heard[:6], strict=True):
        assert torch.allclose(after - before, wrote, atol=1e-5)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@torch.no_grad()
def test_a_part_switched_off_is_a_part_whose_last_matrix_is_zero(style, ids):
    model = made(style)
    off = [(0, "feed-forward"), (2, "attention")]
    got = lens(model, stream(model, ids, off)[-1])
    for part in (model.blocks[0].feed_forward, model.blocks[2].attention):
        for p in part.proj.parameters():
            p.zero_()
    assert torch.allclose(got, model(ids), atol=1e-5)
    assert not torch.allclose(got, model(ids.flip(1)), atol=1e-2)


def test_with_all_attention_off_no_token_hears_another(ids):
    model = made("modern")
    off = [part for part in parts_of(model) if part[1] == "attention"]
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 11
    assert torch.equal(stream(model, ids, off)[:, :, 1:], stream(model, changed, off)[:, :, 1:])
    assert not torch.equal(stream(model, ids)[:, :, 1:], stream(model, changed)[:, :, 1:])


def test_kl_is_kl(generator):
    logits = torch.randn(3, 4, 6, generator=generator)
    p, q = logits[-1].softmax(-1), logits[0].softmax(-1)
    assert torch.allclose(kl_to_last(logits)[0], (p * (p / q).log()).sum(-1), atol=1e-6)
    assert kl_to_last(logits)[-1].abs().max() == 0
    assert kl_to_last(logits)[:-1].min() > 0


def test_what_does_not_fit_is_refused(ids):
    model = made("modern")
    assert parts_of(model)[:3] == [(0, "attention"), (0, "feed-forward"), (1, "attention")]
    with pytest.raises(ValueError, match=r"3 blocks .* no \[\(3, 'attention'\)\]"):
        stream(model, ids, [(3, "attention")])
    with pytest.raises(ValueError, match="13 tokens are more than block_size = 12"):
        stream(model, ids.repeat(1, 2)[:, :13])
