"""Other right answers of lesson 38; three bits at their best; look-alikes."""

import math

import numpy as np
import pytest
import torch

from aigc_lessons.evaluation.copying import longest_copy
from aigc_lessons.evaluation.intervals import wilson
from aigc_lessons.exercises import check, three_bits
from aigc_lessons.models import compensate, quantize


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (
            "38.1",
            lambda nats, stride, text: float(nats[0].sum() + sum(row[-stride:].sum() for row in nats[1:]))
            / (len(text.encode("utf-8")) * math.log(2)),
        ),
        ("38.2", lambda right, n, z: by_package(right, n, z)),
        ("38.2", lambda right, n, z: by_roots(right, n, z)),
        ("38.3", lambda text, source: len(longest_copy(text, source))),
        ("38.3", lambda text, source: max(
            (j - i for i in range(len(text)) for j in range(i, len(text) + 1) if text[i:j] in source), default=0)),
        ("38.4", lambda x, bits: torch.nan_to_num(
            (x / (x.abs().max(1, keepdim=True).values / (2 ** (bits - 1) - 1))).round()
            * (x.abs().max(1, keepdim=True).values / (2 ** (bits - 1) - 1)))),
        ("38.4", lambda x, bits: quantize_double(x, bits)),
    ],
)  # fmt: skip
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result


def by_package(right, n, z):
    found = wilson(right, n, 2 * torch.special.ndtr(torch.tensor(z, dtype=torch.float64)).item() - 1)
    return found.low, found.high


def by_roots(right, n, z):
    """The quadratic itself, solved by numpy: an array of two numbers."""
    p = right / n
    return np.sort(np.roots([1 + z * z / n, -(2 * p + z * z / n), p * p]).real)


def quantize_double(x, bits):
    m = 2 ** (bits - 1) - 1
    s = (x.double().abs().amax(1, keepdim=True) / m).clamp(min=1e-30)
    return ((x.double() / s).round() * s).float()


def test_a_group_of_zeros_is_asked_for():
    result = check("38.4", lambda x, bits: (x / (x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1))).round()
                   * (x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)))  # fmt: skip
    assert not result.passed
    assert "group of zeros" in result.hint


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("38.1", lambda nats, stride, text: float(nats.mean()) / math.log(2), "mean over tokens"),
        ("38.2", lambda right, n, z: by_package(right, n, 1.96), "do not write 1.96"),
        ("38.2", lambda right, n, z: (sum(by_package(right, n, z)) / 2, np.ptp(by_package(right, n, z)) / 2),
         "middle and the half"),
        ("38.3", lambda text, source: longest_copy(text, source), "how long it is"),
        ("38.3", lambda text, source: len(longest_copy(text.upper(), source.upper())), "Capital and small"),
        ("38.4", lambda x, bits: (x / (x.max(1, keepdim=True).values / (2 ** (bits - 1) - 1))).round()
         * (x.max(1, keepdim=True).values / (2 ** (bits - 1) - 1)), "absolute values"),
        ("38.4", lambda x, bits: quantize.quantize(x, bits, group=x.shape[1]).dequantize(), "float16"),
    ],
)  # fmt: skip
def test_a_mistake_written_in_another_way_is_recognised(name, answer, says):
    result = check(name, answer)
    assert not result.passed
    assert says in result.hint


def uniform(network, texts):
    return compensate.compensated_state(network, compensate.input_moments(network, texts), 3)


def mixed(network, texts):
    moments, state = compensate.input_moments(network, texts), network.state_dict()
    found = compensate.compensated_state(network, moments, 3)
    found["head.weight"] = compensate.compensated(state["head.weight"], moments["head.weight"], 5)
    for part in ("qkv", "proj"):
        name = f"blocks.0.attention.{part}.weight"
        found[name] = compensate.compensated(state[name], moments[name], 3, group=128)
    return found


def test_mixed_bits_pass(full):
    result = check("38.5", mixed)
    assert result.passed, result
    assert three_bits.size_of(mixed(*three_bits.setting()[:2])) <= three_bits.allowed()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (uniform, "matrices differ"),
        (
            lambda network, texts: quantize.quantize_state(network.state_dict(), 3, search=True),
            "(section 4)",
        ),
        (lambda network, texts: quantize.quantize_state(network.state_dict(), 4), "Too many bytes"),
    ],
)
def test_what_falls_short_is_told_why(full, answer, says):
    result = check("38.5", answer)
    assert not result.passed
    assert says in result.hint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda network, texts: {}, "a Quantized for each of the 14 matrices"),
        (lambda network, texts: network.state_dict(), "expected a Quantized, got"),
        (lambda network: {}, "cannot be called"),
        (3, "expected a function"),
    ],
)
def test_unusable_answers_get_a_verdict(answer, says):
    result = check("38.5", answer)
    assert not result.passed
    assert says in result.message


def test_codes_beyond_their_bits_are_noticed():
    def smuggled(network, texts):
        found = quantize.quantize_state(network.state_dict(), 8)
        return {name: quantize.Quantized(q.codes, q.scales, 3, q.group) for name, q in found.items()}

    assert "whole numbers in -3..3" in check("38.5", smuggled).message
