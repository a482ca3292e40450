"""What speaks for which class: each character's part in a network's answer, each word's part in that of a bag of words."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anywidget
import torch
import traitlets
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.data.plays import KINDS, WIDTH, windows
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.classifier import Classifier, padded
from aigc_lessons.models.lora import lora_layers, merged
from aigc_lessons.studio.finetuning import BagOfWords, Examples, logits
from aigc_lessons.widgets.scripts import script

WORD = re.compile(r"[A-Za-z']+")
SINGLE_WORDS = {"lowercase": True, "token_pattern": WORD.pattern}  # the bag of words that the script knows


@torch.no_grad()
def character_evidence(
    network: Classifier, tokenizer: CharTokenizer, text: str
) -> tuple[list[str], Float[Tensor, " T"], float]:
    """The parts of a network's answer: z = bias + sum of parts, and sigmoid(z) is the probability of class 1.

    With pool "mean" and a linear head, z is exactly a mean over characters: part_t = w . h_t / T. What a character says
    may come from all that stands before it in its window.

    Returns: the windows; the part of each of their characters, end to end; the bias.
    Raises: ValueError for another pool, more than two classes, or a text without a character that the network knows.
    """
    if network.pool != "mean" or len(network.head.weight) != 2:
        raise ValueError(f"parts add up for pool 'mean' and 2 classes, got {network.pool!r} and {len(network.head.weight)}")
    cut = windows([line for line in known(tokenizer, text).split("\n") if line])
    if not cut:
        raise ValueError("there is nothing to read: give at least one character that the plays have")
    w = network.head.weight[1] - network.head.weight[0]
    streams = [network.trunk(torch.tensor([tokenizer.encode(window)]))[0] @ w for window in cut]
    parts = torch.cat(streams)
    return cut, parts / len(parts), (network.head.bias[1] - network.head.bias[0]).item()


def word_evidence(bag: BagOfWords, text: str) -> tuple[list[str], Float[Tensor, " n"], float]:
    """The same for a bag of single words: its words in order, the part of each (equal words share), the bias."""
    words = [word.lower() for word in WORD.findall(text)]
    row, known_words = bag.count.transform([text]), bag.count.vocabulary_
    parts = [
        float(row[0, known_words[word]] * bag.fit.coef_[0, known_words[word]]) / words.count(word)
        if word in known_words
        else 0.0
        for word in words
    ]
    return words, torch.tensor(parts, dtype=torch.float64), float(bag.fit.intercept_[0])


def known(tokenizer: CharTokenizer, text: str) -> str:
    """The text without the characters that the tokenizer does not have."""
    alphabet = set(tokenizer.decode(range(tokenizer.vocab_size)))
    return "".join(c for c in text if c in alphabet)


def proper_names(texts: Sequence[str]) -> list[str]:
    """Words that are never written small, though they come at least twice: names, for the most part."""
    seen: dict[str, int] = {}
    for text in texts:
        for word in WORD.findall(text):
            seen[word] = seen.get(word, 0) + 1
    return sorted(w for w, n in seen.items() if n > 1 and w[0].isupper() and len(w) > 1 and w.lower() not in seen)


def decisions(probability: Float[Tensor, " N"], labels: Int[Tensor, " N"], sure: float) -> dict[str, int]:
    """How many are answered with at least this confidence, and how: "comedy as history" counts comedies called histories.

    Raises: ValueError if sure leaves 0.5..1.
    """
    if not 0.5 <= sure <= 1:
        raise ValueError(f"with two classes the chosen one has a probability in 0.5..1, got {sure}")
    answered = torch.maximum(probability, 1 - probability) >= sure
    said = (probability > 0.5).long()
    return {f"{KINDS[k]} as {KINDS[j]}": int((answered & (labels == k) & (said == j)).sum()) for k in (0, 1) for j in (0, 1)}


class Evidence(anywidget.AnyWidget):
    """A passage to edit; what a network and a bag of words say of it, and why; and how both do on the test passages.

    The network runs in the browser. `said` holds both probabilities of a history once the hand is still.

    Args:
        network:   a classifier of two classes on a GPT in the modern style, pool "mean"; LoRA is merged.
        bag:       of SINGLE_WORDS.
        tokenizer: of the network.
        examples:  passages to choose from, by the name that is shown.
        test:      the passages on which accuracy and coverage are counted.
        names:     words that the button "no names" takes out.
    Raises: ValueError for a network or a bag that the script does not know.
    """

    _esm = script("gpt.js", "evidence.js")
    _css = Path(__file__).with_name("evidence.css")
    given = traitlets.Dict().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    reader = traitlets.Enum(["network", "words"], "network").tag(sync=True)
    sure = traitlets.Float(0.5, min=0.5, max=1.0).tag(sync=True)
    said = traitlets.Dict().tag(sync=True)

    def __init__(
        self, network: Classifier, bag: BagOfWords, tokenizer: CharTokenizer, examples: dict[str, str], test: Examples,
        names: Sequence[str], **settings,
    ):  # fmt: skip
        if bag.count.ngram_range != (1, 1) or bag.count.analyzer != "word":
            raise ValueError(
                f"the script counts single words, this bag counts {bag.count.analyzer}s {bag.count.ngram_range}"
            )
        first = next(iter(examples.values()))
        character_evidence(network, tokenizer, first)  # refuses what cannot be taken apart
        plain = merged(network) if lora_layers(network) else network
        chances = {
            "network": logits(plain, test.ids).softmax(1)[:, 1],
            "words": bag(test.texts).softmax(1)[:, 1],
        }
        vocabulary = bag.count.vocabulary_
        super().__init__(
            given={
                "weights": weights_of(plain).numpy().astype("<f4").tobytes(),
                "sizes": asdict(plain.trunk.config),
                "alphabet": tokenizer.decode(range(tokenizer.vocab_size)),
                "width": WIDTH,
                "bias": (plain.head.bias[1] - plain.head.bias[0]).item(),
                "words": {word: [float(bag.count.idf_[i]), float(bag.fit.coef_[0, i])] for word, i in vocabulary.items()},
                "intercept": float(bag.fit.intercept_[0]),
                "examples": examples,
                "kinds": list(KINDS),
                "names": list(names),
                "chances": {name: [round(p, 5) for p in chance.tolist()] for name, chance in chances.items()},
                "labels": test.labels.tolist(),
            },
            text=first,
            **settings,
        )

    def __repr__(self) -> str:
        return f"the evidence explorer, {len(self.given['examples'])} passages (needs a running kernel)"


def weights_of(network: Classifier) -> Tensor:
    """The trunk's weights in the order in which gpt.js reads them; in place of its head, the difference of two classes.

    Raises: ValueError for a style that the script does not know.
    """
    trunk = network.trunk
    if trunk.config.style != "modern":
        raise ValueError(f"the script knows the 'modern' style only, got {trunk.config.style!r}")
    parts = [trunk.embed.weight]
    for block in trunk.blocks:
        layers = block.attention.qkv, block.attention.proj, block.feed_forward.fc, block.feed_forward.proj
        parts += [layer.weight for layer in layers]
    parts.append(network.head.weight[1] - network.head.weight[0])
    return torch.cat([part.detach().float().flatten() for part in parts])


def example_ids(tokenizer: CharTokenizer, text: str) -> Int[Tensor, "1 W T"]:
    """A text as the network reads it."""
    cut = windows([line for line in known(tokenizer, text).split("\n") if line])
    return padded([[tokenizer.encode(window) for window in cut]], WIDTH)
