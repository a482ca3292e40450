import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from aigc_lessons.training import checkpoints
from aigc_lessons.training.checkpoints import CheckpointError, load, previous, save

STATE = {
    "step": 7,
    "lr": 0.1,
    "name": "run",
    "none": None,
    "nested": {0: {"w": torch.arange(6.0).view(2, 3)}, 1: [torch.tensor(3), (1, 2.5, "x")]},
    "empty": {"a": {}, "b": [], "c": torch.zeros(0, 4)},
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def test_what_is_saved_comes_back(tmp_path):
    assert save(tmp_path / "deep" / "run", STATE) == tmp_path / "deep" / "run.safetensors"
    assert same(load(tmp_path / "deep" / "run"), STATE)


leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=8))
keys = st.one_of(st.text(max_size=5), st.integers(0, 99))
trees = st.recursive(
    leaves, lambda t: st.one_of(st.lists(t, max_size=3), st.dictionaries(keys, t, max_size=3)), max_leaves=8
)


@given(tree=trees)
@settings(max_examples=50, deadline=None)
def test_any_tree_comes_back(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "x"
    save(path, {"tree": tree, "t": torch.ones(1)})
    assert same(load(path)["tree"], tree)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_dtypes_come_back(dtype, tmp_path):
    tensor = torch.tensor([[0, 1], [1, 1]]).to(dtype).T  # not contiguous
    save(tmp_path / "x", {"t": tensor, "again": tensor})
    assert same(load(tmp_path / "x"), {"t": tensor, "again": tensor})


def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match="state/a/1 is a set"):
        save(tmp_path / "x", {"a": [1, {2}]})
    assert list(tmp_path.iterdir()) == []


def test_the_one_before_is_kept_and_used_only_when_asked(tmp_path):
    path = save(tmp_path / "run", {"step": 1, "w": torch.ones(100)})
    save(path, {"step": 2, "w": torch.ones(100)})
    assert load(previous(path))["step"] == 1
    damage(path)
    with pytest.raises(CheckpointError, match=r"damaged.*run\.previous\.safetensors; to use that one, ask"):
        load(path)


def damage(path, at=-9):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@given(share=st.floats(0, 0.999))
@settings(max_examples=40, deadline=None)
def test_every_cut_is_noticed(share, tmp_path_factory):
    path = save(tmp_path_factory.mktemp("c") / "x", STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load(path)


@given(where=st.floats(0, 0.999), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_every_flipped_bit_is_noticed(where, bit, tmp_path_factory):
    path = save(tmp_path_factory.mktemp("c") / "x", STATE)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    try:
        found = load(path)
    except CheckpointError:
        return
    assert same(found, STATE), "a damaged file was accepted"  # a flip in the header's padding changes nothing


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load(tmp_path / "nothing")
    save_file({"w": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of this package"):
        load(tmp_path / "other")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "text")


WRITER = """
import sys, torch
from aigc_lessons.training.checkpoints import save
print("ready", flush=True)
step = 0
while True:
    step += 1
    save(sys.argv[1], {"step": step, "w": torch.full((200_000,), float(step))})
"""


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """25 writers killed with SIGKILL at random moments; what is on disk is always whole, and only ever moves on."""
    path, rng, newest = tmp_path / "run", random.Random(4), 0
    for _ in range(25):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.06))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if not path.with_suffix(".safetensors").exists():
            continue
        state = load(path)
        assert (state["w"] == state["step"]).all()
        newest = max(newest, state["step"])
    assert newest >= 2, "the test was too quick to see a second checkpoint"


def test_leftovers_of_killed_writers_go_away(tmp_path):
    left = tmp_path / ".run-abc"
    left.mkdir()
    (left / "fresh.safetensors").write_text("half")
    old = time.time() - 10 * 24 * 3600
    os.utime(left, (old, old))
    save(tmp_path / "run", {"w": torch.ones(1)})
    assert {entry.name for entry in tmp_path.iterdir()} == {"run.safetensors"}


@pytest.mark.parametrize("name", checkpoints.shipped())
def test_shipped_checkpoints_load_and_say_what_they_are(name):
    card, model = checkpoints.card(name), checkpoints.pretrained(name)
    for entry in ("recipe", "data", "seed", "steps", "seconds", "hardware", "metrics", "licence"):
        assert entry in card
    assert not model.training
    assert all(p.isfinite().all() for p in model.parameters())
    size = Path(checkpoints._shipped(), f"{name}.safetensors").stat().st_size
    assert size <= 3_000_000


def test_all_shipped_checkpoints_together_are_small():
    assert sum(file.stat().st_size for file in Path(checkpoints._shipped()).iterdir()) <= 30_000_000


def test_an_unknown_name_lists_the_names():
    with pytest.raises(CheckpointError, match=r"there are: .*digits"):
        checkpoints.pretrained("cats")


def test_a_file_that_does_not_match_its_card_is_refused(tmp_path, monkeypatch):
    name = "digits"
    for ending in ("json", "safetensors"):
        (tmp_path / f"{name}.{ending}").write_bytes((checkpoints._shipped() / f"{name}.{ending}").read_bytes())
    damage(tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(checkpoints, "_shipped", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="does not match its card"):
        checkpoints.pretrained(name)


def test_infinity_survives(tmp_path):
    save(tmp_path / "x", {"best": math.inf, "w": torch.ones(1)})
    assert load(tmp_path / "x")["best"] == math.inf
