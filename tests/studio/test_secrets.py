"""Planted secrets: where they stand, what they cost, and the series that was shipped."""

import math

import pytest
import torch
from networks import restless_gpt

from aigc_lessons.experiments import results
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPTConfig
from aigc_lessons.studio import secrets
from aigc_lessons.training.loop import TrainConfig

TOKENIZER = CharTokenizer.from_text("My secret word is\n." + secrets.LETTERS)


def small():
    return restless_gpt(GPTConfig(TOKENIZER.vocab_size, 24, 1, 2, 8), seed=2, std=0.5)


def test_the_tree_gives_every_words_price():
    model, log_p = small(), secrets.log_probabilities(small(), TOKENIZER, length=2)
    assert log_p.shape == (26**2,)
    for word in ("aa", "qx", "zz"):
        ids = torch.tensor([TOKENIZER.encode(secrets.LINE + word)])
        with torch.no_grad():
            each = model(ids[:, :-1])[0].log_softmax(-1).gather(-1, ids[0, 1:, None])[-2:].sum()
        assert log_p[secrets.place(word)].item() == pytest.approx(each.item(), abs=1e-4)


def test_places_are_alphabetical():
    assert [secrets.place(word) for word in ("aaa", "aab", "aba", "zzz")] == [0, 1, 26, 26**3 - 1]
    assert secrets.secret_word(0) == secrets.secret_word(0) != secrets.secret_word(1)
    assert len(secrets.secret_word(5)) == secrets.LENGTH


def test_the_line_is_read_as_often_as_said(generator):
    ids = torch.randint(TOKENIZER.vocab_size, (500,), generator=generator)
    config, line = TrainConfig(20), f"\n{secrets.LINE}abc.\n"
    held = torch.tensor(TOKENIZER.encode(line))
    for times in (0, 1, 7, 20):
        batches = secrets.planted(ids, TOKENIZER, line, times, config, seed=0)
        with_it = 0
        for step in range(20):
            inputs, targets = batches(step)
            assert torch.equal(inputs[:, 1:], targets[:, :-1])
            with_it += torch.equal(inputs[0, secrets.ROOM : secrets.ROOM + len(held)], held)
        assert with_it == times
    with pytest.raises(ValueError, match="21 times in 20 steps"):
        secrets.planted(ids, TOKENIZER, line, 21, config, seed=0)


def test_the_shipped_series_is_complete_and_says_what_the_lesson_says():
    rows = results("secrets")["rows"]
    assert {(r["times"], r["seed"]) for r in rows} == {(t, s) for t in secrets.TIMES for s in secrets.SEEDS}
    top = math.log2(26**secrets.LENGTH)
    assert all(0 <= r["exposure"] <= top + 1e-6 for r in rows)
    mean = {t: sum(r["exposure"] for r in rows if r["times"] == t) / len(secrets.SEEDS) for t in secrets.TIMES}
    assert mean[0] < 4
    assert mean[32] > top - 1
    assert all(r["first"] == (r["exposure"] > top - 1e-3) for r in rows)
