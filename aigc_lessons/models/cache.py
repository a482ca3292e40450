"""Writing token by token: what a GPT keeps of what it has read, and the short way through its blocks."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from aigc_lessons.models.layers import plain


class Cache:
    """Keys and values of the tokens read so far, for each block.

    A new token then costs one row of attention, not all. Make one for each text being written (or one batch of texts) and
    pass it to every call of the model, with only the new tokens. Room for `room` tokens is taken once, at the first; a new
    token is written into its place, and nothing old is copied. Forgetting the last tokens is as cheap: only the length
    changes. For writing, not for training.

    Args:
        room:    tokens that fit; a model's block_size.
        through: a quick way through the model, (x, turns, cache) -> logits; None: one module after the other.
    """

    def __init__(self, room: int, through: Callable[..., Tensor] | None = None):
        self.room, self.through = room, through
        self.length = 0  # tokens read; the model moves it once all its blocks have written theirs
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}  # block -> keys, values: (B, nh, room, hs) each

    def extend(
        self, layer: int, k: Float[Tensor, "B nh T hs"], v: Float[Tensor, "B nh T hs"]
    ) -> tuple[Float[Tensor, "B nh S hs"], Float[Tensor, "B nh S hs"]]:
        """All keys and values of a block, the new ones last: S = length + T.

        Raises: ValueError for another number of texts than before.
        """
        if layer not in self.kept:
            B, nh, _, hs = k.shape
            self.kept[layer] = k.new_empty(B, nh, self.room, hs), v.new_empty(B, nh, self.room, hs)
        keys, values = self.kept[layer]
        if len(k) != len(keys):  # copying would stretch one row over all
            raise ValueError(f"the cache was made for {len(keys)} texts, got {len(k)}: make one for each batch")
        T = k.shape[2]
        keys.narrow(2, self.length, T).copy_(k)
        values.narrow(2, self.length, T).copy_(v)
        return keys.narrow(2, 0, self.length + T), values.narrow(2, 0, self.length + T)

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens, as if the others had never been read.

        Raises: ValueError if so many have not been read.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache has read {self.length} tokens; it cannot be cut to {length}")
        self.length = length


def straight(model: nn.Module) -> Callable[[Tensor, Tensor | None, Cache], Tensor]:
    """From the embeddings to the logits as one function. For one token, calling modules is much of the time."""
    ways = [
        (plain(b.norm1), plain(b.attention.qkv), b.attention.attend, plain(b.attention.proj),
         plain(b.norm2), plain(b.feed_forward.fc), b.feed_forward.bend, plain(b.feed_forward.proj))
        for b in model.blocks
    ]  # fmt: skip
    last, head = plain(model.norm), plain(model.head)

    def through(x: Tensor, turns: Tensor | None, cache: Cache) -> Tensor:
        for norm1, qkv, attend, proj, norm2, fc, bend, back in ways:
            x = x + proj(attend(qkv(norm1(x)), turns, cache))
            x = x + back(bend(fc(norm2(x))))
        return head(last(x))

    return through
