"""KL and its estimates by listing every token; GRPO and its gradient against autograd through the paper's formula."""

import pytest
import torch

from aigc_lessons.language.preference import (
    group_advantages,
    grpo_loss,
    grpo_slopes,
    kl_estimates,
    logit_gradient,
    token_kl,
)  # fmt: skip


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_estimates_have_the_bias_that_is_said(generator):
    log_p, log_q = normal(generator, 6).log_softmax(-1), normal(generator, 6).log_softmax(-1)
    kl = token_kl(log_p, log_q)
    assert torch.allclose(
        kl, torch.distributions.kl_divergence(*(torch.distributions.Categorical(x.exp()) for x in (log_p, log_q)))
    )
    k1, k2, k3 = kl_estimates(log_p, log_q)
    means = [(log_p.exp() * k).sum() for k in (k1, k2, k3)]
    assert torch.allclose(means[0], kl)
    assert torch.allclose(means[2], kl)
    assert abs(means[1] - kl) > 1e-3
    assert (k3 >= 0).all()
    assert (k1 < 0).any()
    assert not torch.allclose((log_p.exp() * kl_estimates(log_q, log_p)[2]).sum(), kl)  # the ratio upside down


def test_advantages_are_of_the_group(generator):
    rewards = normal(generator, 5, 8) + 10 * normal(generator, 5, 1)
    A = group_advantages(rewards)
    assert torch.allclose(A.mean(1), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(A.std(1, unbiased=False), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(A, group_advantages(3 * rewards + 7))
    over_all = (rewards - rewards.mean()) / rewards.std()
    assert not torch.allclose(A, over_all, atol=0.1)
    assert torch.equal(group_advantages(torch.full((2, 4), 0.3)), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="at least 2 answers to compare, got 1"):
        group_advantages(rewards[:, :1])
    with pytest.raises(ValueError, match="must be finite, got nan"):
        group_advantages(torch.tensor([[1.0, float("nan")]]))


def paper(logits, ids, log_old, A, mask, ref_logits, clip, beta):
    """Eq. 3 of GRPO, token by token, from probabilities."""
    p, ref = logits.softmax(-1), ref_logits.softmax(-1)
    total = 0.0
    for b in range(len(ids)):
        gained = 0.0
        for t in range(ids.shape[1]):
            if mask[b, t]:
                now, then = p[b, t, ids[b, t]], ref[b, t, ids[b, t]]
                rho = now / log_old[b, t].exp()
                clipped = min(max(rho, torch.tensor(1 - clip, dtype=rho.dtype)), torch.tensor(1 + clip, dtype=rho.dtype))
                kl = then / now - (then / now).log() - 1
                gained = gained + min(rho * A[b], clipped * A[b]) - beta * kl
        total = total + gained / mask[b].sum()
    return -total / len(ids)


@pytest.fixture
def case(generator):
    B, T, V = 6, 5, 7
    logits, ref = normal(generator, B, T, V).requires_grad_(), normal(generator, B, T, V)
    ids = torch.randint(V, (B, T), generator=generator)
    log_p = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    log_old = log_p.detach() + 0.4 * normal(generator, B, T)  # so that the clip binds at many places
    mask = torch.arange(T) < torch.tensor([5, 3, 1, 4, 2, 5])[:, None]
    log_ref = ref.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return logits, ids, log_p, log_old, normal(generator, B), mask, ref, log_ref


@pytest.mark.parametrize(("clip", "beta"), [(0.2, 0.0), (0.2, 0.3), (0.5, 1.0)])
def test_grpo_and_its_gradient_are_the_papers(case, clip, beta):
    logits, ids, log_p, log_old, A, mask, ref, log_ref = case
    wanted = paper(logits, ids, log_old, A, mask, ref, clip, beta)
    kl = kl_estimates(log_p, log_ref)[2]
    assert torch.allclose(grpo_loss(log_p, log_old, A, mask, kl, clip=clip, beta=beta), wanted, rtol=1e-12)
    (autograd,) = torch.autograd.grad(wanted, logits)

    def off(slopes):
        return ((logit_gradient(logits.detach(), ids, slopes) - autograd).abs().max() / autograd.abs().max()).item()

    here = log_p.detach()
    closed = grpo_slopes(here, log_old, A, mask, log_ref, clip=clip, beta=beta)
    assert off(closed) < 1e-10
    assert off(-closed) > 1e-2
    assert off(closed * mask.sum(1, keepdim=True) / mask.shape[1]) > 1e-2, "divided by the room, not by the length"
    assert off(grpo_slopes(here, log_old, A, mask, log_ref, clip=0.99, beta=beta)) > 1e-2, "not clipped"
    if beta:
        assert off(grpo_slopes(here, log_old, A, mask, clip=clip)) > 1e-3, "without the reference"


def test_what_lies_outside_the_mask_does_not_count(case):
    _, _, log_p, log_old, A, mask, _, _ = case
    other = torch.where(mask, log_p, torch.full_like(log_p, -1e30))
    assert torch.equal(grpo_loss(other, log_old, A, mask), grpo_loss(log_p, log_old, A, mask))


def test_the_clip_takes_gain_and_never_loss():
    """One token; rho = 2, then 1/2. Only the two cases with a gain are flat."""
    one = torch.ones(1, 1, dtype=torch.bool)
    for rho, A, flat in [(2.0, 1.0, True), (0.5, 1.0, False), (2.0, -1.0, False), (0.5, -1.0, True)]:
        log_p = torch.tensor([[rho]]).log()
        slope = grpo_slopes(log_p, torch.zeros(1, 1), torch.tensor([A]), one)
        assert (slope.item() == 0) == flat


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"clip": 0.0}, "clip must lie between 0 and 1, got 0"),
        ({"beta": -0.1}, "beta must be 0 or more"),
        ({"beta": 0.1}, "weighs the distance from a reference: give it"),
    ],
)
def test_senseless_settings_are_refused(how, says):
    log_p, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=says):
        grpo_loss(log_p, log_p, torch.zeros(2), mask, **how)
    mask[1] = False
    with pytest.raises(ValueError, match="answer 1 has no token that counts"):
        grpo_loss(log_p, log_p, torch.zeros(2), mask)
