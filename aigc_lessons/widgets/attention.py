"""The attention explorer: every head of a small GPT on a line that is typed, and what happens when it is broken."""

from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.models.heads import split_heads
from aigc_lessons.plots import BLUE, FAINT, INK, RED
from aigc_lessons.widgets.next_token import SIGNS
from aigc_lessons.widgets.playground import weights_of

LONGEST = 64  # characters of a line


@dataclass(frozen=True)
class Break:
    """What is done to a network.

    off:       heads that hand on nothing, (layer, head).
    sharpness: a factor of all scores; 1 as trained.
    ahead:     tokens see the later ones too: no mask.
    places:    queries and keys are turned by their place (RoPE).
    """

    off: tuple[tuple[int, int], ...] = ()
    sharpness: float = 1.0
    ahead: bool = False
    places: bool = True


@torch.no_grad()
def run(model: GPT, ids: Int[Tensor, " T"], how: Break = Break()) -> tuple[Float[Tensor, "L nh T T"], Float[Tensor, "T V"]]:
    """Weights of all heads and logits of a GPT in the modern style that is broken as `how` says: what the script computes.

    Raises: ValueError for another style.
    """
    if model.config.style != "modern":
        raise ValueError(f"the explorer knows the 'modern' style only, got {model.config.style!r}")
    turns = model.turns[: len(ids)] if how.places else torch.ones_like(model.turns[: len(ids)])
    x, looks = F.rms_norm(model.embed(ids[None]), (model.config.n_embd,)), []
    for layer, block in enumerate(model.blocks):
        q, k, v = split_heads(block.attention, block.attention.qkv(block.norm1(x)), turns)
        scores = how.sharpness * q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if not how.ahead:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        looks.append(scores.softmax(-1)[0])
        y = scores.softmax(-1) @ v
        y[:, [head for at, head in how.off if at == layer]] = 0
        x = x + block.attention.proj(y.transpose(1, 2).flatten(-2))
        x = x + block.feed_forward(block.norm2(x))
    return torch.stack(looks), model.head(model.norm(x))[0]


def show_weights(ax: Axes, weights: Float[Tensor, "T T"], text: str, title: str = "") -> Axes:
    """A head's pattern: a row for each character that looks, a column for each that it looks at; darker is more.

    The colour follows the square root of the weight, so that small ones can be seen.
    """
    ax.imshow(weights.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    signs = [SIGNS.get(c, c) for c in text]
    ax.set_xticks(range(len(text)), signs, fontsize=7, family="monospace", color=INK)
    ax.set_yticks(range(len(text)), signs, fontsize=7, family="monospace", color=INK)
    ax.tick_params(length=0, pad=1)
    ax.spines[:].set_color(FAINT)
    ax.set_title(title, fontsize=10, color=INK)
    return ax


def show_glance(ax: Axes, row: Float[Tensor, " T"], text: str, place: int) -> Axes:
    """Where one character looks: a bar over each; the character itself stands in a frame."""
    ax.bar(range(len(text)), row.numpy(), color=BLUE, width=0.8)
    ax.set_xticks(range(len(text)), [SIGNS.get(c, c) for c in text], family="monospace", fontsize=9, color=INK)
    ax.get_xticklabels()[place].set(color=RED, fontweight="bold", bbox={"facecolor": "none", "edgecolor": RED, "pad": 1})
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


class AttentionExplorer(anywidget.AnyWidget):
    """All heads of a network on a line of text; heads to switch off, scores to sharpen, mask and places to take away.

    Networks travel once and run in the browser. The kernel hears of the settings once all is at rest; they may be set from
    Python too.

    Args:
        networks:  name -> a GPT of characters in the modern style.
        tokenizer: of the vocabulary of all.
        examples:  name -> a line to look at, the first is shown; at most 64 characters.
    Raises: ValueError for another style, a tokenizer that does not fit, no network, no example or one that is too long.
    """

    _esm = Path(__file__).with_name("attention.js")
    _css = Path(__file__).with_name("attention.css")
    given = traitlets.Dict().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    place = traitlets.Int(0, min=0).tag(sync=True)
    off = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sharpness = traitlets.Float(1.0).tag(sync=True)
    ahead = traitlets.Bool(False).tag(sync=True)
    places = traitlets.Bool(True).tag(sync=True)

    def __init__(self, networks: dict[str, GPT], tokenizer: CharTokenizer, examples: dict[str, str], **settings):
        if not networks or not examples:
            raise ValueError(f"need at least one network and one example, got {len(networks)} and {len(examples)}")
        for name, model in networks.items():
            if tokenizer.vocab_size != model.config.vocab_size:
                raise ValueError(
                    f"{name} has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}:"
                    " was another tokenizer used?"
                )
        longest = min(LONGEST, *(model.config.block_size for model in networks.values()))
        for name, text in examples.items():
            if not 0 < len(text) <= longest:
                raise ValueError(f"an example has 1 to {longest} characters, {name!r} has {len(text)}")
            tokenizer.encode(text)
        first = next(iter(examples.values()))
        super().__init__(
            given={
                "networks": {
                    name: {
                        "sizes": asdict(model.config),
                        "weights": weights_of(model).cpu().numpy().astype("<f4").tobytes(),
                    }
                    for name, model in networks.items()
                },
                "texts": [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)],
                "examples": examples,
                "longest": longest,
            },
            **{"network": next(iter(networks)), "text": first, "place": len(first) - 1} | settings,
        )

    def _sizes(self) -> dict:
        return self.given["networks"][self.network]["sizes"]

    @traitlets.validate("network")
    def _a_network(self, proposal):
        if proposal.value not in (offered := list(self.given["networks"])):
            raise ValueError(f"network must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.validate("layer", "head")
    def _a_head(self, proposal):
        name = proposal.trait.name
        count = self._sizes()[f"n_{name}"]
        if not 0 <= proposal.value < count:
            raise ValueError(f"{name} must lie in 0..{count - 1}, got {proposal.value}")
        return proposal.value

    @traitlets.validate("off")
    def _heads_off(self, proposal):
        sizes = self._sizes()
        known = [f"{layer}.{head}" for layer in range(sizes["n_layer"]) for head in range(sizes["n_head"])]
        for name in proposal.value:
            if name not in known:
                raise ValueError(f"no head is called {name!r}; there are {known[0]} to {known[-1]}")
        return proposal.value

    @traitlets.validate("sharpness")
    def _a_sharpness(self, proposal):
        if not 0.1 <= proposal.value <= 10:
            raise ValueError(f"sharpness must lie in 0.1..10, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the attention explorer: {', '.join(self.given['networks'])} (needs a running kernel)"
