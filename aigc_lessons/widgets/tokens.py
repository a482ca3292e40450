"""Text cut into tokens as one types, by two tokenizers side by side; and the same in a still picture."""

from pathlib import Path

import anywidget
import traitlets
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from aigc_lessons.language import bpe
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.plots import INK
from aigc_lessons.widgets.scripts import script

SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
FILLS = ("#cfe4f3", "#fbe6bd", "#c9ebdf", "#f3dbe9")  # pale, in turn; the script has the same
LONGEST = 4000  # characters that can be typed
LARGEST = 1 << 16  # ids; the script packs two into one number
# what the buttons write into the box: each shows one thing that goes well or wrong
EXAMPLES = {
    "English": "To be, or not to be: that is the question",
    "三国": "话说天下大势，分久必合，合久必分。",
    "both": "Cao Cao, in Chinese 曹操, is a king.",
    "numbers": "1 12 123 1234 12345, 7 + 8 = 15, 777 + 888 = 1665",
    "spaces": "the question\n the question\n  the question \nthequestion",
    "capitals": "question Question QUESTION questions",
    "emoji": "love 😀 ❤️ 👩‍💻 naïve café",
}


def spelled(tokenizer: BPETokenizer, text: str, used: int | None = None) -> list[int]:
    """The ids of a text with only the first `used` merges; 0 leaves single bytes, None takes all.

    Raises: ValueError if used is outside 0..the number of merges, or the text is not valid Unicode.
    """
    merges = len(tokenizer.merges)
    used = merges if used is None else used
    if not 0 <= used <= merges:
        raise ValueError(f"used must lie in 0..{merges}, the number of merges, got {used}")
    return BPETokenizer(tokenizer.merges[:used], tokenizer.pattern).encode(text)


def shown(token: bytes) -> str:
    """A token as it can be seen: ␣ is a space, ⏎ a line break, ⟨e4 b8⟩ two bytes that are no whole characters."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f"⟨{token.hex(' ')}⟩"
    return "".join(SIGNS.get(c) or (c if c.isprintable() else f"U+{ord(c):04X}") for c in text)


def statistics(tokenizer: BPETokenizer, text: str, used: int | None = None) -> dict[str, int]:
    """How many tokens and bytes a text has, and how many of the tokens are no whole characters."""
    ids = spelled(tokenizer, text, used)
    cut = sum(shown(tokenizer.decode_bytes([i])).startswith("⟨") for i in ids)
    return {"tokens": len(ids), "bytes": len(text.encode()), "cut": cut}


def show_tokens(ax: Axes, tokenizer: BPETokenizer, text: str, *, title: str = "", columns: int = 66) -> Axes:
    """A text as a row of boxes, one for each token, broken into lines of `columns` letters.

    What matplotlib's own font cannot draw, Chinese for example, is written as its bytes.
    """
    ids, x, y = tokenizer.encode(text), 0.0, 0
    for k, i in enumerate(ids):
        token = tokenizer.decode_bytes([i])
        label = shown(token)
        if not all(ord(c) < 0x250 or c in SIGNS.values() for c in label):
            label = token.hex(" ")
        width = len(label) + 0.9
        if x + width > columns and x > 0:
            x, y = 0.0, y + 1
        ax.add_patch(
            FancyBboxPatch((x + 0.12, -y - 0.36), width - 0.24, 0.72, boxstyle="round,pad=0,rounding_size=0.16",
                           facecolor=FILLS[k % len(FILLS)], edgecolor=INK, linewidth=0.9,
                           linestyle="--" if shown(token).startswith("⟨") else "-", mutation_aspect=0.4)
        )  # fmt: skip
        ax.text(x + width / 2, -y - 0.03, label.strip("⟨⟩"), family="DejaVu Sans Mono", fontsize=8.5, ha="center",
                va="center", color=INK, parse_math=False)  # fmt: skip
        x += width
    ax.set_xlim(0, columns + 1)
    ax.set_ylim(-max(y, 1) - 0.6, 0.6)  # boxes of one height, whether there is one line or two
    ax.axis("off")
    n = len(text.encode())
    ax.set_title(
        f"{title}{len(ids)} tokens, {n} bytes, {n / len(ids):.2f} bytes a token", fontsize=9.5, loc="left", color=INK
    )
    return ax


class TokenExplorer(anywidget.AnyWidget):
    """A box to type in, and below it the tokens of what was typed by two tokenizers; a slider takes merges away.

    The merges are sent once and all tokenizing is done in the browser; the kernel hears of `text` and `used` once the hand
    is still. Both may be set from Python too.

    Args:
        tokenizers: name -> tokenizer with GPT-2's pattern; two stand well side by side.
        text:       what stands in the box at first.
    Raises: ValueError if there is no tokenizer, one has another pattern or more than 65,536 ids, or the text is too long.
    """

    _esm = script("bpe.js", "tokens.js")
    _css = Path(__file__).with_name("tokens.css")
    given = traitlets.Dict().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    used = traitlets.Int().tag(sync=True)

    def __init__(self, tokenizers: dict[str, BPETokenizer], text: str = EXAMPLES["English"]):
        if not tokenizers:
            raise ValueError("give at least one tokenizer: {'name': tokenizer}")
        for name, tokenizer in tokenizers.items():
            if tokenizer.pattern != bpe.GPT2_PATTERN:
                raise ValueError(f"the browser cuts text with GPT-2's pattern only; {name!r} has {tokenizer.pattern!r}")
            if tokenizer.vocab_size > LARGEST:
                raise ValueError(f"at most {LARGEST} ids, {name!r} has {tokenizer.vocab_size}")
        self.most = max(len(tokenizer.merges) for tokenizer in tokenizers.values())
        super().__init__(
            given={
                "byte_order": list(bpe.BYTE_ORDER),
                "examples": EXAMPLES,
                "longest": LONGEST,
                "most": self.most,
                "tokenizers": {name: [list(pair) for pair in t.merges] for name, t in tokenizers.items()},
            },
            text=text,
            used=self.most,
        )

    @traitlets.validate("text")
    def _a_text(self, proposal):
        bpe.check_unicode(proposal.value)
        if len(proposal.value) > LONGEST:
            raise ValueError(f"at most {LONGEST} characters, got {len(proposal.value)}")
        return proposal.value

    @traitlets.validate("used")
    def _a_number_of_merges(self, proposal):
        if not 0 <= proposal.value <= self.most:
            raise ValueError(f"used must lie in 0..{self.most}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the token explorer: {', '.join(self.given['tokenizers'])} (needs a running kernel)"
