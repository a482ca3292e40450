"""Made-up facts: always the same, never ambiguous; batches that count the answers only."""

import pytest
import torch

from aigc_lessons.data.batches import step_generator
from aigc_lessons.data.chronicle import KINDS, RELATIONS, chronicle, prompt, reading, rows, two_facts
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card

TOKENIZER = CharTokenizer.from_text(card("shakespeare")["characters"])


def test_a_chronicle_is_the_same_and_has_one_answer_for_each_question():
    facts = chronicle(40, 0)
    assert facts == chronicle(40, 0)
    assert facts != chronicle(40, 1)
    assert len(facts) == 40 * len(KINDS)
    assert len({(fact.kind, fact.town) for fact in facts}) == len({fact.answer for fact in facts}) == len(facts)
    assert not {fact.town for fact in facts} & {fact.answer for fact in facts}
    with pytest.raises(ValueError, match="at least one town, got 0"):
        chronicle(0, 0)


def test_everything_can_be_spelled_and_the_answer_stands_in_the_statement():
    for fact in chronicle(10, 3):
        for way in (0, 1):
            TOKENIZER.encode(fact.said(way) + fact.asked(way))
            assert fact.answer in fact.said(way)
            assert fact.town in fact.said(way)
            assert fact.town in fact.asked(way)
            assert fact.answer not in fact.asked(way)
    assert set(RELATIONS) == set(KINDS)


def test_two_facts_are_never_the_same_question():
    generator = step_generator(0, 0)
    pairs = [two_facts(generator) for _ in range(400)]
    assert all((a.kind, a.town) != (b.kind, b.town) for a, b in pairs)
    same = sum(a.town == b.town for a, b in pairs) / 400
    assert abs(same - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5


def test_prompts():
    assert prompt("Who?") == "\nWho?\n"
    assert prompt("Who?", ["A.", "B."]) == "A.\nB.\nWho?\n"


def test_only_answers_count():
    learned = chronicle(5, 0)
    batches = reading(TOKENIZER.encode, learned, 6)
    for step in (0, 1, 3):
        inputs, targets = batches(step)
        assert torch.equal(inputs, batches(step)[0])
        for x, y in zip(inputs, targets, strict=True):
            counted = (y >= 0).nonzero()[:, 0]
            answer = TOKENIZER.decode(y[counted].tolist())
            before = TOKENIZER.decode(x[: int(counted[0]) + 1].tolist())
            assert answer.endswith("\n")
            assert before.endswith("?\n")
            if step == 3:
                assert before.startswith("\n")
                assert answer[:-1] in {fact.answer for fact in learned}
            else:
                assert answer[:-1] in before
    assert not torch.equal(batches(0)[0], batches(1)[0])


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"of 12 tokens do not fit into 8 \+ 1"):
        rows([("a question", "b")], TOKENIZER.encode, 8)
