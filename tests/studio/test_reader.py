"""The shipped reader: what its card says is true, and it says what stands on the page."""

import torch

from aigc_lessons.data.chronicle import prompt
from aigc_lessons.language.answering import answers
from aigc_lessons.studio import reader
from aigc_lessons.training.checkpoints import card, pretrained


def test_the_cards_numbers_are_measured_again():
    metrics = card("reader")["metrics"]
    network = pretrained("reader")
    again = reader.measure(network, reader.old_chronicle()[:40], reader.new_chronicle()[:40])
    assert again["learned"] >= 0.98
    assert again["unheard"] <= 0.02
    assert again["one_line"] >= 0.99
    assert abs(again["two_lines"] - metrics["two_lines"]) < 0.05


def test_it_follows_the_page():
    """Another name in the line gives another answer."""
    fact = reader.new_chronicle()[0]
    network, tokenizer = pretrained("reader"), reader.tokenizer()
    line = fact.said(0)
    pages = [line, line.replace(fact.answer, "Zuzom")]
    first, second = answers(network, tokenizer, [prompt(fact.asked(0), [page]) for page in pages])
    assert (first.text, second.text) == (fact.answer, "Zuzom")


def test_chronicles_share_no_town():
    old, new = reader.old_chronicle(), reader.new_chronicle()
    assert not {fact.town for fact in old} & {fact.town for fact in new}


def test_a_beginner_knows_nothing():
    got = reader.by_heart(reader.beginner(), reader.old_chronicle()[:10])
    assert got.dtype == torch.bool
    assert not got.any()
