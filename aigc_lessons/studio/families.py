"""Five families of models on the two moons: equal numbers of weights, equal seconds of training, each tuned, five seeds."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aigc_lessons.data import toy
from aigc_lessons.data.batches import epochs
from aigc_lessons.diffusion.objective import diffusion_loss, to_x0
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.diffusion.score import log_likelihood
from aigc_lessons.evaluation.coverage import density_coverage
from aigc_lessons.evaluation.points import energy_distance
from aigc_lessons.models import families as nets
from aigc_lessons.models.mlp import MLP
from aigc_lessons.training.duel import duel
from aigc_lessons.training.loop import StepLog, TrainConfig, train
from aigc_lessons.types import LossFn

POINTS, BATCH = 4000, 256
REACH = 3.0  # all points lie within -REACH..REACH, by seven standard deviations of the noise
REFERENCE_STEPS = 3200  # of diffusion; all others train as many seconds
RATES, FIRST_RATE = (0.001, 0.003, 0.01, 0.03, 0.1), 0.01
TUNING_SEED, SEEDS = 9, (0, 1, 2, 3, 4)


class PlaneDiffusion(nn.Module):
    """The network for points with its schedule: predicts v, draws by DDPM, weighs by the probability flow.

    Args:
        T: steps of the cosine schedule.
    """

    def __init__(self, T: int = 100, width: int = 62, layers: int = 2, features: int = 16):
        super().__init__()
        self.schedule, self.network = cosine_schedule(T), MLP(2, width, layers, features)

    def forward(self, x: Float[Tensor, "B 2"], t: Tensor) -> Float[Tensor, "B 2"]:
        return self.network(x, t)

    def estimate(self, x: Float[Tensor, "B 2"], t: Tensor) -> Float[Tensor, "B 2"]:
        """Of x_0."""
        return to_x0(self(x, t), x, t, self.schedule, "v")

    def log_prob(self, x: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Along the flow, Heun's method on all T steps: of the flow's model, not of DDPM's dice."""
        return log_likelihood(self.estimate, self.schedule, x).detach()

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Every estimate of x_0 is held within -REACH..REACH: a single wild one would grow from step to step."""

        def within(x: Tensor, t: Tensor) -> Tensor:
            return self.estimate(x, t).clamp(-REACH, REACH)

        x_T = torch.randn(n, 2, generator=generator)
        return final(sample(within, self.schedule, x_T, method="ddpm", generator=generator))


@dataclass(frozen=True, eq=False)
class Family:
    """One way to model data.

    knob, knobs: what is tuned beside the learning rate, and the values tried.
    build(knob): a new network; all have the same number of weights within 3 %.
    loss(knob):  None for the GAN, which has two.
    """

    knob: str
    knobs: tuple[float, ...]
    build: Callable[[float], nn.Module]
    loss: Callable[[float], LossFn] | None


AR_WIDTHS, FLOW_WIDTHS = {32: 68, 48: 58, 64: 50, 96: 38}, {6: 36, 10: 28, 14: 23}
FAMILIES = {
    "autoregressive": Family(
        "bins", (32, 48, 64, 96), lambda k: nets.Autoregressive(int(k), AR_WIDTHS[k]), lambda k: nets.nll_loss
    ),
    "VAE": Family("warm-up of the KL", (0, 800, 1600), lambda k: nets.VAE(), lambda k: nets.vae_loss),
    "GAN": Family("penalty r1", (0.0, 0.1, 0.5), lambda k: nets.GAN(), None),
    "flow": Family("couplings", (6, 10, 14), lambda k: nets.CouplingFlow(int(k), FLOW_WIDTHS[k]), lambda k: nets.nll_loss),
    "diffusion": Family(
        "steps T",
        (50, 100, 200),
        lambda k: PlaneDiffusion(int(k)),
        lambda k: diffusion_loss(cosine_schedule(int(k)), "v"),
    ),
}


@dataclass(frozen=True)
class Setting:
    """One training: everything that it depends on."""

    family: str
    knob: float
    lr: float
    steps: int
    seed: int


def fresh(setting: Setting) -> nn.Module:
    """A new network, whose first weights depend on the setting alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        return FAMILIES[setting.family].build(setting.knob)


def fit(setting: Setting, model: nn.Module, points: Float[Tensor, "N 2"], log_every: int = 50) -> Iterator[StepLog]:
    """Train `model`: the one loop for four families, a duel for the GAN."""
    rounds = epochs((points,), BATCH, setting.seed)
    common = {"steps": setting.steps, "lr": setting.lr, "seed": setting.seed, "log_every": log_every}
    if setting.family == "GAN":

        def judge(model, x, generator):
            return nets.judge_loss(model, x, generator, setting.knob)

        players = [(model.discriminator, judge), (model.generator, nets.forger_loss)]
        config = TrainConfig(**common, decay=0.5, ema=0.99, clip=None)
        return duel(model, players, lambda step: rounds(step)[0], config)
    config = TrainConfig(**common, warmup=50, decay=0.9, ema=0.95)
    loss = FAMILIES[setting.family].loss(setting.knob)

    def batches(step: int):
        x = rounds(step)[0]
        return (x, torch.tensor(min(1.0, (step + 1) / (setting.knob + 1)))) if setting.family == "VAE" else x

    return train(model, loss, batches, config)


def log_prob(model: nn.Module, x: Float[Tensor, "N 2"], generator: torch.Generator) -> Float[Tensor, " N"] | None:
    """log p(x) in nats, without gradients: exact, or for a VAE the bound with 1,000 weights; None for a GAN."""
    if isinstance(model, nets.GAN):
        return None
    if isinstance(model, PlaneDiffusion):
        return model.log_prob(x)
    with torch.no_grad():
        return model.log_prob(x, generator) if isinstance(model, nets.VAE) else model.log_prob(x)


def judged(model: nn.Module, data: toy.Strands, seed: int, n: int = 2000) -> dict[str, float]:
    """What a trained model is worth, measured on n new points of the data and n draws.

    gap:      nats that its log-likelihood is below the data's own density: an estimate of KL(data || model).
    energy:   energy distance of 2 n draws to 2 n new points.
    density, coverage: see `density_coverage`, k = 5; real points have about 1 and 0.97.
    stray:    share of draws where the data's density is below that of all but 1 % of its points; real points: 0.01.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    real, more = data.draw(n, generator), data.draw(2 * n, generator)
    with torch.no_grad():
        drawn = model.draw(2 * n, generator)
    nats, best = log_prob(model, real, generator), data.log_prob(real)
    found = density_coverage(drawn[:n], real)
    lowest = data.log_prob(more).quantile(0.01)
    return {
        "gap": None if nats is None else (best - nats).mean().item(),
        "energy": energy_distance(drawn, more),
        "density": found.density,
        "coverage": found.coverage,
        "stray": (data.log_prob(drawn) < lowest).double().mean().item(),
    }


# ---------------------------------------------------------------------------------------------------- the series


# as found by equal_steps(); a table, so that a series can be stopped and goes on with the same numbers
STEPS = {
    "autoregressive": dict.fromkeys((32, 48, 64, 96), 4100),
    "VAE": dict.fromkeys((0, 800, 1600), 3100),
    "GAN": {0.0: 2250, 0.1: 1900, 0.5: 1900},
    "flow": {6: 1450, 10: 1050, 14: 800},
    "diffusion": dict.fromkeys((50, 100, 200), 3200),
}


def equal_steps(rounds: int = 800) -> dict[str, dict[float, int]]:
    """Steps for every family and knob that take as long as REFERENCE_STEPS of diffusion.

    All of them train in turns, a step each, and the quickest tenth of each one's steps is compared, so that whatever
    else the machine does hits all alike.
    Where a knob does not change what a step computes, its values share their mean cost.
    """
    points, runs = toy.moons().draw(POINTS, torch.Generator().manual_seed(0)), {}
    for name, family in FAMILIES.items():
        for knob in family.knobs:
            setting = Setting(name, knob, 0.003, rounds, 0)
            runs[name, knob] = fit(setting, fresh(setting), points, log_every=1)
    times = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            next(run)
            times[key].append(time.perf_counter() - started)
    cost = {name: {} for name in FAMILIES}
    for (name, knob), seconds in times.items():
        cost[name][knob] = sorted(seconds)[rounds // 10]
    for name in ("autoregressive", "VAE", "diffusion"):
        cost[name] = dict.fromkeys(cost[name], statistics.mean(cost[name].values()))
    seconds = REFERENCE_STEPS * cost["diffusion"][100]
    return {name: {knob: 50 * round(seconds / c / 50) for knob, c in costs.items()} for name, costs in cost.items()}


def best(rows: list[dict], family: str, **fixed) -> dict:
    """The row of the tuning seed that won: by likelihood; for the GAN, which has none, by energy distance."""
    tried = [row for row in rows if row["family"] == family and row["seed"] == TUNING_SEED]
    tried = [row for row in tried if all(row[name] == value for name, value in fixed.items())]
    return min(tried, key=lambda row: row["energy"] if row["gap"] is None else row["gap"])


def settings(rows: list[dict]) -> Iterator[Setting]:
    """With the tuning seed every knob at one rate, then every other rate with the best knob; then five seeds of the best."""
    for name, family in FAMILIES.items():
        for knob in family.knobs:
            yield Setting(name, knob, FIRST_RATE, STEPS[name][knob], TUNING_SEED)
        knob = best(rows, name, lr=FIRST_RATE)["knob"]
        for lr in RATES:
            if lr != FIRST_RATE:
                yield Setting(name, knob, lr, STEPS[name][knob], TUNING_SEED)
    for name in FAMILIES:
        chosen = best(rows, name)
        for seed in SEEDS:
            yield Setting(name, chosen["knob"], chosen["lr"], chosen["steps"], seed)


def measure(setting: Setting) -> dict:
    """Train one setting on points of its own seed, and judge it; the row of the results."""
    data = toy.moons()
    points = data.draw(POINTS, torch.Generator().manual_seed(setting.seed))
    model = fresh(setting)
    weights = sum(p.numel() for p in model.parameters())
    row = asdict(setting) | {"weights": weights}
    try:
        logs = list(fit(setting, model, points))
        found = judged(model, data, setting.seed)
    except FloatingPointError:  # this rate was too large
        return row | {"seconds": None, "gap": 99.0, "energy": 99.0, "density": 0.0, "coverage": 0.0, "stray": 1.0}
    numbers = {name: None if value is None else round(value, 5) for name, value in found.items()}
    return row | {"seconds": round(logs[-1].seconds, 2)} | numbers


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """The measurement, and what the card says."""
    torch.set_num_threads(1)  # small matrices: a second thread would only wait
    return measure, {
        "network": "five families of about 9,100 weights each; `knob` is: "
        + ", ".join(f"{family.knob} ({name})" for name, family in FAMILIES.items()),
        "training": f"batches of {BATCH}, as many steps as take the time of {REFERENCE_STEPS} of diffusion",
        "measured": "n = 2,000; " + " ".join(judged.__doc__.split("\n\n")[1].split()),
        "data": {"source": f"data.toy.moons(), {POINTS} points for each seed"},
    }
