"""Reflow: the digits in one evaluation, learned from pairs of noise and what the shipped network makes of it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aigc_lessons.data import digits
from aigc_lessons.diffusion.flow import between, stratified_times, velocity_of
from aigc_lessons.diffusion.objective import to_x0
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.coverage import density_coverage
from aigc_lessons.evaluation.judges import accuracy, describe
from aigc_lessons.studio.digits import draw_digits, flash_digits, noise_and_digits
from aigc_lessons.training import checkpoints
from aigc_lessons.types import Batch, LossFn


@dataclass(frozen=True, eq=False)
class Pairs:
    """Noise and the digits that the shipped network makes of it."""

    noise: Tensor
    digits: Tensor
    labels: Tensor
    source: str


PAIRS, ENDS = 18_000, 0.7  # how many; the share of a batch that is asked at t = 1, where a single step begins


def digit_pairs() -> tuple[Pairs, digits.Digits]:
    """18,000 pairs of the teacher, kept in runs/ as they are made; and the held-out digits, to judge by."""
    train_set, held_out = digits.load()
    made = noise_and_digits(PAIRS, Path("runs") / "digits_pairs")
    return Pairs(*made, f"drawn by the shipped digits network, itself trained on {train_set.source}"), held_out


def reflow_loss() -> LossFn:
    """Flow matching on given pairs (digit, noise, label): the network of lesson 13, driven as a flow.

    Most rows are asked at t = 1, as distillation does, the others anywhere: the flow is straightened all along, and best
    where it must do everything in one step.
    """
    schedule = cosine_schedule()

    def loss_fn(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        x0, eps, labels = batch
        t = stratified_times(len(x0), generator).to(x0)
        t[: round(ENDS * len(x0))] = 1
        velocity = velocity_of(lambda x, step, y: to_x0(network(x, step, y), x, step, schedule, "v"), schedule)
        return (velocity(between(x0, eps, t), t, labels) - (eps - x0)).square().mean()

    return loss_fn


def spread_digits(drawn: Tensor, labels: Tensor, held_out: digits.Digits) -> dict[str, float]:
    """Judge accuracy, and density and coverage among the held-out digits, of drawn ones."""
    judge = checkpoints.pretrained("digits_judge")
    seen = digits.from_uint8(digits.to_uint8(drawn))
    spread = density_coverage(describe(judge, seen), describe(judge, held_out.images))
    return {"accuracy": accuracy(judge, seen, labels), "density": spread.density, "coverage": spread.coverage}


def judge_reflow(network: nn.Module, pairs: Pairs, held_out: digits.Digits, seed: int = 0) -> dict[str, float]:
    """1,000 digits in one evaluation, beside what the teacher makes of the same noise in 32."""
    labels = torch.arange(10).repeat_interleave(100)
    student = spread_digits(flash_digits(labels, seed=seed, network=network), labels, held_out)
    teacher = spread_digits(draw_digits(labels, seed=seed), labels, held_out)
    return student | {f"{name}_teacher": value for name, value in teacher.items()}
