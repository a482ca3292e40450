"""Beside the loop, not inside it: the same training on a graphics card, in bfloat16 or compiled."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from aigc_lessons.types import Batch, LossFn


class DeviceError(ValueError):
    """This machine lacks the device; the message says what to use."""


def usable(device: str) -> torch.device:
    """The device of this name, if this machine has it.

    Raises: DeviceError saying what to use instead.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises an AssertionError
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device {device!r} cannot be used here ({reason}); the course needs none but 'cpu'") from None
    return torch.device(device)


def placed(batches: Callable[[int], Batch], device: torch.device | str) -> Callable[[int], Batch]:
    """The same batches, moved to a device. Random numbers stay the CPU's, so a step sees the same ones everywhere."""

    def moved(step: int) -> Batch:
        batch = batches(step)
        return batch.to(device) if isinstance(batch, Tensor) else tuple(part.to(device) for part in batch)

    return moved


def in_bfloat16(loss_fn: LossFn) -> LossFn:
    """The same loss, with matrix products in bfloat16: 8 bits of precision, the range of float32, no loss scaling.

    Weights, their updates and the sums inside norms and softmax stay in float32.
    Source: Micikevicius et al. 2018, arXiv:1710.03740; bfloat16, Kalamkar et al. 2019, arXiv:1905.12322.
    """

    def loss(network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        kind = next(network.parameters()).device.type
        with torch.autocast(kind, torch.bfloat16):
            return loss_fn(network, batch, generator)

    return loss
