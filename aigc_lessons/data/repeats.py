"""Random tokens that repeat: text about which nothing can be known except from the text itself."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def repeats(
    count: int, length: int, V: int, generator: torch.Generator, shortest: int = 8, longest: int = 32
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Tokens drawn evenly, then the same again and again: ids[t] = ids[t - P].

    The period P is another in every row, so that no fixed distance back tells the next token.

    Args:
        count, length:     rows, tokens in each.
        V:                 tokens to draw from.
        shortest, longest: ends of the range from which P is drawn.
    Returns: the ids, and where they are repeated: from place P on.
    Raises: ValueError unless 1 <= shortest <= longest.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"periods run from 1 or more up to longest, got {shortest}..{longest}")
    period = torch.randint(shortest, longest + 1, (count, 1), generator=generator)
    place = torch.arange(length)
    return torch.randint(V, (count, longest), generator=generator).gather(1, place % period), place >= period
