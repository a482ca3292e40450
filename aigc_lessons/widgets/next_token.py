"""What comes next, and what temperature, top-k and top-p make of it: bars, still and moved by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.axes import Axes
from torch import Tensor

from aigc_lessons.language.generation import check_filters, filter_logits
from aigc_lessons.language.tokenizer import BPETokenizer, CharTokenizer
from aigc_lessons.plots import BLUE, FAINT, INK
from aigc_lessons.widgets.scripts import script

SHOWN = 20  # bars; the script has the same number
ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the axis: round, so that it stands still while a control moves a little
SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
GREY = "#51606f"
Tokenizer = CharTokenizer | BPETokenizer


def next_logits(model: Callable[..., Tensor], ids: Sequence[int]) -> Float[Tensor, " V"]:
    """Logits of the token after `ids`; dropout is off, and the model's mode is left as it was.

    Args:
        model: ids (1, T) -> logits (1, T, V). With a `config.block_size` it is given no more than that many last ids.
        ids:   the context, at least one token.
    Raises: ValueError if there is no token; FloatingPointError if the logits are not finite.
    """
    if len(ids) == 0:
        raise ValueError("the context is empty: give at least one token to go on from")
    longest = getattr(getattr(model, "config", None), "block_size", len(ids))
    learning = getattr(model, "training", False)
    if learning:
        model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([list(ids)[-longest:]]))[0, -1]
    if learning:
        model.train()
    if not logits.isfinite().all():
        raise FloatingPointError("the model's logits are not finite: has its training diverged?")
    return logits


def after_controls(
    logits: Float[Tensor, " V"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, " V"]:
    """Probabilities after temperature, then top-k, then top-p: softmax(filter_logits(logits)); temperature 0 is greedy.

    Args:
        temperature:  0 puts everything on the likeliest token, the first of equals; else as for `filter_logits`.
        top_k, top_p: as for `filter_logits`; None switches them off.
    Raises: ValueError for a value out of range.
    """
    return _filtered(logits, temperature, top_k, top_p).softmax(-1)


def _filtered(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits after the controls; -infinity is out. A token that stays in may still have a probability that rounds to 0."""
    if temperature == 0:
        check_filters(top_k, top_p)  # the likeliest token passes any filter
        return torch.full_like(logits, -torch.inf).index_fill(-1, logits.argmax(-1), 0.0)
    return filter_logits(logits[None], temperature, top_k, top_p)[0]


def entropy(probabilities: Float[Tensor, " V"]) -> float:
    """H(p) = - sum p ln p, in nats: 0 if one token is certain, ln V if all are alike."""
    return torch.special.entr(probabilities.double()).sum().item() + 0.0  # not -0.0


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """Each token as it can be seen: ␣ is a space, ⏎ a line break, ⟨e4 b8⟩ two bytes that are no whole character."""
    return [_visible(tokenizer, i) for i in range(tokenizer.vocab_size)]


def _visible(tokenizer: Tokenizer, i: int) -> str:
    if isinstance(tokenizer, BPETokenizer):
        spelled = tokenizer.decode_bytes([i])
        try:
            text = spelled.decode("utf-8")
        except UnicodeDecodeError:
            return f"⟨{spelled.hex(' ')}⟩"
    else:
        text = tokenizer.decode([i])
    return "".join(SIGNS.get(c) or (c if c.isprintable() else f"U+{ord(c):04X}") for c in text)


def show_next(
    ax: Axes,
    logits: Float[Tensor, " V"],
    tokenizer: Tokenizer,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Axes:
    """The likeliest next tokens as bars: outlined before the controls, filled after them, dashed where they are out.

    Args:
        logits: of the next token, for example from `next_logits`.
        temperature, top_k, top_p: as for `after_controls`.
    Raises: ValueError for a value out of range, or logits of another vocabulary.
    """
    texts = token_texts(tokenizer)
    _check_sizes(len(logits), len(texts))
    filtered = _filtered(logits, temperature, top_k, top_p)
    before, after, kept = logits.softmax(-1), filtered.softmax(-1), filtered.isfinite()
    rows = logits.sort(descending=True, stable=True).indices[:SHOWN].tolist()
    end = next(end for end in ENDS if end >= min(1.0, max(before.max(), after.max()).item()))
    for y, i in enumerate(rows):
        inside = bool(kept[i])
        ax.barh(y, before[i].item(), 0.82, facecolor="none", edgecolor=GREY, linewidth=1, linestyle="-" if inside else ":")
        ax.barh(y, after[i].item(), 0.46, color=BLUE)
        ax.text(1.14, y, percent(before[i].item()), transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize=8.5, color=GREY)  # fmt: skip
        ax.text(1.28, y, percent(after[i].item()) if inside else "out", transform=ax.get_yaxis_transform(), ha="right",
                va="center", fontsize=8.5, color=INK, weight="bold" if inside else "normal")  # fmt: skip
    for x, name in ((1.14, "before"), (1.28, "after")):
        ax.text(x, -1, name, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=8.5, color=GREY)
    ax.set_yticks(range(len(rows)), [_drawable(texts[i]) for i in rows], family="DejaVu Sans", fontsize=9.5, color=INK)
    ax.set_xticks(np.linspace(0, end, 5), [f"{100 * x:g} %" for x in np.linspace(0, end, 5)], fontsize=8.5, color=GREY)
    ax.set_xlim(0, end)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.grid(axis="x", color=FAINT, linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.spines.left.set_color(GREY)
    ax.set_xlabel(
        "outlined: temperature 1, no filter   ·   filled: after the controls   ·   dotted: out", fontsize=8.5, color=GREY
    )
    remain = f"{kept.sum().item()} of {len(texts)} tokens remain"
    ax.set_title(
        f"{remain}; entropy {entropy(before):.2f} → {entropy(after):.2f} nats", fontsize=10, color=INK, pad=20, loc="left"
    )
    return ax


def percent(p: float) -> str:
    """A probability in words, to a hundredth of a percent."""
    return "< 0.01 %" if 0 < p < 0.00005 else f"{100 * p:.2f} %"


def _drawable(text: str) -> str:
    """Characters that matplotlib's own font lacks become their numbers: it would draw an empty box, and warn."""
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(c if font.get_char_index(ord(c)) else f"U+{ord(c):04X}" for c in text).replace("$", r"\$")


def _check_sizes(logits: int, tokens: int) -> None:
    if logits != tokens:
        raise ValueError(f"the model has {logits} logits and the tokenizer {tokens} tokens: was another tokenizer used?")


class NextToken(anywidget.AnyWidget):
    """The likeliest next tokens as bars that follow temperature, top-k and top-p; a click on one appends it.

    The logits travel once for each context; the controls work on them in the browser, and the kernel hears of their values
    (`temperature`, `top_k`, `top_p`, with None for off) once the hand is still. They may be set from Python too. Draw number
    n of a seed is always made with the same random number.

    Args:
        model:     ids (1, T) -> logits (1, T, V); as for `next_logits`.
        tokenizer: of the same vocabulary.
        prompt:    the text to go on from.
    Raises: ValueError for an empty prompt, one that the tokenizer cannot write, or a tokenizer that does not fit the model.
    """

    _esm = script("sampling.js", "next_token.js")
    _css = Path(__file__).with_name("next_token.css")
    texts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    prompt = traitlets.Unicode().tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(None, allow_none=True).tag(sync=True)
    top_p = traitlets.Float(None, allow_none=True).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    draws = traitlets.Int(0).tag(sync=True)  # made so far with this seed
    added = traitlets.List(traitlets.Int()).tag(sync=True)  # ids after the prompt: the browser asks by setting them
    answer = traitlets.Dict().tag(sync=True)  # one message: "added" (whose answer it is), "written", "context", "logits"

    def __init__(self, model: Callable[..., Tensor], tokenizer: Tokenizer, prompt: str):
        self._model, self._tokenizer, self._ids = model, tokenizer, tokenizer.encode(prompt)
        if not self._ids:
            raise ValueError("the prompt is empty: give the model at least one token to go on from")
        texts = token_texts(tokenizer)
        _check_sizes(len(next_logits(model, self._ids)), len(texts))
        super().__init__(texts=texts, prompt=prompt, answer=self._answer([]))

    def _answer(self, added: list[int]) -> dict:
        ids = self._ids + added
        longest = getattr(getattr(self._model, "config", None), "block_size", len(ids))
        logits = next_logits(self._model, ids).float().cpu().numpy().astype("<f4")
        return {
            "added": added,
            "written": self._tokenizer.decode(added),
            "context": [min(longest, len(ids)), len(ids)],  # tokens that the model sees, of how many
            "logits": logits.tobytes(),
        }

    @traitlets.observe("added")
    def _go_on(self, change) -> None:
        self.answer = self._answer(list(change.new))

    @traitlets.validate("added")
    def _known_tokens(self, proposal):
        self._tokenizer.decode(proposal.value)
        return proposal.value

    @traitlets.validate("temperature")
    def _a_temperature(self, proposal):
        if not (proposal.value == 0 or 0.01 <= proposal.value < float("inf")):
            raise ValueError(f"temperature must be 0 (greedy) or at least 0.01 here, got {proposal.value}")
        return proposal.value

    @traitlets.validate("top_k", "top_p")
    def _a_filter(self, proposal):
        check_filters(**{"top_k": None, "top_p": None, proposal.trait.name: proposal.value})
        return proposal.value

    def __repr__(self) -> str:
        return f"the next-token explorer, {len(self.texts)} tokens (needs a running kernel)"
