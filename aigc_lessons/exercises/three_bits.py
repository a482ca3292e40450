"""Exercise 38.5: what somebody's rounding makes of the shipped Shakespeare network, in bytes and in nats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from aigc_lessons.data.batches import windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.exercises.core import Unusable, call
from aigc_lessons.language.objective import held_out_nats
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.quantize import Quantized
from aigc_lessons.studio.rounding import size_of, with_weights
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import card, pretrained

MORE = 0.05  # nats above float32: three bits with feedback, all matrices alike, cost more
JUDGED = 24_000  # characters


@dataclass(frozen=True)
class Outcome:
    """Of a set of rounded matrices: bytes of codes and scales, and nats a letter above float32."""

    size: int
    more: float


@lru_cache(maxsize=1)
def setting():
    """The network; training windows to calibrate on; the text that judges, and the loss of float32 on it."""
    plays, tokenizer = shakespeare(stand_in=True), CharTokenizer.from_text(card("shakespeare")["characters"])
    ids = {
        name: torch.tensor(tokenizer.encode("".join(c for c in text if c in tokenizer.characters)))
        for name, text in (("train", plays.train[:400_000]), ("held_out", plays.held_out[150_000 : 150_001 + JUDGED]))
    }
    network = pretrained("shakespeare")
    batches = windows(ids["train"], network.config.block_size, 16, seed=38)
    texts = [batches(step)[0] for step in range(1 if budget.is_tiny() else 16)]
    judged = ids["held_out"][:300] if budget.is_tiny() else ids["held_out"]
    return network, texts, judged, held_out_nats(network, judged, network.config.block_size)


def allowed() -> int:
    """Bytes of every matrix in three bits with groups of 32."""
    state = setting()[0].state_dict()
    return sum(-(-w.numel() * 3 // 8) + 2 * len(w) * -(-w.shape[1] // 32) for w in state.values())


def outcome(rounding: Callable) -> Outcome:
    """What a rounding makes of the shipped network."""
    network, texts, judged, base = setting()
    state = network.state_dict()
    found = call(rounding, network, texts)
    if not isinstance(found, Mapping) or set(found) != set(state):
        raise Unusable(f"expected a dict with a Quantized for each of the {len(state)} matrices of network.state_dict()")
    for name, q in found.items():
        if not isinstance(q, Quantized):
            raise Unusable(f"{name}: expected a Quantized, got {type(q).__name__}")
        m = 2 ** (q.bits - 1) - 1
        groups = -(-state[name].shape[1] // q.group)
        if (
            q.codes.shape != state[name].shape
            or q.scales.shape != (len(state[name]), groups)
            or q.scales.dtype != torch.half
        ):
            raise Unusable(
                f"{name}: codes must be {tuple(state[name].shape)}, scales float16 of {(len(state[name]), groups)}"
            )
        if q.codes.is_floating_point() or q.codes.abs().max() > m:
            raise Unusable(f"{name}: codes of {q.bits} bits are whole numbers in -{m}..{m}")
    model = with_weights(network, found)
    return Outcome(size_of(found), held_out_nats(model, judged, model.config.block_size) - base)
