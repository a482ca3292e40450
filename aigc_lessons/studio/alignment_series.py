"""The series "alignment" (`aigc-lessons train alignment`): which networks are aligned, how, and what is measured."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.language.rollout import Grpo, Pairs, Rollout, chosen_objective, dpo_objective
from aigc_lessons.studio import alignment
from aigc_lessons.studio.alignment import LONGEST, Stage
from aigc_lessons.training.loop import TrainConfig, train

ANSWERS, GROUP = 128, 8  # of a step of GRPO, to each prompt
COMPARED, BATCH = 400, 16  # comparisons, those of a step
SEEDS, BETAS, TUNING_SEED = (0, 1, 2), (0.03, 0.1, 0.3), 9


@dataclass(frozen=True)
class Setting:
    """One alignment: everything it depends on.

    method: "grpo", "dpo", or "chosen" (supervised, on the preferred answers).
    reward: of GRPO: "rule" (q), "varied" (q without repeated words), "letters" (fitted to COMPARED comparisons).
    beta:   weight of KL; 0 for "chosen".
    """

    method: str
    reward: str
    beta: float
    lr: float
    steps: int
    seed: int


def reward_of(name: str, there: Stage) -> Callable[[Rollout], Tensor]:
    """Rollout -> one number for each answer."""
    if name == "rule":
        return there.quality
    if name == "varied":
        return lambda answers: alignment.varied(there, answers)
    weights = alignment.letter_reward(there, alignment.compare(there, COMPARED, seed=0))
    return lambda answers: alignment.letter_counts(answers, len(weights)) @ weights


def batches_of(pairs: Pairs, seed: int) -> Callable[[int], Pairs]:
    """step -> BATCH of the pairs, drawn anew for each step."""
    n = len(pairs.chosen.ids)
    return lambda step: pairs.pick(torch.randint(n, (BATCH,), generator=step_generator(seed, step)))


def align(setting: Setting, there: Stage, every: int = 10) -> Iterator[tuple[int, nn.Module]]:
    """Train a copy of the reference: (steps done, network so far), every so many steps and at the end."""
    network = copy.deepcopy(there.reference).requires_grad_(True)
    if setting.method == "grpo":
        loss = Grpo(reward_of(setting.reward, there), there.reference, there.stop, LONGEST, GROUP, setting.beta)
        batches = there.batches(ANSWERS // GROUP, setting.seed)
    else:
        loss = dpo_objective(setting.beta) if setting.method == "dpo" else chosen_objective()
        batches = batches_of(alignment.compare(there, COMPARED, seed=0).pairs(there.reference), setting.seed)
    config = TrainConfig(setting.steps, lr=setting.lr, warmup=2, decay=0.3, seed=setting.seed, log_every=every)
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
