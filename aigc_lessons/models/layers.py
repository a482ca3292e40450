"""Small parts that several networks share."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int, Shaped
from torch import Tensor, nn


def haar(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 4*C H//2 W//2"]:
    """One level of the orthonormal Haar wavelet transform: half the height and width, four times the channels.

    Every 2 x 2 block (a b / c d) becomes four numbers, each half a sum with signs:
        mean a+b+c+d,  left-right a-b+c-d,  top-bottom a+b-c-d,  diagonal a-b-c+d      (all divided by 2)
    The 4 x 4 matrix is orthogonal and its own inverse: nothing is lost, and white noise stays white noise.

    Raises: ValueError if height or width is odd.
    Source: Haar 1910; for diffusion, Phung et al. 2022, arXiv:2211.16152.
    """
    H, W = x.shape[-2:]
    if H % 2 or W % 2:
        raise ValueError(f"the Haar transform halves both sides, so they must be even; got {H} x {W}")
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2


def inverse_haar(y: Float[Tensor, "B C4 H W"]) -> Float[Tensor, "B C4//4 2*H 2*W"]:
    """Undo `haar` exactly (up to rounding).

    Raises: ValueError unless the number of channels is a multiple of four.
    """
    B, C4, H, W = y.shape
    if C4 % 4:
        raise ValueError(f"the inverse Haar transform needs a multiple of 4 channels, got {C4}")
    s, h, v, d = y.chunk(4, 1)
    blocks = torch.stack([s + h + v + d, s - h + v - d, s + h - v - d, s - h - v + d], -1) / 2  # (B, C, H, W, 4)
    return blocks.unflatten(-1, (2, 2)).permute(0, 1, 2, 4, 3, 5).reshape(B, C4 // 4, 2 * H, 2 * W)


def sinusoidal(t: Shaped[Tensor, " B"], dim: int, longest: float = 10_000.0) -> Float[Tensor, "B {dim}"]:
    """cos and sin of t at dim/2 frequencies from 1 down to 1/longest: a smooth fingerprint of a number.

    Raises: ValueError if dim is odd.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    if dim % 2:
        raise ValueError(f"dim holds pairs (cos, sin) and must be even, got {dim}")
    frequencies = torch.exp(-math.log(longest) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class Condition(nn.Module):
    """Time and label, turned into one vector that every block reads.

    Args:
        classes: number of labels; label `classes` stands for "any".
        dim:     length of the vector.
    """

    def __init__(self, classes: int, dim: int):
        super().__init__()
        self.classes, self.dim = classes, dim
        self.label = nn.Embedding(classes + 1, dim)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Shaped[Tensor, " B"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B dim"]:
        if labels is None:
            labels = torch.full(t.shape, self.classes, device=t.device)
        elif labels.min() < 0 or labels.max() > self.classes:
            raise ValueError(
                f"labels lie in 0..{self.classes - 1}, or {self.classes} for any;"
                f" got {labels.min().item()}..{labels.max().item()}"
            )
        return F.silu(self.time(sinusoidal(t, self.dim)) + self.label(labels))


class ResBlock(nn.Module):
    """x + conv(act(scale * norm(conv(act(norm x))) + shift)), where scale and shift come from the condition.

    The second convolution starts at zero, so a new block is the identity (or the 1 x 1 shortcut).
    Source: Dhariwal and Nichol 2021, arXiv:2105.05233 (adaptive group normalisation).
    """

    def __init__(self, c_in: int, c_out: int, cond_dim: int, groups: int = 4):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.film = nn.Linear(cond_dim, 2 * c_out)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        for zero in (self.conv2.weight, self.conv2.bias, self.film.weight, self.film.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Float[Tensor, "B c_in H W"], cond: Float[Tensor, "B D"]) -> Float[Tensor, "B c_out H W"]:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(cond)[..., None, None].chunk(2, 1)  # (B, c_out, 1, 1) each
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
        return self.shortcut(x) + h


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2): every token's vector gets the same length. No parameters.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        return F.rms_norm(x, x.shape[-1:])


def rope_turns(length: int, dim: int, longest: float = 10_000.0) -> Complex[Tensor, "T 1 1 D2"]:
    """e^(i m theta_j), theta_j = longest^(-2 j / dim): by what position m turns pair j; for `rotate`.

    Raises: ValueError if dim is odd.
    Source: Su et al. 2021, arXiv:2104.09864, eq. 12 and 15.
    """
    if dim % 2:
        raise ValueError(f"dim holds pairs and must be even, got {dim}")
    frequencies = longest ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None, None, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotate(x: Float[Tensor, "B T k nh hs"], turns: Complex[Tensor, "T 1 1 D2"]) -> Float[Tensor, "B T k nh hs"]:
    """Turn the pair (x_2j, x_2j+1) of every position, as the complex number x_2j + i x_2j+1: one product for each.

    Dot products then see only distances: <rotate(q, m), rotate(k, n)> depends on q, k and m - n alone.
    """
    whole = x.float() if x.element_size() < 4 else x  # there are no complex numbers of two 16-bit halves that multiply
    pairs = torch.view_as_complex(whole.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)


class SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2, with derivative 2 max(x, 0): one product each way, where autograd alone would take five passes.

    Source: So et al. 2021, arXiv:2109.08668.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


class TanhGELU(torch.autograd.Function):
    """GPT-2's GELU, x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3); as x sigmoid(2 u), which is the same.

    tanh u = 2 sigmoid(2 u) - 1, and a sigmoid costs a third of a tanh here. With s = sigmoid(2 u) and y = x s,
        dy/dx = s + x s (1 - s) d(2u)/dx = s (1 + (x - y) d(2u)/dx).
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """

    a = 2 * math.sqrt(2 / math.pi)  # 2 u = a x + b x^3
    b = a * 0.044715

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        s = (x * x).mul_(TanhGELU.b).add_(TanhGELU.a).mul_(x).sigmoid_()
        y = x * s
        ctx.save_for_backward(x, s, y)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, s, y = ctx.saved_tensors
        slope = (x * x).mul_(3 * TanhGELU.b).add_(TanhGELU.a)  # of 2 u
        return slope.mul_(x - y).add_(1).mul_(s).mul_(grad)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2; with its derivative by hand where one will be asked for."""
    return SquaredReLU.apply(x) if torch.is_grad_enabled() else x.relu().square_()


def gelu(x: Tensor) -> Tensor:
    """GPT-2's GELU; where no derivative will be asked for, in one pass."""
    return TanhGELU.apply(x) if torch.is_grad_enabled() else F.gelu(x, approximate="tanh")


def plain(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module as a function: of the usual kinds, one that does not look for hooks and weights at every call."""
    if module._forward_hooks or module._forward_pre_hooks:
        return module
    if type(module) is nn.Linear:
        return partial(F.linear, weight=module.weight, bias=module.bias)
    if type(module) is nn.LayerNorm:
        shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)  # F.layer_norm would look around first
    return module.forward if type(module) is RMSNorm else module
