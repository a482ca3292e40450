"""Rounding with feedback: the error of one column is paid back by the columns that are not rounded yet.

A layer answers W x. Rounding W to Q changes the answers, summed over inputs x of a calibration text, by

    sum over x of |W x - Q x|^2  =  sum over rows of  (w - q) H (w - q)^T,      H = sum over x of x x^T

which is not the sum of (w - q)^2: errors may cancel where inputs move together. Fix column j at q_j. The best answer of the
columns after it is  w_j+1.. <- w_j+1.. - (w_j - q_j) U_j,j+1.. / U_jj,  with U the upper Cholesky factor of H^-1.
Source: Frantar et al. 2022 (GPTQ), arXiv:2210.17323, which rests on Hassibi & Stork 1993 (the optimal brain surgeon).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aigc_lessons.models.quantize import Quantized, find_scales, nearest, quantize_state

DAMPING = 0.01  # of the mean diagonal: keeps H invertible where an input never moves


def compensated(weight: Float[Tensor, "R C"], H: Float[Tensor, "D D"], bits: int = 4, group: int = 32) -> Quantized:
    """Round a matrix column by column, each error handed on to the columns after it.

    The scales of a group are found, by search, when its first column is reached.

    Args:
        weight: of a linear layer, (out, in).
        H:      sum of x x^T over inputs of the layer.
        bits, group: as for `quantize`.
    Raises: ValueError if H has not the size of the rows.
    """
    C = weight.shape[1]
    if H.shape != (C, C):
        raise ValueError(f"H must be {C} by {C}, as the rows of the weights are long, got {tuple(H.shape)}")
    H = H.double()
    H = H + max(DAMPING * H.diagonal().mean().item(), 1e-8) * torch.eye(C, dtype=torch.float64)
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    w, codes, scales = weight.detach().double().clone(), [], []
    for j in range(C):
        if j % group == 0:
            s = find_scales(w[:, j : j + group].float(), bits, search=True)
            scales.append(s)
        k = nearest(w[:, j : j + 1].float(), s, bits)
        error = (w[:, j : j + 1] - (s * k).double()) / U[j, j]
        w[:, j + 1 :] -= error * U[j, j + 1 :]
        codes.append(k)
    return Quantized(torch.cat(codes, 1).to(torch.int8), torch.cat(scales, 1).half(), bits, group)


@torch.no_grad()
def input_moments(model: nn.Module, inputs: Iterable[Tensor]) -> dict[str, Float[Tensor, "C C"]]:
    """H = sum of x x^T for the inputs of every linear layer while the model reads; keys are names of weights.

    Args:
        inputs: batches that the model takes, of a text to calibrate on: training text, not the text of the test.
    """
    moments: dict[str, Tensor] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):

            def collect(layer, given, name=f"{name}.weight"):
                x = given[0].detach().flatten(0, -2)
                moments[name] = moments.get(name, 0) + x.T @ x

            hooks.append(layer.register_forward_pre_hook(collect))
    try:
        for batch in inputs:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return moments


def compensated_state(model: nn.Module, moments: dict[str, Tensor], bits: int = 4, group: int = 32) -> dict[str, Quantized]:
    """Every matrix of a model: linear layers with feedback; embeddings, whose rows are read one at a time, by search."""
    state = model.state_dict()
    found = quantize_state(state, bits, group, search=True)
    return found | {name: compensated(state[name], H, bits, group) for name, H in moments.items()}
