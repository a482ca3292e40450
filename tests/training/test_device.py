"""Beside the loop: batches on a device, losses in bfloat16, and a clear word where there is no such device."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

from aigc_lessons.cli import app
from aigc_lessons.recipes import seeded
from aigc_lessons.training.device import DeviceError, in_bfloat16, placed, usable
from aigc_lessons.training.loop import TrainConfig, train

absent = "cuda" if not torch.cuda.is_available() else "xpu"


def squares(network, batch, generator):
    x, y = batch
    return F.mse_loss(network(x).float(), y)


def line(step):
    x = torch.linspace(-1, 1, 32)[:, None] + step / 1000
    return x, 3 * x + 1


def test_a_device_that_is_not_there_is_named():
    assert usable("cpu") == torch.device("cpu")
    for name in (absent, "toaster"):
        with pytest.raises(DeviceError, match=f"device '{name}' cannot be used here"):
            usable(name)


def test_the_command_line_says_so_too():
    for recipe, word in (("digits_judge", absent), ("optimizers", "leave --device out")):
        done = CliRunner().invoke(app, ["train", recipe, "--device", absent])
        assert done.exit_code == 1
        assert word in done.stderr


@pytest.mark.parametrize("batch", [line, lambda step: line(step)[0]])
def test_batches_are_the_same_elsewhere(batch):
    """Every machine has the device "meta": shapes without numbers."""
    there, here = placed(batch, "meta")(3), batch(3)
    pairs = zip(there, here, strict=True) if isinstance(here, tuple) else [(there, here)]
    for moved, kept in pairs:
        assert moved.device.type == "meta"
        assert (moved.shape, moved.dtype) == (kept.shape, kept.dtype)
    assert torch.equal(placed(line, "cpu")(5)[1], line(5)[1])


def test_bfloat16_rounds_products_and_leaves_weights_alone(generator):
    network = seeded(lambda: nn.Linear(1, 1), 0)
    with torch.no_grad():
        network.weight.fill_(1 + 1 / 300)  # needs nine bits: bfloat16 has eight
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    exact = squares(network, line(0), generator)
    rounded = in_bfloat16(squares)(network, line(0), generator)
    assert seen == [torch.float32, torch.bfloat16]
    assert 0 < (exact - rounded).abs() < 0.02 * exact
    rounded.backward()
    assert network.weight.grad.dtype == torch.float32


def test_a_line_is_learned_in_bfloat16():
    network = seeded(lambda: nn.Linear(1, 1), 0)
    logs = list(train(network, in_bfloat16(squares), placed(line, "cpu"), TrainConfig(200, lr=0.05, decay=1.0)))
    assert logs[-1].loss < 1e-3 < logs[0].loss
    assert abs(network.weight.item() - 3) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_a_card_learns_what_the_processor_learns():
    losses = []
    for device in ("cpu", "cuda"):
        network = seeded(lambda: nn.Linear(1, 1), 0).to(device)
        losses.append([log.loss for log in train(network, squares, placed(line, device), TrainConfig(30, lr=0.05))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
