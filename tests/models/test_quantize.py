"""Few bits: the grid, its edges, packing, whole states, and what must be refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lessons.models import quantize as module
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.quantize import QuantLinear, pack, pack_state, quantize, quantize_state, unpack, unpack_state
from aigc_lessons.training import checkpoints


def small(style="modern"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=40, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.3)
    return model


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 100])
def test_every_weight_goes_to_its_nearest_point(bits, columns, generator):
    """By brute force over the whole grid, with the scale that the group has."""
    weight = torch.randn(5, columns, generator=generator)
    q = quantize(weight, bits)
    m = 2 ** (bits - 1) - 1
    assert q.scales.shape == (5, -(-columns // 32))
    grid = torch.arange(-m, m + 1).float()
    for g in range(q.scales.shape[1]):
        part, s = weight[:, 32 * g : 32 * g + 32], q.scales[:, g].float()
        torch.testing.assert_close(s, (part.abs().amax(1) / m).half().float())
        points = s[:, None] * grid
        closest = (part[:, :, None] - points[:, None, :]).abs().min(-1).values
        torch.testing.assert_close((part - q.dequantize()[:, 32 * g : 32 * g + 32]).abs(), closest)


def test_the_error_is_at_most_half_a_step_and_a_twelfth_of_its_square(generator):
    """Uniform weights: mean squared error s^2 / 12; n = 64,000, four standard errors of a uniform square (0.075 s^2)."""
    weight = torch.rand(2000, 32, generator=generator) * 2 - 1
    weight[:, 0] = 1.0
    q = quantize(weight, 4)
    s = q.scales.float()[0, 0]
    error = (weight - q.dequantize())[:, 1:]
    assert error.abs().max() <= s / 2 * 1.001
    n = error.numel()
    assert abs(error.square().mean() / s**2 - 1 / 12) < 4 * (1 / 180) ** 0.5 / n**0.5 + 1e-3


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.lists(st.integers(-127, 127), max_size=70))
def test_packing_and_back(bits, numbers):
    m = 2 ** (bits - 1) - 1
    codes = torch.tensor([max(-m, min(m, k)) for k in numbers], dtype=torch.int8)
    packed = pack(codes, bits)
    assert len(packed) == -(-len(numbers) * bits // 8)
    assert torch.equal(unpack(packed, bits, (len(numbers),)), codes)


def test_two_numbers_of_four_bits_lie_in_a_byte():
    assert pack(torch.tensor([-7, 7, 0], dtype=torch.int8), 4).tolist() == [0 + 16 * 14, 7]


def test_zeros_stay_zeros_and_search_never_loses(generator):
    weight = torch.randn(20, 70, generator=generator)
    weight[3] = 0
    weight[4, 32:64] = 0
    for bits in (2, 3, 4, 8):
        plain, searched = quantize(weight, bits), quantize(weight, bits, search=True)
        assert (plain.dequantize()[3] == 0).all()
        assert (plain.dequantize()[4, 32:64] == 0).all()
        lost = [(weight - q.dequantize()).square().sum() for q in (plain, searched)]
        assert lost[1] <= lost[0]
        assert bits == 8 or lost[1] < lost[0]


def test_weights_on_the_grid_come_back_exactly(generator):
    codes = torch.randint(-7, 8, (6, 64), generator=generator)
    codes[:, ::32] = 7  # so that the largest of each group is on the edge of the grid
    weight = 0.25 * codes.float()
    q = quantize(weight, 4)
    assert torch.equal(q.dequantize(), weight)
    assert torch.equal(q.codes.long(), codes)


def test_a_larger_outlier_makes_the_others_coarser(generator):
    weight = torch.randn(1, 32, generator=generator) * 0.1
    errors = []
    for size in (0.3, 3.0, 30.0):
        weight[0, 5] = size
        errors.append((weight - quantize(weight, 4).dequantize())[0, 6:].abs().mean().item())
    assert errors[0] < errors[1] < errors[2] * 1.001
    assert (quantize(weight, 4).dequantize()[0, 6:] == 0).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_state_there_and_back_by_a_file(bits, tmp_path):
    model = small("gpt2")
    state = model.state_dict()
    written = pack_state(state, quantize_state(state, bits))
    back = unpack_state(checkpoints.load(checkpoints.save(tmp_path / "small", written)))
    assert set(back) == set(state)
    assert all(torch.equal(back[name], quantize(w, bits).dequantize()) for name, w in state.items() if w.ndim == 2)
    assert all(torch.equal(back[name], w) for name, w in state.items() if w.ndim != 2)
    model.load_state_dict(back)
    again = pack_state(model.state_dict(), quantize_state(model.state_dict(), bits))
    for name, q in again["matrices"].items():  # rounding what is rounded changes nothing
        assert torch.equal(q["packed"], written["matrices"][name]["packed"])


def test_a_packed_layer_answers_as_its_rounded_weights(generator):
    q = quantize(torch.randn(6, 33, generator=generator), 4)
    bias, x = torch.randn(6, generator=generator), torch.randn(3, 2, 33, generator=generator)
    layer = QuantLinear(q, bias)
    torch.testing.assert_close(layer(x), x @ q.dequantize().T + bias)
    assert sum(b.numel() * b.element_size() for b in (layer.packed, layer.scales)) == 6 * 33 // 2 + 6 * 2 * 2
    assert QuantLinear(q).bias is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda w: quantize(w, 1), "2..8, got 1"),
        (lambda w: quantize(w, 9), "2..8, got 9"),
        (lambda w: quantize(w, 4, 0), "at least 1 column, got 0"),
        (lambda w: quantize(w * torch.nan), "12 of 64 weights are not finite|not finite"),
        (lambda w: quantize(torch.full((1, 4), 1e7)), "does not fit into a float16"),
        (lambda w: pack(torch.tensor([8]), 4), "4 bits hold -7..7, got 8..8"),
        (lambda w: unpack(torch.zeros(3, dtype=torch.uint8), 4, (4,)), "4 numbers of 4 bits fill 2 bytes, got 3"),
        (lambda w: pack_state({"a": w}, {"b": quantize(w)}), "b is quantised as .* the state has nothing"),
        (lambda w: unpack_state({"rest": {}}), "'matrices' is missing"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(torch.ones(2, 2, 3).flatten(1))


def test_one_infinite_weight_is_counted():
    weight = torch.ones(2, 5)
    weight[1, 3] = torch.inf
    with pytest.raises(ValueError, match="1 of 64 weights are not finite"):
        quantize(weight)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("top", lambda bits: 2 ** (bits - 1)),
        ("nearest", lambda x, s, bits: (x / s.clamp(min=1e-9)).floor().clamp(-module.top(bits), module.top(bits))),
        ("nearest", lambda x, s, bits: (x / s.clamp(min=1e-9)).round()[..., :1].expand_as(x)),
    ],
)
def test_planted_mistakes_are_caught(monkeypatch, name, wrong, generator):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises((AssertionError, ValueError)):
        test_every_weight_goes_to_its_nearest_point(3, 40, generator)
