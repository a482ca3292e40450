"""The evidence explorer without a browser: its parts add up, its counts are right, and it refuses what it cannot show."""

from functools import lru_cache

import pytest
import torch

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.classifier import Classifier
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.lora import add_lora
from aigc_lessons.studio.finetuning import WORDS, BagOfWords, Examples
from aigc_lessons.widgets import evidence
from aigc_lessons.widgets.evidence import (
    SINGLE_WORDS,
    Evidence,
    character_evidence,
    decisions,
    example_ids,
    known,
    proper_names,
    weights_of,
    word_evidence,
)

LETTERS = "\n abcdehlmorstuyARMS"
TEXTS = ["some days are dark", "the sea\nmy star", "Rosamu dares a storm", "my dear Rosamu read"] * 3
LABELS = torch.tensor([0, 1, 0, 1] * 3)


def network(pool="mean", classes=2, style="modern"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Classifier(GPT(GPTConfig(len(LETTERS), 128, 2, 2, 8, style=style)).eval(), 8, classes, pool)
        for p in made.parameters():
            p.data.normal_(std=0.4)
    return made.eval()


@lru_cache
def tokenizer():
    return CharTokenizer(LETTERS)


def bag(how=None):
    return BagOfWords(TEXTS, LABELS, how or SINGLE_WORDS)


def judged():
    ids = torch.cat([example_ids(tokenizer(), text) for text in TEXTS])
    return Examples(TEXTS, ids, LABELS, torch.arange(len(TEXTS)))


@pytest.mark.parametrize("text", ["the sea\nmy star", "xx the sea 77", "a" * 300 + "\nmother\n\nsea", "m"])
def test_the_parts_are_the_answer(text):
    net = network()
    cut, parts, bias = character_evidence(net, tokenizer(), text)
    z = net(example_ids(tokenizer(), text))[0].detach()
    assert len(parts) == sum(map(len, cut))
    assert max(map(len, cut)) <= 128
    assert (parts.sum() + bias).item() == pytest.approx((z[1] - z[0]).item(), abs=1e-5)


@pytest.mark.parametrize("text", [TEXTS[2], "sea sea SEA the unknown sea", "nothing", ""])
def test_the_words_are_the_answer(text):
    counter = bag()
    words, parts, bias = word_evidence(counter, text)
    z = counter([text])[0]
    assert len(words) == len(parts)
    assert parts.sum().item() + bias == pytest.approx((z[1] - z[0]).item(), abs=1e-9)


def test_what_the_network_does_not_know_is_left_out():
    assert known(tokenizer(), "sea, 7 RARE!") == "sea  RAR"


def test_names_are_never_written_small():
    assert proper_names([*TEXTS, "Sea and Mark", "Mark"]) == ["Mark", "Rosamu"]


def test_decisions_are_counted():
    p, labels = torch.tensor([0.9, 0.6, 0.4, 0.05, 0.7]), torch.tensor([1, 0, 1, 0, 1])
    assert list(decisions(p, labels, 0.5).values()) == [1, 1, 1, 2]
    assert decisions(p, labels, 0.65) == {
        "comedy as comedy": 1, "comedy as history": 0, "history as comedy": 0, "history as history": 2,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"0\.5\.\.1, got 0.3"):
        decisions(p, labels, 0.3)


def explorer(net=None, counter=None, **settings):
    shown = {"first": TEXTS[0], "second": TEXTS[1]}
    return Evidence(net or network(), counter or bag(), tokenizer(), shown, judged(), ["Rosamu"], **settings)


def test_everything_that_is_shown_travels_once():
    net, made = network(), explorer()
    sent = torch.frombuffer(bytearray(made.given["weights"]), dtype=torch.float32)
    assert torch.equal(sent, weights_of(net))
    assert len(sent) == sum(p.numel() for p in net.trunk.parameters()) + 8
    assert made.text == TEXTS[0]
    chances = net(judged().ids).softmax(1)[:, 1].tolist()
    assert made.given["chances"]["network"] == pytest.approx(chances, abs=1e-4)
    assert "2 passages" in repr(made)


def test_lora_is_merged_for_the_browser():
    net = network()
    add_lora(net.trunk, 2, generator=torch.Generator().manual_seed(0))
    for name, p in net.named_parameters():
        if name.endswith(".B"):
            p.data.fill_(0.1)
    made = explorer(net)
    assert made.given["chances"]["network"] == pytest.approx(net(judged().ids).softmax(1)[:, 1].tolist(), abs=1e-4)
    assert made.given["chances"]["network"] != pytest.approx(explorer().given["chances"]["network"], abs=1e-4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: explorer(network("last")), "pool 'mean' and 2 classes, got 'last'"),
        (lambda: explorer(network(classes=3)), "2 classes, got 'mean' and 3"),
        (lambda: explorer(counter=bag(WORDS)), "counts single words"),
        (lambda: weights_of(network(style="gpt2")), "'modern' style only, got 'gpt2'"),
        (lambda: character_evidence(network(), tokenizer(), "777"), "nothing to read"),
    ],
)
def test_what_does_not_fit_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_settings_are_checked():
    made = explorer(sure=0.8, reader="words")
    assert (made.sure, made.reader) == (0.8, "words")
    for name, value in (("sure", 0.3), ("sure", 1.1), ("reader", "oracle")):
        with pytest.raises(Exception, match=name):
            setattr(made, name, value)
    assert evidence.WIDTH == 128
