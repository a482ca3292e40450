"""Training against the clock, as the benchmarks do it."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch._dynamo  # noqa: F401 (the first optimizer made imports it, in over a second: it belongs to the start)
from torch import nn

from aigc_lessons.training.loop import TrainConfig, train

PLANNED = (0.1, 0.4, 0.7)  # when, as shares of the time, the number of steps is planned (anew)
MARGIN = 0.99  # plan for this share of the time that is left: a machine is not equally fast all along


def train_for(
    seconds: float, build: Callable[[], nn.Module], config: TrainConfig, batches, loss_fn
) -> tuple[nn.Module, int, float]:
    """Train from scratch until the clock says `seconds`, everything included.

    The learning rate must be zero at the last step, so the number of steps must be known before it falls. The first tenth
    of the time, at the full rate, tells how long a step takes; later the plan is mended twice, in case the machine has
    become faster or slower: from where the rate is, it then falls to zero in a straight line.

    Args:
        config: its steps and decay are chosen here.
    Returns: the network, its steps, the seconds spent.
    """
    started = time.perf_counter()
    network, state, config = build(), None, replace(config, steps=10**6, decay=0.0, log_every=1)
    for until in (*PLANNED, 1.0):
        since, first = time.perf_counter(), state["step"] if state else 0
        run = train(network, loss_fn, batches, config, resume=state)
        for log in run:  # noqa: B007 (its last value is used below)
            if time.perf_counter() - started > until * seconds:
                break
        state = log.state()
        run.close()
        now = time.perf_counter()
        if log.step == config.steps or now - started >= seconds:
            break
        a_step = (now - since) / (log.step - first)
        steps = log.step + max(1, int(MARGIN * (seconds - (now - started)) / a_step))
        fallen = config.lr_at(log.step) / config.lr
        config = replace(config, steps=steps, decay=min(1.0, (1 - log.step / steps) / fallen))
    return network.eval(), log.step, time.perf_counter() - started
