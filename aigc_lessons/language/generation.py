"""Writing: from the logits of the next token to text, one token at a time."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


def filter_logits(
    logits: Float[Tensor, "B V"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B V"]:
    """Logits after temperature, then top-k, then top-p; what is excluded becomes -infinity.

    temperature: divides the logits; below 1 the likely becomes likelier, above 1 all becomes more alike.
    top_k:       keeps the k largest (and what equals the k-th).
    top_p:       keeps the smallest set of most likely tokens whose probabilities sum to at least p      (nucleus sampling).

    Args:
        temperature: above 0. (0, greedy, is a limit: `generate` takes it.)
        top_k:       1 or more; None: all. More than V: all.
        top_p:       0 < p <= 1; None: all.
    Raises: ValueError for a value out of range.
    Source: top-k, Fan et al. 2018, arXiv:1805.04833; nucleus, Holtzman et al. 2019, arXiv:1904.09751.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 here, got {temperature}")
    check_filters(top_k, top_p)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest_kept = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    if top_p is not None and top_p < 1:
        ranked, order = logits.softmax(-1).sort(descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked  # the mass of all likelier tokens: once it reaches p, the rest is left out
        drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits


def pick(logits: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
    """One token for each row, drawn from softmax(logits)."""
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def check_filters(top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError if top_k or top_p is out of range."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all tokens; got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie above 0 and up to 1, or be None for all tokens; got {top_p}")


@torch.no_grad()
def generate(
    model: Callable[..., Tensor],
    ids: Int[Tensor, "B T"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Iterator[Int[Tensor, " B"]]:
    """Write on after a prompt, yielding one token for each row at a time.

    When the context is full, its older half is forgotten and the writing goes on: a step then costs what it did before.

    Args:
        model:       ids (B, T) -> logits (B, T, V). With a `config.block_size`, no more than that is ever passed. With
                     `new_cache()`, and if `use_cache`, it is called as model(new ids, cache).
        ids:         the prompt, at least one token.
        temperature: 0 is greedy: always the likeliest token, and the first of equals. Else as for `filter_logits`.
        generator:   draws the tokens; required unless temperature is 0.
    Raises: ValueError for an empty prompt, a missing generator, or a value out of range.
    """
    if ids.shape[1] == 0:
        raise ValueError("the prompt is empty: give at least one token to go on from")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or more, got {max_new_tokens}")
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, got {temperature}")
    if temperature > 0 and generator is None:
        raise ValueError("drawing tokens needs generator=torch.Generator().manual_seed(...); or use temperature=0")
    check_filters(top_k, top_p)
    return _walk(model, ids, max_new_tokens, temperature, top_k, top_p, generator, use_cache)


def _walk(model, ids, max_new_tokens, temperature, top_k, top_p, generator, use_cache) -> Iterator[Tensor]:
    longest = getattr(getattr(model, "config", None), "block_size", None)
    use_cache = use_cache and hasattr(model, "new_cache")
    context, cache = ids if longest is None else ids[:, -longest:], None
    for _ in range(max_new_tokens):
        if longest is not None and context.shape[1] > longest:
            context, cache = context[:, -max(1, longest // 2) :], None
        if cache is not None:
            logits = model(context[:, -1:], cache)
        elif use_cache:
            cache = model.new_cache()
            logits = model(context, cache)
        else:
            logits = model(context)
        logits = logits[:, -1]
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            token = pick(filter_logits(logits, temperature, top_k, top_p), generator)
        context = torch.cat([context, token[:, None]], 1)
        yield token
