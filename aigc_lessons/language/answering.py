"""Asking a model: one line of answer after a prompt, with how sure the model is of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_lessons.language.tokenizer import BPETokenizer, CharTokenizer


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and the probability that it gave to exactly that."""

    text: str
    confidence: float


@torch.no_grad()
def answers(
    model: Callable[..., Tensor], tokenizer: CharTokenizer | BPETokenizer, prompts: Sequence[str], most: int = 12
) -> list[Answer]:
    """The greedy line after each prompt, without the line break that ends it.

    confidence = product of the probabilities of the tokens written, the line break included.

    Args:
        model:   ids (B, T) -> logits (B, T, V), with `new_cache()`.
        prompts: at least one character each; prompts of one length are read together.
        most:    tokens to write at most; an answer that does not end by then is cut.
    Raises: ValueError for an empty prompt.
    """
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    if empty := [i for i, ids in enumerate(encoded) if not ids]:
        raise ValueError(f"prompt number {empty[0]} is empty: there is nothing to answer")
    stop = tokenizer.encode("\n")[0]
    given: list[Answer | None] = [None] * len(prompts)
    for length in sorted({len(ids) for ids in encoded}):
        which = [i for i, ids in enumerate(encoded) if len(ids) == length]
        ids, cache, log_p = torch.tensor([encoded[i] for i in which]), model.new_cache(), torch.zeros(len(which))
        written, going = [], torch.ones(len(which), dtype=torch.bool)
        for _ in range(most):
            best = model(ids, cache)[:, -1].log_softmax(-1).max(-1)
            log_p += best.values * going  # what comes after the end of the line costs nothing
            ids = best.indices[:, None]
            written.append(ids.where(going[:, None], stop))
            going = going & (best.indices != stop)
            if not going.any():
                break
        for i, row, p in zip(which, torch.cat(written, 1).tolist(), log_p.exp().tolist(), strict=True):
            given[i] = Answer(tokenizer.decode(row).split("\n")[0], p)
    return given


def exact(given: Sequence[Answer], wanted: Sequence[str]) -> Tensor:
    """For each answer, whether it is letter by letter what was wanted.

    Raises: ValueError for lists of different length.
    """
    if len(given) != len(wanted):
        raise ValueError(f"{len(given)} answers for {len(wanted)} questions")
    return torch.tensor([answer.text == right for answer, right in zip(given, wanted, strict=True)], dtype=torch.bool)
