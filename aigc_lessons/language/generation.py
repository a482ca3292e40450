"""Writing: from the logits of the next token to text, one token at a time."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


def filter_logits(
    logits: Float[Tensor, "B V"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Float[Tensor, "B V"]:
    """Logits after temperature, then top-k, top-p, min-p; what is excluded becomes -infinity.

    temperature: divides the logits; below 1 the likely becomes likelier, above 1 all becomes more alike.
    top_k:       keeps the k largest (and what equals the k-th).
    top_p:       keeps the smallest set of most likely tokens whose probabilities sum to at least p      (nucleus sampling).
    min_p:       keeps what is at least min_p times as likely as the likeliest.

    Args:
        temperature: above 0. (0, greedy, is a limit: `generate` takes it.)
        top_k:       1 or more; None: all. More than V: all.
        top_p:       0 < p <= 1; None: all.
        min_p:       0 <= min_p <= 1; None: all.
    Raises: ValueError for a value out of range.
    Source: top-k, Fan et al. 2018, arXiv:1805.04833; nucleus, Holtzman et al. 2019, arXiv:1904.09751; min-p, Nguyen et al.
        2024, arXiv:2407.01082.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 here, got {temperature}")
    check_filters(top_k, top_p, min_p)
    if temperature != 1:
        logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest_kept = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    if top_p is not None and top_p < 1:
        ranked, order = logits.softmax(-1).sort(descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked  # the mass of all likelier tokens: once it reaches p, the rest is left out
        drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    if min_p is not None and min_p > 0:  # a ratio of probabilities is a difference of logits, whatever was left out before
        logits = logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(min_p), -torch.inf)
    return logits


def penalise(logits: Float[Tensor, "B V"], seen: Int[Tensor, "B T"], penalty: float) -> Float[Tensor, "B V"]:
    """Make every token that occurs in `seen` less likely, once, however often it occurs.

    z -> z / penalty where z > 0,   z -> z * penalty where z < 0: downwards in both cases.

    Args:
        penalty: above 0; 1 changes nothing, 1.2 is usual, below 1 invites repetition.
    Raises: ValueError for a penalty that is not above 0.
    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1.
    """
    if not penalty > 0:
        raise ValueError(f"the penalty must be above 0 (1 for none), got {penalty}")
    z = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(z > 0, z / penalty, z * penalty))


def pick(logits: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
    """One token for each row, drawn from softmax(logits)."""
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def check_filters(top_k: int | None, top_p: float | None, min_p: float | None = None) -> None:
    """Raise ValueError if top_k, top_p or min_p is out of range."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all tokens; got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie above 0 and up to 1, or be None for all tokens; got {top_p}")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p must lie in 0..1, or be None for all tokens; got {min_p}")


def check_writing(ids: Tensor, max_new_tokens: int, temperature: float, generator: torch.Generator | None) -> None:
    """Raise ValueError for what nothing can be written with."""
    if ids.shape[1] == 0:
        raise ValueError("the prompt is empty: give at least one token to go on from")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or more, got {max_new_tokens}")
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, got {temperature}")
    if temperature > 0 and generator is None:
        raise ValueError("drawing tokens needs generator=torch.Generator().manual_seed(...); or use temperature=0")


def generate(
    model: Callable[..., Tensor],
    ids: Int[Tensor, "B T"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    penalty: float = 1.0,
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
        penalty:     on the tokens of the context, before everything else; as for `penalise`.
        generator:   draws the tokens; required unless temperature is 0.
    Raises: ValueError for an empty prompt, a missing generator, or a value out of range.
    """
    check_writing(ids, max_new_tokens, temperature, generator)
    check_filters(top_k, top_p, min_p)
    if not penalty > 0:
        raise ValueError(f"the penalty must be above 0 (1 for none), got {penalty}")

    def choose(logits: Tensor, context: Tensor) -> Tensor:
        if penalty != 1:
            logits = penalise(logits, context, penalty)
        if temperature == 0:
            return logits.argmax(-1)
        return pick(filter_logits(logits, temperature, top_k, top_p, min_p), generator)

    return _walk(model, ids, max_new_tokens, choose, use_cache)


def _walk(model, ids, max_new_tokens, choose, use_cache) -> Iterator[Tensor]:
    longest = getattr(getattr(model, "config", None), "block_size", None)
    use_cache = use_cache and hasattr(model, "new_cache")
    context, cache = ids if longest is None else ids[:, -longest:], None
    for _ in range(max_new_tokens):
        if longest is not None and context.shape[1] > longest:
            context, cache = context[:, -max(1, longest // 2) :], None
        if use_cache and cache is None:
            cache, unread = model.new_cache(), context
        with torch.inference_mode():  # nothing is kept for gradients, not even the means to ask for them
            logits = model(unread, cache) if use_cache else model(context)
            token = choose(logits[:, -1], context)
        context = torch.cat([context, token[:, None]], 1)  # made outside: whoever trains on what was written may
        unread = context[:, -1:]
        yield context[:, -1]
