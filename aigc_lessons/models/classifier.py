"""A classifier on top of a language model: the head that named the next token comes off, one that names a class goes on."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PAD = -1  # no token: where a window is shorter than the others
Pool = Literal["mean", "last"]


class Classifier(nn.Module):
    """logits = head( pooled stream ): one vector for each text, and from it one number for each class.

    A text comes in windows, each as long as the trunk can read; the pool goes over all tokens of all windows:

        mean: the mean over every real token;      last: the vector at the last real token of the last window

    The trunk itself is kept, not copied; its head is replaced by the identity, so that trunk(ids) is the stream.

    Args:
        trunk:   a network ids (B, T) -> (B, T, C), for example a GPT; its `head`, if it has one, comes off.
        width:   C.
        classes: K, at least 2.
        pool:    "mean" or "last".
    Raises: ValueError for fewer classes or another pool.
    Source: Radford et al. 2018 (GPT) take the last token; Howard and Ruder 2018, arXiv:1801.06146, pool over all.
    """

    outer = ("trunk.embed", "head")  # for Muon: these are not hidden

    def __init__(self, trunk: nn.Module, width: int, classes: int, pool: Pool = "mean"):
        super().__init__()
        if classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, got {classes}")
        if pool not in get_args(Pool):
            raise ValueError(f"pool must be one of {', '.join(get_args(Pool))}, got {pool!r}")
        if hasattr(trunk, "head"):
            trunk.head = nn.Identity()
        self.trunk, self.pool = trunk, pool
        self.head = nn.utils.skip_init(nn.Linear, width, classes)
        nn.init.zeros_(self.head.weight)  # the first prediction is uniform, and the first loss ln K
        nn.init.zeros_(self.head.bias)

    def features(self, ids: Int[Tensor, "B W T"]) -> Float[Tensor, "B C"]:
        """The pooled stream.

        Args:
            ids: W windows of a text, padded with PAD at their ends.
        Raises: ValueError if a text has no token at all.
        """
        real = ids != PAD
        if not real.any(dim=(1, 2)).all():
            empty = (~real.any(dim=(1, 2))).nonzero()[0].item()
            raise ValueError(f"text {empty} of {len(ids)} has no token: a classifier needs something to read")
        B, W, T = ids.shape
        used = int(real.any(dim=(0, 1)).nonzero().max()) + 1  # padding that all share is not computed
        stream = self.trunk(ids.clamp(min=0).view(B * W, T)[:, :used]).view(B, W * used, -1)
        real = real[:, :, :used].reshape(B, W * used)
        if self.pool == "mean":
            share = real / real.sum(1, keepdim=True)
            return torch.einsum("bt,btc->bc", share.to(stream), stream)
        last = (real * torch.arange(1, W * used + 1, device=ids.device)).argmax(1)
        return stream[torch.arange(B, device=ids.device), last]

    def forward(self, ids: Int[Tensor, "B W T"]) -> Float[Tensor, "B K"]:
        """One logit for each class."""
        return self.head(self.features(ids))


def padded(texts: list[list[list[int]]], width: int) -> Int[Tensor, "B W T"]:
    """Texts of windows of ids, as one tensor: PAD where there is no token.

    Raises: ValueError if there is no text, or a window is longer than `width`.
    """
    if not texts:
        raise ValueError("there is no text to classify")
    longest = max((len(window) for text in texts for window in text), default=0)
    if longest > width:
        raise ValueError(f"a window has {longest} tokens, the network reads {width} at once: cut the text into windows")
    ids = torch.full((len(texts), max(map(len, texts)), width), PAD)
    for row, text in zip(ids, texts, strict=True):
        for place, window in zip(row, text, strict=False):
            place[: len(window)] = torch.tensor(window, dtype=torch.long)
    return ids
