"""One training, killed with SIGKILL again and again, goes on from what is on disk and ends bit for bit where it would have.

Run as a program, this file is the nursery: it imports torch once, with one thread, and forks every child from there.
"""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from aigc_lessons.data.batches import epochs
from aigc_lessons.training import checkpoints
from aigc_lessons.training.loop import TrainConfig, train
from aigc_lessons.training.optimizers import make_optimizers

# the average is a long one: what went wrong in it must still show at the end
CONFIG = TrainConfig(200, lr=1e-2, warmup=5, decay=0.5, optimizer="muon", ema=0.99, log_every=4)
X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
BATCHES = epochs((X,), 16)
LIVES = 300  # more than any run needs: one that never gets on is an error, not a hang


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
        return nn.Sequential(*layers)


def loss_fn(net, batch, generator):
    (x,) = batch
    noisy = x + 0.1 * torch.randn(x.shape, generator=generator)
    return (net(noisy) - x.sum(1, keepdim=True)).square().mean()


# ------------------------------------------------------------------------------- what a bad resume would do with the state


def as_it_is(state):
    return state


def without_the_optimizer(state):
    fresh = make_optimizers("muon", network(), CONFIG.lr)
    return state | {"optimizers": [optimizer.state_dict() for optimizer in fresh]}


def average_from_the_model(state):
    return state | {"average": copy.deepcopy(state["model"])}


def a_step_again(state):
    return state | {"step": state["step"] - 1}


PLANTED = [without_the_optimizer, average_from_the_model, a_step_again]


# ------------------------------------------------------------------------------------------------------------- the nursery


def life(path: Path, resume, report: int) -> None:
    """One process: from what is on disk to the end, or as far as it gets. It reports where it begins, and every save."""
    state = checkpoints.load(path) if path.is_file() else None
    os.write(report, b"from %d\n" % (state["step"] if state else 0))
    for log in train(network(), loss_fn, BATCHES, CONFIG, resume=resume(state) if state else None):
        os.write(report, b"saving\n")
        checkpoints.save(path, log.state())


def lived(path: Path, resume, moment) -> tuple[int, bool]:
    """Fork a life and kill it when moment(its report) returns; (the step it began at, whether it was hit while running)."""
    reader, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            life(path, resume, report)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(report)
    with open(reader, "rb", buffering=0) as lines:
        began = int(lines.readline().split()[1] or b"-1")
        moment(lines)
        os.kill(child, signal.SIGKILL)  # it is not waited for yet, so this is still the child, running or finished
        _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a child died of an error at {path}")
    return began, os.WIFSIGNALED(status)


def told(path: Path, resume, moments) -> dict:
    """Lives until the training is done, each killed at the next of the moments."""
    began, kills = [], 0
    for moment in moments:
        step, hit = lived(path, resume, moment)
        began.append(step)
        kills += hit
        if not hit:
            break
    return {"began": began, "kills": kills, "in_a_save": len(list(path.parent.glob(f".{path.stem}-*")))}


def nursery(folder: Path) -> dict:
    """All trainings, one after the other, each in a folder of its own; how each was killed."""
    torch.set_num_threads(1)
    make_optimizers("muon", network(), CONFIG.lr)  # imports what torch puts off until its first optimizer
    rng, between = random.Random(7), 0.0

    def to_the_end(lines):
        while lines.readline():
            pass

    def by_the_clock(lines):
        time.sleep(rng.uniform(0, 4 * between))

    def in_a_save(lines, whole=(1, 2)):
        for _ in range(1 + rng.choice(whole)):
            lines.readline()
        time.sleep(rng.uniform(0, between / 2))

    def in_a_late_save(lines):  # a running average as young as in the first saves would soon forget what went wrong
        in_a_save(lines, whole=(12, 14))

    def run(name, resume, moments):
        return told(folder / name / "run.safetensors", resume, moments)

    started = time.perf_counter()
    run("whole", as_it_is, [to_the_end])
    between = (time.perf_counter() - started) / (CONFIG.steps / CONFIG.log_every)  # seconds from save to save
    report = {"killed": run("killed", as_it_is, [by_the_clock, in_a_save] * (LIVES // 2))}
    for bad in PLANTED:
        report[bad.__name__] = run(bad.__name__, bad, [in_a_late_save] * 3 + [to_the_end])
    return report


# --------------------------------------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def report(folder):
    command, environment = [sys.executable, __file__, str(folder)], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a child complained"
    return json.loads(done.stdout)


def differing(a, b, where="state"):
    """The places at which two states differ, bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        return [place for key in a for place in differing(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [place for i, (x, y) in enumerate(zip(a, b, strict=True)) for place in differing(x, y, f"{where}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    return [] if a == b and type(a) is type(b) else [where]


def ends_differ(folder, name):
    """Where the killed training ended elsewhere than the whole one; only the seconds may."""
    whole, killed = (checkpoints.load(folder / which / "run") | {"seconds": 0} for which in ("whole", name))
    assert (whole["step"], len(whole["optimizers"])) == (CONFIG.steps, 2)
    return differing(whole, killed)


def test_a_training_killed_again_and_again_ends_as_if_never_killed(folder, report):
    """Weights, running average and the state of both optimizers."""
    happened = report["killed"]
    assert happened["kills"] >= 20
    assert happened["in_a_save"] >= 3, "too few kills fell inside a save"
    assert len({step for step in happened["began"] if step > 0}) >= 10, "too few lives went on from a checkpoint"
    assert happened["began"] == sorted(happened["began"]), "a kill lost what an earlier life had saved"
    assert ends_differ(folder, "killed") == []


@pytest.mark.parametrize(
    ("bad", "shows_in"),
    [
        (without_the_optimizer, {"model", "average", "optimizers"}),
        (average_from_the_model, {"average"}),
        (a_step_again, {"model", "average", "optimizers"}),
    ],
)
def test_a_bad_resume_is_noticed(bad, shows_in, folder, report):
    """Planted: three kills are enough, where each life goes on in a slightly wrong way."""
    assert report[bad.__name__]["kills"] == 3
    assert {place.split("/")[1] for place in ends_differ(folder, bad.__name__)} == shows_in


if __name__ == "__main__":
    print(json.dumps(nursery(Path(sys.argv[1]))))
