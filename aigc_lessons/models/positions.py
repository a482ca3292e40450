"""The smallest network that attends, with four ways to tell it where a token stands."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from aigc_lessons.models.layers import rope_turns, rotate, sinusoidal

Positions = Literal["none", "learned", "sinusoidal", "rope"]


class Reader(nn.Module):
    """Token ids to logits at each place: embed, attend (once or more, causally), read out. No feed-forward layers.

    The queries, keys and values see every vector brought to the same length (RMSNorm).

    Args:
        vocab_size: V.
        n_embd:     C, width; divided by n_head.
        n_head:     heads of each layer.
        positions:  "none"; "learned" (a vector for each of `longest` places, added to the embedding); "sinusoidal" (fixed
                    vectors added); "rope" (queries and keys turned).
        longest:    places of the learned kind; the others have no end.
        n_layer:    attention layers.
    Raises: ValueError for another kind of positions, or an n_head that does not divide n_embd into even parts.
    """

    outer = ("embed", "head", "place")

    def __init__(self, vocab_size: int, n_embd: int, n_head: int, positions: Positions, longest: int, n_layer: int = 1):
        super().__init__()
        if positions not in get_args(Positions):
            raise ValueError(f"positions must be one of {', '.join(get_args(Positions))}, got {positions!r}")
        if n_embd % (2 * n_head):
            raise ValueError(f"n_embd / n_head must be a whole even number (RoPE turns pairs), got {n_embd} and {n_head}")
        self.n_head, self.positions, self.longest = n_head, positions, longest
        self.embed = nn.Embedding(vocab_size, n_embd)
        self.place = nn.Embedding(longest, n_embd) if positions == "learned" else None
        self.qkv = nn.ModuleList(nn.Linear(n_embd, 3 * n_embd) for _ in range(n_layer))
        self.proj = nn.ModuleList(nn.Linear(n_embd, n_embd) for _ in range(n_layer))
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits at each place.

        Raises: ValueError if the text is longer than the learned places.
        """
        x, turns = self.embed(ids), None
        T, C = x.shape[1:]
        if self.place is not None:
            if self.longest < T:
                raise ValueError(f"there are learned vectors for {self.longest} places, the text has {T}")
            x = x + self.place.weight[:T]
        elif self.positions == "sinusoidal":
            x = x + 2**0.5 * sinusoidal(torch.arange(T, device=ids.device), C)  # of length sqrt(C), as the embedding
        elif self.positions == "rope":
            turns = rope_turns(T, C // self.n_head).to(ids.device)
        for qkv, proj in zip(self.qkv, self.proj, strict=True):
            parts = qkv(F.rms_norm(x, (C,))).unflatten(-1, (3, self.n_head, -1))  # (B, T, 3, nh, hs)
            qk, v = parts.split([2, 1], 2)
            if turns is not None:
                qk = rotate(qk, turns)
            q, k = (part.transpose(1, 2) for part in qk.unbind(2))  # (B, nh, T, hs)
            y = F.scaled_dot_product_attention(q, k, v[:, :, 0].transpose(1, 2), is_causal=True)
            x = x + proj(y.transpose(1, 2).flatten(-2))
        return self.head(F.rms_norm(x, (C,)))
