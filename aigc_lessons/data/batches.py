"""A batch is a pure function of (seed, step): any step can be visited again, and a resumed run sees what it would have."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from aigc_lessons.types import Batch


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A fresh generator that depends only on (seed, step, stream); different triples are independent."""
    word = np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> 1))


def epochs(tensors: tuple[Tensor, ...], batch_size: int, seed: int = 0) -> Callable[[int], Batch]:
    """Shuffled passes over the rows, laid end to end and cut into batches.

    Every row is used once before any is used twice; a batch may span two passes.

    Args:
        tensors:    equally many rows each.
        batch_size: at least 1; may exceed the number of rows.
    Returns: batches(step) -> a tuple of rows, step = 0, 1, ...
    Raises: ValueError if the numbers of rows differ, there are none, or batch_size < 1.
    """
    rows = {len(tensor) for tensor in tensors}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(f"every tensor needs the same number of rows, at least one; got {sorted(rows)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    n = rows.pop()

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(n, generator=step_generator(seed, epoch, stream=1))

    def batches(step: int) -> Batch:
        first, last = step * batch_size, (step + 1) * batch_size
        passes = range(first // n, (last - 1) // n + 1)
        picked = torch.cat([order(epoch) for epoch in passes])[first - passes[0] * n :][:batch_size]
        return tuple(tensor[picked] for tensor in tensors)

    return batches
