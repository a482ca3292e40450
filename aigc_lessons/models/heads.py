"""Looking into a GPT's heads: where each token looks, what a head hands on, and the network with heads switched off.

Nothing in the network is changed for it: hooks listen while it runs, and are taken away again.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aigc_lessons.models.gpt import GPT, Attention
from aigc_lessons.models.layers import rotate


@dataclass(frozen=True, eq=False)
class Heads:
    """What the heads of a GPT do on a batch of texts.

    weights:  how much token i takes from token j, at [layer, text, head, i, j]; rows add up to 1, j > i holds zeros.
    values:   what there is to take from each token.
    gathered: what the network itself gathered, before it is projected: weights @ values, up to rounding.
    """

    weights: Float[Tensor, "L B nh T T"]
    values: Float[Tensor, "L B nh T hs"]
    gathered: Float[Tensor, "L B nh T hs"]


def split_heads(
    attention: Attention, qkv: Float[Tensor, "B T C3"], turns: Tensor | None
) -> tuple[Float[Tensor, "B nh T hs"], Float[Tensor, "B nh T hs"], Float[Tensor, "B nh T hs"]]:
    """Queries, keys and values of each head, as `Attention` uses them (modern: of length sqrt(hs), and turned)."""
    qkv = qkv.unflatten(-1, (3, attention.n_head, -1))  # (B, T, 3, nh, hs)
    qk, v = qkv.split([2, 1], 2)
    if attention.modern:
        qk = rotate(F.rms_norm(qk, qk.shape[-1:]), turns)
    q, k = qk.unbind(2)
    return q.transpose(1, 2), k.transpose(1, 2), v[:, :, 0].transpose(1, 2)


def causal_weights(q: Float[Tensor, "*B T hs"], k: Float[Tensor, "*B T hs"]) -> Float[Tensor, "*B T T"]:
    """softmax(q k^T / sqrt(hs)) over the tokens that are not later.

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


@torch.no_grad()
def look(model: GPT, ids: Int[Tensor, "B T"]) -> Heads:
    """Run the network on texts, and write down what its heads do.

    Raises: ValueError as the network does.
    """
    heard: list[tuple[Tensor, Tensor]] = []
    gathered: list[Tensor] = []
    turns = None if model.position is not None else model.turns[: ids.shape[1]]

    def listen(attention: Attention, given: tuple, _):
        q, k, v = split_heads(attention, attention.qkv(given[0]), turns)
        heard.append((causal_weights(q, k), v))

    def overhear(_, given: tuple):
        gathered.append(given[0].unflatten(-1, (model.config.n_head, -1)).transpose(1, 2).clone())

    with ExitStack() as stack:
        for block in model.blocks:
            stack.callback(block.attention.register_forward_hook(listen).remove)
            stack.callback(block.attention.proj.register_forward_pre_hook(overhear).remove)
        model(ids)
    weights, values = (torch.stack(part) for part in zip(*heard, strict=True))
    return Heads(weights, values, torch.stack(gathered))


def mean_outputs(model: GPT, ids: Int[Tensor, "B T"]) -> Float[Tensor, "L nh hs"]:
    """What each head gathers on average over all tokens of these texts: what `switched_off` may put in its place."""
    return look(model, ids).gathered.mean((1, 3))


@contextmanager
def switched_off(
    model: GPT, heads: Iterable[tuple[int, int]], instead: Float[Tensor, "L nh hs"] | None = None
) -> Iterator[GPT]:
    """The network with some heads silent, as long as the `with` block lasts.

    Args:
        heads:   (layer, head) of each, counted from 0.
        instead: what every token gets from a silent head, from `mean_outputs`; None: zeros.
    Raises: ValueError naming a layer or head that the network does not have, or an `instead` of another shape.
    """
    config = model.config
    heads = list(heads)
    for layer, head in heads:
        for name, value, count in (("layer", layer, config.n_layer), ("head", head, config.n_head)):
            if not 0 <= value < count:
                raise ValueError(f"{name} must lie in 0..{count - 1}, got {value} in ({layer}, {head})")
    shape = (config.n_layer, config.n_head, config.n_embd // config.n_head)
    if instead is None:
        instead = model.embed.weight.new_zeros(shape)
    if instead.shape != shape:
        raise ValueError(f"instead must have the shape {shape}: layers, heads, numbers; got {tuple(instead.shape)}")

    def silence(layer: int):
        off = [head for at, head in heads if at == layer]

        def hook(_, given: tuple) -> tuple:
            y = given[0].unflatten(-1, shape[1:]).clone()
            y[..., off, :] = instead[layer, off].to(y)
            return (y.flatten(-2),)

        return hook

    with ExitStack() as stack:
        for layer in {layer for layer, _ in heads}:
            stack.callback(model.blocks[layer].attention.proj.register_forward_pre_hook(silence(layer)).remove)
        yield model


def after_earlier(ids: Int[Tensor, "B T"]) -> Bool[Tensor, "B T T"]:
    """Whether token j stands right after an earlier occurrence of token i: ids[j-1] == ids[i], j < i.

    It is where a head must look that copies: "what came after this the last time?"
    """
    T = ids.shape[1]
    same = ids[:, :, None] == ids[:, None, :]
    return F.pad(same, (1, 0))[..., :T].tril(-1)


def induction_scores(weights: Float[Tensor, "L B nh T T"], ids: Int[Tensor, "B T"]) -> Float[Tensor, "L nh"]:
    """How much of its attention each head gives to the tokens after earlier occurrences of the current one.

    Mean over the tokens that have occurred before (and not only right before).

    Raises: ValueError if no token has.
    Source: Olsson et al. 2022, arXiv:2209.11895.
    """
    places = after_earlier(ids)
    again = places.any(-1)
    if not again.any():
        raise ValueError(f"no token of these {ids.shape[0]} texts of {ids.shape[1]} tokens occurs twice")
    given = (weights * places[:, None]).sum(-1).transpose(1, 2)  # (L, nh, B, T)
    return given[:, :, again].mean(-1)


def distance_scores(weights: Float[Tensor, "L B nh T T"], back: int = 1) -> Float[Tensor, "L nh"]:
    """How much of its attention each head gives to the token `back` places before, on average.

    Raises: ValueError if no token has so many before it.
    """
    T = weights.shape[-1]
    if not 0 <= back < T:
        raise ValueError(f"back must lie in 0..{T - 1}, got {back}")
    return weights.diagonal(-back, -2, -1).mean((1, 3))


def copyable(ids: Int[Tensor, "B T"]) -> Bool[Tensor, "B T-1"]:
    """Whether copying could tell the token after each: what followed an earlier occurrence of token i is token i + 1."""
    return (after_earlier(ids)[:, :-1] & (ids[:, None, :] == ids[:, 1:, None])).any(-1)
