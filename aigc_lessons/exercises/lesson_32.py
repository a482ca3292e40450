"""Lesson 32: a block, its weights, its operations, the lens, and a better block at equal weights and steps."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aigc_lessons.exercises.better_block import LIMIT, PLAIN, allowed, outcome
from aigc_lessons.exercises.core import CheckResult, attempt, compare, exercise, noise
from aigc_lessons.exercises.wrong_gpt import MISTAKES, block, lens_nats, operations, weights
from aigc_lessons.training import budget


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
    sizes = [(68, 64, 3, 48), (50257, 1024, 12, 768), (7, 5, 3, 4), (1, 1, 1, 2), (300, 17, 5, 10), (11, 100, 1, 6)]
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
    if got.nats > PLAIN + 0.1:
        hint = "Clearly worse than GPT-2's own block: does each part read a norm of the stream, and add to it?"
    elif got.nats > PLAIN - 0.01:
        hint = "Not better than GPT-2's own block: change one thing at a time, and begin with what a token may read."
    else:
        hint = "Better than GPT-2's own block, but not by enough: two changes may add up."
    return CheckResult("32.5", False, message, hint)


REFERENCES = {"32.1": block, "32.2": weights, "32.3": operations, "32.4": lens_nats}
