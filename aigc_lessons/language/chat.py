"""Conversations as tokens: the template that marks who speaks, which tokens are to be learned, many conversations in a row.

    <|system|> text <|end|>   <|user|> text <|end|>   <|assistant|> text <|end|> ...

The four markers are tokens of their own. What people write is spelled without them, whatever it says: the template alone
makes turns.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor, nn

from aigc_lessons.data.world import RELATIONS, world
from aigc_lessons.language.generation import generate
from aigc_lessons.language.objective import IGNORE, cross_entropy
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.types import LossFn

END = "<|end|>"
MARKERS = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}
SPECIAL = (*MARKERS.values(), END)
VOCABULARY = 864  # of the tokenizer of the world: nearly every word of it is one token


@dataclass(frozen=True)
class Turn:
    """What one side says. Raises: ValueError for a role that does not exist."""

    role: str
    text: str

    def __post_init__(self):
        if self.role not in MARKERS:
            raise ValueError(f"role must be one of {', '.join(MARKERS)}, got {self.role!r}")


Chat = Sequence[Turn]


def ask(question: str, answer: str | None = None) -> tuple[Turn, ...]:
    """A conversation of one question and, where it is given, its answer."""
    return (Turn("user", question),) + (() if answer is None else (Turn("assistant", answer),))


@lru_cache(maxsize=1)
def world_tokenizer() -> BPETokenizer:
    """The tokens of the world of seed 0, learned from its prose and its questions, with the template's markers."""
    here = world(0)
    asked = [question.text for question in here.questions("train") + here.about_nobody()]
    again = [text for relation in RELATIONS for text in relation.again]
    return BPETokenizer.train("\n".join(here.prose(4) + asked + 50 * again), VOCABULARY, special_tokens=SPECIAL)


def render(chat: Chat, reply: bool = False) -> str:
    """The conversation as text, markers and all: to look at. Nothing ever turns such a text back into tokens."""
    return "".join(f"{MARKERS[turn.role]}{turn.text}{END}" for turn in chat) + (MARKERS["assistant"] if reply else "")


def encode_chat(tokenizer: BPETokenizer, chat: Chat, reply: bool = False) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation, and for each whether it is to be learned.

    A turn is: the marker of its role, its text, the end. To be learned is what the assistant must write itself: the text of
    its turns and the end after it, not its marker, which the template sets.

    Args:
        reply: append the assistant's marker: the model goes on from there.
    Raises: ValueError for an empty conversation, or a tokenizer without the markers.
    """
    if not chat:
        raise ValueError("the conversation is empty: give at least one turn")
    special = tokenizer.special_tokens
    if missing := [name for name in SPECIAL if name not in special]:
        raise ValueError(f"this tokenizer has no token {missing[0]!r}; train it with special_tokens={SPECIAL}")
    ids, learned = [], []
    for turn in chat:
        text = tokenizer.encode(turn.text)  # no special token is allowed here: markers in the text stay text
        ids += [special[MARKERS[turn.role]], *text, special[END]]
        learned += [False] + [turn.role == "assistant"] * (len(text) + 1)
    if reply:
        ids, learned = [*ids, special[MARKERS["assistant"]]], [*learned, False]
    return ids, learned


def targets_of(ids: Sequence[int], learned: Sequence[bool]) -> list[int]:
    """What each token but the last must predict: the next one, or IGNORE where that is not to be learned."""
    return [token if counts else IGNORE for token, counts in zip(ids[1:], learned[1:], strict=True)]


def padded(
    tokenizer: BPETokenizer, chats: Iterable[Chat], learn_all: bool = False
) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N T"]]:
    """(inputs, targets), a conversation a row, filled up at the right with ends that do not count.

    Args:
        learn_all: every token is to be learned, the user's too.
    """
    rows = [encode_chat(tokenizer, chat) for chat in chats]
    T = max(len(ids) for ids, _ in rows) - 1
    inputs = torch.full((len(rows), T), tokenizer.special_tokens[END])
    targets = torch.full((len(rows), T), IGNORE)
    for row, (ids, learned) in enumerate(rows):
        n = len(ids) - 1
        inputs[row, :n] = torch.tensor(ids[:-1])
        targets[row, :n] = torch.tensor(ids[1:] if learn_all else targets_of(ids, learned))
    return inputs, targets


def packed(
    tokenizer: BPETokenizer, chats: Iterable[Chat], length: int
) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N T"], Int[Tensor, "N T"]]:
    """(inputs, targets, segments): several conversations in each row of `length`, in the order given.

    A conversation goes into the first row that has room for it. Segments count the conversations of a row, 0, 1, ...; what
    fills it up is -1. A network that lets each token see only its own segment computes for every conversation what it
    computes for it alone.

    Raises: ValueError for a conversation that does not fit into a row.
    """
    rows: list[list[tuple[list[int], list[int]]]] = []
    room: list[int] = []
    for chat in chats:
        ids, learned = encode_chat(tokenizer, chat)
        n = len(ids) - 1
        if n > length:
            raise ValueError(f"a conversation of {n} tokens does not fit into rows of {length}")
        at = next((row for row, left in enumerate(room) if left >= n), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(length)
        rows[at].append((ids[:-1], targets_of(ids, learned)))
        room[at] -= n
    inputs = torch.full((len(rows), length), tokenizer.special_tokens[END])
    targets, segments = torch.full((len(rows), length), IGNORE), torch.full((len(rows), length), -1)
    for row, parts in enumerate(rows):
        start = 0
        for segment, (ids, wanted) in enumerate(parts):
            stop = start + len(ids)
            inputs[row, start:stop], targets[row, start:stop] = torch.tensor(ids), torch.tensor(wanted)
            segments[row, start:stop] = segment
            start = stop
    return inputs, targets, segments


def same_segment(segments: Int[Tensor, "N T"]) -> Bool[Tensor, "N 1 T T"]:
    """Which token sees which: earlier ones (and itself) of its own segment."""
    T = segments.shape[1]
    together = segments[:, :, None] == segments[:, None, :]
    return (together & torch.ones(T, T, dtype=torch.bool, device=segments.device).tril())[:, None]


def packed_loss() -> LossFn:
    """The loss of (inputs, targets, segments): the mean over what is to be learned, with no look across segments."""

    def loss_fn(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor], generator: Generator) -> Tensor:
        inputs, targets, segments = batch
        return cross_entropy(network(inputs, sees=same_segment(segments)), targets)

    return loss_fn


def replies(
    model: Callable[..., Tensor],
    tokenizer: BPETokenizer,
    chats: Sequence[Chat],
    max_new_tokens: int = 32,
    *,
    temperature: float = 0.0,
    generator: Generator | None = None,
) -> list[str]:
    """What the model answers to each conversation, up to its end; conversations of equal length are read together.

    Args:
        temperature: 0 is greedy; otherwise tokens are drawn with the generator.
    """
    end = tokenizer.special_tokens[END]
    prompts = [encode_chat(tokenizer, chat, reply=True)[0] for chat in chats]
    alike: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        alike.setdefault(len(prompt), []).append(place)
    texts = [""] * len(prompts)
    for places in alike.values():
        ids = torch.tensor([prompts[place] for place in places])
        written, done = [], torch.zeros(len(places), dtype=torch.bool)
        for token in generate(model, ids, max_new_tokens, temperature=temperature, generator=generator):
            written.append(token)
            done |= token == end
            if done.all():
                break
        for place, row in zip(places, torch.stack(written, 1).tolist(), strict=True):
            texts[place] = tokenizer.decode(row[: row.index(end)] if end in row else row)
    return texts
