"""From judgements to a policy: a reward from preferences (Bradley-Terry), the best policy for it, DPO, GRPO, and their KL.

Everything is a function of rewards and log-probabilities; networks stay outside. `language.rollout` draws the answers.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

LEAST_SPREAD = 1e-6  # rewards of a group that differ by less are equal: nothing is to be learned from them


def prefer_probability(better: Float[Tensor, "*B"], worse: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """P(the first is preferred) = 1 / (1 + exp(-(r1 - r2))): only the difference of the rewards counts.

    Source: Bradley and Terry 1952, Biometrika 39.
    """
    return torch.sigmoid(better - worse)


def bradley_terry_loss(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean of -log P(chosen is preferred) = mean of softplus(-(r_chosen - r_rejected)), in nats; ln 2 for a reward that is
    blind. In this form nothing overflows, however wrong the reward is.

    Raises: ValueError for no comparison.
    """
    if not len(chosen):
        raise ValueError("there is no comparison to learn from: got 0 pairs")
    return F.softplus(rejected - chosen).mean()


def fit_linear_reward(
    chosen: Float[Tensor, "N F"], rejected: Float[Tensor, "N F"], ridge: float = 1e-3
) -> Float[Tensor, " F"]:
    """The weights w of a reward r(y) = w . features(y) that make the comparisons most probable, by Newton's method.

    Minimises  mean softplus(-w . d) + ridge |w|^2 / 2  with d = chosen - rejected: logistic regression on differences. It
    needs no constant (which would cancel), and it is convex, so there is one answer.

    Raises: ValueError if ridge is not above 0: where features are never compared, many answers would be equally good.
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    d = (chosen - rejected).double()
    w, one = d.new_zeros(d.shape[1]), torch.eye(d.shape[1], dtype=d.dtype)

    def loss(w):
        return F.softplus(-(d @ w)).mean() + ridge * w.square().sum() / 2

    for _ in range(100):
        wrong = torch.sigmoid(-(d @ w))
        slope = ridge * w - (wrong[:, None] * d).mean(0)
        if slope.norm() < 1e-10:
            break
        bend = ridge * one + (d.T * (wrong * (1 - wrong))) @ d / len(d)
        step, length = torch.linalg.solve(bend, slope), 1.0
        while loss(w - length * step) > loss(w) and length > 1e-6:
            length /= 2
        w = w - length * step
    return w.to(chosen.dtype)


def tilt(
    log_ref: Float[Tensor, "*B Y"], reward: Float[Tensor, "*B Y"], beta: float
) -> tuple[Float[Tensor, "*B Y"], Float[Tensor, "*B"]]:
    """The policy that is best at  E[r] - beta KL(pi || ref), where all answers y can be listed:

        pi(y) = ref(y) exp(r(y) / beta) / Z,     Z = sum over y of ref(y) exp(r(y) / beta)

    Returns: log pi, and beta log Z, which is the best value that can be reached.
    Raises: ValueError if beta is not above 0: at 0 all mass would go to the answer of the highest reward.
    """
    _positive(beta)
    raised = log_ref + reward / beta
    log_Z = raised.logsumexp(-1, keepdim=True)
    return raised - log_Z, beta * log_Z[..., 0]


def implicit_reward(log_pi: Float[Tensor, "*B"], log_ref: Float[Tensor, "*B"], beta: float) -> Float[Tensor, "*B"]:
    """beta log(pi(y) / ref(y)): the reward, up to a constant for each prompt, for which pi is the best policy."""
    _positive(beta)
    return beta * (log_pi - log_ref)


def dpo_loss(
    chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"],
    ref_chosen: Float[Tensor, " B"], ref_rejected: Float[Tensor, " B"], beta: float = 0.1,
) -> Float[Tensor, ""]:  # fmt: skip
    """The Bradley-Terry loss of the implicit reward: the policy is its own reward model.

    - mean of  log sigmoid( beta [ log pi(y_w) / ref(y_w)  -  log pi(y_l) / ref(y_l) ] )

    Args:
        chosen, rejected:         log-probabilities of whole answers under the policy that learns.
        ref_chosen, ref_rejected: of the same answers under the reference; no gradient.
        beta:                     above 0; the weight of KL in the problem whose solution this is.
    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    return bradley_terry_loss(implicit_reward(chosen, ref_chosen, beta), implicit_reward(rejected, ref_rejected, beta))


def dpo_slopes(
    chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"],
    ref_chosen: Float[Tensor, " B"], ref_rejected: Float[Tensor, " B"], beta: float = 0.1,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:  # fmt: skip
    """d dpo_loss / d log pi(chosen) and / d log pi(rejected) in closed form: -+ beta / B sigmoid(r_rejected - r_chosen).

    A pair counts by how wrong the implicit reward still is about it.
    """
    wrong = prefer_probability(implicit_reward(rejected, ref_rejected, beta), implicit_reward(chosen, ref_chosen, beta))
    slope = beta * wrong / len(chosen)
    return -slope, slope


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n, in nats: KL of "draw n, keep the best" from drawing once, where no two answers tie; else a bound.

    Raises: ValueError if n is below 1.
    Source: Stiennon et al. 2020, arXiv:2009.01325, appendix; a bound in general: Beirami et al. 2024, arXiv:2401.01879.
    """
    if n < 1:
        raise ValueError(f"the best of n needs n of at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def best_of_n(keys: Float[Tensor, "P M"], values: Float[Tensor, "P M"], sizes: Iterable[int]) -> list[float]:
    """The mean value of "draw n answers, keep the one with the highest key", for each n, from M answers to each prompt.

    Over all subsets of n of the M, not one: the k-th best of M is the best of n random ones with probability
    C(M - k, n - 1) / C(M, n), k = 1 .. M.

    Raises: ValueError for an n outside 1..M.
    """
    M = keys.shape[1]
    ranked = values.gather(1, keys.argsort(1, descending=True)).double().mean(0)
    means = []
    for n in sizes:
        if not 1 <= n <= M:
            raise ValueError(f"n must lie in 1..{M}, the answers there are for each prompt; got {n}")
        shares = torch.tensor([math.comb(M - k, n - 1) / math.comb(M, n) for k in range(1, M + 1)], dtype=torch.float64)
        means.append((shares * ranked).sum().item())
    return means


# ------------------------------------------------------------------------------------ learning from judged answers: KL, GRPO


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


def _positive(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}: without KL there is no reference to stay near to")
