"""Preferences: Bradley-Terry, the tilted optimum, DPO and best-of-n, against definitions, enumeration and simulation."""

import itertools
import math

import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from aigc_lessons.language.preference import (
    best_of_n,
    best_of_n_kl,
    bradley_terry_loss,
    dpo_loss,
    dpo_slopes,
    fit_linear_reward,
    implicit_reward,
    prefer_probability,
    tilt,
)  # fmt: skip


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_bradley_terry_is_minus_the_log_of_the_ratio_of_strengths(generator):
    r1, r2 = normal(generator, 20), normal(generator, 20)
    ratio = r1.exp() / (r1.exp() + r2.exp())
    assert torch.allclose(prefer_probability(r1, r2), ratio)
    assert torch.allclose(bradley_terry_loss(r1, r2), -ratio.log().mean())
    assert bradley_terry_loss(r1, r1).item() == pytest.approx(math.log(2))
    far = torch.tensor([800.0])
    assert bradley_terry_loss(-far, far).item() == pytest.approx(1600)  # the logarithm of a sigmoid would be -inf here
    with pytest.raises(ValueError, match="0 pairs"):
        bradley_terry_loss(r1[:0], r2[:0])


def test_the_linear_reward_is_logistic_regression_on_differences(generator):
    chosen, rejected = normal(generator, 300, 5), normal(generator, 300, 5)
    ours = fit_linear_reward(chosen + 0.5, rejected, ridge=0.01)
    d = torch.cat([chosen + 0.5 - rejected, rejected - chosen - 0.5]).numpy()  # both ways round, so that both classes occur
    theirs = LogisticRegression(C=1 / (0.01 * 600), fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(d, [1] * 300 + [0] * 300)
    assert torch.allclose(ours, torch.from_numpy(theirs.coef_[0]), atol=1e-5)
    assert not torch.allclose(fit_linear_reward(chosen + 0.5, rejected, ridge=0.02), ours, atol=1e-3)
    with pytest.raises(ValueError, match="ridge must be above 0, got 0"):
        fit_linear_reward(chosen, rejected, ridge=0.0)


def test_a_known_reward_is_found_again(generator):
    """6,000 comparisons by readers with the weights w: within 4 standard errors of each weight, from the Fisher matrix."""
    w = torch.tensor([1.0, -0.5, 0.0, 2.0], dtype=torch.float64)
    a, b = normal(generator, 6000, 4), normal(generator, 6000, 4)
    first = torch.rand(6000, generator=generator) < prefer_probability(a @ w, b @ w)
    chosen, rejected = torch.where(first[:, None], a, b), torch.where(first[:, None], b, a)
    d = chosen - rejected
    p = torch.sigmoid(d @ w)
    errors = torch.linalg.inv((d.T * (p * (1 - p))) @ d).diagonal().sqrt()
    assert ((fit_linear_reward(chosen, rejected, 1e-6) - w).abs() < 4 * errors).all()
    assert not ((fit_linear_reward(rejected, chosen, 1e-6) - w).abs() < 4 * errors).all()


def test_the_tilted_policy_is_the_best_one(generator):
    """Against a numerical maximiser that knows nothing of exponentials; a sign or a beta in the wrong place is caught."""
    log_ref, reward, beta = normal(generator, 9).log_softmax(-1), normal(generator, 9), 0.7

    def value(log_pi):
        pi = log_pi.exp()
        return (pi * reward).sum() - beta * (pi * (log_pi - log_ref)).sum()

    def minus_value(z):
        z = torch.tensor(z, requires_grad=True)
        loss = -value(z.log_softmax(-1))
        return loss.item(), torch.autograd.grad(loss, z)[0].numpy()

    found = minimize(minus_value, torch.zeros(9, dtype=torch.float64).numpy(), jac=True, tol=1e-12)
    log_pi, best = tilt(log_ref, reward, beta)
    assert torch.allclose(torch.tensor(found.x).softmax(-1), log_pi.exp(), atol=1e-5)
    assert best.item() == pytest.approx(-found.fun, abs=1e-9)
    assert best.item() == pytest.approx(value(log_pi).item(), abs=1e-12)
    for wrong in (log_ref - reward / beta, log_ref + reward * beta, reward / beta):
        assert value(wrong.log_softmax(-1)) < best - 1e-3
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        tilt(log_ref, reward, 0.0)


def test_the_implicit_reward_of_the_best_policy_is_the_reward(generator):
    log_ref, reward = normal(generator, 2, 9).log_softmax(-1), normal(generator, 2, 9)
    log_pi, best = tilt(log_ref, reward, 0.3)
    assert torch.allclose(implicit_reward(log_pi, log_ref, 0.3), reward - best[:, None], atol=1e-12)


def definition(chosen, rejected, ref_chosen, ref_rejected, beta):
    """DPO as the paper has it, with probabilities and no care for rounding."""
    ratio_w, ratio_l = chosen.exp() / ref_chosen.exp(), rejected.exp() / ref_rejected.exp()
    return -(1 / (1 + (-beta * (ratio_w.log() - ratio_l.log())).exp())).log().mean()


def test_dpo_and_its_slopes_are_the_definition_and_autograd(generator):
    four = [normal(generator, 12) - 2 for _ in range(4)]
    chosen, rejected = (x.requires_grad_() for x in four[:2])
    for beta in (0.05, 0.5, 3.0):
        loss = definition(chosen, rejected, *four[2:], beta)
        assert torch.allclose(dpo_loss(chosen, rejected, *four[2:], beta), loss, rtol=1e-12)
        autograd = torch.stack(torch.autograd.grad(loss, [chosen, rejected]))
        closed = torch.stack(dpo_slopes(chosen, rejected, *four[2:], beta))
        assert ((closed - autograd).abs().max() / autograd.abs().max()) < 1e-10
        swapped = torch.stack(dpo_slopes(rejected, chosen, four[3], four[2], beta))
        blind = torch.stack(dpo_slopes(chosen, rejected, four[2], four[2], beta))
        for wrong in (swapped, blind, closed / beta, 12 * closed):
            assert (wrong - autograd).abs().max() / autograd.abs().max() > 1e-2 or beta == 1


def test_best_of_n_has_its_kl_and_its_mean(generator):
    """n = 3 of five answers without ties, by listing all 125 triples."""
    p, key = torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=torch.float64), torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0])
    best = torch.zeros(5, dtype=torch.float64)
    for triple in itertools.product(range(5), repeat=3):
        best[max(triple, key=lambda y: key[y])] += p[list(triple)].prod()
    kl = (best * (best / p).log()).sum().item()
    assert 0.3 < kl < best_of_n_kl(3)  # answers can come twice here, so the formula is a bound
    fine = torch.full((4000,), 1 / 4000, dtype=torch.float64)  # ties hardly matter: the formula is exact
    cdf = fine.cumsum(0)
    b = cdf**3 - (cdf - fine) ** 3
    assert (b * (b / fine).log()).sum().item() == pytest.approx(best_of_n_kl(3), abs=1e-3)
    assert best_of_n_kl(1) == 0
    with pytest.raises(ValueError, match="n of at least 1, got 0"):
        best_of_n_kl(0)


def test_best_of_n_is_the_mean_over_all_subsets(generator):
    keys, values = normal(generator, 4, 6), normal(generator, 4, 6)
    for n in (1, 2, 4, 6):
        subsets = [list(s) for s in itertools.combinations(range(6), n)]
        wanted = [values[p, s][keys[p, s].argmax()].item() for p in range(4) for s in subsets]
        assert best_of_n(keys, values, [n]) == pytest.approx([sum(wanted) / len(wanted)])
    assert best_of_n(-keys, values, [6]) != pytest.approx(best_of_n(keys, values, [6]))
    with pytest.raises(ValueError, match=r"n must lie in 1\.\.6.*got 7"):
        best_of_n(keys, values, [7])
