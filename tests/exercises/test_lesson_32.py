"""32.5, the block to beat; other right answers to the rest; and what the checkers say to answers that are wrong in form."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aigc_lessons.exercises import check
from aigc_lessons.exercises.better_block import PLAIN, SIZES, allowed
from aigc_lessons.models.gpt import Block


class Plain(Block):
    """GPT-2's own block."""

    def __init__(self, C, heads):
        super().__init__(SIZES, 0)
        assert (C, heads) == (SIZES.n_embd, SIZES.n_head)

    def forward(self, x):
        return super().forward(x, None, None)


class Shifted(Plain):
    """Attention reads half of the channels from the token before."""

    def forward(self, x):
        before = F.pad(x, (0, 0, 1, -1))
        mixed = torch.cat([x[..., :24], before[..., 24:]], -1)
        x = x + self.attention(self.norm1(mixed), None, None)
        return x + self.feed_forward(self.norm2(x))


@pytest.fixture
def full(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)


def test_a_better_block_passes(full):
    result = check("32.5", Shifted)
    assert result.passed, result.message


def test_gpt2s_own_block_is_what_the_exercise_says_and_is_told_so(full):
    result = check("32.5", Plain)
    nats, size = re.search(r"\[here ([\d.]+) nats\], ([\d,]+) weights", result.message).groups()
    assert float(nats) == pytest.approx(PLAIN, abs=0.03)
    assert int(size.replace(",", "")) == allowed() == 12 * 48**2 + 13 * 48
    assert not result.passed
    assert "Not better than GPT-2's own block" in result.hint


class Wide(nn.Linear):
    def __init__(self, C, heads):
        super().__init__(C, 40 * C)


class Peeking(nn.Module):
    def forward(self, x):
        return x + x.mean(1, keepdim=True)


class Narrow(nn.Linear):
    def __init__(self, C, heads):
        super().__init__(C, C // 2)


class Infinite(nn.Module):
    def forward(self, x):
        return x / 0


class Dropped(Plain):
    """A block that drops numbers while it is trained: that is no look into the future."""

    def forward(self, x):
        return F.dropout(super().forward(x), 0.1, self.training)


class NoStream(Plain):
    def forward(self, x):
        return self.feed_forward(self.norm2(self.attention(self.norm1(x), None, None)))


def test_a_block_without_a_stream_is_told_so(full):
    result = check("32.5", NoStream)
    assert not result.passed
    assert "add to it" in result.hint


def test_dropout_is_not_taken_for_a_look_into_the_future(monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    assert check("32.5", Dropped).passed


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Wide, "a block of 94,080 weights"),
        (lambda C, heads: Peeking(), "a token sees its future"),
        (Narrow, "expected a stream of shape (2, 9, 48), got (2, 9, 24)"),
        (lambda C, heads: Infinite(), "not finite"),
        (lambda C, heads: Pair(), "got tuple"),
        (lambda C, heads: torch.zeros(2), "expected a torch module for a block, got Tensor"),
        (lambda C: Peeking(), "keep the parameters of the stub"),
        (lambda C, heads: nn.Linear(C + 1, C), "RuntimeError"),
    ],
)
def test_blocks_that_cannot_be_judged_are_told_why(answer, says, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    result = check("32.5", answer)
    assert not result.passed
    assert says in result.message


def test_other_right_answers_pass():
    def at_once(x, attention, feed_forward, norm1, norm2):
        a = attention(norm1(x))
        return x + a + feed_forward(norm2(x + a))

    def float_weights(V, T, L, C, style):
        blocks = L * (12 * C * C + (13 * C if style == "gpt2" else 0))
        return float(blocks + (V + T + 2) * C if style == "gpt2" else blocks + 2 * V * C)

    def by_cross_entropy(stations, W, targets):
        z = F.rms_norm(stations, stations.shape[-1:]) @ W.T
        return torch.stack([F.cross_entropy(one, targets) for one in z])

    assert check("32.1", at_once).passed
    assert check("32.2", float_weights).passed
    assert check("32.3", lambda V, T, L, C: 2 * T * C * (12 * L * C + V + 2 * L * T)).passed
    assert check("32.4", by_cross_entropy).passed
    assert check("32.4", lambda stations, W, targets: by_cross_entropy(stations.double(), W.double(), targets)).passed


def test_a_count_that_is_off_by_one_is_refused():
    """However large the network is."""
    assert not check("32.2", lambda V, T, L, C, style: 1 + V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C).passed
