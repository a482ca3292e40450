"""Lesson 37: the log-probability of an answer, Bradley and Terry's loss, DPO, GRPO, and a reward with eyes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from aigc_lessons.exercises.core import CheckResult, Unusable, attempt, call, compare, exercise, noise
from aigc_lessons.exercises.wrong_alignment import MISTAKES, NOTHING, OVERFLOW, answer_log_prob, dpo, grpo, preference_loss
from aigc_lessons.language.preference import best_of_n, fit_linear_reward
from aigc_lessons.language.verse import Verse
from aigc_lessons.studio import alignment
from aigc_lessons.training import budget


@exercise("37.1")
def check_answer_log_prob(answer) -> CheckResult:
    inputs = []
    for k, (B, N, V, start) in enumerate([(4, 8, 3, 2), (3, 6, 4, 1), (5, 9, 3, 4), (2, 7, 2, 3), (6, 10, 5, 5)]):
        ids = torch.randint(V, (B, N), generator=torch.Generator().manual_seed(k))
        inputs.append({"logits": 2 * noise(k, B, N, V), "ids": ids, "start": start, "stop": k % 2})
    never, at_once = torch.ones(2, 6, dtype=torch.long), torch.zeros(2, 6, dtype=torch.long)
    inputs += [{"logits": noise(9, 2, 6, 3), "ids": ids, "start": 2, "stop": 0} for ids in (never, at_once)]
    return compare(
        "37.1", answer, answer_log_prob, inputs, MISTAKES["37.1"],
        praise="Right, for answers that end at once, later, and never.",
        hint="log_softmax of logits[:, start - 1 : -1]; gather the tokens ids[:, start:]; sum those up to the first stop.",
    )  # fmt: skip


@exercise("37.2")
def check_preference_loss(answer) -> CheckResult:
    inputs = [{"chosen": s * noise(k, 3 + k), "rejected": s * noise(k + 20, 3 + k)} for k, s in enumerate([1, 3, 0.1, 5, 2])]
    inputs.append({"chosen": torch.zeros(4), "rejected": torch.zeros(4)})
    wrong = {"chosen": torch.tensor([-300.0, 2.0]), "rejected": torch.tensor([300.0, 1.0])}
    praise = "Right, and finite however wrong the reward is."
    result = compare(
        "37.2", answer, preference_loss, inputs, MISTAKES["37.2"], tolerance=1e-5, praise=praise,
        hint="-log sigmoid(r_chosen - r_rejected), averaged over the pairs: F.softplus(-d) is -log sigmoid(d).",
    )  # fmt: skip
    return compare("37.2", answer, preference_loss, [wrong], praise=praise, hint=OVERFLOW) if result.passed else result


@exercise("37.3")
def check_dpo(answer) -> CheckResult:
    names = ("chosen", "rejected", "ref_chosen", "ref_rejected")
    inputs = []
    for k, beta in enumerate([0.1, 0.5, 2.0, 0.03, 1.0, 0.2]):
        inputs.append({**{n: -20 + 4 * noise(10 * k + j, 4 + k) for j, n in enumerate(names)}, "beta": beta})
    same = dict(zip(names, (noise(1, 3), noise(2, 3), noise(1, 3), noise(2, 3)), strict=True))
    inputs.append({**same, "beta": 0.3})  # nothing has moved: ln 2
    far = [torch.tensor([x]) for x in (-900.0, -10.0, -10.0, -900.0)]
    wrong, praise = (
        dict(zip(names, far, strict=True)) | {"beta": 1.0},
        "Right: ln 2 before the first step, finite everywhere.",
    )
    result = compare(
        "37.3", answer, dpo, inputs, MISTAKES["37.3"], tolerance=1e-5, praise=praise,
        hint="The implicit reward of each answer is beta (log pi - log ref); then the loss of exercise 37.2.",
    )  # fmt: skip
    return compare("37.3", answer, dpo, [wrong], praise=praise, hint=OVERFLOW) if result.passed else result


def _grpo_input(k: int, P: int, G: int, T: int, clip: float, moved: float, rewards: Tensor | None = None) -> dict:
    lengths = torch.randint(1, T + 1, (P * G,), generator=torch.Generator().manual_seed(k))
    log_old = -1 - noise(k, P * G, T).abs()
    return {
        "log_p": log_old + moved * noise(k + 50, P * G, T), "log_old": log_old,
        "rewards": 2 * noise(k + 80, P, 1) + noise(k + 90, P, G) if rewards is None else rewards,
        "mask": torch.arange(T) < lengths[:, None], "clip": clip,
    }  # fmt: skip


@exercise("37.4")
def check_grpo(answer) -> CheckResult:
    shapes = [(3, 4, 5, 0.2, 0.4), (2, 8, 6, 0.1, 0.3), (4, 2, 3, 0.3, 0.8), (1, 6, 7, 0.2, 0.5), (5, 3, 4, 0.2, 0.2)]
    inputs = [_grpo_input(k, *shape) for k, shape in enumerate(shapes)]
    praise = "Right: by groups, the worse of two products, and nothing learned from a group without differences."
    result = compare(
        "37.4", answer, grpo, inputs, MISTAKES["37.4"], tolerance=1e-4, praise=praise,
        hint="A = (r - mean) / spread by rows; rho = exp(log_p - log_old); min(rho A, clip(rho) A); mean by answer; minus.",
    )  # fmt: skip
    equal = [torch.tensor([[0.5, 0.5, 0.5], [0.0, 1.0, 1.0]]), torch.ones(2, 3)]
    same = [_grpo_input(7 + k, 2, 3, 4, 0.2, 0.4, rewards) for k, rewards in enumerate(equal)]
    return compare("37.4", answer, grpo, same, praise=praise, hint=NOTHING) if result.passed else result


# -------------------------------------------------------------------------------- 37.5, a reward that sees what readers see

PAIRS, PROMPTS, ANSWERS, KEPT, GOAL = 250, 40, 16, 4, 0.71


@lru_cache(maxsize=2)
def contest(tiny: bool = False):
    """The comparisons as lines (preferred, not), a pool of answers as lines, and their q: (PROMPTS, ANSWERS)."""
    there = alignment.stage()
    pairs, prompts = (16, 2) if tiny else (PAIRS, PROMPTS)
    better, worse = (there.lines(r) for r in alignment.compare(there, pairs, seed=3).sorted())
    pool = there.draw(there.reference, there.fresh(prompts).repeat_interleave(ANSWERS, 0), seed=4)
    return better, worse, there.lines(pool), there.quality(pool).view(prompts, ANSWERS)


def score(my_features, sizes=(KEPT,)) -> list[float]:
    """q of the best of n by the reward that `my_features(line) -> numbers` makes possible, for each n."""
    better, worse, pool, q = contest(budget.is_tiny())
    with rule_locked():
        chosen, rejected, asked = (
            torch.stack([_numbers(my_features, line) for line in lines]) for lines in (better, worse, pool)
        )
    spread = torch.cat([chosen, rejected]).std(0).clamp(min=1e-6)
    w = fit_linear_reward(chosen / spread, rejected / spread, ridge=0.003)
    return best_of_n((asked / spread @ w).view_as(q), q, sizes)


@contextmanager
def rule_locked() -> Iterator[None]:
    """Meanwhile nobody may ask the rule."""

    def refuse(self, line, ended=True):
        raise Unusable("the rule must not be called: your reward has only the comparisons and what you can count in a line")

    asked = {name: vars(Verse)[name] for name in ("__call__", "spelled")}
    for name in asked:
        setattr(Verse, name, refuse)
    try:
        yield
    finally:
        for name, method in asked.items():
            setattr(Verse, name, method)


def _numbers(my_features, line: str) -> Tensor:
    got = call(my_features, line)
    try:
        numbers = torch.as_tensor(got, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise Unusable(
            f"for the line {line!r} expected a list of numbers, got {type(got).__name__}: {str(got)[:60]}"
        ) from None
    if not 1 <= len(numbers) <= 100 or not numbers.isfinite().all():
        raise Unusable(f"for the line {line!r} expected 1 to 100 finite numbers, got {str(got)[:60]}")
    return numbers


@exercise("37.5")
def check_features(answer) -> CheckResult:
    got = attempt("37.5", answer, score, hint="A line comes in, a list of numbers goes out, equally many for every line.")
    if isinstance(got, CheckResult):
        return got
    few = got[0]
    message = f"got      q = [here {few:.3f}] for the best of {KEPT}\nexpected at least {GOAL:.2f}"
    if budget.is_tiny() or few >= GOAL:
        return CheckResult("37.5", True, message)
    if few < 0.63:
        hint = "Letters alone come to about 0.58: your reward hardly sees what the reader sees."
    elif few < 0.68:
        hint = "It sees something. What does the reader count? A linear reward has no peak: give it the distance from one."
    else:
        hint = "Nearly. Groups of vowels come to about 0.69: the reader counts no silent e at the end of a word."
    return CheckResult("37.5", False, message, hint)


REFERENCES = {"37.1": answer_log_prob, "37.2": preference_loss, "37.3": dpo, "37.4": grpo}
