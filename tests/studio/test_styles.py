"""From GPT-2 to the modern style: both ends are the package's, each change changes something, and the series is whole."""

import pytest
import torch

from aigc_lessons.experiments import results
from aigc_lessons.models.gpt import GPT, Block, GPTConfig
from aigc_lessons.studio import styles
from aigc_lessons.studio.styles import CHANGES, DEEP, DEPTHS, SEEDS, STEPS, TUNING_SEED, MixedGPT, PostBlock, Setting

SIZES = {"vocab_size": 31, "block_size": 24, "n_layer": 3, "n_head": 2, "n_embd": 16}
EVERY = "+".join(CHANGES)


def mixed(changes=(), seed=0, wild=True):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MixedGPT(GPTConfig(**SIZES, style="gpt2"), tuple(changes)).eval()
        if wild:
            for p in network.parameters():
                p.data.normal_(std=0.3)
    return network


def package(style):
    with torch.random.fork_rng():
        return GPT(GPTConfig(**SIZES, style=style)).eval()


@pytest.fixture
def ids(generator):
    return torch.randint(31, (2, 20), generator=generator)


@pytest.mark.parametrize(("style", "changes"), [("gpt2", ()), ("modern", tuple(CHANGES))])
@torch.no_grad()
def test_both_ends_are_the_packages_styles(style, changes, ids):
    network, theirs = mixed(changes), package(style)
    theirs.load_state_dict(network.state_dict())
    assert torch.allclose(network(ids), theirs(ids), atol=1e-5)


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_each_change_changes_the_network(change, ids):
    """With weights that both have alike, the logits differ; an own head and a zero start differ in their first weights."""
    network, plain = mixed([change]), mixed()
    shared = {n: p for n, p in plain.state_dict().items() if n in network.state_dict()}
    network.load_state_dict(shared, strict=False)
    if change == "untied":
        assert network.head.weight is not network.embed.weight
        assert mixed([change], wild=False).head.weight.std() == pytest.approx(0.02, rel=0.2)
    else:
        assert not torch.allclose(network(ids), plain(ids), atol=1e-3)


@torch.no_grad()
def test_a_zero_start_writes_nothing(ids):
    network = mixed(["zero"], wild=False)
    for block in network.blocks:
        assert block.attention.proj.weight.abs().max() == 0
        assert block.feed_forward.proj.weight.abs().max() == 0
    assert mixed(CHANGES, wild=False)(ids).abs().max() == 0
    assert mixed(["zero", "untied"], wild=False)(ids).abs().max() == 0


def test_every_weight_learns_and_no_token_sees_the_future(ids):
    changed = ids.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 31
    for changes in [(), *([c] for c in CHANGES), tuple(CHANGES)]:
        network = mixed(changes)
        network(ids.repeat(1, 2)[:, :24]).logsumexp(-1).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()), changes
        assert torch.equal(network(ids)[:, :12], network(changed)[:, :12]), changes


@torch.no_grad()
def test_norms_behind_the_sums(generator):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = GPTConfig(**SIZES, style="gpt2")
        post, pre = PostBlock(config, 0), Block(config, 0)
    pre.load_state_dict(post.state_dict())
    x = 3 * torch.randn(2, 5, 16, generator=generator)
    y = torch.nn.functional.layer_norm(x + post.attention(x, None, None), (16,))
    wanted = torch.nn.functional.layer_norm(y + post.feed_forward(y), (16,))
    assert torch.allclose(post(x, None, None), wanted, atol=1e-5)
    assert not torch.allclose(pre(x, None, None), wanted, atol=0.1)
    deep = styles.deep(31, True, seed=0, layers=3)
    assert all(isinstance(block, PostBlock) for block in deep.blocks)
    assert not any(isinstance(block, PostBlock) for block in styles.deep(31, False, seed=0, layers=3).blocks)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'gpt2' style, got 'modern'"):
        MixedGPT(GPTConfig(**SIZES))
    with pytest.raises(ValueError, match="changes are among lean, rope"):
        MixedGPT(GPTConfig(**SIZES, style="gpt2"), ("rope", "swish"))


# ------------------------------------------------------------------------------------------------------ the shipped series
def rows(changes):
    return [row for row in results("styles")["rows"] if row["changes"] == changes]


@pytest.mark.parametrize("changes", styles.plan())
def test_every_network_was_tuned_inside_its_range_and_measured_with_every_seed(changes):
    tried = sorted(row["lr"] for row in rows(changes) if row["seed"] == TUNING_SEED)
    best = styles.tuned(results("styles")["rows"], changes)
    assert best in tried[1:-1], "a best rate at the end would mean that the range was too short"
    measured = [row for row in rows(changes) if row["seed"] in SEEDS and row["steps"] == STEPS]
    assert [row["seed"] for row in measured] == list(SEEDS)
    assert {row["lr"] for row in measured} == {best}


def test_the_series_asks_for_what_was_measured():
    """The settings, run over the shipped rows, are the shipped rows."""
    shipped = results("styles")["rows"]
    keys = ("changes", "lr", "steps", "seed")
    assert [tuple(row[k] for k in keys) for row in shipped] == [
        (s.changes, s.lr, s.steps, s.seed) for s in styles.settings(shipped)
    ]
    for name in DEPTHS:
        assert {(r["lr"], r["seed"]) for r in rows(name)} == {(lr, s) for lr in DEEP["rates"] for s in DEEP["seeds"]}


def test_a_shipped_row_is_reproduced():
    """A deep one, the shortest; lesson 32 trains one of the others anew."""
    measurement, _ = styles.ready()
    threads = torch.get_num_threads()
    row = rows(DEPTHS[0])[2]
    try:
        again = measurement(Setting(*(row[k] for k in ("changes", "lr", "steps", "seed"))))
    finally:
        torch.set_num_threads(max(2, threads))
    assert again["nats"] == pytest.approx(row["nats"], abs=0.03)
    assert again["parameters"] == row["parameters"]


def test_settings_widen_a_range_until_the_best_lies_inside():
    """The lower the rate the better, down to 0.0025: the range follows, and stops below it."""
    made = []
    for setting in styles.settings(made):
        if setting.changes:
            break
        loss = abs(setting.lr - 0.0025)
        made.append({"changes": "", "lr": setting.lr, "steps": STEPS, "seed": TUNING_SEED, "nats": loss})
    assert [row["lr"] for row in made] == [0.01, 0.02, 0.04, 0.005, 0.0025, 0.00125]
