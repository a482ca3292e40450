"""Lesson 38: windows to bits per byte, a group in few bits, an interval, the longest copy, and three bits at their best."""

import math

import numpy as np
import torch

from aigc_lessons.exercises import wrong_shipped as wrong
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.exercises.three_bits import MORE, allowed, outcome
from aigc_lessons.training import budget


def window_bits_per_byte(nats, stride, text):
    counted = torch.cat([nats[0], nats[1:, -stride:].flatten()])
    return counted.sum().item() / math.log(2) / len(text.encode())


def round_groups(x, bits):
    m = 2 ** (bits - 1) - 1
    s = x.abs().amax(1, keepdim=True) / m
    k = (x / torch.where(s > 0, s, 1.0)).round()
    return s * k


def interval(right, n, z):
    p, denominator = right / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    return torch.tensor([middle - half, middle + half], dtype=torch.float64)


def longest_stretch(text, source):
    start, best = 0, 0
    for end in range(1, len(text) + 1):
        while text[start:end] not in source:
            start += 1
        best = max(best, end - start)
    return best


MISTAKES = {
    "38.1": [
        Mistake(
            lambda nats, stride, text: nats.sum().item() / math.log(2) / len(text.encode()),
            "Tokens were counted twice: of every window but the first only the last `stride` are new.",
        ),
        Mistake(
            lambda nats, stride, text: window_bits_per_byte(nats, stride, text) * math.log(2),
            "Those are nats: divide by ln 2.",
        ),
        Mistake(
            lambda nats, stride, text: window_bits_per_byte(nats, stride, text) * len(text.encode()) / len(text),
            "You divided by characters: len(text.encode()) counts the bytes of UTF-8.",
        ),
        Mistake(
            lambda nats, stride, text: (
                window_bits_per_byte(nats, stride, text) * len(text.encode()) / (nats.shape[1] + (len(nats) - 1) * stride)
            ),
            "You divided by tokens: that is what another tokenizer changes. Divide by the bytes of the text.",
        ),
        Mistake(
            lambda nats, stride, text: window_bits_per_byte(nats[:, -stride:], stride, text),
            "The first window counts whole: nobody else has its first tokens.",
        ),
        Mistake(
            lambda nats, stride, text: (
                torch.cat([nats[0], nats[1:, :stride].flatten()]).sum().item() / math.log(2) / len(text.encode())
            ),
            "The new tokens stand at the end of a window, where there is context: nats[1:, -stride:].",
        ),
        Mistake(
            lambda nats, stride, text: (
                torch.cat([nats[:-1, :stride].flatten(), nats[-1]]).sum().item() / math.log(2) / len(text.encode())
            ),
            "It is the first window that counts whole; of every other the new tokens stand at its end: nats[1:, -stride:].",
        ),
        Mistake(
            lambda nats, stride, text: nats.mean().item() / math.log(2),
            "That is a mean over tokens, some of them counted twice: add up the new ones, and divide by the bytes.",
        ),
    ],
    "38.4": [
        Mistake(wrong.rounded(lambda bits: 2 ** (bits - 1)), "b bits hold -m..m with m = 2^(b-1) - 1."),
        Mistake(wrong.twos_complement, "The same on both sides of zero: b bits hold -m..m with m = 2^(b-1) - 1."),
        Mistake(
            wrong.smallest_to_largest, "That grid goes from the smallest weight to the largest; this one is -m..m times s."
        ),
        Mistake(wrong.rounded(lambda bits: 2**bits - 1), "One bit is for the sign: m = 2^(b-1) - 1."),
        Mistake(wrong.rounded(to=torch.floor), "floor always goes down: round to the nearest whole number."),
        Mistake(
            wrong.rounded(to=torch.trunc), "Cutting the digits off always goes towards 0: round to the nearest whole number."
        ),
        Mistake(
            wrong.rounded(scale=lambda x: x.abs().max()),
            "Every row is a group with a scale of its own: the maximum goes over dim=1.",
        ),
        Mistake(
            wrong.rounded(scale=lambda x: x.abs().amax(0, keepdim=True)),
            "The maximum went over the columns: a row is a group, so it goes over dim=1.",
        ),
        Mistake(
            wrong.rounded(scale=lambda x: x.amax(1, keepdim=True)),
            "The largest may be a negative one: take the absolute values first.",
        ),
        Mistake(wrong.largest_without_sign, "The largest may be a negative one: take the absolute values first."),
        Mistake(wrong.short_scale, "Your scale went through float16: here it stays as exact as x."),
        Mistake(
            lambda x, bits: round_groups(x, bits) / (x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)),
            "Those are the whole numbers k: the answer is s k.",
        ),
    ],
    "38.2": [
        Mistake(
            wrong.wald,
            "That is Wald's interval: its error bar uses p-hat where the unknown p belongs. At 0 of n it has no width.",
        ),
        Mistake(
            lambda right, n, z: wrong.wald(right, n, z).clamp(0, 1),
            "That is Wald's interval, cut off at 0 and 1: at n of n it still has no width.",
        ),
        Mistake(
            wrong.ends(wrong.wilson_half),
            "The width is right, the middle is not: Wilson's interval is pulled towards one half.",
        ),
        Mistake(
            wrong.ends(lambda p, n, z: z * math.sqrt(p * (1 - p) / n) / (1 + z * z / n), wrong.wilson_middle),
            "Under the root a term is missing: z^2 / (4 n^2).",
        ),
        Mistake(
            wrong.ends(
                lambda p, n, z: z * math.sqrt(p * (1 - p) / n + z * z / (4 * n)) / (1 + z * z / n), wrong.wilson_middle
            ),
            "Under the root z^2 / 4 is divided by n^2, not by n.",
        ),
        Mistake(
            wrong.ends(wrong.wilson_half, lambda p, n, z: wrong.wilson_middle(p, n, z, pull=1)),
            "The middle adds z^2 / (2n) to p-hat, half of what you add.",
        ),
        Mistake(
            wrong.ends(lambda p, n, z: wrong.wilson_half(p, n, z) * (1 + z * z / n), wrong.wilson_middle),
            "The half width is divided by 1 + z^2 / n too, not only the middle.",
        ),
        Mistake(
            lambda right, n, z: torch.stack([interval(right, n, z).mean(), interval(right, n, z).diff()[0] / 2]),
            "Those are the middle and the half width: return middle - half and middle + half.",
        ),
        Mistake(lambda right, n, z: interval(right, n, 1.96), "z is given: do not write 1.96 in its place."),
        Mistake(
            wrong.ends(
                lambda p, n, z: z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)),
                lambda p, n, z: p + z * z / (2 * n),
            ),
            "Divide the middle and the half width by 1 + z^2 / n.",
        ),
        Mistake(lambda right, n, z: interval(right, n, z).flip(0), "Low comes first, then high."),
    ],
    "38.3": [
        Mistake(wrong.subsequence, "That allows gaps: a copy is one stretch, letter after letter."),
        Mistake(wrong.from_the_start, "A copy may begin anywhere in the text, not only at its first letter."),
        Mistake(wrong.the_copy_itself, "That is the copy itself: return how long it is."),
        Mistake(
            lambda text, source: longest_stretch(text[:-1], source),
            "The last letter of the text was never looked at: range(n) ends at n - 1, and text[i:j] before j.",
        ),
        Mistake(wrong.last_window, "That is the last window: keep the longest of all."),
        Mistake(wrong.all_let_go(0), "A window that does not fit lets go of its first letter only, and looks again."),
        Mistake(wrong.all_let_go(1), "A window that does not fit lets go of its first letter only, and looks again."),
        Mistake(
            lambda text, source: longest_stretch(text.lower(), source.lower()),
            "Capital and small letters are different letters: compare the texts as they are.",
        ),
        Mistake(wrong.same_place, "The copy may stand at another place in the source."),
        Mistake(wrong.whole_words, "A copy may begin and end inside a word."),
    ],
}


@exercise("38.1")
def check_windows(answer) -> CheckResult:
    inputs = []
    for seed, (W, L, stride, text) in enumerate(
        [
            (4, 8, 3, "été à Köln"),
            (3, 6, 6, "to be"),
            (1, 5, 2, "曹操大惊"),
            (6, 9, 1, "naïve"),
            (2, 4, 2, "no ø"),
            (5, 7, 4, "ß"),
        ]
    ):
        inputs.append({"nats": noise(seed, W, L).abs().double(), "stride": stride, "text": text * 3})
    return compare(
        "38.1", answer, window_bits_per_byte, inputs, MISTAKES["38.1"], tolerance=1e-6,
        praise="Right: every token once, with as much context as there was, and the tokenizer is out of the formula.",
        hint="All of the first window, the last `stride` columns of the others; their sum / ln 2 / bytes.",
    )  # fmt: skip


@exercise("38.4")
def check_groups(answer) -> CheckResult:
    inputs = [{"x": noise(k, 2 + k, 32 - k), "bits": bits} for k, bits in enumerate([4, 8, 3, 2, 5, 4])]
    inputs[0]["x"][0, 3] = -4.0  # the largest of its group, and negative
    inputs[1]["x"][0] = -inputs[1]["x"][0].abs()  # a group without a positive number
    empty = noise(9, 4, 8)
    empty[2] = 0
    result = compare(
        "38.4", answer, round_groups, inputs, MISTAKES["38.4"], tolerance=1e-5,
        praise="Right, from two bits to eight, and a group of zeros stays one.",
        hint="s = max |x| / m for each row, k = round(x / s), and back: s k.",
    )  # fmt: skip
    if not result.passed:
        return result
    return compare(
        "38.4", answer, round_groups, [{"x": empty, "bits": 4}, {"x": torch.zeros(1, 3), "bits": 8}], praise=result.message,
        hint="A group of zeros has s = 0, and 0 / 0 is not a number: give such a group the whole numbers 0.",
    )  # fmt: skip


@exercise("38.2")
def check_interval(answer) -> CheckResult:
    inputs = [
        {"right": right, "n": n, "z": z}
        for right, n, z in [(17, 20, 1.96), (3, 7, 1.0), (880, 1000, 1.96), (1, 50, 2.576), (0, 12, 1.96), (12, 12, 1.96)]
    ]

    def as_tensor(right, n, z):
        got = call(answer, right=right, n=n, z=z)
        return (
            torch.tensor([float(x) for x in got], dtype=torch.float64) if isinstance(got, (tuple, list, np.ndarray)) else got
        )

    given = as_tensor if callable(answer) else answer
    return compare(
        "38.2", given, interval, inputs, MISTAKES["38.2"], tolerance=1e-5,
        praise="Right, also where every answer was wrong, or every one right: a small test is never sure.",
        hint="Middle (p + z^2/2n) / (1 + z^2/n), half width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).",
    )  # fmt: skip


@exercise("38.3")
def check_copy(answer) -> CheckResult:
    source = "to be, or not to be: that is the question"
    texts = [
        "I say to you: that is the quest",
        "to say that it is the quest, not to be feared",
        "be or not",
        "or not to bell",
    ]
    texts += ["that is the question", "zzz", "", "t", "questions that is that is the", "To Be, or NOT to be"]
    return compare(
        "38.3", answer, longest_stretch, [{"text": text, "source": source} for text in texts], MISTAKES["38.3"],
        praise="Right, from nothing in common to everything.",
        hint="For each beginning, grow the stretch while it stands in the source; keep the longest length.",
    )  # fmt: skip


@exercise("38.5")
def check_three_bits(answer) -> CheckResult:
    got = attempt("38.5", answer, outcome, hint="Begin with compensated_state(network, input_moments(network, texts), 3).")
    if isinstance(got, CheckResult):
        return got
    most = allowed()
    wanted = f"expected at most {most:,} bytes and +{MORE} nats a letter"
    message = f"got      {got.size:,} bytes and [here +{got.more:.4f} nats]\n{wanted}"
    if got.size > most:
        return CheckResult("38.5", False, message, "Too many bytes: what you give to one matrix you must take from another.")
    if budget.is_tiny() or got.more <= MORE:
        return CheckResult("38.5", True, message)
    hint = (
        "With feedback you are near: matrices differ in what a bit is worth to them."
        if got.more < 0.1
        else "Rounding each weight alone costs most of that: hand the errors on (section 4)."
    )
    return CheckResult("38.5", False, message, hint)


REFERENCES = {"38.1": window_bits_per_byte, "38.4": round_groups, "38.2": interval, "38.3": longest_stretch}
