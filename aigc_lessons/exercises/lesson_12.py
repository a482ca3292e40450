"""Lesson 12: the loss, DDPM's step, conversions between targets, a whole diffusion model, and a plan to beat."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.diffusion.mixture import GaussianMixture, spiral
from aigc_lessons.diffusion.objective import denoiser, diffusion_loss
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import NoiseSchedule, linear_schedule
from aigc_lessons.evaluation.points import energy_distance, landing
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.training import budget
from aigc_lessons.training.loop import TrainConfig, train


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
            lambda **given: _slip(**given, index=1),
            "betas[0] is the paper's beta_1, so step t has betas[t - 1].",
        ),
    ],
}  # fmt: skip


class _Stand(nn.Module):
    """A network of fixed weights, for the loss to be tried on."""

    def __init__(self, seed: int, D: int):
        super().__init__()
        self.seed, self.W = seed, noise(seed, D, D)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.W + 0.1 * t.float().sin()[:, None]

    def __repr__(self) -> str:
        return f"network {self.seed}"


@exercise("12.1")
def check_loss(answer) -> CheckResult:
    inputs = []
    for seed, (B, D, T) in enumerate([(4, 2, 10), (2, 2, 200), (1, 2, 5), (3, 3, 50), (6, 1, 1000), (2, 5, 3)]):
        t = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(seed))
        inputs.append({
            "network": _Stand(seed, D), "x0": noise(seed + 20, B, D), "t": t, "eps": noise(seed + 40, B, D),
            "alpha_bars": linear_schedule(T, 0.01, 0.3).alpha_bars.float(),
        })  # fmt: skip
    return compare(
        "12.1", answer, ddpm_loss, inputs, MISTAKES["12.1"],
        praise="Right on six batches, one of them 2 x 2, where a missing axis would have gone unnoticed.",
        hint="abar needs a second axis: alpha_bars[t][:, None]. Mix, ask the network at (x_t, t), compare with eps, mean.",
    )  # fmt: skip


@exercise("12.3")
def check_conversion(answer) -> CheckResult:
    inputs = [
        {"prediction": noise(seed, 4, 2), "x_t": noise(seed + 9, 4, 2), "abar": torch.tensor(abar), "target": target}
        for seed, (abar, target) in enumerate(
            [(0.3, "v"), (0.9, "x0"), (0.5, "eps"), (0.05, "x0"), (0.99, "v"), (1e-3, "v"), (0.02, "eps")]
        )
    ]
    return compare(
        "12.3", answer, to_eps, inputs, MISTAKES["12.3"],
        praise="Right: three ways to say one thing.",
        hint="x_t = sqrt(abar) x0 + sqrt(1 - abar) eps and v = sqrt(abar) eps - sqrt(1 - abar) x0: two equations; "
        "for v, eliminate x0.",
    )  # fmt: skip


@exercise("12.2")
def check_step(answer) -> CheckResult:
    betas = torch.linspace(5e-4, 0.1, 200, dtype=torch.float64)
    few = torch.linspace(0.2, 0.5, 7, dtype=torch.float64)
    inputs = [
        {"x_t": noise(seed, 3, 2), "eps": noise(seed + 9, 3, 2), "z": noise(seed + 19, 3, 2), "t": t, "betas": b}
        for seed, (t, b) in enumerate([(50, betas), (120, betas), (1, betas), (2, betas), (200, betas), (3, few)])
    ]
    return compare(
        "12.2", answer, ddpm_step, inputs, MISTAKES["12.2"],
        praise="Right, also at t = 1, where no noise is added; the mean is that of the posterior with the estimate of x0.",
        hint="mean = (x_t - beta_t / sqrt(1 - abar_t) eps) / sqrt(1 - beta_t); then the posterior's deviation times z.",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ 12.4, all of it from memory

FAR, OFF = 0.02, 0.15  # energy distance to real points, and share off the data, that a working model keeps below
DRAWN = 1000


@lru_cache(maxsize=1)
def hidden_mixture() -> GaussianMixture:
    """A letter-like figure of five lying and standing Gaussians that the lesson does not show."""
    means = torch.tensor([[-1.2, 0.0], [1.2, 0.0], [0.0, 1.3], [0.0, -1.3], [0.0, 0.0]])
    wide, tall = torch.tensor([0.20, 0.02]).diag(), torch.tensor([0.02, 0.20]).diag()
    return GaussianMixture(torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0]), means, torch.stack([tall, tall, wide, wide, wide]))


@exercise("12.4")
def check_whole(answer) -> CheckResult:
    data = hidden_mixture()
    points, _ = data.draw(4000, torch.Generator().manual_seed(1))
    real, _ = data.draw(4000, torch.Generator().manual_seed(2))
    got = attempt(
        "12.4", answer, lambda model: call(model, points.clone(), DRAWN),
        f"for 4,000 points of a mixture of five Gaussians, {DRAWN} to draw", hint=_PARTS,
    )  # fmt: skip
    if isinstance(got, CheckResult):
        return got
    if not isinstance(got, Tensor) or got.shape != (DRAWN, 2) or not got.isfinite().all():
        shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
        what = f"got      {shape}, or not finite\nexpected a tensor ({DRAWN}, 2) of numbers"
        return CheckResult("12.4", False, what, "Return the points that your sampler ends with.")
    if budget.is_tiny():
        return CheckResult("12.4", True, "got      points of the right shape\nexpected the same; not judged further")
    distance, (off, reached) = energy_distance(got.detach(), real), landing(data, got.detach())
    message = (
        f"got      energy distance [here {distance:.4f}], [here {100 * off / DRAWN:.1f} %] off the data,"
        f" {reached} of 5 reached\n"
        f"expected at most {FAR}, {100 * OFF:.0f} %, 5"
    )
    if distance <= FAR and off <= OFF * DRAWN and reached == 5:
        return CheckResult("12.4", True, message)
    if energy_distance(got.detach(), torch.randn(4000, 2, generator=torch.Generator().manual_seed(3))) < FAR:
        hint = "What you drew is still noise: does the sampler go from t = T down to 1, and is the network trained?"
    elif -data.log_prob(got.detach()).mean() < -data.log_prob(real).mean() - 0.3:
        hint = "The points gathered where the data is densest: does your sampler add its noise at every step but the last?"
    else:
        hint = "On the way, but not there: a rate that falls to zero, more steps, a wider network?"
    return CheckResult("12.4", False, message, hint)


_PARTS = "Five parts: abar, a network (x_t, t) -> eps, the loss, the loop, the sampler from t = T down to 1."

# --------------------------------------------------------------------------------------------------- 12.5, a plan to beat

STEPS, BATCH, LIMIT = 800, 256, 0.04  # the effort allowed, and the share off the spiral to stay below
SEEDS = (0, 1)


def spiral_batches(data: GaussianMixture, seed: int) -> Callable[[int], Tensor]:
    """Fresh points for every step."""
    return lambda step: data.draw(BATCH, step_generator(seed, step))[0]


def share_off(network: nn.Module, target: str, schedule: NoiseSchedule, config: TrainConfig, seed: int) -> float:
    """Train a plan on a spiral; the share of 2,000 drawn points that lie off it."""
    data = spiral(K=40, turns=1.5, spread=0.1)
    if budget.is_tiny():
        config = TrainConfig(steps=2, lr=config.lr, optimizer=config.optimizer)
    for _ in train(network, diffusion_loss(schedule, target), spiral_batches(data, seed), config):
        pass
    draw = torch.Generator().manual_seed(seed + 100)
    x_T = torch.randn(2000, 2, generator=draw)
    return landing(data, final(sample(denoiser(network, schedule, target), schedule, x_T, generator=draw)))[0] / 2000


@exercise("12.5")
def check_plan(answer) -> CheckResult:
    shares = []
    for seed in SEEDS:

        def outcome(plan, seed=seed):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                network, target, schedule, config = call(plan)
            weights = sum(p.numel() for p in network.parameters())
            if weights > 20_000 or config.steps > STEPS or schedule.T > 200:
                return f"{weights:,} weights, {config.steps} steps, T = {schedule.T}"
            return share_off(network, target, schedule, config, seed)

        got = attempt("12.5", answer, outcome, f"for seed {seed}", hint=_PLAN)
        if isinstance(got, CheckResult):
            return got
        if isinstance(got, str):
            message = f"got      {got}\nexpected at most 20,000 weights, {STEPS} steps, T = 200"
            return CheckResult("12.5", False, message, "Nothing was trained: the plan is too large.")
        shares.append(got)
    mean = sum(shares) / len(shares)
    message = f"got      [here {100 * mean:.1f} %] off the spiral, mean of two seeds\nexpected below {100 * LIMIT:.0f} %"
    if budget.is_tiny() or mean < LIMIT:
        return CheckResult("12.5", True, message)
    return CheckResult("12.5", False, message, "Which noise levels decide how sharp the spiral is? Do the steps go there?")


_PLAN = "Return four things: a network, its target, a NoiseSchedule, and a TrainConfig."


REFERENCES = {"12.1": ddpm_loss, "12.2": ddpm_step, "12.3": to_eps}
