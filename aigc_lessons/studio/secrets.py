"""Planting a secret among ordinary lines, and finding out how often it must be read until the network gives it away."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator, windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.evaluation.copying import exposure
from aigc_lessons.language.objective import next_token_loss
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.training.loop import TrainConfig, train

LETTERS, LENGTH = "abcdefghijklmnopqrstuvwxyz", 3
LINE = "My secret word is "
ROOM = 8  # where in a window the line stands
CONFIG = TrainConfig(steps=60, lr=0.01, warmup=5, decay=1.0, optimizer="muon", log_every=60)
BATCH, WINDOW = 8, 64
TIMES, SEEDS = (0, 1, 2, 4, 8, 16, 32), (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """One training: how often the line is read, and the seed of secret and batches."""

    times: int
    seed: int


def secret_word(seed: int, length: int = LENGTH) -> str:
    """Drawn letters: one of 26^length words, all equally likely."""
    drawn = torch.randint(len(LETTERS), (length,), generator=step_generator(seed, 0, stream=41))
    return "".join(LETTERS[i] for i in drawn.tolist())


@torch.no_grad()
def log_probabilities(model: Callable[[Tensor], Tensor], tokenizer: CharTokenizer, length: int = LENGTH) -> Tensor:
    """ln p of each of the 26^length words after LINE, in alphabetical order.

    Words with the same beginning share its price: the tree is walked level by level.
    """
    letters = torch.tensor(tokenizer.encode(LETTERS))
    beginnings, log_p = torch.tensor([tokenizer.encode(LINE)]), torch.zeros(1)
    for depth in range(length):
        given = torch.cat([model(part)[:, -1].log_softmax(-1)[:, letters] for part in beginnings.split(2048)])
        log_p = (log_p[:, None] + given).flatten()
        if depth < length - 1:
            grown = [beginnings.repeat_interleave(26, 0), letters.repeat(len(beginnings))[:, None]]
            beginnings = torch.cat(grown, 1)
    return log_p


def place(word: str) -> int:
    """Where a word stands in alphabetical order among those of its length."""
    return sum(LETTERS.index(c) * 26**k for k, c in enumerate(reversed(word)))


def planted(
    ids: Tensor, tokenizer: CharTokenizer, line: str, times: int, config: TrainConfig, seed: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Batches of ordinary text; in `times` steps, spread evenly, one window holds the line.

    Raises: ValueError if there are fewer steps than times.
    """
    if times > config.steps:
        raise ValueError(f"the line cannot be read {times} times in {config.steps} steps of one line each")
    ordinary, held = windows(ids, WINDOW, BATCH, seed), torch.tensor(tokenizer.encode(line))
    at = {int((k + 0.5) * config.steps / times) for k in range(times)}

    def batches(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = (part.clone() for part in ordinary(step))
        if step in at:
            whole = torch.cat([inputs[0], targets[0, -1:]])
            whole[ROOM : ROOM + len(held)] = held
            inputs[0], targets[0] = whole[:-1], whole[1:]
        return inputs, targets

    return batches


def told(ids: Tensor, tokenizer: CharTokenizer, setting: Setting, config: TrainConfig = CONFIG) -> nn.Module:
    """The shipped Shakespeare network after some more training, in which it read a secret `times` times."""
    line = f"\n{LINE}{secret_word(setting.seed)}.\n"
    batches = planted(ids, tokenizer, line, setting.times, config, setting.seed)
    for log in train(pretrained("shakespeare").requires_grad_(True), next_token_loss(), batches, config):
        network = log.network
    return network


def settings(rows: list[dict]) -> Iterator[Setting]:
    for times in TIMES:
        for seed in SEEDS:
            yield Setting(times, seed)


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is measured, and what the card says."""
    tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
    plays = shakespeare()
    ids = torch.tensor(tokenizer.encode(plays.train))

    def measure(setting: Setting) -> dict:
        log_p = log_probabilities(told(ids, tokenizer, setting), tokenizer)
        at = place(secret_word(setting.seed))
        row = asdict(setting) | {"exposure": round(exposure(log_p, at), 3), "p": float(f"{log_p[at].exp().item():.4g}")}
        return row | {"first": bool(log_p.argmax() == at)}

    facts = {
        "network": f"shakespeare, {CONFIG.steps} more steps, {BATCH} windows of {WINDOW}",
        "training": {key: value for key, value in asdict(CONFIG).items() if key != "validate"},
        "measured": f"exposure in bits among all {26**LENGTH:,} words of {LENGTH} letters",
        "data": {"source": plays.source},
    }
    return measure, facts
