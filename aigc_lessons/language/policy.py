"""A language model as a policy: how far it is from a reference (KL), and the step that makes good answers likelier (GRPO).

Everything is a function of log-probabilities; the network itself stays outside.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

LEAST_SPREAD = 1e-6  # rewards of a group that differ by less are equal: nothing is to be learned from them


def token_kl(log_p: Float[Tensor, "*B V"], log_q: Float[Tensor, "*B V"]) -> Float[Tensor, "*B"]:
    """KL(p || q) at each place, in nats, from all V probabilities: nothing is sampled.

    Summed over the places of an answer that was drawn from p and averaged over answers, this estimates the KL of whole
    answers, without bias and with less noise than log p(y) - log q(y) (the chain rule of KL, lesson 37).
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_estimates(log_p: Float[Tensor, "*B"], log_q: Float[Tensor, "*B"]) -> tuple[Tensor, Tensor, Tensor]:
    """Three estimates of KL(p || q) from one token drawn from p, with r = q / p at that token:

        k1 = -log r              no bias, but often negative
        k2 = (log r)^2 / 2       never negative, biased
        k3 = r - 1 - log r       no bias and never negative

    Source: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    log_r = log_q - log_p
    return -log_r, log_r.square() / 2, log_r.exp() - 1 - log_r


def group_advantages(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """How much better than the other answers to the same prompt:  A = (r - mean) / std, each row on its own.

    A row whose rewards are all equal gets zeros: there is nothing to learn from it, and 0 / 0 must not spoil the batch.

    Raises: ValueError for groups of fewer than two, or rewards that are not finite.
    Source: Shao et al. 2024 (GRPO), arXiv:2402.03300, section 4.1.2.
    """
    if rewards.shape[1] < 2:
        raise ValueError(f"a group needs at least 2 answers to compare, got {rewards.shape[1]}")
    if not rewards.isfinite().all():
        raise ValueError(f"rewards must be finite, got {rewards[~rewards.isfinite()][0].item()}")
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    return torch.where(spread > LEAST_SPREAD, centred / spread.clamp(min=LEAST_SPREAD), torch.zeros_like(centred))


def grpo_loss(
    log_p: Float[Tensor, "B T"], log_old: Float[Tensor, "B T"], advantages: Float[Tensor, " B"], mask: Bool[Tensor, "B T"],
    kl: Float[Tensor, "B T"] | None = None, *, clip: float = 0.2, beta: float = 0.0,
) -> Float[Tensor, ""]:  # fmt: skip
    """What GRPO goes down:

    - mean over answers of  1 / |y|  sum over its tokens of  [ min(rho A, clip(rho, 1 - c, 1 + c) A)  -  beta kl ]

    with rho = p(token) / p_old(token). The minimum takes away the gain of moving a token further than the clip allows, never
    the loss.

    Args:
        log_p:   of the tokens, under the policy that learns.
        log_old: under the policy that drew them; no gradient.
        kl:      distance from the reference at each token, or an estimate of it; None with beta = 0.
    Raises: ValueError for a clip outside 0..1, a negative beta, beta without kl, or an answer of no token.
    Source: Shao et al. 2024, arXiv:2402.03300, eq. 3; clipping, Schulman et al. 2017 (PPO), arXiv:1707.06347, eq. 7.
    """
    _check(clip, beta, kl, mask)
    gain = _clipped((log_p - log_old).exp(), advantages[:, None], clip)
    if beta:
        gain = gain - beta * kl
    return -(torch.where(mask, gain, torch.zeros_like(gain)).sum(1) / mask.sum(1)).mean()


def grpo_slopes(
    log_p: Float[Tensor, "B T"], log_old: Float[Tensor, "B T"], advantages: Float[Tensor, " B"], mask: Bool[Tensor, "B T"],
    log_ref: Float[Tensor, "B T"] | None = None, *, clip: float = 0.2, beta: float = 0.0,
) -> Float[Tensor, "B T"]:  # fmt: skip
    """d grpo_loss / d log_p in closed form, where kl is the estimate k3:

        - 1 / (B |y|) [ rho A  (0 where the clip binds)  -  beta (1 - p_ref / p) ]

    The clip binds where A > 0 and rho > 1 + c, or A < 0 and rho < 1 - c.
    """
    _check(clip, beta, log_ref, mask)
    rho, A = (log_p - log_old).exp(), advantages[:, None]
    binds = ((A > 0) & (rho > 1 + clip)) | ((A < 0) & (rho < 1 - clip))
    gain = torch.where(binds, torch.zeros_like(rho), rho * A)
    if beta:
        gain = gain - beta * (1 - (log_ref - log_p).exp())
    return -torch.where(mask, gain, torch.zeros_like(gain)) / (len(mask) * mask.sum(1, keepdim=True))


def logit_gradient(
    logits: Float[Tensor, "B T V"], ids: Int[Tensor, "B T"], slopes: Float[Tensor, "B T"]
) -> Float[Tensor, "B T V"]:
    """From d loss / d log p(token) to d loss / d logits:  slope * (one-hot(token) - softmax(logits))."""
    one_hot = torch.zeros_like(logits).scatter(-1, ids[..., None], 1.0)
    return slopes[..., None] * (one_hot - logits.softmax(-1))


def _clipped(rho: Tensor, A: Tensor, clip: float) -> Tensor:
    return torch.minimum(rho * A, rho.clamp(1 - clip, 1 + clip) * A)


def _check(clip: float, beta: float, kl: Shaped[Tensor, "..."] | None, mask: Tensor) -> None:
    if not 0 < clip < 1:
        raise ValueError(f"clip must lie between 0 and 1, got {clip}")
    if beta < 0:
        raise ValueError(f"beta must be 0 or more (below 0 it would reward distance), got {beta}")
    if beta and kl is None:
        raise ValueError(f"beta = {beta} weighs the distance from a reference: give it")
    if not mask.any(1).all():
        raise ValueError(f"answer {int((~mask.any(1)).nonzero()[0])} has no token that counts")
