"""Lesson 35: a split without a leak, the last real token, LoRA, a temperature, and a classifier to beat."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lessons.data import plays
from aigc_lessons.data.plays import balanced
from aigc_lessons.data.wheels import DataError
from aigc_lessons.exercises.core import (
    CheckResult,
    Unusable,
    agree,
    attempt,
    call,
    compare,
    describe,
    exercise,
    noise,
    show,
)
from aigc_lessons.exercises.wrong_labels import MISTAKES, best_temperature, last_real, lora_layer, split_by_scene
from aigc_lessons.studio import finetuning
from aigc_lessons.training.budget import steps

OWN_DICE = "Draw with the generator that you are given, torch.randperm(..., generator=generator), and with no other chance."

# ------------------------------------------------------------------------------------------------------------ the checkers


def _wrong_split(got, scenes: Tensor, share: float) -> str:
    """What is wrong with a split, in words; empty if nothing is."""
    if not (isinstance(got, (tuple, list)) and len(got) == 2 and all(isinstance(side, Tensor) for side in got)):
        return "two tensors of row numbers are expected: (to learn from, to be judged on)"
    if any(side.dtype == torch.bool for side in got):
        return "numbers of rows are expected, got a mask: mask.nonzero()[:, 0] turns it into row numbers"
    if any(side.ndim != 1 for side in got):
        return f"one axis is expected, got shape {tuple(got[0].shape)}: mask.nonzero() has two, mask.nonzero()[:, 0] one"
    train, test = (side.long() for side in got)
    rows = torch.cat([train, test])
    if len(rows) != len(scenes) or not torch.equal(rows.sort().values, torch.arange(len(scenes))):
        return f"every row 0..{len(scenes) - 1} must stand on exactly one side; {len(rows)} row numbers came back"
    both = set(scenes[train].tolist()) & set(scenes[test].tolist())
    if both:
        return f"{len(both)} scenes stand on both sides, scene {min(both)} for example"
    wanted, found = round(share * len(scenes.unique())), len(scenes[test].unique())
    if wanted != found:
        return f"{wanted} scenes of {len(scenes.unique())} to be judged on are expected, got {found}"
    return ""


@exercise("35.1")
def check_split(answer) -> CheckResult:
    name, hint = "35.1", "Draw a permutation of scenes.unique(), keep the first of it, and find their rows with torch.isin."
    for k, (kinds, n, share) in enumerate([(12, 90, 0.25), (5, 40, 0.4), (30, 200, 0.1), (7, 60, 0.5), (3, 11, 1 / 3)]):
        order = torch.Generator().manual_seed(k)
        scenes = torch.cat([torch.arange(kinds), torch.randint(kinds, (n - kinds,), generator=order)]).sort().values * 7 + k
        if k % 2 == 0:
            scenes = scenes[torch.randperm(n, generator=order)]
        given = {"scenes": scenes, "share": share}
        sides = []
        for seed in range(12):
            run = lambda f, seed=seed, scenes=scenes, share=share: call(  # noqa: E731
                f, scenes=scenes.clone(), share=share, generator=torch.Generator().manual_seed(seed)
            )
            got = attempt(name, answer, run, describe(given), hint)
            if isinstance(got, CheckResult):
                return got
            if wrong := _wrong_split(got, scenes, share):
                message = f"{describe(given)}\n  got      {show(got)}\n  expected a split by scenes: {wrong}"
                generator = torch.Generator().manual_seed(seed)
                return CheckResult(name, False, message, _named(got, scenes, share, generator) or hint)
            sides.append(sorted(got[1].tolist()))
        again = attempt(name, answer, run, describe(given), hint)  # with the last seed, a second time
        twice = not _wrong_split(again, scenes, share) and sorted(again[1].tolist()) == sides[-1]
        if not twice:
            message = f"{describe(given)}\n  got      two splits from the same seed\n  expected the same one twice"
            return CheckResult(name, False, message, OWN_DICE)
        if all(side == sides[0] for side in sides):
            message = f"{describe(given)}\n  got      the same scenes for twelve generators\n  expected different ones"
            return CheckResult(name, False, message, MISTAKES[name][2].diagnosis)
    return CheckResult(name, True, "Right on five lists of scenes, sorted and shuffled, with twelve generators each.")


def _named(got, scenes: Tensor, share: float, generator: torch.Generator) -> str:
    """The planted mistake that gives exactly this split."""
    if not (isinstance(got, (tuple, list)) and len(got) == 2):
        return ""
    state = generator.get_state()
    for mistake in MISTAKES["35.1"]:
        generator.set_state(state)
        wrong = mistake.answer(scenes, share, generator)
        if all(isinstance(g, Tensor) and agree(g.double(), w.double(), 1e-9) for g, w in zip(got, wrong, strict=True)):
            return mistake.diagnosis
    return ""


@exercise("35.2")
def check_last_real(answer) -> CheckResult:
    inputs = []
    for k, lengths in enumerate([[3, 5, 1], [4, 4], [1, 2, 6, 3], [2], [7, 1]]):
        T = max(lengths) + k % 3
        real = torch.arange(T) < torch.tensor(lengths)[:, None]
        inputs.append({"stream": noise(k, len(lengths), T, 4), "real": real})
    for stream, real in ((noise(8, 3, 6, 2), inputs[0]["real"]), (noise(9, 2, 5, 3), inputs[1]["real"])):
        turned = real.flip(1)  # padding in front, as some programs have it
        inputs.append({"stream": stream[:, : turned.shape[1]], "real": turned})
    return compare(
        "35.2", answer, last_real, inputs, MISTAKES["35.2"],
        praise="Right on seven batches, with the padding behind and with the padding in front.",
        hint="Number the real places from 1, and give every other a 0: argmax over places finds the last real one.",
    )  # fmt: skip


@exercise("35.3")
def check_lora_layer(answer) -> CheckResult:
    inputs = []
    for k, (rows, i, o, r, alpha) in enumerate(
        [(3, 6, 4, 2, 8.0), (5, 4, 4, 1, 3.0), (2, 8, 5, 3, 1.0), (4, 5, 7, 4, 2.0), (1, 3, 9, 2, 16.0), (3, 4, 6, 2, 2.0)]
    ):
        inputs.append({"x": noise(k, rows, i), "W": noise(20 + k, o, i), "A": noise(40 + k, r, i),
                       "B": noise(60 + k, o, r), "alpha": alpha})  # fmt: skip
    inputs.append(inputs[0] | {"B": torch.zeros(4, 2)})  # a new layer: nothing has changed yet
    return compare(
        "35.3", answer, lora_layer, inputs, MISTAKES["35.3"],
        praise="Right on seven layers; with B = 0 the layer is what it was.",
        hint="y = x W^T + (alpha / r) x A^T B^T, where A is (r, in), B is (out, r) and r = len(A).",
    )  # fmt: skip


@exercise("35.4")
def check_temperature(answer) -> CheckResult:
    inputs = []
    for k, (n, K, T) in enumerate([(400, 2, 3.0), (300, 4, 0.5), (500, 3, 1.0), (250, 2, 6.0), (600, 5, 1.7), (40, 2, 0.8)]):
        z = (1.5 * noise(k, n, K)).double()
        labels = torch.multinomial(z.softmax(1), 1, generator=torch.Generator().manual_seed(k))[:, 0]
        lopsided = torch.linspace(0, 1.5 * (k % 2 == 0), K).double()  # or every sensible score would find the same T
        inputs.append({"logits": T * (z + lopsided), "labels": labels})
    inputs.append({"logits": torch.tensor([[8.0, 0.0]] * 4).double(), "labels": torch.tensor([0, 0, 0, 1])})  # 8 / ln 3
    return compare(
        "35.4", answer, best_temperature, inputs, MISTAKES["35.4"],
        praise="Right for seven models, too sure and not sure enough, with two to five classes.",
        hint="F.cross_entropy(logits / T, labels) has one valley in T: search it, on a fine grid or by halving.",
        tolerance=5e-3,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- 35.5, a classifier to beat

LABELLED, JUDGED, GOAL = 64, 160, 0.985


@lru_cache(maxsize=2)
def contest(n: int, m: int) -> tuple:
    """n labelled passages and m to be judged, with the frozen features of both; stand-ins where the plays are missing."""
    try:
        whole = plays.passages()
    except DataError:
        whole = plays.passages(stand_in=True)
    train, _, test = plays.split(whole)
    generator = torch.Generator().manual_seed(2024)
    given = finetuning.play_examples(train[balanced(train.labels, n, generator)])
    asked = finetuning.play_examples(test[balanced(test.labels, m, generator)])
    network = finetuning.classifier(finetuning.trunk())
    return given, asked, finetuning.features(network, given.ids), finetuning.features(network, asked.ids)


def lesson_classifier(x, texts, labels, x_new, texts_new):
    """The number to beat: the lesson's probe with the best of its strengths."""
    return finetuning.probe(x, labels, 0.01)(x_new).softmax(1)[:, 1]


def probabilities(answer) -> tuple[Tensor, Tensor]:
    """The answer's probabilities on the passages to be judged, and the labels of these."""
    n, m = steps(LABELLED, at_least=16), steps(JUDGED, at_least=16)
    given, asked, x, x_new = contest(n, m)
    p = call(answer, x.clone(), list(given.texts), given.labels.clone(), x_new.clone(), list(asked.texts))
    if not isinstance(p, Tensor) or p.shape != (m,):
        raise Unusable(f"return a tensor of {m} probabilities of a history, got {show(p)}")
    if not (p.min() >= 0 and p.max() <= 1):
        raise Unusable(f"probabilities lie in 0..1, got {p.min().item():.4g}..{p.max().item():.4g}")
    return p.double(), asked.labels.double()


def nats(p: Tensor, y: Tensor) -> float:
    """Mean cross-entropy of probabilities of a history."""
    return F.binary_cross_entropy(p, y).item()


@exercise("35.5")
def check_contest(answer) -> CheckResult:
    got = attempt("35.5", answer, probabilities)
    if isinstance(got, CheckResult):
        return got
    p, y = got
    mine, lesson = nats(p, y), nats(*probabilities(lesson_classifier))
    message = (
        f"got      {mine:.3f} nats a passage\n"
        f"expected below {GOAL * lesson:.3f}, which is {GOAL:.1%} of the lesson's {lesson:.3f} (guessing: 0.693)"
    )
    hint = ""
    if mine >= GOAL * lesson:
        if mine == lesson:
            hint = "That is the lesson's probe itself."
        elif ((p == 0) | (p == 1)).all():
            hint = "These are verdicts, 0 or 1, and each error costs without limit: return probabilities."
        elif mine > 0.6932 > nats(1 - p, y):
            hint = "Turned round, these are better than 1/2: return the probability of a *history*, class 1."
        elif mine > 0.6932:
            hint = "Worse than always saying 1/2: the model is too sure. Pull its weights to 0 more strongly."
        else:
            hint = "Features and words err in different places: average the logits of a probe and of a bag of words."
    return CheckResult("35.5", not hint, message, hint)


REFERENCES = {"35.1": split_by_scene, "35.2": last_real, "35.3": lora_layer, "35.4": best_temperature}
