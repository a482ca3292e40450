"""LoRA: a trained network learns something new through a few thin matrices, and keeps its own weights as they were."""

from collections.abc import Collection
from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """A linear layer that stays as it is, and beside it a change of rank r that is learned.

        y = W x + b + (alpha / r) B A x        W: (out, in) and b frozen;  A: (r, in),  B: (out, r)

    A begins with random rows, about as long as 1; B begins at zero: a new layer computes what the old one did, and the first
    step moves B alone. alpha / r keeps the size of a change about the same when r is varied.

    Args:
        linear: the layer; its weights are frozen, not copied.
        rank:   r, 1 <= r <= min(in, out).
        alpha:  above 0.
        generator: draws A.
    Raises: ValueError naming the argument that makes no sense.
    Source: Hu et al. 2021, arXiv:2106.09685.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        rows, columns = linear.weight.shape
        if not 1 <= rank <= min(rows, columns):
            raise ValueError(f"rank must lie in 1..{min(rows, columns)} for a layer of {rows} x {columns}, got {rank}")
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, got {alpha}")
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        A = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.A = nn.Parameter(A.to(linear.weight))
        self.B = nn.Parameter(linear.weight.new_zeros(rows, rank))

    def forward(self, x: Float[Tensor, "*B i"]) -> Float[Tensor, "*B o"]:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.A), self.B)

    @property
    def change(self) -> Float[Tensor, "o i"]:
        """What is added to W: (alpha / r) B A."""
        return self.scale * self.B @ self.A

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """W and its change, as one matrix."""
        return self.linear.weight + self.change

    @property
    def bias(self) -> Tensor | None:
        return self.linear.bias


def add_lora(
    model: nn.Module,
    rank: int,
    *,
    alpha: float | None = None,
    layers: Collection[str] | None = None,
    generator: torch.Generator,
) -> list[str]:
    """Freeze a model, and give its linear layers a change of low rank to learn. The model itself is changed.

    Args:
        rank:   r of each change.
        alpha:  see `LoRALinear`; None: r, so that the change is B A.
        layers: last names of the layers that may change, such as {"qkv", "proj"} of a GPT; None: every linear layer outside
            of what the model names in `model.outer` (a GPT's embedding and head).
        generator: draws each A.
    Returns: the full names of the changed layers.
    Raises: ValueError if the model has LoRA already, or no such layer (the message lists those it has).
    """
    if lora_layers(model):
        raise ValueError("the model has LoRA layers already: start from the plain model, or from merged(model)")
    outer = [name.split(".") for name in getattr(model, "outer", ())]
    inside = lambda name: any(name.split(".")[: len(o)] == o for o in outer)  # noqa: E731
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not inside(name)}
    chosen = [name for name in found if layers is None or name.split(".")[-1] in layers]
    absent = set(layers or ()) - {name.split(".")[-1] for name in found}
    if absent or not chosen:
        has = ", ".join(sorted({name.split(".")[-1] for name in found})) or "none"
        raise ValueError(f"the model has no linear layer named {', '.join(sorted(absent)) or 'so'}; it has: {has}")
    for name in sorted(chosen, key=lambda name: min(found[name].weight.shape)):  # if one refuses the rank, the first does
        model.set_submodule(name, LoRALinear(found[name], rank, rank if alpha is None else alpha, generator))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] in chosen)
    return chosen


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers that carry a change, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def merged(model: nn.Module) -> nn.Module:
    """A copy in which each change is added into its weight: the same function, in plain layers, as fast as before.

    Its parameters can be trained again.
    """
    copy = deepcopy(model)
    for name, layer in lora_layers(copy).items():
        weight = layer.weight.detach()
        layer.linear.weight = nn.Parameter(weight)
        copy.set_submodule(name, layer.linear)
    return copy.requires_grad_()


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """A and B of every layer, by name: all that was learned, small enough to send by post."""
    return {f"{name}.{p}": getattr(m, p).detach().clone() for name, m in lora_layers(model).items() for p in "AB"}


def load_lora(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put what `lora_state` gave into a model with the same LoRA layers.

    Raises: ValueError naming a matrix that is missing, unknown or of another shape; then nothing has changed.
    """
    here = {f"{name}.{p}": getattr(m, p) for name, m in lora_layers(model).items() for p in "AB"}
    odd = sorted(set(here) ^ set(state)) or [name for name in here if here[name].shape != state[name].shape]
    if odd:
        name = odd[0]
        shapes = [tuple(s[name].shape) if name in s else "nothing" for s in (here, state)]
        raise ValueError(f"{name}: the model has {shapes[0]}, the state {shapes[1]}")
    with torch.no_grad():
        for name, parameter in here.items():
            parameter.copy_(state[name])
