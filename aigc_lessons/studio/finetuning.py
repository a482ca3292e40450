"""A language model put to a task: features, a probe, four ways to train further, and the bag of words beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn

from aigc_lessons.data import plays, reviews
from aigc_lessons.data.batches import epochs
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.classifier import Classifier, padded
from aigc_lessons.models.gpt import GPT
from aigc_lessons.models.lora import add_lora
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.training.loop import StepLog, TrainConfig, train

Method = Literal["last", "all", "lora", "scratch"]
BASE, RANK = "shakespeare", 8
BATCH = 4  # passages of four windows in a step
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # of a probe, to choose from
WORDS = {"lowercase": True, "token_pattern": r"[A-Za-z']+", "ngram_range": (1, 2)}
LETTERS = {"lowercase": False, "analyzer": "char", "ngram_range": (1, 4), "max_features": 30_000}
BAG_STRENGTHS = (1.0, 10.0, 100.0)


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts as a person reads them and as a network does, with their labels, and groups whose texts resemble each other."""

    texts: list[str]
    ids: Int[Tensor, "N W T"]
    labels: Int[Tensor, " N"]
    groups: Shaped[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: Int[Tensor, " n"]) -> "Examples":
        return Examples([self.texts[i] for i in rows.tolist()], self.ids[rows], self.labels[rows], self.groups[rows])


@lru_cache(maxsize=1)
def alphabet() -> CharTokenizer:
    """The characters of the base model."""
    return CharTokenizer.from_text(card(BASE)["characters"])


def play_examples(passages: plays.Passages) -> Examples:
    """Passages of plays, ready for the network."""
    ids = padded([[alphabet().encode(window) for window in passage] for passage in passages.windows], plays.WIDTH)
    return Examples(passages.texts, ids, passages.labels, passages.scenes)


def review_examples(made: reviews.Reviews) -> Examples:
    """Reviews, ready for the network; a group is plain (0) or trap (1)."""
    ids = padded([[alphabet().encode(text)] for text in made.texts], plays.WIDTH)
    return Examples(made.texts, ids, made.labels, made.traps.long())


def trunk(fresh: int | None = None) -> GPT:
    """The pretrained network, free to be trained; or one of the same form with first weights drawn from the seed `fresh`."""
    network = pretrained(BASE).requires_grad_(True)
    if fresh is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fresh)
            network = GPT(network.config)
    return network


def classifier(network: GPT, classes: int = 2, pool: Literal["mean", "last"] = "mean") -> Classifier:
    """A classifier on a GPT."""
    return Classifier(network, network.config.n_embd, classes, pool)


@torch.no_grad()
def features(network: Classifier, ids: Int[Tensor, "N W T"]) -> Float[Tensor, "N C"]:
    """The pooled stream of many texts, in pieces of 32."""
    return torch.cat([network.features(piece) for piece in ids.split(32)])


@torch.no_grad()
def logits(network: Classifier, ids: Int[Tensor, "N W T"]) -> Float[Tensor, "N K"]:
    """What a classifier says of many texts, in pieces of 32."""
    return torch.cat([network(piece) for piece in ids.split(32)])


def accuracy(said: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> float:
    """The share of texts whose likeliest class is their label."""
    return (said.argmax(1) == labels).double().mean().item()


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear classifier of two classes: logits (-z/2, z/2) with z = x . w + b."""

    w: Float[Tensor, " C"]
    b: float

    def __call__(self, x: Float[Tensor, "N C"]) -> Float[Tensor, "N 2"]:
        z = x.double() @ self.w + self.b
        return torch.stack([-z / 2, z / 2], 1)

    def put_into(self, head: nn.Linear) -> None:
        """Make a classifier's head compute the same."""
        with torch.no_grad():
            head.weight.copy_(torch.stack([-self.w / 2, self.w / 2]))
            head.bias.copy_(torch.tensor([-self.b / 2, self.b / 2]))


def probe(x: Float[Tensor, "N C"], labels: Int[Tensor, " N"], strength: float) -> Linear:
    """Logistic regression on features brought to mean 0 and variance 1; nothing behind the features is trained.

    Args:
        labels:   0 and 1, both of them.
        strength: C of the regression: small is a strong pull of all weights to 0.
    Raises: ValueError if only one class is there.
    """
    if len(labels.unique()) != 2:
        raise ValueError(f"a probe needs texts of both classes, got only {labels.unique().tolist()}")
    x = x.double()
    mean, std = x.mean(0), x.std(0) + 1e-3
    fit = LogisticRegression(C=strength, max_iter=1000).fit(((x - mean) / std).numpy(), labels.numpy())
    w = torch.from_numpy(fit.coef_[0]) / std
    return Linear(w, float(fit.intercept_[0]) - (mean @ w).item())


def best_probe(x: Tensor, labels: Tensor, x_val: Tensor, labels_val: Tensor) -> Linear:
    """The probe whose strength does best on the validation set."""
    fits = [probe(x, labels, strength) for strength in STRENGTHS]
    return max(fits, key=lambda fit: accuracy(fit(x_val), labels_val))


class BagOfWords:
    """Counts of words, or of letters, weighted by how rare each is, and a logistic regression on them.

    Args:
        how: WORDS (words and pairs of words) or LETTERS (up to four characters in a row, spaces and capitals included).
        strength: C of the regression.
    """

    def __init__(self, texts: list[str], labels: Int[Tensor, " N"], how: dict, strength: float = 10.0):
        self.count = TfidfVectorizer(sublinear_tf=True, **how)
        self.fit = LogisticRegression(C=strength, max_iter=1000).fit(self.count.fit_transform(texts), labels.numpy())

    def __call__(self, texts: list[str]) -> Float[Tensor, "N 2"]:
        z = torch.from_numpy(self.fit.decision_function(self.count.transform(texts)))
        return torch.stack([-z / 2, z / 2], 1)


def best_bag(train_set: Examples, validation: Examples, how: dict) -> BagOfWords:
    """The bag of words whose strength does best on the validation set."""
    bags = [BagOfWords(train_set.texts, train_set.labels, how, strength) for strength in BAG_STRENGTHS]
    return max(bags, key=lambda bag: accuracy(bag(validation.texts), validation.labels))


def classification_loss(network: nn.Module, batch: tuple[Tensor, Tensor], generator: Generator) -> Tensor:
    """Cross-entropy of (ids, labels)."""
    ids, labels = batch
    return F.cross_entropy(network(ids), labels)


def prepare(network: Classifier, method: Method, seed: int = 0) -> Classifier:
    """Say which parameters are trained; the network itself is changed.

    last: the last block and the head; all, scratch: everything; lora: changes of rank 8 in the linear layers, and the head.

    Raises: ValueError for another method.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    network.requires_grad_(method in ("all", "scratch"))
    if method == "last":
        network.trunk.blocks[-1].requires_grad_(True)
    if method == "lora":
        add_lora(network.trunk, RANK, generator=torch.Generator().manual_seed(seed))
    network.head.requires_grad_(True)
    return network


def fine_tune(
    network: Classifier, examples: Examples, lr: float, steps: int, seed: int = 0, batch: int = BATCH
) -> Iterator[StepLog]:
    """Train what `prepare` left free; a generator, as the loop it calls."""
    config = TrainConfig(steps=steps, lr=lr, warmup=min(5, steps - 1), decay=0.8, optimizer="muon", seed=seed)
    return train(network, classification_loss, epochs((examples.ids, examples.labels), batch, seed), config)
