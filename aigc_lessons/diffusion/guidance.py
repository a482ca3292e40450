"""Steering a sampler with a condition."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from aigc_lessons.diffusion.schedule import NoiseSchedule
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


def classifier(
    denoise: Denoise, log_label: Callable[[Tensor, Tensor], Tensor], schedule: NoiseSchedule, scale: float
) -> Denoise:
    """An unconditional denoiser, pushed to where a classifier of noisy data sees the label.

    score = score + scale grad log p_t(y | x_t),     that is,
    x0    = x0 + scale (1 - abar) / sqrt(abar) grad log p_t(y | x_t)

    Args:
        denoise:   (x_t, t) -> estimate of x_0, without labels.
        log_label: (x_t, t) -> log p_t(y | x_t) of the label wanted in each row, shape (B,); torch differentiates it.
        scale:     0 ignores the classifier, 1 is Bayes' rule.
    Returns: (x_t, t) -> estimate of x_0. Where abar is tiny the push is a quotient of two tiny numbers: clamp it, or use
        `within`, if the classifier is not exact.
    Raises: ValueError if log_label returns another shape than (B,).
    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_p = log_label(x, t)
            if log_p.shape != (len(x_t),):
                raise ValueError(f"log_label returned shape {tuple(log_p.shape)}, one number a row is ({len(x_t)},)")
            (gradient,) = torch.autograd.grad(log_p.sum(), x)
        abar = schedule.alpha_bar(t, like=x_t)
        return denoise(x_t, t) + (scale * (1 - abar) / abar.sqrt() * gradient).to(x_t.dtype)

    return guided


def away_from(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    labels: Int[Tensor, " B"],
    negatives: Int[Tensor, " N"],
    scale: float,
) -> Denoise:
    """Classifier-free guidance with a label to leave in place of the empty one: a negative prompt.

    x0 = x0_negative + scale (x0_label - x0_negative)

    Args:
        labels, negatives: one of each for each row; where they are the same, nothing is exaggerated.
        scale: 1 is conditional on the label; above 1, away from the negative.
    Returns: (x_t, t) -> estimate of x_0, at the cost of twice the batch.
    Raises: ValueError if labels, negatives and x_t differ in their number of rows.
    Source: the formula, Liu et al. 2022, arXiv:2206.01714, with one negated concept; the use, text-to-image programs.
    """
    if len(labels) != len(negatives):
        raise ValueError(f"each row needs a label and a negative one, got {len(labels)} and {len(negatives)}")

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        if len(x_t) != len(labels):
            raise ValueError(f"{len(labels)} labels were given for guidance, but x_t has {len(x_t)} rows")
        both = denoise(x_t.repeat(2, *[1] * (x_t.ndim - 1)), t.repeat(2), torch.cat([labels, negatives]))
        x0_label, x0_negative = both.chunk(2)
        return x0_negative + scale * (x0_label - x0_negative)

    return guided


def within(guided: Denoise, plain: Denoise, first: int, last: int) -> Denoise:
    """Guide at some noise levels only: `guided` where first <= t <= last, `plain` elsewhere.

    Raises: ValueError if first is above last.
    Source: Kynkäänniemi et al. 2024, arXiv:2404.07724.
    """
    if first > last:
        raise ValueError(f"the interval runs from first to last, got {first}..{last}")

    def chosen(x_t: Tensor, t: Tensor) -> Tensor:
        inside = (t >= first) & (t <= last)
        if inside.all():
            return guided(x_t, t)
        if not inside.any():
            return plain(x_t, t)
        return torch.where(inside.view(-1, *[1] * (x_t.ndim - 1)), guided(x_t, t), plain(x_t, t))

    return chosen


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
