"""Steering a sampler with a condition."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from aigc_lessons.types import Denoise, LossFn


def classifier_free(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor], labels: Int[Tensor, " B"], null_label: int, scale: float
) -> Denoise:
    """A denoiser for one batch of labels that exaggerates what the label changes.

    x0 = x0_null + scale (x0_label - x0_null)           (0: unconditional, 1: conditional, above 1: guided)

    Args:
        denoise:    conditional denoiser (x_t, t, labels) -> estimate of x_0.
        labels:     one for each row of the x_t that will come.
        null_label: the label that stands for "any".
        scale:      how far to go; written for x_0, which is the same as for eps since the two are linear in each other.
    Returns: (x_t, t) -> estimate of x_0. Scales 0 and 1 cost one evaluation, others one of twice the batch.
    Raises: ValueError if x_t has another number of rows than labels.
    Source: Ho and Salimans 2022, arXiv:2207.12598 (their w is scale - 1).
    """
    nulls = torch.full_like(labels, null_label)

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        if len(x_t) != len(labels):
            raise ValueError(f"{len(labels)} labels were given for guidance, but x_t has {len(x_t)} rows")
        if scale in (0, 1):
            return denoise(x_t, t, labels if scale else nulls)
        both = denoise(x_t.repeat(2, *[1] * (x_t.ndim - 1)), t.repeat(2), torch.cat([labels, nulls]))
        x0_label, x0_null = both.chunk(2)
        return x0_null + scale * (x0_label - x0_null)

    return guided


def drop_labels(loss_fn: LossFn, null_label: int, p: float = 0.1) -> LossFn:
    """The same loss on a batch (x0, labels), where each label becomes `null_label` with probability p.

    One network thereby learns both p(x | label) and p(x).

    Raises: ValueError unless 0 <= p <= 1.
    Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability in 0..1, got {p:g}")

    def dropped(network: nn.Module, batch, generator: torch.Generator) -> Tensor:
        x0, labels = batch
        drop = (torch.rand(len(labels), generator=generator) < p).to(labels.device)
        return loss_fn(network, (x0, labels.masked_fill(drop, null_label)), generator)

    return dropped
