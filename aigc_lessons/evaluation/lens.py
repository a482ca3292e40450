"""What stands in the residual stream of a GPT: after every part, what each part wrote, and what the head reads there."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.models.gpt import GPT

Part = tuple[int, str]  # (block, "attention" or "feed-forward")
KINDS = ("attention", "feed-forward")


def parts_of(model: GPT) -> list[Part]:
    """Everything that writes to the stream, in the order of writing."""
    return [(layer, kind) for layer in range(len(model.blocks)) for kind in KINDS]


@torch.no_grad()
def stream(model: GPT, ids: Int[Tensor, "B T"], off: Collection[Part] = ()) -> Float[Tensor, "S B T C"]:
    """The residual stream at its S = 2 n_layer + 1 stations: as embedded, and after each part.

    x_0 = embedded, x_s = x_{s-1} + part_s(norm(x_{s-1})). The difference of two stations is what the part
    between them wrote.

    Args:
        ids: tokens; T at most block_size.
        off: parts that write nothing.
    Raises: ValueError for a part that the model does not have, or more tokens than block_size.
    """
    if strange := set(off) - set(parts_of(model)):
        raise ValueError(f"the model has {len(model.blocks)} blocks of {' and '.join(KINDS)}; it has no {sorted(strange)}")
    T = ids.shape[1]
    if (longest := model.config.block_size) < T:
        raise ValueError(f"{T} tokens are more than block_size = {longest}")
    x, turns = model.embed(ids), None
    if model.position is None:
        x, turns = F.rms_norm(x, x.shape[-1:]), model.turns[:T]
    else:
        x = x + model.position.weight[:T]
    stations = [x]
    for layer, block in enumerate(model.blocks):
        for kind in KINDS:
            if (layer, kind) not in off:
                read = block.norm1(x) if kind == "attention" else block.norm2(x)
                x = x + (block.attention(read, turns, None) if kind == "attention" else block.feed_forward(read))
            stations.append(x)
    return torch.stack(stations)


@torch.no_grad()
def lens(model: GPT, stations: Float[Tensor, "*S C"]) -> Float[Tensor, "*S V"]:
    """Logits that the last norm and the head read from a station, as if the network ended there ("logit lens").

    Source: nostalgebraist 2020, "Interpreting GPT: the logit lens".
    """
    return model.head(model.norm(stations))


def kl_to_last(logits: Float[Tensor, "S *B V"]) -> Float[Tensor, "S *B"]:
    """KL(last || station) in nats: what it costs to take a station's word for the network's. The last entry is 0."""
    log_p = logits.log_softmax(-1)
    return (log_p[-1].exp() * (log_p[-1] - log_p)).sum(-1)
