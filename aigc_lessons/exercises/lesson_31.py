"""Lesson 31: causal weights, a head, several heads, RoPE, and a copier by hand to make better."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lessons.exercises.core import CheckResult, attempt, call, compare, exercise, noise
from aigc_lessons.exercises.wrong_attention import MISTAKES, attend, causal_softmax, multi_head, rope
from aigc_lessons.models.heads import after_earlier

# ------------------------------------------------------------------------------------------------------------ the checkers


@exercise("31.1")
def check_causal_softmax(answer) -> CheckResult:
    shapes = [(4, 4), (2, 5, 5), (2, 3, 6, 6), (7, 7), (3, 2, 2)]
    inputs = [{"scores": (1 + k) * noise(k, *shape).double()} for k, shape in enumerate(shapes)]
    inputs.append({"scores": noise(8, 1, 1).double()})
    inputs.append({"scores": 1000 + 3 * noise(9, 5, 5).double()})
    inputs.append({"scores": 800 * noise(10, 6, 6).double()})
    return compare(
        "31.1", answer, causal_softmax, inputs, MISTAKES["31.1"],
        praise="Right on eight sets of scores, from a single token to scores of thousands.",
        hint="Row i is a softmax over the columns 0..i; all later columns are exactly 0.",
        tolerance=1e-7,
    )  # fmt: skip


@exercise("31.2")
def check_attend(answer) -> CheckResult:
    inputs = []
    for k, (B, T, C, hs) in enumerate([(2, 5, 4, 4), (1, 7, 6, 3), (3, 4, 10, 5), (2, 6, 5, 7), (1, 3, 4, 9), (2, 1, 6, 2)]):
        W = [noise(100 * k + i, C, hs).double() / C**0.5 * 1.5 for i in range(3)]
        inputs.append({"x": noise(k, B, T, C).double(), "Wq": W[0], "Wk": W[1], "Wv": W[2]})
    return compare(
        "31.2", answer, attend, inputs, MISTAKES["31.2"],
        praise="Right on six sets of texts, a text of one token included.",
        hint="q, k, v = x @ Wq, x @ Wk, x @ Wv; scores q @ k.transpose(-2, -1) / sqrt(hs); 31.1; times v.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("31.3")
def check_multi_head(answer) -> CheckResult:
    shapes = [(2, 5, 12, 2), (1, 6, 12, 3), (3, 4, 8, 4), (2, 7, 10, 2), (1, 3, 6, 1), (2, 6, 24, 3)]
    inputs = [{"qkv": 1.5 * noise(k, B, T, 3 * C).double(), "n_head": n} for k, (B, T, C, n) in enumerate(shapes)]
    return compare(
        "31.3", answer, multi_head, inputs, MISTAKES["31.3"],
        praise="Right on six shapes, one head included.",
        hint="qkv -> three parts (B, T, C) -> (B, T, n_head, hs) -> transpose(1, 2) -> attention -> and all the way back.",
        tolerance=1e-6,
    )  # fmt: skip


@exercise("31.4")
def check_rope(answer) -> CheckResult:
    inputs = []
    for k, (B, hs, longest) in enumerate(
        [(2, 4, 10_000.0), (1, 8, 10_000.0), (3, 2, 100.0), (2, 6, 500.0), (1, 16, 10_000.0)]
    ):
        positions = [
            torch.arange(5),
            torch.arange(7, 12),
            torch.tensor([3, 0, 9, 1]),
            torch.arange(0, 40, 10),
            torch.arange(90, 96),
        ][k]
        inputs.append({"x": noise(k, B, len(positions), hs).double(), "positions": positions, "longest": longest})
    inputs.append(inputs[1] | {"x": noise(30, 2, 3, 5, 8).double()})
    return compare(
        "31.4", answer, rope, inputs, MISTAKES["31.4"],
        praise="Right on six inputs: positions that start late, jump, and run backwards, and with an axis of heads.",
        hint="theta_j for each pair, angles of shape (T, hs / 2), then (a cos - b sin, a sin + b cos) with a = x[..., ::2].",
        tolerance=1e-6,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- 31.5, a copier by hand to beat

LETTERS, LENGTH, TEXTS, GOAL = 26, 72, 96, 0.7


@lru_cache(maxsize=1)
def texts() -> Tensor:
    """Random letters, repeated with a period of 12 to 30; one letter in eight is wrong in the copy."""
    generator = torch.Generator().manual_seed(31)
    period = torch.randint(12, 31, (TEXTS, 1), generator=generator)
    ids = torch.randint(LETTERS, (TEXTS, 30), generator=generator).gather(1, torch.arange(LENGTH) % period)
    wrong = (torch.rand(ids.shape, generator=generator) < 1 / 8) & (torch.arange(LENGTH) >= period)
    return torch.where(wrong, torch.randint(LETTERS, ids.shape, generator=generator), ids)


def after_the_last_letter(ids, n_letters):
    """The lesson's: even weights on the places after earlier occurrences of one letter, and a fifth of even chances."""
    weights = after_earlier(ids).double()
    found = weights.sum(-1, keepdim=True)
    copied = weights @ F.one_hot(ids, n_letters).double() / found.clamp(min=1)
    sure = torch.where(found > 0, 0.8, 0.0)
    return sure * copied + (1 - sure) / n_letters


def copier_nats(answer) -> float:
    """Mean -ln p of the next letter, from the first place where every text repeats."""
    ids = texts()
    p = call(answer, ids=ids.clone(), n_letters=LETTERS)
    if not isinstance(p, Tensor) or p.shape != (TEXTS, LENGTH, LETTERS):
        got = tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__
        raise ValueError(f"return probabilities of shape {(TEXTS, LENGTH, LETTERS)}, got {got}")
    p = p.detach().double()
    if not (p >= 0).all() or not ((p.sum(-1) - 1).abs() < 1e-4).all():
        sums = p.sum(-1)
        raise ValueError(
            "every row must be probabilities that add up to 1;"
            f" the sums run from {sums.min():.3g} to {sums.max():.3g}, the least entry is {p.min():.3g}"
        )
    if p[:, 31:-1].gather(-1, ids[:, 31:-1, None]).mean() > 0.5:
        raise ValueError("row i bets on letter i, which it has seen; it must tell letter i + 1")
    changed = ids.clone()
    changed[:, LENGTH // 2 :] = (changed[:, LENGTH // 2 :] + 7) % LETTERS  # another future
    other = call(answer, ids=changed, n_letters=LETTERS)
    if not torch.allclose(other[:, : LENGTH // 2].double(), p[:, : LENGTH // 2], atol=1e-6):
        raise ValueError("your predictions change when only later letters change: row i may use ids[:, : i + 1] alone")
    return -p[:, 31:-1].gather(-1, ids[:, 32:, None]).clamp(min=1e-12).log().mean().item()


@lru_cache(maxsize=1)
def lesson_nats() -> float:
    return copier_nats(after_the_last_letter)


@exercise("31.5")
def check_copier(answer) -> CheckResult:
    mine = attempt("31.5", answer, copier_nats)
    if isinstance(mine, CheckResult):
        return mine
    lesson = lesson_nats()
    message = (
        f"got      {mine:.3f} nats a letter\n"
        f"expected below {GOAL * lesson:.3f}, which is {GOAL:.0%} of the lesson's {lesson:.3f}"
    )
    hint = ""
    if mine >= GOAL * lesson:
        if abs(mine - lesson) < 1e-3:
            hint = "That is the lesson's rule itself."
        elif abs(mine - math.log(LETTERS)) < 0.01:
            hint = "These are even chances, ln 26. Look where the last letters stood before, and predict what came next."
        elif mine > 1.2 * lesson:
            hint = (
                "Some letters got next to no probability and cost a fortune: mix in even chances, for one in eight is wrong."
            )
        else:
            hint = "One letter is a poor key: 'a' came many times. Weigh the places by how many letters before them agree."
    return CheckResult("31.5", not hint, message, hint)


REFERENCES = {"31.1": causal_softmax, "31.2": attend, "31.3": multi_head, "31.4": rope}
