"""How many bits: entropy, the price of a wrong belief, a code that comes within one bit, and bits per byte.

A bit is a yes-or-no question. A nat is 1 / ln 2 = 1.44 bits. Everything here is in bits unless it says nats.
Source: Shannon 1948, A mathematical theory of communication; Cover & Thomas, Elements of information theory, ch. 2 to 5.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def entropy(p: Float[Tensor, " V"]) -> float:
    """H(p) = sum of p_i log2(1 / p_i): the mean surprise, in bits; what has probability 0 adds nothing.

    Args:
        p: probabilities; they sum to 1.
    Raises: ValueError if they do not, or one is negative.
    """
    p = _checked(p, "p")
    return torch.special.entr(p).sum().item() / math.log(2) + 0.0  # not -0.0


def kl(p: Float[Tensor, " V"], q: Float[Tensor, " V"]) -> float:
    """KL(p || q) = sum of p_i log2(p_i / q_i): the bits that believing q costs where p is true; 0 only for q = p.

    Infinity where q excludes what p allows.

    Raises: ValueError if the lengths differ, or p or q does not sum to 1.
    """
    if len(p) != len(q):
        raise ValueError(f"p has {len(p)} probabilities and q {len(q)}: they must be of the same things")
    p, q = _checked(p, "p"), _checked(q, "q")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum().item() / math.log(2)


def entropy_rate(chain: Float[Tensor, "V V"]) -> float:
    """Bits per token of a text in which each token depends on the one before: sum over a of s_a H(chain[a]).

    s is how often each token comes in the long run: s = s chain.

    Args:
        chain: row a is the distribution of what follows a; from each token every other one can be reached.
    Raises: ValueError for a table that is not square, or a row that does not sum to 1.
    """
    V = len(chain)
    if chain.shape != (V, V):
        raise ValueError(f"the table must be square, got {tuple(chain.shape)}")
    rows = torch.stack([_checked(row, f"row {a}") for a, row in enumerate(chain)])
    # s (I - chain) = 0 has one equation too many; in its place, s sums to 1
    system = torch.eye(V, dtype=torch.float64) - rows.T
    system[-1] = 1.0
    right = torch.zeros(V, dtype=torch.float64)
    right[-1] = 1.0
    s = torch.linalg.solve(system, right)
    return (s @ torch.special.entr(rows).sum(1)).item() / math.log(2)


def shannon_code(p: Float[Tensor, " V"]) -> list[str]:
    """A codeword of ceil(log2(1 / p_i)) binary digits for each i, none the beginning of another.

    Its mean length is at least H(p) and less than H(p) + 1. The likeliest comes first; each codeword is the next free
    binary number of its length.

    Raises: ValueError if p does not sum to 1 or a probability is 0: there is no finite codeword for it.
    """
    p = _checked(p, "p")
    if not (p > 0).all():
        raise ValueError(f"number {int(p.argmin())} has probability 0: it would need infinitely many digits")
    lengths = [math.ceil(-math.log2(x)) for x in p.tolist()]
    longest, free, words = max(lengths), 0, [""] * len(lengths)  # `free` counts in units of 2 ** -longest
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if lengths[i]:
            words[i] = format(free >> (longest - lengths[i]), f"0{lengths[i]}b")
        free += 1 << (longest - lengths[i])
    return words


def bits_per_byte(nats: Float[Tensor, " N"], text: str) -> float:
    """All bits that a model pays for a text, over the bytes of the text in UTF-8.

    The number of tokens has gone from the formula, so models with different tokenizers can be compared.

    Args:
        nats: -ln p of each token of the text, for example from `NGram.surprisal`.
    Raises: ValueError for an empty text.
    """
    if not text:
        raise ValueError("there is nothing to divide by: the text is empty")
    return nats.sum().item() / math.log(2) / len(text.encode())


def _checked(p: Tensor, name: str) -> Tensor:
    p = p.double()
    if (p < 0).any() or not math.isclose(p.sum().item(), 1, abs_tol=1e-5):
        raise ValueError(f"{name} must be probabilities: at least 0, sum 1; got a sum of {p.sum():.6g}, least {p.min():.4g}")
    return p
