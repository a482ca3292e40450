"""A judge: a classifier trained on real images only, asked about generated ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from aigc_lessons.models.convnet import ConvNet


def classification_loss(network: nn.Module, batch: tuple[Tensor, Tensor], generator: Generator) -> Tensor:
    """Cross-entropy of (images, labels), with labels softened by 0.1."""
    images, labels = batch
    return F.cross_entropy(network(images), labels, label_smoothing=0.1)


@torch.no_grad()
def describe(judge: ConvNet, images: Float[Tensor, "N 1 28 28"]) -> Float[Tensor, "N F"]:
    """The judge's features of many images, in float64, computed in pieces of 200."""
    return _in_pieces(judge.features, images).double()


@torch.no_grad()
def accuracy(judge: nn.Module, images: Float[Tensor, "N 1 28 28"], labels: Int[Tensor, " N"]) -> float:
    """The share of images that the judge reads as their label."""
    return (_in_pieces(judge, images).argmax(1) == labels).double().mean().item()


def _in_pieces(f, images: Tensor) -> Tensor:
    return torch.cat([f(piece) for piece in images.split(200)])
