"""Fine-tuning: probes against their optimality condition, what is trained and what is not, the series of measurements."""

import pytest
import torch
import torch.nn.functional as F
from strict_typing import unchecked

from aigc_lessons.data.reviews import reviews
from aigc_lessons.studio import finetuning as ft
from aigc_lessons.studio import finetuning_series as series


@pytest.fixture(scope="module")
def made():
    return ft.review_examples(reviews(10, torch.Generator().manual_seed(0)))


def cloud(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    return torch.randn(n, 5, generator=generator) * torch.tensor([1.0, 3, 0.2, 1, 1]) + labels[:, None], labels


def slope(fit, x, labels, strength):
    """The gradient of sum of losses + |w'|^2 / 2C by w', the weights of the standardised features: 0 at the optimum."""
    x = x.double()
    s = x.std(0) + 1e-3
    said = fit(x).softmax(1)[:, 1]
    return ((x - x.mean(0)) / s).T @ (said - labels) + fit.w * s / strength


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_a_probe_is_the_lowest_point_of_its_loss(strength):
    x, labels = cloud()
    fit = ft.probe(x, labels, strength)
    assert slope(fit, x, labels, strength).abs().max() < 1e-2
    assert slope(ft.Linear(1.1 * fit.w, fit.b), x, labels, strength).abs().max() > 0.05, "the test can fail"
    head = torch.nn.utils.skip_init(torch.nn.Linear, 5, 2)
    fit.put_into(head)
    torch.testing.assert_close(head(x).softmax(1), fit(x).softmax(1).float(), atol=1e-5, rtol=1e-5)


def test_the_best_strength_is_the_one_of_the_lowest_validation_loss():
    x, labels = cloud(20)
    x_val, y_val = cloud(200, 1)
    best = F.cross_entropy(ft.best_probe(x, labels, x_val, y_val)(x_val), y_val)
    tried = [F.cross_entropy(ft.probe(x, labels, c)(x_val), y_val) for c in ft.STRENGTHS]
    assert best == min(tried) < max(tried)


def test_a_probe_needs_both_classes():
    with pytest.raises(ValueError, match=r"only \[1\]"):
        ft.probe(torch.ones(3, 2), torch.tensor([1, 1, 1]), 1.0)


def test_bags_learn_what_words_tell(made):
    plain = ft.review_examples(reviews(100, torch.Generator().manual_seed(1), traps=0.0))
    for how in (ft.WORDS, ft.LETTERS):
        bag = ft.best_bag(plain, made, how)
        assert ft.accuracy(bag(plain.texts), plain.labels) == 1.0
        p = bag(made.texts).softmax(1)
        torch.testing.assert_close(p.sum(1), torch.ones(len(made), dtype=torch.float64))


TRAINED = {
    "last": lambda name: name.startswith(("trunk.blocks.2.", "head.")),
    "all": lambda name: True,
    "scratch": lambda name: True,
    "lora": lambda name: name.endswith((".A", ".B")) or name.startswith("head."),
}


@pytest.mark.parametrize("method", TRAINED)
def test_only_what_is_named_moves(method, made):
    network = ft.prepare(ft.classifier(ft.trunk()), method)
    before = {name: p.clone() for name, p in network.named_parameters()}
    logs = list(ft.fine_tune(network, made, 0.005, 4))
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    free = {name for name in before if TRAINED[method](name)}
    assert moved <= free
    # LoRA's A waits for B, and B moves in the first step; the embedding of a letter that never came stays
    assert len(moved) >= 0.9 * len(free)
    assert logs[-1].step == 4


def test_scratch_is_another_network_and_the_seed_decides():
    a, b, c = (ft.trunk(seed).embed.weight for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, ft.trunk().embed.weight)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="last, all, lora, scratch, got 'prompt'"):
        unchecked(ft.prepare)(ft.classifier(ft.trunk()), "prompt")


def test_pieces_change_nothing(made):
    network = ft.classifier(ft.trunk())
    with torch.no_grad():
        whole = network.features(made.ids)
    torch.testing.assert_close(ft.features(network, made.ids), whole)
    few = made[torch.tensor([3, 1])]
    assert few.texts == [made.texts[3], made.texts[1]]


# ------------------------------------------------------------------------------------------------------------- the series


def rows_of(losses):
    return [{"method": m, "lr": lr, "seed": series.TUNED_ON, "validation_nats": x} for (m, lr), x in losses.items()]


def test_learning_rates_are_chosen_on_a_seed_of_their_own():
    rows = rows_of({("all", 0.002): 0.6, ("all", 0.006): 0.5, ("lora", 0.005): 0.1})
    rows.append({"method": "all", "lr": 0.002, "seed": 0, "accuracy": 1.0, "nats": 0.0})
    assert series.best_lr(rows, "all") == 0.006


def test_every_method_meets_every_draw():
    tuned = rows_of({(m, lr): lr for m, grid in series.GRID.items() for lr in grid})
    planned = list(series.settings(tuned))
    assert len(planned) == len(set(planned)) == len(tuned) + 7 * len(series.SIZES) * len(series.SEEDS)
    assert all(s.seed == series.TUNED_ON for s in planned[: len(tuned)])
    assert len(series.COMPARED) == 7
    for method in series.COMPARED:
        draws = {(s.labels, s.seed) for s in planned[len(tuned) :] if s.method == method}
        assert draws == {(n, seed) for n in series.SIZES for seed in series.SEEDS}


@pytest.fixture
def short(monkeypatch, made):
    monkeypatch.setattr(series, "sides", lambda labels, seed: (made, made, made))
    monkeypatch.setattr(series, "STEPS", {32: 2})
    series.start.cache_clear()
    series.base_features.cache_clear()
    yield
    series.start.cache_clear()
    series.base_features.cache_clear()


@pytest.mark.parametrize("method", ["words", "letters", "frozen", "last", "all", "lora", "scratch"])
def test_a_row_holds_what_the_card_says(short, method):
    row = series.measure(series.Setting(method, 32, 0.005, 0))
    assert (row["method"], row["labels"], row["seed"]) == (method, 32, 0)
    assert 0 <= row["accuracy"] <= 1
    assert 0 < row["nats"] < 5
    assert set(series.measure(series.Setting(method, 32, 0.005, series.TUNED_ON))) >= {"validation_nats"}
