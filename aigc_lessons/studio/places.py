"""Three small tasks that ask for a place in three ways, and the series "positions" that measures who can do them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aigc_lessons.data.batches import step_generator
from aigc_lessons.language.objective import IGNORE, next_token_loss
from aigc_lessons.models.positions import Positions, Reader
from aigc_lessons.training.loop import TrainConfig, train

Task = Literal["three back", "place five", "most often"]
V, LENGTH, WIDTH, HEADS, BATCH, STEPS = 12, 24, 32, 2, 32, 400
LENGTHS = (LENGTH, 2 * LENGTH, 4 * LENGTH)  # judged on
RATES = (0.001, 0.003, 0.01, 0.03)
KINDS: tuple[tuple[Positions, int], ...] = (("none", 1), ("none", 2), ("learned", 1), ("sinusoidal", 1), ("rope", 1))
TASKS: tuple[Task, ...] = ("three back", "place five", "most often")
TUNING_SEED, SEEDS = 9, (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """One training."""

    task: Task
    positions: Positions
    n_layer: int
    lr: float
    seed: int
    steps: int = STEPS


def ask(task: Task, ids: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The right answer at each place, and where the question makes sense.

    "three back":  the token three places before: a distance.
    "place five":  the token at place 5, from place 6 on: an absolute place.
    "most often":  the token that has come most often so far, where there is one: no place at all.
    """
    place = torch.arange(ids.shape[1])
    if task == "three back":
        return ids.roll(3, 1), (place >= 3).expand(ids.shape)
    if task == "place five":
        return ids[:, 5:6].expand(ids.shape), (place > 5).expand(ids.shape)
    counts = F.one_hot(ids, V).cumsum(1)
    first, second = counts.topk(2, -1).values.unbind(-1)
    return counts.argmax(-1), first > second


def fit(setting: Setting) -> Reader:
    """Train a reader on a task; its first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        reader = Reader(V, WIDTH, HEADS, setting.positions, LENGTH, setting.n_layer)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        ids = torch.randint(V, (BATCH, LENGTH), generator=step_generator(setting.seed, step))
        right, asked = ask(setting.task, ids)
        return ids, right.where(asked, IGNORE)

    config = TrainConfig(
        steps=setting.steps, lr=setting.lr, warmup=20, decay=1.0, seed=setting.seed, log_every=setting.steps
    )
    for _ in train(reader, next_token_loss(), batches, config):
        pass
    return reader.eval()


@torch.no_grad()
def accuracy(reader: Reader, task: Task, length: int, n: int = 400) -> float:
    """Share of right answers in the second half of n new texts."""
    ids = torch.randint(V, (n, length), generator=torch.Generator().manual_seed(length))
    right, asked = ask(task, ids)
    asked = asked & (torch.arange(length) >= length // 2)
    return (reader(ids).argmax(-1) == right)[asked].float().mean().item()


def measure(setting: Setting) -> dict:
    """Train and judge; the row of the results. A length that the reader cannot read has None."""
    reader = fit(setting)
    shares = {}
    for length in LENGTHS:
        fits = reader.place is None or length <= reader.longest
        shares[str(length)] = round(accuracy(reader, setting.task, length), 4) if fits else None
    return asdict(setting) | {"parameters": sum(p.numel() for p in reader.parameters()), "right": shares}


def best_rate(rows: list[dict], task: Task, positions: Positions, n_layer: int) -> float:
    """The learning rate that was right most often on the tuning seed, at the length trained on."""
    tried = [
        row
        for row in rows
        if (row["task"], row["positions"], row["n_layer"], row["seed"]) == (task, positions, n_layer, TUNING_SEED)
    ]
    return max(tried, key=lambda row: row["right"][str(LENGTH)])["lr"]


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Each kind on each task: its learning rate on a seed of its own, then three seeds."""
    for task in TASKS:
        for positions, n_layer in KINDS:
            for lr in RATES:
                yield Setting(task, positions, n_layer, lr, TUNING_SEED)
            for seed in SEEDS:
                yield Setting(task, positions, n_layer, best_rate(rows, task, positions, n_layer), seed)


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """For `experiments`: the measurement, and what the card says."""
    return measure, {
        "network": f"attention layers of width {WIDTH}, {HEADS} heads, {V} tokens, no feed-forward",
        "training": f"{STEPS} steps of {BATCH} texts of {LENGTH} tokens, AdamW at the best of {RATES} on seed {TUNING_SEED}",
        "measured": "share of right answers in the second half of 400 new texts of each length",
    }


def table(rows: list[dict]) -> dict[tuple[str, int, str], Float[Tensor, "S L"]]:
    """(positions, layers, task) -> shares right, a row for each seed, a column for each length; NaN where it cannot read."""
    found: dict[tuple[str, int, str], list] = {}
    for row in rows:
        if row["seed"] != TUNING_SEED:
            shares = [row["right"][str(length)] for length in LENGTHS]
            found.setdefault((row["positions"], row["n_layer"], row["task"]), []).append(
                [float("nan") if share is None else share for share in shares]
            )
    return {key: torch.tensor(shares) for key, shares in found.items()}
