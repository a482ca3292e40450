"""Few bits, by hand: a small GPT, rounded, measured and writing in the browser with every move of a control."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import anywidget
import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Float
from torch import Tensor

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.models.quantize import BITS, quantize
from aigc_lessons.widgets.playground import weights_of
from aigc_lessons.widgets.scripts import script

LENGTH, TEMPERATURE = 118, 0.6  # letters written, and how
GROUPS = (8, 16, 32, 64, 128, 0)  # 0: a whole row
OUTLIERS = (1, 4, 16, 64, 256)
PARTS = {"embedding": "embed", "attention": "attention", "feed-forward": "feed_forward", "head": "head"}
START = {"bits": 8, "group": 32, "outlier": 1, "search": False, "parts": list(PARTS)}
PRESETS = {
    "8 bits": {},
    "4 bits": {"bits": 4},
    "3 bits": {"bits": 3},
    "2 bits": {"bits": 2},
    "4 bits, outliers": {"bits": 4, "outlier": 64},
    "all of float32": {"parts": []},
}


def planted(state: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Weights of the same function with outliers in it: relu(z / sqrt F)^2 F = relu(z)^2.

    Hidden unit 5 of every 32 becomes smaller by sqrt(F) on its way in and larger by F on its way out.

    Args:
        state:  of a GPT in the modern style.
        factor: F, above 0.
    """
    changed = {name: tensor.clone() for name, tensor in state.items()}
    for name, tensor in changed.items():
        if name.endswith("feed_forward.fc.weight"):
            tensor[5::32] /= factor**0.5
        if name.endswith("feed_forward.proj.weight"):
            tensor[:, 5::32] *= factor
    return changed


def squeezed(
    state: Mapping[str, Tensor], bits: int, group: int = 32, *, search: bool = False, parts=tuple(PARTS)
) -> tuple[dict[str, Tensor], int, float]:
    """The state with its chosen parts rounded; bytes of its matrices in a file; size of the error beside the weights'."""
    found, size, error, total = dict(state), 0, 0.0, 0.0
    chosen = [PARTS[part] for part in parts]
    for name, w in state.items():
        if not any(name.startswith(part) or f".{part}." in name for part in chosen):
            size += 4 * w.numel()
            continue
        q = quantize(w, bits, group or w.shape[1], search=search)
        found[name] = q.dequantize()
        size += -(-w.numel() * bits // 8) + 2 * q.scales.numel()
        error += (w - found[name]).square().sum().item()
        total += w.square().sum().item()
    return found, size, (error / total) ** 0.5 if total else 0.0


@torch.no_grad()
def nats(model: GPT, passage: list[int]) -> float:
    """Mean surprise over a passage, read in windows of the model's block, as the script does it."""
    ids, L = torch.tensor(passage), model.config.block_size
    pieces = [(ids[i : i + L][: len(ids) - 1 - i], ids[i + 1 : i + L + 1]) for i in range(0, len(ids) - 1, L)]
    lost = sum(F.cross_entropy(model(x[None])[0], y, reduction="sum").item() for x, y in pieces)
    return lost / (len(ids) - 1)


class FewBits(anywidget.AnyWidget):
    """Bits, group, outliers and parts of a GPT in hand: its weights, its file, its loss and its text.

    The weights travel once, and are rounded in the browser. The kernel hears of the controls and of what was `measured` once
    the hand is still; the controls may be set from Python too.

    Args:
        model:     a GPT of characters in the modern style.
        tokenizer: of the same vocabulary.
        passage:   a text to be surprised by, at least two characters; a few hundred are quickly read.
        prompt:    what the network goes on from.
    Raises: ValueError for another style, a tokenizer that does not fit, an empty prompt or a passage too short.
    """

    _esm = script("sampling.js", "gpt.js", "fewbits.js")
    _css = Path(__file__).with_name("fewbits.css")
    given = traitlets.Dict().tag(sync=True)
    bits = traitlets.Int(8).tag(sync=True)
    group = traitlets.Int(32).tag(sync=True)
    outlier = traitlets.Int(1).tag(sync=True)
    search = traitlets.Bool(False).tag(sync=True)
    parts = traitlets.List(traitlets.Unicode(), list(PARTS)).tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)

    def __init__(self, model: GPT, tokenizer: CharTokenizer, passage: str, prompt: str = "JULIET:\n", **settings):
        if tokenizer.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"the model has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}:"
                " was another tokenizer used?"
            )
        ids, begin = tokenizer.encode(passage), tokenizer.encode(prompt)
        if len(ids) < 2 or not begin:
            raise ValueError(f"the passage needs two characters and the prompt one, got {len(ids)} and {len(begin)}")
        if len(begin) + LENGTH > model.config.block_size:
            raise ValueError(
                f"prompt and text of {len(begin) + LENGTH} characters do not fit into {model.config.block_size}"
            )
        super().__init__(
            given={
                "weights": weights_of(model).cpu().numpy().astype("<f4").tobytes(),
                "sizes": asdict(model.config),
                "texts": [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)],
                "passage": ids,
                "nats": nats(model, ids),
                "prompt": prompt,
                "prompt_ids": begin,
                "length": LENGTH,
                "temperature": TEMPERATURE,
                "bits": list(BITS),
                "groups": list(GROUPS),
                "outliers": list(OUTLIERS),
                "start": START,
                "presets": PRESETS,
            },
            **settings,
        )

    @traitlets.validate("bits", "group", "outlier")
    def _a_stop(self, proposal):
        stops = {"bits": BITS, "group": GROUPS, "outlier": OUTLIERS}[proposal.trait.name]
        if proposal.value not in stops:
            raise ValueError(f"{proposal.trait.name} must be one of {', '.join(map(str, stops))}, got {proposal.value}")
        return proposal.value

    @traitlets.validate("parts")
    def _known_parts(self, proposal):
        if unknown := [part for part in proposal.value if part not in PARTS]:
            raise ValueError(f"parts are {', '.join(PARTS)}, got {unknown[0]!r}")
        return [part for part in PARTS if part in proposal.value]

    def __repr__(self) -> str:
        return f"the few-bits explorer, {len(self.given['weights']) // 4:,} weights (needs a running kernel)"


def nearest_points(weights: Float[Tensor, " N"], bits: int) -> tuple[Float[Tensor, " N"], Float[Tensor, " K"]]:
    """For a still picture: where each weight of one group goes, and the grid."""
    q = quantize(weights[None], bits, len(weights))
    m = 2 ** (bits - 1) - 1
    return q.dequantize()[0], q.scales.float()[0, 0] * torch.arange(-m, m + 1)
