"""What a language model is trained on: the next token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from aigc_lessons.types import LossFn

IGNORE = -100  # a target that does not count


def cross_entropy(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean of -log softmax(logits)[target] over the targets that count, in nats.

    Args:
        targets: tokens in 0..V-1, or IGNORE for positions that do not count.
    Raises: ValueError if no target counts (the mean would be 0 / 0).
    """
    if not (targets != IGNORE).any():
        raise ValueError("every target is masked: there is nothing to learn from this batch")
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def next_token_loss() -> LossFn:
    """The loss of (inputs, targets), where targets are the inputs one token later      (GPT, eq. 1)

        loss = - mean over positions of  log p(token_{i+1} | token_1 ... token_i)

    Source: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training".
    """

    def loss_fn(network: nn.Module, batch: tuple[Tensor, Tensor], generator: Generator) -> Tensor:
        inputs, targets = batch
        return cross_entropy(network(inputs), targets)

    return loss_fn


@torch.no_grad()
def held_out_nats(model: Callable[[Tensor], Tensor], ids: Int[Tensor, " N"], window: int, batch_size: int = 64) -> float:
    """Mean cross-entropy over a long text, every token but the first once, in nats per token.

    The text is cut into windows without overlap; in each, the first token is predicted from one token of context, the last
    from `window`. Pass the token before the text in front of it, and every token of the text counts.

    Args:
        model:  ids (B, T) -> logits (B, T, V), in evaluation mode.
        window: tokens of context at most.
    Raises: ValueError for fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError(f"a prediction needs a token before and one after; got {len(ids)} tokens")
    n = len(ids) - 1
    whole = n // window * window
    total = 0.0
    inputs, targets = ids[:whole].view(-1, window), ids[1 : whole + 1].view(-1, window)
    pieces = list(zip(inputs.split(batch_size), targets.split(batch_size), strict=True))
    if whole < n:
        pieces.append((ids[None, whole:n], ids[None, whole + 1 :]))
    for x, y in pieces:
        if len(x):
            total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total / n
