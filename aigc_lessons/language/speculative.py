"""Speculative decoding: a small model guesses a few tokens ahead, the large one checks all of them in one pass.

What is written has exactly the large model's distribution, whatever the small one guesses; only the speed depends on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.language.generation import check_filters, check_writing, filter_logits


@dataclass(frozen=True, eq=False)
class Round:
    """One pass of the target: what it added to each row, and how many of the guesses each row would have accepted."""

    tokens: Int[Tensor, "B n"]  # 1 to proposed + 1 of them
    proposed: int
    accepted: Int[Tensor, " B"]


def probabilities(logits: Float[Tensor, "B T V"], temperature: float = 1.0, **how) -> Float[Tensor, "B T V"]:
    """softmax(filter_logits(logits)); at temperature 0, all on the likeliest token."""
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    return filter_logits(logits.flatten(0, 1), temperature, **how).softmax(-1).view_as(logits)


def residual(p: Float[Tensor, "*B V"], q: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    """max(0, p - q) / sum max(0, p - q): where the draft gives too little. p itself where p = q, and nothing is left over.

    Source: Leviathan et al. 2022, arXiv:2211.17192, section 2.3.
    """
    left = (p - q).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, p)


def verify(
    p: Float[Tensor, "B k1 V"], q: Float[Tensor, "B k V"], guesses: Int[Tensor, "B k"], generator: torch.Generator
) -> tuple[Int[Tensor, " B"], Int[Tensor, "B k1"]]:
    """Accept guess i with probability min(1, p_i / q_i), until one is refused; then draw one token more.

    After a refusal that token comes from `residual(p_i, q_i)`, after none from p at the last place. So tokens 0 .. accepted
    of a row are distributed as the target's own.

    Args:
        p:       the target's probabilities at each guess, and after the last one.
        q:       the draft's, from which the guesses were drawn.
    Returns: how many guesses each row accepts; and the row's tokens, of which accepted + 1 count.
    Source: Leviathan et al. 2022, arXiv:2211.17192, algorithm 1; Chen et al. 2023, arXiv:2302.01318.
    """
    B, k = guesses.shape
    p_guess, q_guess = (each[:, :k].gather(-1, guesses[..., None])[..., 0] for each in (p, q))
    fine = torch.rand(B, k, generator=generator, device=p.device) * q_guess < p_guess
    accepted = fine.int().cumprod(1).sum(1)
    # a draft of nothing at the place after the last guess: its residual is p
    leftover = residual(p, torch.cat([q, torch.zeros_like(p[:, :1])], 1))
    extra = torch.multinomial(leftover[torch.arange(B), accepted], 1, generator=generator)
    tokens = torch.cat([guesses, extra], 1).scatter(1, accepted[:, None], extra)
    return accepted, tokens


def speculate(
    target: Callable[..., Tensor],
    draft: Callable[..., Tensor],
    ids: Int[Tensor, "B T"],
    max_new_tokens: int,
    *,
    k: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Round]:
    """Write on after a prompt, a few tokens at a time: with the distribution of `generate(target, ...)`.

    All rows move on together, by as many tokens as the most reluctant one accepts, and one: give one row for speed.

    Args:
        target, draft: ids (B, T) -> logits (B, T, V), of one vocabulary; the draft may return the last position only. With
                       `new_cache()` they read each token once, and their caches are cut back after a refusal. A
                       `config.block_size` is kept to as in `generate`: the target's, so the draft's may not be smaller.
        k:             guesses before each pass of the target, 0 or more.
        temperature, top_k, top_p, min_p: as for `generate`, and for both models.
        generator:     draws the tokens and decides on the guesses; required unless temperature is 0.
    Raises: ValueError for an empty prompt, a missing generator, a draft with a shorter block, or a value out of range.
    """
    check_writing(ids, max_new_tokens, temperature, generator)
    check_filters(top_k, top_p, min_p)
    if k < 0:
        raise ValueError(f"k must be 0 guesses or more, got {k}")
    if _block(target) and (_block(draft) or _block(target)) < _block(target):
        raise ValueError(f"the draft's block_size is {_block(draft)}, shorter than the target's {_block(target)}")
    generator = generator or torch.Generator()  # at temperature 0 every draw is certain
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    return _rounds(target, draft, ids, max_new_tokens, k, how, generator)


@torch.no_grad()
def _rounds(target, draft, ids, max_new_tokens, k, how, generator) -> Iterator[Round]:
    longest = _block(target)
    context, written = ids if longest is None else ids[:, -longest:], 0
    large, small = _Reader(target), _Reader(draft)
    while written < max_new_tokens:
        if longest is not None and context.shape[1] > longest:
            context = context[:, -max(1, longest // 2) :]
            large, small = _Reader(target), _Reader(draft)
        T = context.shape[1]
        guesses = min(k, max_new_tokens - written - 1, k if longest is None else longest - T)
        q = []
        for _ in range(guesses):
            q.append(probabilities(small(context, 1), **how))
            context = torch.cat([context, torch.multinomial(q[-1][:, 0], 1, generator=generator)], 1)
        p = probabilities(large(context, guesses + 1), **how)
        q = torch.cat(q, 1) if q else p[:, :0]
        accepted, tokens = verify(p, q, context[:, T:], generator)
        n = int(accepted.min()) + 1
        context = torch.cat([context[:, :T], tokens[:, :n]], 1)
        for reader in (large, small):
            reader.cut(T + n - 1)  # the last token has been read by neither
        written += n
        yield Round(tokens[:, :n], guesses, accepted)


class _Reader:
    """A model that reads a growing context, each token once if it has a cache."""

    def __init__(self, model: Callable[..., Tensor]):
        self.model, self.cache = model, model.new_cache() if hasattr(model, "new_cache") else None

    def __call__(self, context: Tensor, last: int) -> Tensor:
        """Logits at the last places."""
        with torch.inference_mode():
            if self.cache is None:
                return self.model(context)[:, -last:]
            return self.model(context[:, self.cache.length :], self.cache)[:, -last:]

    def cut(self, length: int) -> None:
        if self.cache is not None:
            self.cache.cut(min(length, self.cache.length))


def _block(model) -> int | None:
    return getattr(getattr(model, "config", None), "block_size", None)
