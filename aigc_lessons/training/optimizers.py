"""AdamW for vectors and tables, Muon for the matrices in between."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def newton_schulz(A: Float[Tensor, "N m m"], steps: int = 5) -> Float[Tensor, "N m m"]:
    """The matrices P that bring every singular value of P X near 1, for A = X X^T and X of Frobenius norm 1.

    A step is X <- q X with q = a I + b A + c A^2: on each singular value the odd polynomial a s + b s^3 + c s^5, whose
    coefficients bring all but tiny ones into about 0.7..1.2 in five steps, without a singular value decomposition. Every q
    is a polynomial of the first A, so they commute: A <- q A q follows X without knowing it, and however long X is, all of
    this happens in m x m.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (there on X itself).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    P = None
    for step in range(steps):
        q = torch.baddbmm(A, A, A, beta=b, alpha=c)  # b A + c A A
        q.diagonal(dim1=-2, dim2=-1).add_(a)
        P = q if P is None else q @ P
        if step < steps - 1:
            A = q @ A @ q
    return P


def orthogonalize(matrices: list[Float[Tensor, "_ _"]]) -> list[Float[Tensor, "_ _"]]:
    """For each matrix the nearest semi-orthogonal one, roughly: same singular vectors, every singular value near 1.

    Matrices with equal smaller sides go through `newton_schulz` together: fewer, larger products.
    """
    lying = [G.mT if len(G) > G.shape[1] else G for G in matrices]
    lying = torch._foreach_div(lying, torch._foreach_add(torch._foreach_norm(lying), 1e-7))
    alike: dict[int, list[int]] = {}
    for i, X in enumerate(lying):
        alike.setdefault(len(X), []).append(i)
    done = {}
    for members in alike.values():
        products = newton_schulz(torch.stack([lying[i] @ lying[i].mT for i in members]))
        done |= {i: P @ lying[i] for i, P in zip(members, products, strict=True)}
    return [done[i].mT if len(G) > G.shape[1] else done[i] for i, G in enumerate(matrices)]


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised: every direction of a weight matrix moves equally far.

    m <- mu m + g;   W <- W (1 - lr wd) - lr 0.2 sqrt(max(rows, columns)) orthogonalize(g + mu m)

    The factor gives an update the root mean square of AdamW's, so both take the same learning rate. A convolution kernel
    (out, in, h, w) counts as the matrix (out, in h w).

    Args:
        params: parameters of at least two dimensions.
    Raises: ValueError for a parameter with fewer.
    Source: Jordan et al. 2024; the factor from Liu et al. 2025, arXiv:2502.16982, eq. 4.
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(f"Muon moves matrices, got a parameter of shape {tuple(p.shape)}; give it to AdamW")

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            for p in moved:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta, gradients = [self.state[p]["momentum"] for p in moved], [p.grad for p in moved]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, gradients)
            ahead = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
            updates = orthogonalize([g.reshape(len(g), -1) for g in ahead])
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            for p, update in zip(moved, updates, strict=True):
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)
        return loss


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(hidden matrices, the rest).

    Hidden are the weights of linear and convolution layers. Embeddings, vectors, and what lies inside the submodules that
    the model names in `model.outer` (its first and last layers) are the rest.
    """
    outer = [model.get_submodule(name) for name in getattr(model, "outer", ())]
    skip = {id(p) for module in outer for p in module.parameters()}
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hidden = {id(m.weight): m.weight for m in model.modules() if isinstance(m, kinds) and id(m.weight) not in skip}
    return list(hidden.values()), [p for p in model.parameters() if id(p) not in hidden]


def make_optimizers(kind: str, model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """The optimizers that together move every trainable parameter of the model.

    Args:
        kind: "adamw", or "muon": Muon for hidden matrices and AdamW for the rest.
    Raises: ValueError for another kind.
    """
    if kind == "adamw":
        return [adamw(model.parameters(), lr)]
    if kind != "muon":
        raise ValueError(f"optimizer must be 'adamw' or 'muon', got {kind!r}")
    hidden, rest = split_parameters(model)
    return [made(params, lr) for made, params in ((Muon, hidden), (adamw, rest)) if params]


def adamw(params, lr: float) -> torch.optim.AdamW:
    """AdamW as the course uses it (Loshchilov and Hutter 2017, arXiv:1711.05101): no weight decay, beta2 = 0.99.

    "fused" does a step in one pass over all parameters: the same numbers, a few milliseconds sooner.
    """
    return torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
