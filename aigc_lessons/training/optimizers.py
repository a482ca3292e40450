"""AdamW for vectors and tables, Muon for the matrices in between."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def orthogonalize(G: Float[Tensor, "*N m n"], steps: int = 5) -> Float[Tensor, "*N m n"]:
    """The nearest semi-orthogonal matrix to G, roughly: every singular value is pushed towards 1.

    With G scaled to Frobenius norm 1, repeat  X <- a X + (b A + c A^2) X,  A = X X^T. The odd polynomial
    p(s) = a s + b s^3 + c s^5 acts on each singular value; these coefficients bring all but tiny ones into about
    0.7..1.2 in five steps, without a singular value decomposition.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = G.shape[-2] > G.shape[-1]
    X = (G.mT if tall else G).reshape(-1, min(G.shape[-2:]), max(G.shape[-2:]))  # the smaller side first: A is small then
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        polynomial = torch.baddbmm(A, A, A, beta=b, alpha=c)  # b A + c A A
        X = torch.baddbmm(X, polynomial, X, beta=a)  # a X + polynomial X
    return (X.mT if tall else X).reshape(G.shape)


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
            for p in moved:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in moved]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, [p.grad for p in moved])
            # matrices of one shape, lying or standing, are orthogonalised together: fewer, larger products
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for p, momentum in zip(moved, momenta, strict=True):
                update = p.grad.add(momentum, alpha=group["momentum"]).reshape(len(p), -1)
                lying = update.mT if len(update) > update.shape[1] else update
                alike.setdefault(tuple(lying.shape), []).append((p, lying))
            for (_, longer), members in alike.items():
                updates = orthogonalize(torch.stack([lying for _, lying in members]))
                for (p, _), update in zip(members, updates, strict=True):
                    standing = len(p) > p[0].numel()
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_((update.mT if standing else update).reshape(p.shape), alpha=-group["lr"] * 0.2 * longer**0.5)
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
