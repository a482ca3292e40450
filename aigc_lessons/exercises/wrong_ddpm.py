"""Lesson 12's loss, conversion and step back: as they should be, and with the usual mistakes."""

import torch

from aigc_lessons.exercises.core import Mistake


def ddpm_loss(network, x0, t, eps, alpha_bars):
    abar = alpha_bars[t][:, None]
    return (network(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, t) - eps).square().mean()


def to_eps(prediction, x_t, abar, target):
    if target == "x0":
        return (x_t - abar.sqrt() * prediction) / (1 - abar).sqrt()
    if target == "v":
        return abar.sqrt() * prediction + (1 - abar).sqrt() * x_t
    return prediction


def ddpm_step(x_t, eps, z, t, betas):
    alpha_bars = torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])
    beta, abar, before = betas[t - 1], alpha_bars[t], alpha_bars[t - 1]
    mean = (x_t - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt()
    return mean + (beta * (1 - before) / (1 - abar)).sqrt() * z


def _noisy(x0, t, eps, alpha_bars, signal=torch.sqrt, strength=torch.sqrt):
    abar = alpha_bars[t][:, None]
    return signal(abar) * x0 + strength(1 - abar) * eps


def _slip(x_t, eps, z, t, betas, *, sigma=None, shrink=None, push=None, index=0):
    """DDPM's step with one part replaced."""
    alpha_bars = torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])
    beta, abar, before = betas[min(t - 1 + index, len(betas) - 1)], alpha_bars[t], alpha_bars[t - 1]
    posterior = (beta * (1 - before) / (1 - abar)).sqrt()
    push = beta / (1 - abar).sqrt() if push is None else push(beta, abar)
    mean = (x_t - push * eps) / ((1 - beta).sqrt() if shrink is None else shrink(beta, abar))
    return mean + (posterior if sigma is None else sigma(beta, posterior)) * z


MISTAKES = {
    "12.1": [
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (
                network(_noisy(x0, t, eps, alpha_bars, strength=lambda v: v), t) - eps
            ).square().mean(),
            "The noise enters with sqrt(1 - abar), not with 1 - abar: a square root was forgotten.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (
                network(_noisy(x0, t, eps, alpha_bars, signal=lambda v: v), t) - eps
            ).square().mean(),
            "The signal enters with sqrt(abar), not with abar: a square root was forgotten.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (network(_noisy(x0, t, eps, alpha_bars), t) - x0).square().mean(),
            "This network is asked for the noise: compare its answer with eps, not with x0.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (network(_noisy(x0, t, eps, alpha_bars), t) - eps).square().sum(),
            "Take the mean over all entries, not the sum: the loss should not grow with the batch.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (network(_noisy(x0, t - 1, eps, alpha_bars), t) - eps).square().mean(),
            "alpha_bars[0] is clean data here, so step t has alpha_bars[t], not alpha_bars[t - 1].",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (
                network(_noisy(x0, t, eps, alpha_bars, signal=lambda v: v, strength=lambda v: v), t) - eps
            ).square().mean(),
            "abar and 1 - abar are shares of variance; x0 and eps are multiplied by their roots. Both were forgotten.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (network(_noisy(eps, t, x0, alpha_bars), t) - eps).square().mean(),
            "The factors have changed places: sqrt(abar) belongs to the data x0, sqrt(1 - abar) to the noise eps.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: (network(x0, t) - eps).square().mean(),
            "You ask the network at the clean point x0, where there is no noise to be found. Mix first, then ask at x_t.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars:
                (network(_noisy(x0, t, eps, alpha_bars), t) - eps).square().sum(1).mean(),
            "You add up the D coordinates of a point. The loss is the mean over them, too: that is the / d in the formula.",
        ),
        Mistake(
            lambda network, x0, t, eps, alpha_bars: ddpm_loss(network, x0, t, eps, alpha_bars).sqrt(),
            "The loss is the mean square itself; do not take its root.",
        ),
    ],
    "12.3": [
        Mistake(
            lambda prediction, x_t, abar, target: abar.sqrt() * prediction - (1 - abar).sqrt() * x_t
            if target == "v" else to_eps(prediction, x_t, abar, target),
            "For v the two terms add up: put x_t and v into sqrt(abar) v + sqrt(1 - abar) x_t and see x0 cancel.",
        ),
        Mistake(
            lambda prediction, x_t, abar, target: (x_t - abar.sqrt() * prediction) / (1 - abar)
            if target == "x0" else to_eps(prediction, x_t, abar, target),
            "Solve x_t = sqrt(abar) x0 + sqrt(1 - abar) eps for eps: what you divide by needs its square root.",
        ),
        Mistake(
            lambda prediction, x_t, abar, target: prediction,
            "Only for target 'eps' is the prediction itself the answer.",
        ),
        Mistake(
            lambda prediction, x_t, abar, target: abar.sqrt() * x_t - (1 - abar).sqrt() * prediction
            if target == "v" else to_eps(prediction, x_t, abar, target),
            "For v this gives x0. Which combination of x_t and v gives eps?",
        ),
        Mistake(
            lambda prediction, x_t, abar, target: (1 - abar).sqrt() * x_t - abar.sqrt() * prediction
            if target == "v" else to_eps(prediction, x_t, abar, target),
            "The sign of v: it points from the data towards the noise, so it is added.",
        ),
    ],
    "12.2": [
        Mistake(
            lambda **given: _slip(**given, sigma=lambda beta, posterior: beta.sqrt()),
            "sqrt(beta_t) is the other choice of the paper; asked for is the posterior's variance, which is 0 at t = 1.",
        ),
        Mistake(
            lambda **given: _slip(**given, sigma=lambda beta, posterior: posterior**2),
            "z is multiplied by a standard deviation: take the root of the variance.",
        ),
        Mistake(
            lambda **given: _slip(**given, shrink=lambda beta, abar: abar.sqrt()),
            "The step divides by the root of alpha_t = 1 - beta_t, the share of one step, not of abar_t, that of all.",
        ),
        Mistake(
            lambda **given: _slip(**given, push=lambda beta, abar: beta / (1 - abar)),
            "eps is multiplied by beta_t / sqrt(1 - abar_t): a square root was forgotten.",
        ),
        Mistake(
            lambda **given: _slip(**given, sigma=lambda beta, posterior: 0.0),
            "That is the mean alone: the fresh noise z is missing, times the root of the posterior's variance.",
        ),
        Mistake(
            lambda **given: _slip(**given, push=lambda beta, abar: -beta / (1 - abar).sqrt()),
            "You add the predicted noise. A step back takes some of it away: minus.",
        ),
        Mistake(
            lambda **given: _slip(**given, index=1),
            "betas[0] is the paper's beta_1, so step t has betas[t - 1].",
        ),
    ],
}  # fmt: skip
