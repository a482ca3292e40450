"""The chat window: the learner's network answers in the page, token by token; with or without the template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import torch
import traitlets
from matplotlib.axes import Axes
from torch import Tensor

from aigc_lessons.language import bpe
from aigc_lessons.language.chat import END, MARKERS, SPECIAL, Chat, Turn, encode_chat
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.plots import BLUE, GREEN, INK, ORANGE
from aigc_lessons.widgets.playground import weights_of
from aigc_lessons.widgets.scripts import script
from aigc_lessons.widgets.tokens import shown

LONGEST = 40  # tokens of an answer
COLOURS = {"system": ORANGE, "user": INK, "assistant": BLUE}


@dataclass(frozen=True)
class Said:
    """One written token: its id, how likely the network found it, and the likeliest three with their probabilities."""

    id: int
    p: float
    likeliest: tuple[tuple[int, float], ...]


def prompt_of(tokenizer: BPETokenizer, chat: Chat, template: bool = True, obey: bool = False) -> list[int]:
    """The tokens that a network goes on from.

    Args:
        template: False gives the text of the last turn alone, as to a network that only continues.
        obey:     what looks like a marker in the text becomes one. Never do this outside of this window.
    Raises: ValueError for an empty conversation.
    """
    if not chat:
        raise ValueError("the conversation is empty: give at least one turn")
    if not template:
        return tokenizer.encode(chat[-1].text, SPECIAL if obey else ())
    if not obey:
        return encode_chat(tokenizer, chat, reply=True)[0]
    special, ids = tokenizer.special_tokens, []
    for turn in chat:
        ids += [special[MARKERS[turn.role]], *tokenizer.encode(turn.text, SPECIAL), special[END]]
    return [*ids, special[MARKERS["assistant"]]]


@torch.no_grad()
def say(model: Callable[[Tensor], Tensor], ids: Sequence[int], end: int, longest: int = LONGEST) -> list[Said]:
    """The greedy answer to a prompt, up to its end (which is among what is said), with what else was likely."""
    said, ids, block = [], list(ids), model.config.block_size
    while len(said) < longest and len(ids) < block:
        p = model(torch.tensor([ids]))[0, -1].softmax(-1)
        top = p.topk(3)
        said.append(Said(top.indices[0].item(), top.values[0].item(), tuple(zip(top.indices.tolist(), top.values.tolist()))))  # noqa: B905
        if said[-1].id == end:
            break
        ids.append(said[-1].id)
    return said


def show_chat(ax: Axes, chat: Chat, title: str = "", width: int = 52) -> Axes:
    """A conversation as a page: who speaks stands in front, and markers are not shown."""
    import textwrap

    down = 2  # points below the top
    for turn in chat:
        lines = textwrap.wrap(turn.text, width) or [""]
        place = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8.5, "va": "top"}
        ax.annotate(turn.role, xytext=(0, -down), color=COLOURS[turn.role], weight="bold", **place)
        ax.annotate("\n".join(lines), xytext=(62, -down), color=INK, family="monospace", parse_math=False, **place)
        down += 11 * len(lines) + 7
    ax.set_title(title, fontsize=10, loc="left")
    ax.axis("off")
    return ax


def show_odds(ax: Axes, said: Sequence[Said], tokenizer: BPETokenizer) -> Axes:
    """How sure the network was of each token of its answer, as bars."""
    names = [shown(tokenizer.decode_bytes([one.id])) if one.id < min(tokenizer.special_tokens.values())
             else tokenizer.decode([one.id]) for one in said]  # fmt: skip
    ax.bar(range(len(said)), [one.p for one in said], color=[GREEN if one.p > 0.9 else ORANGE for one in said], width=0.7)
    for x, one in enumerate(said):
        ax.text(x, one.p + 0.02, f"{one.p:.2f}", ha="center", fontsize=7.5, color=INK)
    ax.set_xticks(range(len(said)), names, rotation=40, ha="right", fontsize=8.5)
    ax.set_ylim(0, 1.12)
    ax.set_ylabel("probability")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


class ChatWindow(anywidget.AnyWidget):
    """A conversation with networks that run in the browser.

    What is typed becomes tokens there too. The kernel hears of the conversation (`turns`) when an answer is complete.
    Who answers, whether there is a template, and whether markers in the text are obeyed may be set from Python as well.

    Args:
        models:    name -> a GPT in the modern style; all of one size.
        tokenizer: theirs, with the markers of `language.chat`.
        examples:  texts on buttons: what the button says -> what it writes into the box.
        note:      what the system says before everything else; may be empty.
    Raises: ValueError for no model, models of different sizes, or a tokenizer that does not fit.
    """

    _esm = script("sampling.js", "bpe.js", "gpt.js", "chat.js")
    _css = Path(__file__).with_name("chat.css")
    given = traitlets.Dict().tag(sync=True)
    who = traitlets.Unicode().tag(sync=True)
    template = traitlets.Bool(True).tag(sync=True)
    obey = traitlets.Bool(False).tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    turns = traitlets.List().tag(sync=True)

    def __init__(
        self,
        models: Mapping[str, GPT],
        tokenizer: BPETokenizer,
        examples: Mapping[str, str] = {},
        note: str = "",
        **settings,
    ):
        if not models:
            raise ValueError("give at least one model: nobody is there to answer")
        sizes = [model.config for model in models.values()]
        if any(size != sizes[0] for size in sizes):
            raise ValueError(f"the models must be of one size, got {sizes}")
        if tokenizer.vocab_size != sizes[0].vocab_size or any(name not in tokenizer.special_tokens for name in SPECIAL):
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and {[*tokenizer.special_tokens]}; the models have"
                f" {sizes[0].vocab_size} tokens, and a chat needs {', '.join(SPECIAL)}"
            )
        super().__init__(
            given={
                "weights": {name: weights_of(model).cpu().numpy().astype("<f4").tobytes() for name, model in models.items()},
                "sizes": asdict(sizes[0]),
                "merges": [list(pair) for pair in tokenizer.merges],
                "order": list(bpe.BYTE_ORDER),
                "markers": MARKERS,
                "end": END,
                "special": tokenizer.special_tokens,
                "examples": dict(examples),
                "longest": LONGEST,
            },
            note=note,
            **({"who": next(iter(models))} | settings),
        )

    @traitlets.validate("who")
    def _somebody(self, proposal):
        if proposal.value not in self.given["weights"]:
            raise ValueError(f"who answers must be one of {', '.join(self.given['weights'])}, got {proposal.value!r}")
        return proposal.value

    @property
    def chat(self) -> tuple[Turn, ...]:
        """The conversation so far."""
        return tuple(Turn(turn["role"], turn["text"]) for turn in self.turns)

    def __repr__(self) -> str:
        return f"a chat window with {', '.join(self.given['weights'])} (needs a running kernel)"
