"""The price of a text: what each token costs a model that may look back, every token once."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def strided_nats(
    model: Callable[[Tensor], Tensor], ids: Int[Tensor, " N"], window: int, stride: int, batch_size: int = 32
) -> Float[Tensor, " M"]:
    """-ln p of every token but the first, each once, with at least window - stride tokens of context if there are any.

    Windows of `window` inputs begin every `stride` tokens. The first counts whole, of the others only the last `stride`
    tokens are new. stride = window is the cheapest, and makes the first token of each window blind; stride = 1 costs
    `window` times as much and gives every token all the context that the model can use.

    Args:
        model:  ids (B, T) -> logits (B, T, V), in evaluation mode.
        window: tokens that the model sees at most.
        stride: 1..window.
    Returns: N - 1 numbers, in float64.
    Raises: ValueError for fewer than two tokens, or a stride outside 1..window.
    """
    if len(ids) < 2:
        raise ValueError(f"a prediction needs a token before and one after; got {len(ids)} tokens")
    if not 1 <= stride <= window:
        raise ValueError(f"the stride must lie in 1..window, got {stride} with a window of {window}")
    n = len(ids) - 1
    starts = [0]
    while starts[-1] + window < n:
        starts.append(starts[-1] + stride)
    price = torch.empty(n, dtype=torch.float64)
    done = 0
    whole = [start for start in starts if start + window <= n]
    for batch in (whole[i : i + batch_size] for i in range(0, len(whole), batch_size)):
        places = torch.tensor(batch)[:, None] + torch.arange(window)
        nats = _nats(model, ids[places], ids[places + 1])
        for start, row in zip(batch, nats, strict=True):
            price[done : start + window] = row[done - start :]
            done = start + window
    if done < n:  # the last window ends with the text
        start = starts[-1]
        price[done:] = _nats(model, ids[None, start:n], ids[None, start + 1 :])[0, done - start :]
    return price


def _nats(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(inputs).double().transpose(1, 2), targets, reduction="none")
