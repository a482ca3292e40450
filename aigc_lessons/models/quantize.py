"""Weights in few bits: whole numbers times a scale, one scale for every 32 weights of a row.

    w  is replaced by  s k,      k a whole number in -m..m,      m = 2^(bits - 1) - 1      (127 for 8 bits, 7 for 4)

The numbers k lie packed, `bits` bits each; the scales are float16. What is not a matrix (biases, norms) stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

BITS = range(2, 9)
SHRINK = torch.linspace(1.0, 0.4, 25)  # scales that `search` tries, as parts of the largest


@dataclass(frozen=True, eq=False)
class Quantized:
    """A matrix in few bits.

    codes: (R, C) whole numbers in -m..m;  scales: (R, G) float16, one for each group of `group` columns, the last may be
    shorter;  bits;  group.
    """

    codes: Int[Tensor, "R C"]
    scales: Float[Tensor, "R G"]
    bits: int
    group: int

    def dequantize(self) -> Float[Tensor, "R C"]:
        """s k, in float32."""
        wide = self.scales.float().repeat_interleave(self.group, 1)[:, : self.codes.shape[1]]
        return wide * self.codes


def top(bits: int) -> int:
    """m = 2^(bits - 1) - 1: the largest whole number of the grid, which is the same on both sides of zero.

    Raises: ValueError if bits is not in 2..8.
    """
    if bits not in BITS:
        raise ValueError(f"bits must lie in {BITS[0]}..{BITS[-1]}, got {bits}")
    return 2 ** (bits - 1) - 1


def find_scales(x: Float[Tensor, "*N g"], bits: int, search: bool = False) -> Float[Tensor, "*N 1"]:
    """A scale for each group (the last axis), as a float16 can hold it; 0 for a group of zeros.

        s = max |x| / m,   or with `search` the one of 25 parts of it for which the sum of (x - s k)^2 is least

    Raises: ValueError for numbers that are not finite, or too large for the float16 of a scale.
    """
    m = top(bits)
    if not x.isfinite().all():
        raise ValueError(f"{int((~x.isfinite()).sum())} of {x.numel()} weights are not finite: has the training diverged?")
    widest = x.abs().amax(-1, keepdim=True) / m
    if widest.max() > 65504:
        raise ValueError(f"a scale of {widest.max().item():.3g} does not fit into a float16, whose largest number is 65504")
    best = widest.half().float()
    if search:
        least = (x - nearest(x, best, bits) * best).square().sum(-1, keepdim=True)
        for part in SHRINK[1:]:
            s = (widest * part).half().float()
            error = (x - nearest(x, s, bits) * s).square().sum(-1, keepdim=True)
            best, least = torch.where(error < least, s, best), torch.minimum(error, least)
    return best


def nearest(x: Float[Tensor, "*N g"], s: Float[Tensor, "*N 1"], bits: int) -> Float[Tensor, "*N g"]:
    """k = round(x / s), held in -m..m; 0 where the scale is 0."""
    m = top(bits)
    return torch.where(s > 0, (x / s.clamp(min=torch.finfo(torch.float16).tiny * 2**-10)).round().clamp(-m, m), 0.0)


def quantize(weight: Float[Tensor, "R C"], bits: int = 8, group: int = 32, *, search: bool = False) -> Quantized:
    """Round a matrix to the nearest points of its grids.

        s = max |w| / m over the group,      k = round(w / s)

    Args:
        bits:   2..8.
        group:  columns that share a scale, at least 1; the last group of a row may be shorter.
        search: try smaller scales too, and keep for each group the one with the least squared error.
    Raises: ValueError for bits or group out of range, and for weights that are not finite.
    """
    x = grouped(weight, group)
    s = find_scales(x, bits, search)
    codes = nearest(x, s, bits).flatten(1)[:, : weight.shape[1]]
    return Quantized(codes.to(torch.int8), s[..., 0].half(), bits, group)


def grouped(weight: Float[Tensor, "R C"], group: int) -> Float[Tensor, "R G g"]:
    """The columns in groups, the last filled up with zeros, which move no scale."""
    if group < 1:
        raise ValueError(f"a group needs at least 1 column, got {group}")
    weight = weight.detach().float()
    return F.pad(weight, (0, -weight.shape[1] % group)).unflatten(1, (-1, group))


def pack(codes: Int[Tensor, "*N"], bits: int) -> UInt8[Tensor, " bytes"]:
    """Whole numbers in -m..m as a string of bits, `bits` for each: 2 of 4 bits lie in a byte, 8 of 3 bits in three bytes.

    Raises: ValueError for a number outside -m..m.
    """
    m = top(bits)
    if codes.numel() and (codes.min() < -m or codes.max() > m):
        raise ValueError(f"{bits} bits hold -{m}..{m}, got {int(codes.min())}..{int(codes.max())}")
    raised = codes.flatten().int() + m  # 0..2m
    one_by_one = (raised[:, None] >> torch.arange(bits)) & 1
    filled = F.pad(one_by_one.flatten(), (0, -one_by_one.numel() % 8)).view(-1, 8)
    return (filled << torch.arange(8)).sum(1).to(torch.uint8)


def unpack(packed: UInt8[Tensor, " bytes"], bits: int, shape: tuple[int, ...]) -> Int[Tensor, "*N"]:
    """What `pack` packed. Raises ValueError if the bytes are too few or too many for this shape."""
    n = torch.Size(shape).numel()
    if len(packed) != -(-n * bits // 8):
        raise ValueError(f"{n} numbers of {bits} bits fill {-(-n * bits // 8)} bytes, got {len(packed)}")
    one_by_one = ((packed[:, None].int() >> torch.arange(8)) & 1).flatten()[: n * bits].view(n, bits)
    return ((one_by_one << torch.arange(bits)).sum(1) - top(bits)).to(torch.int8).view(shape)


def pack_state(state: Mapping[str, Tensor], matrices: Mapping[str, Quantized]) -> dict:
    """A state to be written: matrices in few bits, the rest as it is. `checkpoints.save` takes it.

    Args:
        state:    of a network.
        matrices: some of its entries, quantised.
    Raises: ValueError naming a matrix that the state does not have, or has in another shape.
    """
    for name, q in matrices.items():
        if name not in state or state[name].shape != q.codes.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise ValueError(f"{name} is quantised as {tuple(q.codes.shape)}, the state has {found}")
    small = {
        name: {"packed": pack(q.codes, q.bits), "scales": q.scales, "bits": q.bits, "group": q.group,
               "shape": list(q.codes.shape)}
        for name, q in matrices.items()
    }  # fmt: skip
    return {"matrices": small, "rest": {name: tensor for name, tensor in state.items() if name not in matrices}}


def unpack_state(written: Mapping) -> dict[str, Tensor]:
    """The state that a network loads, from what `pack_state` made of it. Raises ValueError if a part is missing."""
    try:
        return dict(written["rest"]) | {
            name: Quantized(
                unpack(q["packed"], q["bits"], tuple(q["shape"])), q["scales"], q["bits"], q["group"]
            ).dequantize()
            for name, q in written["matrices"].items()
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no quantised state, {error} is missing in it; was it written by pack_state?") from None


def quantize_state(
    state: Mapping[str, Tensor], bits: int = 8, group: int = 32, *, search: bool = False
) -> dict[str, Quantized]:
    """Every matrix of a state, embeddings included; a matrix that stands under two names is the same under both."""
    return {name: quantize(w, bits, group, search=search) for name, w in state.items() if w.ndim == 2}


class QuantLinear(nn.Module):
    """A linear layer that keeps its weights packed, and unpacks them whenever it is asked: small, and slow.

    Args:
        quantized: the weights (out, in).
        bias:      (out,), or None.
    """

    def __init__(self, quantized: Quantized, bias: Tensor | None = None):
        super().__init__()
        self.bits, self.group, self.shape = quantized.bits, quantized.group, tuple(quantized.codes.shape)
        self.register_buffer("packed", pack(quantized.codes, quantized.bits))
        self.register_buffer("scales", quantized.scales)
        self.register_buffer("bias", bias)

    @property
    def weight(self) -> Float[Tensor, "R C"]:
        """Unpacked for this moment."""
        return Quantized(unpack(self.packed, self.bits, self.shape), self.scales, self.bits, self.group).dequantize()

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B R"]:
        return F.linear(x, self.weight, self.bias)
