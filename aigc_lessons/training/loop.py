"""The one training loop, for both engines. It is a generator: whoever iterates watches, plots, saves and stops it."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.training.optimizers import make_optimizers
from aigc_lessons.types import Batch, LossFn


@dataclass(frozen=True)
class TrainConfig:
    """What the loop needs to know.

    Args:
        steps:     optimizer steps in all.
        lr:        highest learning rate.
        warmup:    steps over which the rate climbs from 0 to lr.
        decay:     fraction of all steps, at the end, over which it falls in a straight line to 0.
        optimizer: "adamw", or "muon" (Muon for hidden matrices, AdamW for the rest).
        clip:      longest allowed gradient (Euclidean norm over all parameters); None switches clipping off.
        ema:       how much of the running average of the weights survives a step, e.g. 0.99; None: no average.
        seed:      with the step, decides every random number of that step.
        log_every: steps between two yields; the first step is always one.
        validate:  network -> a loss, called at every yield; the best network by it is kept.
    Raises: ValueError naming the field that makes no sense.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 0
    decay: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    clip: float | None = 1.0
    ema: float | None = None
    seed: int = 0
    log_every: int = 10
    validate: Callable[[nn.Module], float] | None = None

    def __post_init__(self):
        for name, fine, wanted in [
            ("steps", self.steps >= 1, "at least 1"),
            ("lr", self.lr > 0, "above 0"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("decay", 0 <= self.decay <= 1, "a fraction in 0..1"),
            ("clip", self.clip is None or self.clip > 0, "above 0, or None"),
            ("ema", self.ema is None or 0 <= self.ema < 1, "in 0..1 (below 1), or None"),
            ("seed", self.seed >= 0, "0 or more"),
            ("log_every", self.log_every >= 1, "at least 1"),
        ]:
            if not fine:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def lr_at(self, step: int) -> float:
        """The learning rate of step 0, 1, ... steps - 1."""
        up = min(1.0, (step + 1) / (self.warmup + 1))
        down = min(1.0, (self.steps - step) / (self.decay * self.steps)) if self.decay else 1.0
        return self.lr * min(up, down)


@dataclass(frozen=True, eq=False)
class StepLog:
    """What happened up to `step` (counted from 1).

    loss is the mean since the last log; seconds is time spent in steps so far, without validation and without whoever
    watches; network is the averaged network, in evaluation mode, safe to sample from (it changes as training goes on);
    state() is everything needed to go on from here, for `checkpoints.save`.
    """

    step: int
    loss: float
    lr: float
    seconds: float
    validation: float | None
    network: nn.Module = field(repr=False)
    state: Callable[[], dict] = field(repr=False)


def train(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Callable[[int], Batch],
    config: TrainConfig,
    *,
    resume: dict | None = None,
) -> Iterator[StepLog]:
    """Train `model` in place, yielding a StepLog after the first step, every `log_every` steps and at the end.

    However the loop ends (all steps done, closed, stopped by the keyboard, an error), the model is left in evaluation mode
    with the best weights known: those of the lowest validation, where that is measured; else the running average, where
    there is one; else the latest. Resuming from a saved state gives the same numbers, bit for bit, as never stopping.

    Args:
        loss_fn: (network, batch, generator) -> scalar; draws its random numbers from the generator.
        batches: step -> batch, a pure function.
        resume:  a state from `StepLog.state()` or `checkpoints.load`.
    Raises: ValueError if the state belongs to another network, seed or optimizer; FloatingPointError naming the step when
        the loss is no longer a number, before the weights are touched.
    """
    optimizers = make_optimizers(config.optimizer, model, config.lr)
    average = model if config.ema is None else copy.deepcopy(model).eval().requires_grad_(False)
    run = _Run(model, average, optimizers, config)
    if resume is not None:
        run.restore(resume)
    return run.steps(loss_fn, batches)


class _Run:
    """The state of one training: everything that a checkpoint must hold."""

    def __init__(self, model, average, optimizers, config):
        self.model, self.average, self.optimizers, self.config = model, average, optimizers, config
        self.step, self.seconds = 0, 0.0
        self.best_validation, self.best = math.inf, None

    def steps(self, loss_fn: LossFn, batches: Callable[[int], Batch]) -> Iterator[StepLog]:
        config, since = self.config, []
        try:
            while self.step < config.steps:
                started = time.perf_counter()
                self.model.train()
                since.append(self._one_step(loss_fn, batches(self.step)))
                self.seconds += time.perf_counter() - started
                if self.step % config.log_every == 0 or self.step in (1, config.steps):
                    loss, since = sum(since) / len(since), []
                    validation = self._validate()
                    self.average.eval()
                    lr = config.lr_at(self.step - 1)
                    yield StepLog(self.step, loss, lr, self.seconds, validation, self.average, self.state)
        finally:
            self.model.load_state_dict(self.best or self.average.state_dict())
            self.model.eval()

    def _one_step(self, loss_fn: LossFn, batch: Batch) -> float:
        generator = step_generator(self.config.seed, self.step)
        # layers such as dropout draw from the global generator: give them numbers of this step, and leave no trace
        with torch.random.fork_rng(devices=[]):
            # (torch.manual_seed would also write down the call stack, for devices that are not there: 20 % of a small step)
            torch.default_generator.manual_seed(generator.initial_seed())
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(generator.initial_seed())
            loss = loss_fn(self.model, batch, generator)
        if not loss.isfinite():
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.step + 1} (lr {self.config.lr_at(self.step):g});"
                " a smaller lr, a longer warmup or a smaller clip usually helps"
            )
        loss.backward()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr_at(self.step)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        """average <- k average + (1 - k) weights, with a shorter memory while the average is young."""
        if self.average is self.model:
            return
        keep = min(self.config.ema, self.step / (self.step + 9))
        for averaged, latest in zip(self.average.parameters(), self.model.parameters(), strict=True):
            averaged.lerp_(latest, 1 - keep)
        for averaged, latest in zip(self.average.buffers(), self.model.buffers(), strict=True):
            averaged.copy_(latest)

    def _validate(self) -> float | None:
        if self.config.validate is None:
            return None
        self.average.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            validation = float(self.config.validate(self.average))
        if validation < self.best_validation:
            self.best_validation, self.best = validation, _copied(self.average.state_dict())
        return validation

    def state(self) -> dict:
        """Everything needed to go on, as nested dicts of tensors (copied) and plain numbers.

        The random generators need no entry: every step's numbers follow from (seed, step).
        """
        return {
            "step": self.step,
            "seconds": self.seconds,
            "seed": self.config.seed,
            "optimizer": self.config.optimizer,
            "best_validation": self.best_validation if self.best else None,
            "model": _copied(self.model.state_dict()),
            "average": None if self.average is self.model else _copied(self.average.state_dict()),
            "best": self.best,
            "optimizers": [_copied(optimizer.state_dict()) for optimizer in self.optimizers],
        }

    def restore(self, state: dict) -> None:
        for name in ("seed", "optimizer"):
            if state[name] != getattr(self.config, name):
                raise ValueError(
                    f"this state was trained with {name} = {state[name]!r}, the configuration says"
                    f" {getattr(self.config, name)!r}; they must agree to resume"
                )
        if (state["average"] is None) != (self.average is self.model):
            raise ValueError("the state and the configuration must agree on ema: one has a running average, one has none")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"this state belongs to another network: {error}") from None
        if state["average"] is not None:
            self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copy.deepcopy(saved))
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.best_validation = math.inf if state["best_validation"] is None else state["best_validation"]


def _copied(tree):
    """A deep copy of nested dicts and lists of tensors, off the graph."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_copied(value) for value in tree)
    return tree
