"""The logit lens by hand: what the head reads after every part of a GPT, and what is lost when parts are switched off."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.evaluation.lens import Part, lens, parts_of, stream
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.widgets.playground import weights_of
from aigc_lessons.widgets.scripts import script

LONGEST, SHOWN = 64, 5  # characters of a line; guesses listed for each station
BROKEN = 0.5  # nats that a line may become more surprising before the verdict calls it broken


@dataclass(frozen=True, eq=False)
class Line:
    """What the head reads along a line of T characters, at S stations of the stream.

    p:     probabilities of the next character.
    wrote: root mean square of what the part before each station wrote; the first is that of the embedding.
    nats:  surprise of the line's own next character at each station; T - 1, the last has none.
    """

    p: Float[Tensor, "S T V"]
    wrote: Float[Tensor, "S T"]
    nats: Float[Tensor, "S T1"]

    @property
    def loss(self) -> float:
        """Mean surprise at the last station, in nats a character."""
        return self.nats[-1].mean().item()


def read_line(model: GPT, ids: Int[Tensor, " T"], off: Collection[Part] = ()) -> Line:
    """A line through the lens.

    Args:
        ids: at least two tokens, no more than block_size.
        off: parts that write nothing.
    Raises: ValueError for a line that is too short or too long, or an unknown part.
    """
    if len(ids) < 2:
        raise ValueError(f"a line needs at least two tokens, or there is nothing to guess; got {len(ids)}")
    stations = stream(model, ids[None], off)[:, 0]
    log_p = lens(model, stations).log_softmax(-1)
    nats = -log_p[:, :-1].gather(-1, ids[1:].expand(len(log_p), -1)[..., None])[..., 0]
    wrote = torch.cat([stations[:1], stations[1:] - stations[:-1]]).square().mean(-1).sqrt()
    return Line(log_p.exp(), wrote, nats)


class LensExplorer(anywidget.AnyWidget):
    """A line of text through every station of a network that runs in the browser; each part can be switched off.

    The weights travel once. `text`, `position` and `off` (parts by number: 0 is the first block's attention, 1 its
    feed-forward part, 2 the second block's attention ...) may be set from Python, and tell Python once the hand is still.

    Args:
        model:     a GPT of characters in the modern style.
        tokenizer: of the same vocabulary.
        text:      the line, at most LONGEST characters of the vocabulary.
    Raises: ValueError for another style, a tokenizer that does not fit, or a line that is too short or too long.
    """

    _esm = script("sampling.js", "gpt.js", "lens.js")
    _css = Path(__file__).with_name("lens.css")
    given = traitlets.Dict().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    position = traitlets.Int(0, min=0).tag(sync=True)
    off = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(self, model: GPT, tokenizer: CharTokenizer, text: str, **settings):
        if tokenizer.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"the model has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}:"
                " was another tokenizer used?"
            )
        longest = min(LONGEST, model.config.block_size)
        if not 2 <= len(tokenizer.encode(text)) <= longest:
            raise ValueError(f"a line has 2 to {longest} characters, got {len(text)}")
        self._parts = len(parts_of(model))
        super().__init__(
            given={
                "weights": weights_of(model).cpu().numpy().astype("<f4").tobytes(),
                "sizes": asdict(model.config),
                "texts": [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)],
                "names": [f"{kind} {layer + 1}" for layer, kind in parts_of(model)],
                "longest": longest,
                "shown": SHOWN,
                "broken": BROKEN,
            },
            text=text,
            **settings,
        )

    @traitlets.validate("off")
    def _known_parts(self, proposal):
        if strange := [part for part in proposal.value if not 0 <= part < self._parts]:
            raise ValueError(f"parts are numbered 0..{self._parts - 1}, got {strange}")
        return sorted(set(proposal.value))

    def __repr__(self) -> str:
        return f"the lens explorer, {self._parts} parts (needs a running kernel)"
