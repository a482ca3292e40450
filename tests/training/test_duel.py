"""Two players: each moves only its own weights, by Adam's rule, and together they find what is known of the game."""

import copy

import pytest
import torch
from torch import nn

from aigc_lessons.recipes import seeded
from aigc_lessons.training.duel import duel
from aigc_lessons.training.loop import TrainConfig


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(2, 1), nn.Linear(2, 1)


def first(model, batch, generator):
    return (model.one(batch) - model.two(batch)).square().mean()


def second(model, batch, generator):
    return (model.one(batch) + model.two(batch) - 1).square().mean() + 0 * torch.rand((), generator=generator)


def batches(step):
    return torch.randn(8, 2, generator=torch.Generator().manual_seed(step))


def run(config, losses=(first, second)):
    model = seeded(Pair, 0)
    return model, list(duel(model, [(model.one, losses[0]), (model.two, losses[1])], batches, config))


def plain(**how):
    return TrainConfig(**{"steps": 4, "lr": 0.05, "clip": None, "log_every": 1} | how)


def test_it_is_adam_in_turn():
    model, logs = run(plain())
    other = seeded(Pair, 0)
    optimizers = [torch.optim.Adam(part.parameters(), 0.05, betas=(0.0, 0.99)) for part in (other.one, other.two)]
    seen = []
    for step in range(4):
        for loss_fn, optimizer in zip((first, second), optimizers, strict=True):
            for p in other.parameters():
                p.grad = None
            loss = loss_fn(other, batches(step), torch.Generator())
            loss.backward()
            optimizer.step()
            seen += [loss.item()] if loss_fn is first else []
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)
    assert [log.loss for log in logs] == pytest.approx(seen, rel=1e-5)
    assert [log.step for log in logs] == [1, 2, 3, 4]


def test_a_player_without_a_say_stays(generator):
    model, _ = run(plain(), (first, lambda model, batch, generator: 0 * model.two(batch).sum()))
    assert torch.equal(model.two.weight, seeded(Pair, 0).two.weight)
    assert not torch.equal(model.one.weight, seeded(Pair, 0).one.weight)


def test_the_average_is_what_remains():
    model, logs = run(plain(steps=30, ema=0.9))
    latest, _ = run(plain(steps=30))
    assert not torch.equal(model.one.weight, latest.one.weight)
    assert torch.equal(logs[-1].network.one.weight, model.one.weight)
    assert not model.training


def test_stopped_it_keeps_what_it_has():
    model = seeded(Pair, 0)
    before = copy.deepcopy(model.state_dict())
    logs = duel(model, [(model.one, first), (model.two, second)], batches, plain(steps=100))
    for _ in range(3):
        next(logs)
    logs.close()
    assert not torch.equal(model.one.weight, before["one.weight"])


def test_a_loss_that_is_no_number_is_named():
    with pytest.raises(FloatingPointError, match=r"a player's loss is nan \(lr 0.05\)"):
        run(plain(), (lambda model, batch, generator: model.one(batch).sum() * float("nan"), second))


@pytest.mark.parametrize("how", [{"optimizer": "muon"}, {"clip": 1.0}, {"validate": lambda network: 0.0}])
def test_settings_that_would_not_be_used_are_refused(how):
    with pytest.raises(ValueError, match="no clipping and no validation"):
        run(plain(**how))
