import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from aigc_lessons.data.batches import epochs
from aigc_lessons.training import checkpoints
from aigc_lessons.training.loop import TrainConfig, train

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 1))


def loss_fn(net, batch, generator):
    (x,) = batch
    noisy = x + 0.1 * torch.randn(x.shape, generator=generator)
    return (net(noisy) - x.sum(1, keepdim=True)).square().mean()


def validation(net):
    return (net(X) - X.sum(1, keepdim=True)).square().mean()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


BATCHES = epochs((X,), 16)
CONFIGS = [
    TrainConfig(40, lr=1e-2, warmup=3, decay=0.5, ema=0.9, log_every=10),
    TrainConfig(40, lr=3e-2, optimizer="muon", log_every=10, clip=None),
    TrainConfig(40, lr=5e-2, decay=0.5, ema=0.8, optimizer="muon", log_every=10, validate=validation),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_training_learns(config):
    net = network()
    logs = list(train(net, loss_fn, BATCHES, config))
    assert [log.step for log in logs] == [1, 10, 20, 30, 40]
    assert logs[-1].loss < 0.8 * logs[1].loss
    assert validation(net) < validation(network().eval())


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("stop", [1, 10, 20, 30])
def test_resuming_is_the_same_as_never_stopping(config, stop, tmp_path):
    """Bit for bit, through a file, with dropout, and whatever the global generator is doing."""
    straight = network()
    last = list(train(straight, loss_fn, BATCHES, config))[-1]

    first = train(network(), loss_fn, BATCHES, config)
    log = next(log for log in first if log.step == stop)
    checkpoints.save(tmp_path / "run", log.state())
    first.close()

    resumed = network()
    again = list(train(resumed, loss_fn, BATCHES, config, resume=checkpoints.load(tmp_path / "run")))[-1]
    assert (again.step, again.loss, again.validation) == (last.step, last.loss, last.validation)
    assert same(resumed, straight)


def test_another_seed_is_another_run():
    ends = []
    for seed in (0, 0, 1):
        net = network()
        list(train(net, loss_fn, BATCHES, TrainConfig(5, seed=seed)))
        ends.append(net)
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_closing_leaves_the_running_average():
    net = network()
    run = train(net, loss_fn, BATCHES, TrainConfig(40, lr=1e-2, ema=0.9, log_every=10))
    next(run)
    log = next(run)
    assert not same(net, log.network)
    run.close()
    assert same(net, log.network)


@pytest.mark.parametrize(("stop", "logged"), [(25, [1, 10, 20]), (3, [1]), (1, [])])
def test_an_interrupt_inside_a_step_leaves_the_running_average(stop, logged):
    """After one step there is always a log; in the first step there was none, and the network is as it was."""
    calls = 0

    def stopped(net, batch, generator):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return loss_fn(net, batch, generator)

    net, seen = network(), []

    def watch():
        for log in train(net, stopped, BATCHES, TrainConfig(40, lr=1e-2, ema=0.9, log_every=10)):
            seen.append(log)  # noqa: PERF402 (the interrupt comes in between)

    with pytest.raises(KeyboardInterrupt):
        watch()
    assert [log.step for log in seen] == logged
    assert same(net, seen[-1].network if seen else network())


def test_the_best_validated_network_is_kept():
    scores = iter([4.0, 3.0, 1.0, 2.0, 5.0])
    kept = {}

    def validate(net):
        score = next(scores)
        kept[score] = {k: v.clone() for k, v in net.state_dict().items()}
        return score

    net = network()
    logs = list(train(net, loss_fn, BATCHES, TrainConfig(40, lr=1e-2, log_every=10, validate=validate)))
    assert [log.validation for log in logs] == [4.0, 3.0, 1.0, 2.0, 5.0]
    assert all(torch.equal(v, kept[1.0][k]) for k, v in net.state_dict().items())


def test_learning_rate_climbs_stays_and_falls():
    config = TrainConfig(100, lr=1.0, warmup=9, decay=0.2)
    rates = [config.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[-1] == pytest.approx(1 / 20)
    assert all(a > b for a, b in pairwise(rates[80:]))


def test_seconds_do_not_count_the_watcher():
    run = train(network(), loss_fn, BATCHES, TrainConfig(20, log_every=10))
    first = next(run)
    time.sleep(0.5)
    assert next(run).seconds - first.seconds < 0.4


def test_a_loss_that_is_no_number_stops_before_the_weights():
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(FloatingPointError, match="nan at step 1"):
        list(train(net, lambda n, b, g: loss_fn(n, b, g) * float("nan"), BATCHES, TrainConfig(5)))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_clipping_bounds_the_gradient():
    norms, net = [], network()
    adamw_step = torch.optim.AdamW.step

    def step(self, *args, **how):
        norms.append(sum(p.grad.square().sum() for g in self.param_groups for p in g["params"]).sqrt().item())
        return adamw_step(self, *args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        list(train(net, lambda n, b, g: 1e3 * loss_fn(n, b, g), BATCHES, TrainConfig(3, clip=0.5)))
    assert norms == pytest.approx([0.5] * 3, rel=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("lr", 0.0), ("warmup", -1), ("decay", 1.5), ("clip", 0.0), ("ema", 1.0), ("log_every", 0), ("seed", -1)],
)
def test_impossible_configurations_name_the_field(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*got {value}"):
        TrainConfig(**{"steps": 10, field: value})


def test_a_foreign_state_is_refused():
    run = train(network(), loss_fn, BATCHES, TrainConfig(4, log_every=2))
    state = next(run).state()
    run.close()
    for config, says in [
        (TrainConfig(4, seed=1), "seed"),
        (TrainConfig(4, optimizer="muon"), "optimizer"),
        (TrainConfig(4, ema=0.5), "ema"),
    ]:
        with pytest.raises(ValueError, match=says):
            train(network(), loss_fn, BATCHES, config, resume=state)
    with pytest.raises(ValueError, match="another network"):
        train(network()[:1], loss_fn, BATCHES, TrainConfig(4), resume=state)
