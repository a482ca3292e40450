"""The decoding playground: a small GPT that writes in the browser, anew with every move of a control."""

import re
from dataclasses import asdict
from pathlib import Path

import anywidget
import torch
import traitlets
from torch import Tensor

from aigc_lessons.language.generation import check_filters
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.widgets.scripts import script

LENGTH = 320  # characters written
STRETCH = 8  # characters: a stretch of so many that stood there before counts as repeated
WORD = re.compile(r"[A-Za-z']+")
OFF = {"temperature": 1.0, "top_k": None, "top_p": None, "min_p": None, "penalty": 1.0}
PRESETS = {
    "greedy": {"temperature": 0.0},
    "as predicted": {},
    "temperature 0.7": {"temperature": 0.7},
    "top-p 0.9": {"top_p": 0.9},
    "hot": {"temperature": 2.0},
    "hot + min-p": {"temperature": 2.0, "min_p": 0.2},
    "greedy + penalty": {"temperature": 0.0, "penalty": 1.5},
}


def repeated(text: str, n: int = STRETCH) -> float:
    """Share of the stretches of n characters that stood in the text before; 0 for a text shorter than n."""
    stretches = [text[i : i + n] for i in range(len(text) - n + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def known_words(text: str, words: set[str]) -> float:
    """Share of the words of more than three letters that are in a list, in small letters; 0 if there is none.

    The first and the last word may be cut, and do not count.
    """
    found = [word.lower() for word in WORD.findall(text)[1:-1] if len(word) > 3]
    return sum(word in words for word in found) / len(found) if found else 0.0


def weights_of(model: GPT) -> Tensor:
    """All weights in the order in which gpt.js reads them.

    Raises: ValueError for a style that the script does not know.
    """
    if model.config.style != "modern":
        raise ValueError(f"the script knows the 'modern' style only, got {model.config.style!r}")
    parts = [model.embed]
    for block in model.blocks:
        parts += [block.attention.qkv, block.attention.proj, block.feed_forward.fc, block.feed_forward.proj]
    return torch.cat([part.weight.detach().float().flatten() for part in (*parts, model.head)])


class Playground(anywidget.AnyWidget):
    """Temperature, top-k, top-p, min-p and a penalty on repetition, on a network that runs in the browser.

    The weights travel once. Letter number n of a seed is always drawn with the same random number. The kernel hears of the
    controls and of the text (`written`) once it is done; the controls may be set from Python too.

    Args:
        model:     a GPT of characters in the modern style.
        tokenizer: of the same vocabulary.
        words:     the words that count as known, in small letters.
        human:     of real text: "nats", mean surprise; "repeated" and "known", as by the functions of this file.
        prompt:    the text to go on from.
    Raises: ValueError for another style, a tokenizer that does not fit, or an empty prompt.
    """

    _esm = script("sampling.js", "gpt.js", "playground.js")
    _css = Path(__file__).with_name("playground.css")
    given = traitlets.Dict().tag(sync=True)
    prompt = traitlets.Unicode().tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(None, allow_none=True).tag(sync=True)
    top_p = traitlets.Float(None, allow_none=True).tag(sync=True)
    min_p = traitlets.Float(None, allow_none=True).tag(sync=True)
    penalty = traitlets.Float(1.0).tag(sync=True)
    seed = traitlets.Int(0, min=0).tag(sync=True)
    written = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, model: GPT, tokenizer: CharTokenizer, words: set[str], human: dict[str, float], prompt: str, **settings
    ):
        if not tokenizer.encode(prompt):
            raise ValueError("the prompt is empty: give the model at least one character to go on from")
        if tokenizer.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"the model has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}:"
                " was another tokenizer used?"
            )
        super().__init__(
            given={
                "weights": weights_of(model).cpu().numpy().astype("<f4").tobytes(),
                "sizes": asdict(model.config),
                "texts": [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)],
                "words": " ".join(sorted(words)),
                "human": human,
                "length": LENGTH,
                "stretch": STRETCH,
                "off": OFF,
                "presets": PRESETS,
            },
            prompt=prompt,
            **settings,
        )

    @traitlets.validate("temperature")
    def _a_temperature(self, proposal):
        if not (proposal.value == 0 or 0.05 <= proposal.value <= 3):
            raise ValueError(f"temperature must be 0 (greedy) or in 0.05..3 here, got {proposal.value}")
        return proposal.value

    @traitlets.validate("top_k", "top_p", "min_p")
    def _a_filter(self, proposal):
        check_filters(**{"top_k": None, "top_p": None, proposal.trait.name: proposal.value})
        return proposal.value

    @traitlets.validate("penalty")
    def _a_penalty(self, proposal):
        if not 1 <= proposal.value <= 3:
            raise ValueError(f"the penalty must lie in 1..3 here, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the decoding playground, {len(self.given['texts'])} characters (needs a running kernel)"
