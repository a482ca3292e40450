"""The recipe "copier": what it is taught, and that the shipped network is what its card says."""

import pytest
import torch

from aigc_lessons import recipes
from aigc_lessons.data.repeats import repeats
from aigc_lessons.language.objective import IGNORE, held_out_nats
from aigc_lessons.models.heads import switched_off
from aigc_lessons.training.checkpoints import card, pretrained


@pytest.fixture(scope="module")
def corpus():
    return recipes.corpora("To be, or not to be: that is the question. " * 40, "To be", "a line")[0]


def test_half_a_batch_is_text_and_half_repeats_with_only_repetitions_counted(corpus):
    x, y = recipes.plays_and_repeats(corpus, 0)(3)
    assert x.shape == y.shape == (16, 64)
    assert "to be" in corpus.tokenizer.decode(x[0].tolist())
    assert torch.equal(x[:, 1:][y[:, :-1] != IGNORE], y[:, :-1][y[:, :-1] != IGNORE]), "targets are the next characters"
    assert (y[:8] != IGNORE).all()
    for row, targets in zip(x[8:], y[8:], strict=True):
        period = int((targets != IGNORE).long().argmax()) + 1
        assert 8 <= period <= 32
        assert torch.equal(row[period:], row[:-period])
    assert torch.equal(recipes.plays_and_repeats(corpus, 0)(3)[0], x)
    assert not torch.equal(recipes.plays_and_repeats(corpus, 0)(4)[0], x)


@pytest.fixture(scope="module")
def judged():
    return recipes.shakespeare()[1]


def test_the_shipped_copier_is_what_its_card_says(judged):
    """Its metrics anew (plays: on an eighth of them), and that a broken one would be noticed."""
    network, metrics = pretrained("copier"), card("copier")["metrics"]
    part = recipes.Corpus(judged.ids[: len(judged.ids) // 8], judged.tokenizer, judged.source)
    again = recipes.judge_copier(network, part, part)
    assert again["nats_repeated"] == pytest.approx(metrics["nats_repeated"], abs=0.01)
    assert again["induction"] == pytest.approx(metrics["induction"], abs=0.005)
    assert again["nats"] == pytest.approx(metrics["nats"], abs=0.08)
    assert held_out_nats(pretrained("shakespeare"), part.ids, 64) < again["nats"] < 1.9
    ids, again_ = repeats(64, 65, 68, torch.Generator().manual_seed(0))
    with torch.no_grad(), switched_off(network, [(1, 2)]):
        log_p = network(ids[:, :-1]).log_softmax(-1)
    assert -log_p.gather(-1, ids[:, 1:, None])[..., 0][again_[:, 1:]].mean() > metrics["nats_repeated"] + 4
