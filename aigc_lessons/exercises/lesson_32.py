"""Lesson 32: a block, its weights, its operations, the lens, and a better block at equal weights and steps."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aigc_lessons.exercises.better_block import LIMIT, PLAIN, allowed, outcome
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, compare, exercise, noise
from aigc_lessons.models import counts
from aigc_lessons.models.gpt import GPTConfig
from aigc_lessons.training import budget


def block(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def weights(V, T, L, C, style):
    return sum(counts.parameters(GPTConfig(V, T, L, 1, C, style=style)).values())


def operations(V, T, L, C):
    return T * (24 * L * C * C + 2 * V * C) + 4 * L * T * T * C


def lens_nats(stations, W, targets):
    x = stations / (stations.square().mean(-1, keepdim=True) + 1e-7).sqrt()
    log_p = (x @ W.T).log_softmax(-1)  # (S, T, V)
    return -log_p[:, torch.arange(len(targets)), targets].mean(-1)


def _lens(stations, W, targets, *, norm=True, axis=-1, sign=-1.0, pick=None, mean=True):
    x = stations / (stations.square().mean(-1, keepdim=True) + 1e-7).sqrt() if norm else stations
    z = x @ W.T
    z = z if axis is None else z.log_softmax(axis)
    got = sign * z[:, torch.arange(len(targets)), targets]
    return got.mean(-1) if mean else got.sum(-1)


def _of_writes(stations, W, targets):
    return lens_nats(torch.cat([stations[:1], stations[1:] - stations[:-1]]), W, targets)


def _by_length(stations, W, targets):
    x = stations / stations.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return -(x @ W.T).log_softmax(-1)[:, torch.arange(len(targets)), targets].mean(-1)


def _style(gpt2, modern):
    """A wrong `weights`, from what each style has in all."""
    return lambda V, T, L, C, style: (gpt2 if style == "gpt2" else modern)(V, T, L, C)


def _gpt2(V, T, L, C):
    return weights(V, T, L, C, "gpt2")


def _modern(V, T, L, C):
    return weights(V, T, L, C, "modern")


MISTAKES = {
    "32.1": [
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: norm2(
                norm1(x + attention(x)) + feed_forward(norm1(x + attention(x)))
            ),
            "That is the older order, the norm behind the sum. Here each part reads norm(x), and the stream itself stays as"
            " it is.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: feed_forward(norm2(attention(norm1(x)))),
            "The stream is gone: each part adds to x, it does not replace it.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                x + attention(norm1(x)) + feed_forward(norm1(x + attention(norm1(x))))
            ),
            "norm1 stands before both parts: the second part has a norm of its own, norm2.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + attention(norm1(x)) + feed_forward(norm2(x)),
            "The feed-forward part reads the stream from before attention wrote to it: take the new x.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + feed_forward(norm2(x + attention(norm1(x)))),
            "What attention wrote is read by the second part, but missing from the stream that comes out.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                norm1(x) + attention(norm1(x)) + feed_forward(norm2(norm1(x) + attention(norm1(x))))
            ),
            "You added to norm1(x): the norm is for the reading part only, the sum begins with x itself.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + attention(x) + feed_forward(x + attention(x)),
            "No part is normed: each reads norm(x).",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                x + feed_forward(norm2(x)) + attention(norm1(x + feed_forward(norm2(x))))
            ),
            "Attention comes first, the feed-forward part second.",
        ),
    ],
    "32.2": [
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) + V * C, _modern),
            "In GPT-2 the head is the embedding: those V C weights are counted once.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) - V * C),
            "In the modern style the head is a matrix of its own: V C more.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - 2 * C, _modern),
            "One LayerNorm is missing: besides two in each block, GPT-2 has one before the head.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - 9 * L * C, _modern),
            "GPT-2's linear layers have biases: 3 C + C + 4 C + C in each block.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - (4 * L + 2) * C, _modern),
            "GPT-2's LayerNorms have weights, a gain and a bias for each of the C channels.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) + 9 * L * C),
            "The modern style has no biases.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) + T * C),
            "The modern style has no table of positions: it turns queries and keys, and turning has no weights.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - T * C, _modern),
            "GPT-2 learns a vector for each of its T positions.",
        ),
        Mistake(
            _style(_gpt2, _gpt2),
            "That is GPT-2 for both styles. Modern: no positions, no biases, norms without weights, a head of its own.",
        ),
    ],
    "32.3": [
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) / 2,
            "You counted multiplications: each comes with an addition, which makes two operations.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 4 * L * T * T * C,
            "The attention itself is missing: T^2 scores and T^2 weighted values in each block, 2 C operations each.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * L * T * T * C,
            "Half of attention is missing. Scores and weighted sums cost 2 T^2 C each; and the masked scores count, they are"
            " computed like the others.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * T * V * C,
            "The head is missing. It shares its weights with the embedding, but it is a product of matrices all the same.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) + 2 * T * V * C,
            "The embedding looks up a row: that takes no multiplication.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) / T,
            "That is for one token of the window: the exercise asks for the window.",
        ),
        Mistake(
            lambda V, T, L, C: 3 * operations(V, T, L, C),
            "That is a training step, forwards and backwards: the exercise asks for reading.",
        ),
    ],
    "32.4": [
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, norm=False),
            "The head never sees the bare stream: bring each vector to root mean square 1 first.",
        ),
        Mistake(_by_length, "You divided by the length. RMSNorm divides by the root of the *mean* square: sqrt(C) larger."),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=1),
            "The probabilities must sum to 1 over the vocabulary (the last axis), not over the positions.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=0),
            "The probabilities must sum to 1 over the vocabulary (the last axis), not over the stations.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=None),
            "Those are logits: log_softmax makes logarithms of probabilities of them.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, sign=1.0),
            "The sign is turned round: a logarithm of a probability is negative, a surprise is not.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, mean=False),
            "That is the sum over the positions: the exercise asks for the mean.",
        ),
        Mistake(
            _of_writes, "That is the lens on what each part *wrote*: the head reads the sum so far, the station itself."
        ),
    ],
}


@dataclass(frozen=True, eq=False)
class _Layer:
    """A part for exercise 32.1: x -> bend(x) A + b."""

    name: str
    A: Tensor
    b: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x @ self.A).tanh() + self.b

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, eq=False)
class _Norm:
    """A LayerNorm for exercise 32.1."""

    name: str
    gain: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self.gain, self.bias)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _a_block(seed: int, *shape: int) -> dict:
    C = shape[-1]
    layers = [
        _Layer(name, noise(seed + k, C, C), noise(seed + k + 1, C)) for k, name in ((10, "attention"), (20, "feed_forward"))
    ]
    norms = [_Norm(name, 1 + noise(seed + k, C), noise(seed + k + 1, C)) for k, name in ((30, "norm1"), (40, "norm2"))]
    return {
        "x": 2 * noise(seed, *shape),
        "attention": layers[0],
        "feed_forward": layers[1],
        "norm1": norms[0],
        "norm2": norms[1],
    }


@exercise("32.1")
def check_block(answer) -> CheckResult:
    inputs = [_a_block(100 * k, *shape) for k, shape in enumerate([(3, 4), (1, 2), (2, 5, 8), (7, 3), (1, 1, 6), (4, 16)])]
    return compare(
        "32.1", answer, block, inputs, MISTAKES["32.1"],
        praise="Right: two parts read a normed copy, and add to the stream.",
        hint="Twice: x = x + part(norm(x)). The second part reads the x that the first has written to.",
    )  # fmt: skip


@exercise("32.2")
def check_weights(answer) -> CheckResult:
    sizes = [(68, 64, 2, 48), (50257, 1024, 12, 768), (7, 5, 3, 4), (1, 1, 1, 2), (300, 17, 5, 10), (11, 100, 1, 6)]
    inputs = [{"V": V, "T": T, "L": L, "C": C, "style": style} for V, T, L, C in sizes for style in ("gpt2", "modern")]
    return compare(
        "32.2", answer, weights, inputs, MISTAKES["32.2"], tolerance=1e-12,
        praise="Right for both styles, from one block to GPT-2.",
        hint="Tables at both ends, positions, L blocks (12 C^2; GPT-2: 13 C more in biases and norms), the last norm.",
    )  # fmt: skip


@exercise("32.3")
def check_operations(answer) -> CheckResult:
    sizes = [(68, 64, 2, 48), (50257, 1024, 12, 768), (7, 5, 3, 4), (1, 1, 1, 2), (300, 17, 5, 10), (11, 100, 1, 6)]
    inputs = [{"V": V, "T": T, "L": L, "C": C} for V, T, L, C in sizes]
    return compare(
        "32.3", answer, operations, inputs, MISTAKES["32.3"], tolerance=1e-12,
        praise="Right: as many as PyTorch's counter finds.",
        hint="2 x inputs x outputs for each token and matrix, the head's too; in each block 2 x 2 T^2 C for attention.",
    )  # fmt: skip


@exercise("32.4")
def check_lens(answer) -> CheckResult:
    inputs = []
    for k, (S, T, C, V) in enumerate([(3, 4, 5, 6), (1, 1, 2, 2), (7, 10, 8, 68), (2, 3, 16, 4), (5, 2, 3, 9)]):
        targets = torch.randint(V, (T,), generator=torch.Generator().manual_seed(k))
        inputs.append({"stations": (1 + 9 * (k % 2)) * noise(k, S, T, C), "W": noise(k + 50, V, C), "targets": targets})
    huge = {**inputs[0], "stations": 1e3 * inputs[0]["stations"]}  # trained streams grow long; the norm takes that away
    return compare(
        "32.4", answer, lens_nats, [*inputs, huge], MISTAKES["32.4"], tolerance=1e-4,
        praise="Right: one surprise for each station, however long the stream has become.",
        hint="Root mean square 1 along the last axis, times W transposed, log_softmax, the targets' entries, mean, minus.",
    )  # fmt: skip


@exercise("32.5")
def check_better_block(answer) -> CheckResult:
    got = attempt("32.5", answer, outcome, hint="better_block(C, heads) returns a module: (B, T, C) in, (B, T, C) out.")
    if isinstance(got, CheckResult):
        return got
    message = (
        f"got      [here {got.nats:.3f} nats], {got.weights:,} weights in a block\n"
        f"expected below {LIMIT}, at most {allowed():,} (GPT-2's own block: {PLAIN})"
    )
    if budget.is_tiny() or got.nats < LIMIT:
        return CheckResult("32.5", True, message)
    hint = (
        "Not better than GPT-2's own block: change one thing at a time, and begin with what a token may read."
        if got.nats > PLAIN - 0.01
        else "Better than GPT-2's own block, but not by enough: two changes may add up."
    )
    return CheckResult("32.5", False, message, hint)


REFERENCES = {"32.1": block, "32.2": weights, "32.3": operations, "32.4": lens_nats}
