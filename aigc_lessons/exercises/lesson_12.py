"""Lesson 12: the loss, DDPM's step, conversions between targets, a whole diffusion model, and a plan to beat."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.diffusion.mixture import GaussianMixture, spiral
from aigc_lessons.diffusion.objective import denoiser, diffusion_loss
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import NoiseSchedule, linear_schedule
from aigc_lessons.evaluation.points import energy_distance, landing
from aigc_lessons.exercises.core import CheckResult, attempt, call, compare, describe, exercise, noise
from aigc_lessons.exercises.wrong_ddpm import MISTAKES, ddpm_loss, ddpm_step, to_eps
from aigc_lessons.training import budget
from aigc_lessons.training.loop import TrainConfig, train


class _Stand(nn.Module):
    """A network of fixed weights, for the loss to be tried on."""

    def __init__(self, seed: int, D: int):
        super().__init__()
        self.seed, self.W = seed, nn.Parameter(noise(seed, D, D))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.W + 0.1 * t.float().sin()[:, None]

    def __repr__(self) -> str:
        return f"network {self.seed}"


def _learns(answer, given: dict) -> bool:
    """Whether a gradient comes back from the loss to the network's weights."""
    network = _Stand(0, given["x0"].shape[1])
    loss = call(answer, **given | {"network": network})
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    return network.W.grad is not None


def _frozen(given: dict) -> CheckResult:
    message = (
        f"{describe(given)}\n  got      the right number, from which no gradient comes back to the weights\n"
        "  expected a tensor on which loss.backward() can be called"
    )
    hint = "A loss is there to be trained on: return the tensor itself, without .item(), .detach() or torch.no_grad()."
    return CheckResult("12.1", False, message, hint)


@exercise("12.1")
def check_loss(answer) -> CheckResult:
    inputs = []
    for seed, (B, D, T) in enumerate([(4, 2, 10), (2, 2, 200), (1, 2, 5), (3, 3, 50), (6, 1, 1000), (2, 5, 3)]):
        t = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(seed))
        inputs.append({
            "network": _Stand(seed, D), "x0": noise(seed + 20, B, D), "t": t, "eps": noise(seed + 40, B, D),
            "alpha_bars": linear_schedule(T, 0.01, 0.3).alpha_bars.float(),
        })  # fmt: skip
    result = compare(
        "12.1", answer, ddpm_loss, inputs, MISTAKES["12.1"],
        praise="Right on six batches, one of them 2 x 2, where a missing axis would have gone unnoticed.",
        hint="Mix x0 and eps with the two roots, ask the network at (x_t, t), compare with eps, square, mean.",
    )  # fmt: skip
    if "must match the size" in result.message:
        return replace(result, hint="abar needs a second axis: alpha_bars[t][:, None] multiplies (B, D) row by row.")
    return _frozen(inputs[0]) if result.passed and not _learns(answer, inputs[0]) else result


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
ALIKE = 0.004  # two clouds of these sizes from one distribution are nearer than this
DRAWN = 1000
NEAR, COPIES = 0.3, 0.25  # nearer to a given point than this part of the usual distance; the share from which it is copying


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
    copied = _copied(got.detach(), points, real[:DRAWN])
    if copied > COPIES:
        message = f"got      [here {100 * copied:.0f} %] of the points all but on a given one\nexpected new points"
        return CheckResult("12.4", False, message, "These are copies of the points that you were given. Learn, then draw.")
    if distance <= FAR and off <= OFF * DRAWN and reached == 5:
        return CheckResult("12.4", True, message)
    z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(3))
    cloud = points.mean(0) + z @ torch.linalg.cholesky(points.T.cov()).T  # one Gaussian, as wide as the points
    as_noise, as_cloud = (energy_distance(got.detach(), other) for other in (z, cloud))
    if as_noise < min(FAR, as_cloud):
        hint = "What you drew is still noise: does the sampler go from t = T down to 1, and is the network trained?"
    elif as_cloud < min(ALIKE, distance):
        hint = "What you drew is one plain Gaussian, as wide as the points: their form is not in it. Is the network asked?"
    elif off <= 0.05 * DRAWN and reached < 5:
        hint = "Hardly a point is off and few parts are reached: does your sampler add its noise at every step but the last?"
    elif -data.log_prob(got.detach()).mean() < -data.log_prob(real).mean() - 0.3:
        hint = "The points gathered where the data is densest: does your sampler add its noise at every step but the last?"
    else:
        hint = "On the way, but not there: a rate that falls to zero, more steps, a wider network?"
    return CheckResult("12.4", False, message, hint)


def _copied(drawn: Tensor, given: Tensor, fresh: Tensor) -> float:
    """The share of drawn points that lie far nearer to a given point than fresh points of the same data usually do."""
    nearest, usual = (torch.cdist(x.double(), given.double()).min(1).values for x in (drawn, fresh))
    return (nearest < NEAR * usual.median()).double().mean().item()


_PARTS = "Five parts: abar, a network (x_t, t) -> eps, the loss, the loop, the sampler from t = T down to 1."

# --------------------------------------------------------------------------------------------------- 12.5, a plan to beat

STEPS, BATCH = 800, 256  # the effort allowed
LIMIT, APART = 0.04, 0.003  # the share off the spiral and the energy distance to stay below
SEEDS = (0, 1)


def spiral_batches(data: GaussianMixture, seed: int) -> Callable[[int], Tensor]:
    """Fresh points for every step."""
    return lambda step: data.draw(BATCH, step_generator(seed, step))[0]


def outcome_of(network: nn.Module, target: str, schedule: NoiseSchedule, config: TrainConfig, seed: int) -> Tensor:
    """Train a plan on a spiral; of 2,000 drawn points, the share that lies off it, and the energy distance to it."""
    data = spiral(K=40, turns=1.5, spread=0.1)
    if budget.is_tiny():
        config = TrainConfig(steps=2, lr=config.lr, optimizer=config.optimizer)
    for _ in train(network, diffusion_loss(schedule, target), spiral_batches(data, seed), config):
        pass
    draw = torch.Generator().manual_seed(seed + 100)
    x_T = torch.randn(2000, 2, generator=draw)
    x = final(sample(denoiser(network, schedule, target), schedule, x_T, generator=draw))
    real, _ = data.draw(4000, draw)
    return torch.tensor([landing(data, x)[0] / 2000, energy_distance(x, real)])


@exercise("12.5")
def check_plan(answer) -> CheckResult:
    outcomes = []
    for seed in SEEDS:

        def outcome(plan, seed=seed):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                network, target, schedule, config = call(plan)
            weights = sum(p.numel() for p in network.parameters())
            if weights > 20_000 or config.steps > STEPS or schedule.T > 200:
                return f"{weights:,} weights, {config.steps} steps, T = {schedule.T}"
            return outcome_of(network, target, schedule, config, seed)

        got = attempt("12.5", answer, outcome, f"for seed {seed}", hint=_PLAN)
        if isinstance(got, CheckResult):
            return got
        if isinstance(got, str):
            message = f"got      {got}\nexpected at most 20,000 weights, {STEPS} steps, T = 200"
            return CheckResult("12.5", False, message, "Nothing was trained: the plan is too large.")
        outcomes.append(got)
    off, distance = torch.stack(outcomes).mean(0).tolist()
    message = (
        f"got      [here {100 * off:.1f} %] off the spiral, energy distance [here {distance:.4f}], means of two seeds\n"
        f"expected below {100 * LIMIT:.0f} % and below {APART}"
    )
    if budget.is_tiny() or (off < LIMIT and distance < APART):
        return CheckResult("12.5", True, message)
    if off < LIMIT:
        hint = "Sharp, but not the same distribution: some parts are drawn too often. Which target spread its points best?"
    else:
        hint = "Which noise levels decide how sharp the spiral is? Do the steps go there?"
    return CheckResult("12.5", False, message, hint)


_PLAN = "Return four things: a network, its target, a NoiseSchedule, and a TrainConfig."


REFERENCES = {"12.1": ddpm_loss, "12.2": ddpm_step, "12.3": to_eps}
