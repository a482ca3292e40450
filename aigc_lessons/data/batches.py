"""A batch is a pure function of (seed, step): any step can be visited again, and a resumed run sees what it would have."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
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


def windows(ids: Int[Tensor, " N"], length: int, batch_size: int, seed: int = 0) -> Callable[[int], Batch]:
    """Windows cut out of a long text at random places, for predicting the next token at every place.

    inputs[b] = ids[s : s + length], targets[b] = ids[s + 1 : s + length + 1], with s uniform in 0..N - length - 1.

    Args:
        ids:        the tokens of the text.
        length:     of a window, in tokens.
        batch_size: windows in a batch; they may overlap.
    Returns: batches(step) -> (inputs, targets), each (batch_size, length) int64; a pure function of (seed, step).
    Raises: ValueError if length or batch_size is below 1, or the text is shorter than a window and one more token.
    """
    if length < 1 or batch_size < 1:
        raise ValueError(f"length and batch_size must be at least 1, got {length} and {batch_size}")
    if len(ids) <= length:
        raise ValueError(f"a window of {length} tokens and its targets need a text of {length + 1}, this one has {len(ids)}")
    ids, offsets = ids.long(), torch.arange(length)

    def batches(step: int) -> Batch:
        starts = torch.randint(len(ids) - length, (batch_size, 1), generator=step_generator(seed, step, stream=3))
        places = starts + offsets  # (B, length)
        return ids[places], ids[places + 1]

    return batches
