"""Lesson 37: the log-probability of an answer, Bradley and Terry's loss, DPO, GRPO, and a reward with eyes."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lessons.exercises.core import CheckResult, Mistake, Unusable, attempt, call, compare, exercise, noise
from aigc_lessons.language.preference import best_of_n, fit_linear_reward
from aigc_lessons.studio import alignment
from aigc_lessons.training import budget


def answer_log_prob(logits, ids, start, stop):
    log_p = logits[:, start - 1 : -1].log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0]
    stops = ids[:, start:] == stop
    said = stops.long().cumsum(1) - stops.long() == 0
    return torch.where(said, log_p, torch.zeros_like(log_p)).sum(1)


def preference_loss(chosen, rejected):
    return F.softplus(rejected - chosen).mean()


def dpo(chosen, rejected, ref_chosen, ref_rejected, beta):
    return F.softplus(-beta * ((chosen - ref_chosen) - (rejected - ref_rejected))).mean()


def grpo(log_p, log_old, rewards, mask, clip):
    return _grpo(log_p, log_old, rewards, mask, clip)


def _grpo(log_p, log_old, rewards, mask, clip, *, advantages=None, gain=None, mean=None):
    """GRPO, with parts that a mistake replaces."""
    A = (advantages or _of_the_group)(rewards).flatten()[:, None]
    rho = (log_p - log_old).exp()
    each = (gain or _pessimistic)(rho, A, clip)
    each = torch.where(mask, each, torch.zeros_like(each))
    return -(mean or _by_answer)(each, mask)


def _of_the_group(rewards):
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, unbiased=False, keepdim=True)
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), torch.zeros_like(centred))


def _pessimistic(rho, A, clip):
    return torch.minimum(rho * A, rho.clamp(1 - clip, 1 + clip) * A)


def _by_answer(each, mask):
    return (each.sum(1) / mask.sum(1)).mean()


def _log_probs(logits, ids, start, shift=1):
    stop_at = -1 if shift else None
    return logits[:, start - shift : stop_at].log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0]


def _counted(counts, log_probs=_log_probs, reduce=None):
    """A wrong `answer_log_prob`: counts(stops) says which tokens count."""

    def weigh(logits, ids, start, stop):
        log_p, said = log_probs(logits, ids, start), counts(ids[:, start:] == stop)
        kept = torch.where(said, log_p, torch.zeros_like(log_p))
        return kept.sum(1) if reduce is None else reduce(kept, said)

    return weigh


def _said(stops):
    return stops.long().cumsum(1) - stops.long() == 0


OVERFLOW = "sigmoid rounds to 0 where everything is very wrong, and log(0) is -infinity: use softplus or logsigmoid."
NOTHING = "In a group whose rewards are all equal the spread is 0, and 0 / 0 is NaN: such a group teaches nothing, A = 0."

MISTAKES = {
    "37.1": [
        Mistake(
            _counted(_said, lambda logits, ids, start: _log_probs(logits, ids, start, shift=0)),
            "The logits at a token speak of the token after it: those of the answer begin one place earlier, at start - 1.",
        ),
        Mistake(
            _counted(lambda stops: stops.long().cumsum(1) == 0),
            "The stop itself was drawn too: it belongs to the answer. (Else a long answer pays nothing for its end.)",
        ),
        Mistake(
            _counted(torch.ones_like),
            "What comes after the first stop was never said: it must not count.",
        ),
        Mistake(
            _counted(_said, reduce=lambda kept, said: kept.sum(1) / said.sum(1)),
            "That is the mean over the tokens. The probability of an answer is a product: its logarithm is a sum.",
        ),
        Mistake(
            lambda logits, ids, start, stop: torch.where(
                _said(ids[:, start:] == stop), _log_probs(logits, ids, start).exp(), torch.ones(())
            ).prod(1),
            "That is the probability; asked for is its logarithm. (Of a long answer the product rounds to 0.)",
        ),
    ],
    "37.2": [
        Mistake(
            lambda chosen, rejected: F.softplus(chosen - rejected).mean(),
            "The sign is turned round: this loss falls when the rejected answer gets more.",
        ),
        Mistake(
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).log().mean(),
            OVERFLOW,
        ),
        Mistake(
            lambda chosen, rejected: (1 - torch.sigmoid(chosen - rejected)).mean(),
            "That is the mean probability of being wrong; the loss is minus the logarithm of that of being right.",
        ),
        Mistake(lambda chosen, rejected: F.softplus(rejected - chosen).sum(), "The mean over the pairs, not their sum."),
        Mistake(
            lambda chosen, rejected: (rejected - chosen).mean(),
            "That is the difference of the rewards; it would fall for ever. Put it through -log sigmoid.",
        ),
    ],
    "37.3": [
        Mistake(
            lambda chosen, rejected, ref_chosen, ref_rejected, beta: F.softplus(-beta * (chosen - rejected)).mean(),
            "The reference is missing: what counts is by how much an answer has become likelier than it was.",
        ),
        Mistake(
            lambda chosen, rejected, ref_chosen, ref_rejected, beta: (
                beta * F.softplus(-((chosen - ref_chosen) - (rejected - ref_rejected))).mean()
            ),
            "beta belongs inside the sigmoid: it scales the rewards, not the loss.",
        ),
        Mistake(
            lambda chosen, rejected, ref_chosen, ref_rejected, beta: dpo(rejected, chosen, ref_rejected, ref_chosen, beta),
            "Chosen and rejected have changed places: this loss makes the rejected answers likelier.",
        ),
        Mistake(
            lambda chosen, rejected, ref_chosen, ref_rejected, beta: dpo(chosen, rejected, ref_rejected, ref_chosen, beta),
            "Each answer is compared with the reference's opinion of the other one.",
        ),
        Mistake(
            lambda chosen, rejected, ref_chosen, ref_rejected, beta: (
                -torch.sigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected))).log().mean()
            ),
            OVERFLOW,
        ),
    ],
    "37.4": [
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip,
                advantages=lambda r: (r - r.mean()) / r.std(unbiased=False).clamp(min=1e-6),
            ),
            "Mean and spread are those of a group (a row of rewards): you took them over all answers.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip,
                advantages=lambda r: (r - r.mean(1, keepdim=True)) / r.std(1, unbiased=False, keepdim=True),
            ),
            NOTHING,
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip, advantages=lambda r: r - r.mean(1, keepdim=True)
            ),
            "The advantages are not divided by the spread of their group.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip,
                advantages=lambda r: ((r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True)).nan_to_num(0.0),
            ),
            "The spread of a group is the root of the mean square: divide by G, not by G - 1 (unbiased=False).",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip, gain=lambda rho, A, c: rho.clamp(1 - c, 1 + c) * A
            ),
            "Only clipped: then a step in the wrong direction is forgiven too. Take the minimum with the unclipped product.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip, gain=lambda rho, A, c: (rho * A).maximum(rho.clip(1 - c, 1 + c) * A)
            ),
            "The minimum of the two products, not the maximum: of the two, believe the worse one.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: _grpo(
                log_p, log_old, rewards, mask, clip, mean=lambda each, mask: each.sum() / mask.sum()
            ),
            "Each answer is averaged over its own tokens first; then the answers are averaged.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: -grpo(log_p, log_old, rewards, mask, clip),
            "The sign: a loss goes down where the gain goes up.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: grpo(log_p, log_old, rewards, torch.ones_like(mask), clip),
            "Tokens outside the mask were never said: they must not count, in the sum or in the length.",
        ),
    ],
}  # fmt: skip


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
    chosen, rejected, asked = (
        torch.stack([_numbers(my_features, line) for line in lines]) for lines in (better, worse, pool)
    )
    spread = torch.cat([chosen, rejected]).std(0).clamp(min=1e-6)
    w = fit_linear_reward(chosen / spread, rejected / spread, ridge=0.003)
    return best_of_n((asked / spread @ w).view_as(q), q, sizes)


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
    hint = (
        "Letters alone come to about 0.58: your reward hardly sees what the reader sees."
        if few < 0.63
        else "It sees something. What does the reader count? A linear reward has no peak: give it the distance from one."
    )
    return CheckResult("37.5", False, message, hint)


REFERENCES = {"37.1": answer_log_prob, "37.2": preference_loss, "37.3": dpo, "37.4": grpo}
