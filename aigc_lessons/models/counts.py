"""How many weights a GPT has and how many floating-point operations it takes, by formula."""

from aigc_lessons.models.gpt import GPTConfig


def parameters(config: GPTConfig) -> dict[str, int]:
    """Weights of each part of a GPT; their sum is what `sum(p.numel() for p in model.parameters())` gives.

    gpt2     V C (embedding, which is the head too) + T C (positions) + L (12 C^2 + 13 C) + 2 C
    modern   2 V C (embedding and head)                              + L 12 C^2

    A block's 12 C^2: queries, keys and values 3 C^2, their projection C^2, the feed-forward part 4 C^2 there and 4 C^2 back.
    The 13 C of GPT-2: biases 3 C + C + 4 C + C, and two LayerNorms of 2 C; the last LayerNorm has 2 C more.

    Returns: "embedding", "positions", "attention", "feed-forward", "norms", "head"; the tied head counts 0.
    """
    V, T, L, C = config.vocab_size, config.block_size, config.n_layer, config.n_embd
    gpt2 = config.style == "gpt2"
    return {
        "embedding": V * C,
        "positions": T * C if gpt2 else 0,
        "attention": L * (4 * C * C + (4 * C if gpt2 else 0)),
        "feed-forward": L * (8 * C * C + (5 * C if gpt2 else 0)),
        "norms": (2 * L + 1) * 2 * C if gpt2 else 0,
        "head": 0 if gpt2 else V * C,
    }


def flops(config: GPTConfig, tokens: int | None = None) -> dict[str, int]:
    """Floating-point operations of reading one window forwards: two for each multiplication with addition.

    T (24 L C^2 + 2 V C) for the matrices of weights, and 4 L T^2 C for attention: T^2 scores and T^2 weighted values, each
    of C multiplications over all heads. As many as PyTorch's FlopCounterMode counts where attention is written as two
    matrix products: every score counts, the masked half too; norms, softmax, bends, biases and additions do not.

    Args:
        tokens: T, those of the window; block_size unless given.
    Returns: "projections", "scores" (the part that grows with T^2), "feed-forward", "head".
    Raises: ValueError if tokens lies outside 1..block_size.
    """
    V, L, C = config.vocab_size, config.n_layer, config.n_embd
    T = config.block_size if tokens is None else tokens
    if not 1 <= T <= config.block_size:
        raise ValueError(f"tokens must lie in 1..block_size = {config.block_size}, got {tokens}")
    return {
        "projections": 8 * L * T * C * C,
        "scores": 4 * L * T * T * C,
        "feed-forward": 16 * L * T * C * C,
        "head": 2 * T * V * C,
    }
