"""Training against the clock, as the benchmarks do it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch._dynamo  # noqa: F401 (the first optimizer made imports it, in over a second: it belongs to the start)
from torch import nn

from aigc_lessons.training.loop import TrainConfig, train

MARGIN = 0.97  # plan for this share of the time that is left: a machine is not equally fast all along


def train_for(
    seconds: float, build: Callable[[], nn.Module], config: TrainConfig, batches, loss_fn
) -> tuple[nn.Module, int, float]:
    """Train from scratch until the clock says `seconds`, everything included.

    The learning rate falls to zero at the last step, so the number of steps must be known beforehand: a throw-away network
    takes a few steps first, and that time counts too.

    Returns: the network, its steps, the seconds spent.
    """
    started = time.perf_counter()
    times, warm = [], build()
    before = time.perf_counter()
    for _ in train(warm, loss_fn, batches, replace(config, steps=max(12, int(seconds / 3)), log_every=1)):
        now = time.perf_counter()
        times.append(now - before)
        before = now
    left = seconds - (time.perf_counter() - started)
    steps = max(2, int(MARGIN * left / statistics.median(times)))
    network = build()
    run = train(network, loss_fn, batches, replace(config, steps=steps, log_every=1))
    for log in run:  # noqa: B007 (its last value is used below)
        if time.perf_counter() - started > seconds:
            run.close()
    return network.eval(), log.step, time.perf_counter() - started
