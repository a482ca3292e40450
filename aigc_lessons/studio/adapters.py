"""Full fine-tuning against LoRA of several ranks: what each learns, what it costs and what it forgets."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aigc_lessons.data.batches import epochs
from aigc_lessons.data.world import world
from aigc_lessons.language.chat import Chat, packed, packed_loss, world_tokenizer
from aigc_lessons.language.objective import held_out_nats
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.models.lora import add_lora
from aigc_lessons.studio.assistant import BLOCK, chats_of, exact, prose_ids, recall
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.training.loop import StepLog, TrainConfig, train

FULL = 0  # the rank that stands for: all weights
RANKS = (1, 2, 4, 8, 16)
LORA_RATES = (0.004, 0.0075, 0.015, 0.03, 0.06)
RATES = {FULL: (0.00125, 0.0025, 0.005, 0.01)} | dict.fromkeys(RANKS, LORA_RATES) | {1: (*LORA_RATES, 0.12)}
STEPS, BATCH = 300, 8  # rows of BLOCK tokens
TUNING_SEED, SEEDS = 9, (0, 1)
SHOWN = "blocks.1.feed_forward.fc"  # the layer whose change is looked at


@dataclass(frozen=True)
class Setting:
    """One fine-tuning: everything it depends on. Rank 0 trains all weights."""

    rank: int
    embeddings: bool
    lr: float
    seed: int


def student(base: nn.Module, rank: int, embeddings: bool = False, seed: int = 0) -> nn.Module:
    """A copy of a network that can learn: all of it for rank 0, otherwise only a change of this rank in every layer.

    Args:
        embeddings: besides the change, the embeddings of tokens: those that the prose does not use are still random.
    """
    model = deepcopy(base).requires_grad_(True)
    if rank != FULL:
        add_lora(model, rank, generator=torch.Generator().manual_seed(seed))
        model.embed.requires_grad_(embeddings)
    return model


def teach(
    model: nn.Module, tokenizer: BPETokenizer, chats: Sequence[Chat], *, lr: float, steps: int = STEPS, seed: int = 0,
    log_every: int = 20,
) -> Iterator[StepLog]:  # fmt: skip
    """Fine-tune a network on packed conversations, the loss on the answers only; yields the logs of the loop."""
    config = TrainConfig(steps=steps, lr=lr, warmup=10, decay=1.0, optimizer="muon", seed=seed, log_every=log_every)
    return train(model, packed_loss(), epochs(packed(tokenizer, chats, BLOCK), BATCH, seed), config)


def changes(base: nn.Module, model: nn.Module) -> dict[str, Float[Tensor, "o i"]]:
    """What fine-tuning has added to each linear layer inside the blocks, by name; LoRA or not."""
    after = dict(model.named_modules())
    return {
        name: (after[name].weight - layer.weight).detach()
        for name, layer in base.blocks.named_modules(prefix="blocks")
        if isinstance(layer, nn.Linear)
    }


def measure_with(base: nn.Module, tokenizer: BPETokenizer) -> Callable[[Setting], dict]:
    """The measurement of a setting: shares of exact answers, facts still told, nats on prose, singular values."""
    here = world()
    asked = here.questions("train")
    judged = {"train": asked[::3], "pairs": here.questions("pairs")[::3], "held_out": here.questions("held_out")}
    prose = prose_ids(tokenizer, here.prose(1, seed=1))

    def measure(setting: Setting) -> dict:
        model = student(base, setting.rank, setting.embeddings, setting.seed)
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        for _ in teach(model, tokenizer, chats_of(asked), lr=setting.lr, seed=setting.seed):
            pass
        row = {name: exact(model, tokenizer, questions).float().mean().item() for name, questions in judged.items()}
        row |= {"recall": float(recall(model, tokenizer, here).mean()), "nats": held_out_nats(model, prose, BLOCK)}
        row = asdict(setting) | {"parameters": parameters} | {name: round(value, 5) for name, value in row.items()}
        largest = torch.linalg.svdvals(changes(base, model)[SHOWN])[:24]
        return row | {"singular": [round(value, 4) for value in largest.tolist()]}

    return measure


WAYS = ((FULL, True), *((rank, embeddings) for embeddings in (False, True) for rank in RANKS))


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Every way at each of its rates, tuning seed; then two seeds at the rate that answers most of "pairs" exactly."""
    for rank, embeddings in WAYS:
        for lr in RATES[rank]:
            yield Setting(rank, embeddings, lr, TUNING_SEED)
    for way in WAYS:
        tried = [row for row in rows if (row["rank"], row["embeddings"]) == way and row["seed"] == TUNING_SEED]
        for seed in SEEDS:
            yield Setting(*way, max(tried, key=lambda row: row["pairs"])["lr"], seed)


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """The measurement, and what the card says."""
    torch.set_num_threads(1)
    base, tokenizer, here = pretrained("world"), world_tokenizer(), world()
    return measure_with(base, tokenizer), {
        "network": "the shipped checkpoint `world`; rank 0 trains all weights, other ranks a change of every"
        " linear layer of the blocks, and the embeddings of tokens where it says so",
        "training": f"{STEPS} steps of {BATCH} packed rows of {BLOCK} tokens, Muon, the rate as in each row",
        "measured": "shares of exact greedy answers (train and pairs: every third question); facts told when"
        f" the prose begins to; nats a token on prose drawn anew; the largest singular values of the change of {SHOWN}",
        "data": {"source": f"{len(here.questions('train'))} questions of data.world, seed 0"},
    }


def summary(rows: Sequence[dict], embeddings: bool = False) -> list[dict]:
    """One row for each rank, full fine-tuning last: means over the seeds at the chosen rate, with lowest and highest.

    Args:
        embeddings: those of the ranks that trained the embeddings too. Full fine-tuning trains everything.
    """
    found = []
    for way in (*((rank, embeddings) for rank in RANKS), (FULL, True)):
        mine = [row for row in rows if (row["rank"], row["embeddings"]) == way and row["seed"] in SEEDS]
        means = {
            name: statistics.mean(row[name] for row in mine) for name in ("train", "pairs", "held_out", "recall", "nats")
        }
        ends = {"low": min(row["held_out"] for row in mine), "high": max(row["held_out"] for row in mine)}
        fixed = {"rank": way[0], "parameters": mine[0]["parameters"], "lr": mine[0]["lr"], "singular": mine[0]["singular"]}
        found.append(fixed | means | ends)
    return found
