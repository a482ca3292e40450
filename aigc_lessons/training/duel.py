"""Two networks trained against each other: the one kind of training that is not the descent of one loss."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.training.loop import StepLog, TrainConfig
from aigc_lessons.types import Batch, LossFn


def duel(
    model: nn.Module,
    players: Sequence[tuple[nn.Module, LossFn]],
    batches: Callable[[int], Batch],
    config: TrainConfig,
) -> Iterator[StepLog]:
    """In every step each player in turn lowers its own loss, and only its own weights move.

    The optimizer is Adam without momentum (beta_1 = 0, beta_2 = 0.99): what a player's gradient was a few steps ago was
    an answer to an opponent that is no longer there. Steps, rate, decay, average, seed and logs are those of `train`; the
    loss of a log is the first player's. However it ends, the model is left with the averaged weights.

    Args:
        players: parts of `model`, each with a loss (model, batch, generator) -> scalar.
    Raises: ValueError for an optimizer, clip or validation that would not be used.
    """
    if config.optimizer != "adamw" or config.clip is not None or config.validate is not None:
        raise ValueError("a duel uses Adam, no clipping and no validation: leave optimizer and validate, set clip=None")
    return _rounds(model, players, batches, config)


def _rounds(model, players, batches, config) -> Iterator[StepLog]:
    optimizers = [torch.optim.Adam(part.parameters(), config.lr, betas=(0.0, 0.99)) for part, _ in players]
    average = model if config.ema is None else copy.deepcopy(model).eval().requires_grad_(False)
    seconds, since = 0.0, []
    try:
        for step in range(config.steps):
            started = time.perf_counter()
            batch, generator = batches(step), step_generator(config.seed, step)
            for k, ((part, loss_fn), optimizer) in enumerate(zip(players, optimizers, strict=True)):
                loss = _move(model, part, loss_fn, batch, generator, optimizer, config.lr_at(step))
                since += [loss] if k == 0 else []
            if average is not model:
                keep = min(config.ema, (step + 1) / (step + 10))
                torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - keep)
            seconds += time.perf_counter() - started
            if (step + 1) % config.log_every == 0 or step + 1 in (1, config.steps):
                mean, since = sum(since) / len(since), []
                yield StepLog(step + 1, mean, config.lr_at(step), seconds, None, average, model.state_dict)
    finally:
        model.load_state_dict(average.state_dict())
        model.eval()


def _move(model, part, loss_fn, batch, generator, optimizer, lr) -> float:
    """One step of one player; the gradients that its loss leaves in the other's weights are thrown away."""
    loss: Tensor = loss_fn(model, batch, generator)
    if not loss.isfinite():
        raise FloatingPointError(f"a player's loss is {loss.item()} (lr {lr:g}); a smaller lr usually helps")
    gradients = torch.autograd.grad(loss, list(part.parameters()))
    for weight, gradient in zip(part.parameters(), gradients, strict=True):
        weight.grad = gradient
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    return loss.item()
