"""A GPT: token and position embeddings, blocks of attention and feed-forward layers around a residual stream, a head.

Two styles. "gpt2" is GPT-2 exactly, so that it can be proven against other implementations of it. "modern" is what small
models are built from today; each change is a line here:

                    gpt2                              modern
    norm            LayerNorm                         RMSNorm without parameters
    positions       a learned vector added once       RoPE: queries and keys turned by an angle
    attention       as it is                          queries and keys brought to length 1 first (QK-norm)
    feed-forward    GELU (tanh form), biases          ReLU squared, no biases
    head            the token embedding, transposed   a matrix of its own
"""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aigc_lessons.models.cache import Cache, straight
from aigc_lessons.models.layers import RMSNorm, gelu, rope_turns, rotate, squared_relu

Style = Literal["gpt2", "modern"]


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT.

    Args:
        vocab_size: number of tokens, V.
        block_size: longest context, in tokens.
        n_layer:    blocks.
        n_head:     attention heads; divides n_embd (and in the modern style n_embd / n_head is even, for RoPE).
        n_embd:     width of the residual stream, C.
        dropout:    share of activations dropped in training, 0 <= p < 1.
        style:      "gpt2" or "modern".
    Raises: ValueError naming the field that makes no sense.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    style: Style = "modern"

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_head must divide n_embd, got {self.n_head} and {self.n_embd}")
        if self.style not in get_args(Style):
            raise ValueError(f"style must be one of {', '.join(get_args(Style))}, got {self.style!r}")
        if self.style == "modern" and self.n_embd // self.n_head % 2:
            raise ValueError(f"RoPE turns pairs: n_embd / n_head must be even, got {self.n_embd // self.n_head}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in 0..1 (below 1), got {self.dropout}")


class Attention(nn.Module):
    """Each token gathers from those before it: softmax(q k^T / sqrt(hs)) v, in n_head groups of hs numbers.

    Source: Vaswani et al. 2017, arXiv:1706.03762; QK-norm, Henry et al. 2020, arXiv:2010.04245.
    """

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.layer, self.n_head, self.dropout = layer, config.n_head, config.dropout
        self.modern = config.style == "modern"
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=not self.modern)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=not self.modern)

    def forward(
        self, x: Float[Tensor, "B T C"], turns: Tensor | None, cache: Cache | None, sees: Tensor | None = None
    ) -> Float[Tensor, "B T C"]:
        y = self.proj(self.attend(self.qkv(x), turns, cache, sees))
        return F.dropout(y, self.dropout) if self.training else y

    def attend(
        self, qkv: Float[Tensor, "B T C3"], turns: Tensor | None, cache: Cache | None, sees: Tensor | None = None
    ) -> Float[Tensor, "B T C3//3"]:
        """What each token gathers, from the queries, keys and values of all."""
        B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
        qkv = qkv.view(B, T, 3, self.n_head, C // self.n_head)
        if self.modern:
            qk, v = qkv.split([2, 1], 2)
            qk = rotate(F.rms_norm(qk, qk.shape[-1:]), turns)
            q, k, v = (part.transpose(1, 2) for part in (*qk.unbind(2), v[:, :, 0]))  # (B, nh, T, hs) each
        else:
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        S = k.shape[2]
        # row i of the last T tokens sees columns 0 .. S - T + i; is_causal alone would align them with the first T
        if sees is None and S > T > 1:
            sees = torch.ones(T, S, dtype=torch.bool, device=qkv.device).tril(S - T)
        causal = sees is None and T > 1
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=sees, is_causal=causal, dropout_p=self.dropout if self.training else 0.0
        )
        return y.transpose(1, 2).reshape(B, T, C)


class FeedForward(nn.Module):
    """Each token on its own: four times as wide, a bend, and back."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        modern = config.style == "modern"
        self.dropout, self.bend = config.dropout, squared_relu if modern else gelu
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=not modern)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=not modern)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        y = self.proj(self.bend(self.fc(x)))
        return F.dropout(y, self.dropout) if self.training else y


class Block(nn.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x))."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.norm1, self.attention = make_norm(config), Attention(config, layer)
        self.norm2, self.feed_forward = make_norm(config), FeedForward(config)

    def forward(
        self, x: Float[Tensor, "B T C"], turns: Tensor | None, cache: Cache | None, sees: Tensor | None = None
    ) -> Float[Tensor, "B T C"]:
        x = x + self.attention(self.norm1(x), turns, cache, sees)
        return x + self.feed_forward(self.norm2(x))


def make_norm(config: GPTConfig) -> nn.Module:
    """The norm of a style."""
    return RMSNorm() if config.style == "modern" else nn.LayerNorm(config.n_embd)


class GPT(nn.Module):
    """Token ids to the logits of each next token.

    Source: Radford et al. 2019 (GPT-2); RoPE, Su et al. 2021, arXiv:2104.09864.
    """

    outer = ("embed", "head")  # for Muon: these are not hidden

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        modern = config.style == "modern"
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = None if modern else nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if modern:
            turns = rope_turns(config.block_size, config.n_embd // config.n_head)
            self.register_buffer("turns", turns, persistent=False)
        self._first_weights()
        if not modern:
            self.head.weight = self.embed.weight

    def _first_weights(self) -> None:
        """GPT-2: all N(0, 0.02), what writes to the residual stream smaller by sqrt(2 n_layer). Modern: that part is zero.

        With a zero head the first prediction is uniform, and the first loss is exactly ln V.
        """
        config = self.config
        modern = config.style == "modern"
        for name, p in self.named_parameters():
            if p.ndim < 2:
                continue  # LayerNorm is born as the identity, biases are set below
            writes = name.endswith("proj.weight")
            if modern and (writes or name == "head.weight"):
                nn.init.zeros_(p)
            elif modern and name != "embed.weight":
                nn.init.normal_(p, std=p.shape[1] ** -0.5)
            elif modern:
                nn.init.normal_(p)
            else:
                nn.init.normal_(p, std=0.02 / (2 * config.n_layer) ** 0.5 if writes else 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, ids: Int[Tensor, "B T"], cache: Cache | None = None, sees: Bool[Tensor, "#B 1 T T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each position.

        Args:
            ids:   tokens in 0..V-1; with a cache, only those that it has not seen.
            cache: a `Cache`, which grows by T.
            sees:  instead of a cache: which token (row) may look at which (column), at itself at least. None: at itself and
                   all before it.
        Raises: ValueError if there is no token, an id lies outside the vocabulary, the context outgrows block_size, or both
            a cache and `sees` are given.
        """
        T, start = ids.shape[1], cache.length if cache is not None else 0
        self._check(ids, start)
        if cache is not None and sees is not None:
            raise ValueError("a cache holds one text, all of which is seen: pass a cache or `sees`, not both")
        x = self._embedded(ids)
        turns = None
        if self.position is None:
            x = F.rms_norm(x, x.shape[-1:])
            turns = self.turns[start : start + T]
        else:
            x = x + self.position.weight.narrow(0, start, T)
        if self.training:
            x = F.dropout(x, self.config.dropout)
        if cache is not None and cache.through is not None and not self.training:
            logits = cache.through(x, turns, cache)
        else:
            for block in self.blocks:
                x = block(x, turns, cache, sees)
            logits = self.head(self.norm(x))
        if cache is not None:
            cache.length += T
        return logits

    def _embedded(self, ids: Tensor) -> Tensor:
        V = self.config.vocab_size
        try:
            if ids.device.type != "cpu" and not (ids.min() >= 0 and ids.max() < V):
                raise IndexError  # a GPU would not raise it, it would end the process
            return self.embed(ids)
        except IndexError:  # on a CPU, looking beforehand at every token would be a twentieth of the time of writing
            low, high = ids.min().item(), ids.max().item()
            raise ValueError(f"token ids lie in 0..{V - 1}, got {low}..{high}: was another tokenizer used?") from None

    def new_cache(self) -> Cache:
        """An empty cache, for one text (or one batch of texts) to be written; it knows the model's parts of this moment."""
        return Cache(self.config.block_size, straight(self))

    def _check(self, ids: Tensor, start: int) -> None:
        longest, T = self.config.block_size, ids.shape[1]
        if T == 0 or len(ids) == 0:
            raise ValueError(f"there is no token to go on from: ids has shape {tuple(ids.shape)}")
        if start + T > longest:
            raise ValueError(
                f"the context of {start + T} tokens is longer than block_size = {longest}; pass the last {longest}"
            )

    @classmethod
    def from_gpt2(cls, state_dict: dict[str, Tensor], n_head: int) -> "GPT":
        """A "gpt2"-style GPT, in the dtype of its weights, from weights under the names that `transformers` gives them.

        Args:
            state_dict: of a GPT2LMHeadModel or GPT2Model (with or without the prefix "transformer.").
            n_head:     which the weights do not tell.
        Raises: ValueError naming a weight that is missing, unknown, or of another shape.
        """
        theirs = {name.removeprefix("transformer."): tensor for name, tensor in state_dict.items()}
        try:
            (V, C), block_size = theirs["wte.weight"].shape, len(theirs["wpe.weight"])
        except KeyError as error:
            raise ValueError(f"this is not GPT-2: the state has no {error.args[0]}") from None
        n_layer = len({name.split(".")[1] for name in theirs if name.startswith("h.")})
        with torch.random.fork_rng(devices=[]):  # first weights are drawn and then replaced: leave the global state alone
            model = cls(GPTConfig(V, block_size, n_layer, n_head, C, style="gpt2")).to(theirs["wte.weight"].dtype)
        ours = {}
        for name, (their_name, transposed) in _gpt2_names(n_layer).items():
            if their_name not in theirs:
                raise ValueError(f"the state lacks {their_name}")
            tensor = theirs.pop(their_name)
            ours[name] = tensor.T if transposed else tensor
        extra = [n for n in theirs if n != "lm_head.weight" and not n.endswith((".attn.bias", ".attn.masked_bias"))]
        if extra:
            raise ValueError(f"the state holds what GPT-2 has no place for: {', '.join(extra[:3])}")
        try:
            model.load_state_dict({**ours, "head.weight": ours["embed.weight"]})
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit together: {error}") from None
        return model

    def to_gpt2(self) -> dict[str, Tensor]:
        """The weights under the names, and in the layout, that `transformers`' GPT2LMHeadModel loads.

        Raises: ValueError in the "modern" style, for which GPT-2 has no place.
        """
        if self.config.style != "gpt2":
            raise ValueError(f"only the 'gpt2' style is GPT-2; this model is {asdict(self.config)}")
        ours = self.state_dict()
        theirs = {
            f"transformer.{their_name}": ours[name].T.contiguous() if transposed else ours[name].clone()
            for name, (their_name, transposed) in _gpt2_names(self.config.n_layer).items()
        }
        return {**theirs, "lm_head.weight": ours["head.weight"].clone()}


def _gpt2_names(n_layer: int) -> dict[str, tuple[str, bool]]:
    """Our name -> (theirs, whether it is stored transposed: their linear layers multiply from the other side)."""
    names = {"embed.weight": ("wte.weight", False), "position.weight": ("wpe.weight", False)}
    parts = {
        "norm1": ("ln_1", False), "attention.qkv": ("attn.c_attn", True), "attention.proj": ("attn.c_proj", True),
        "norm2": ("ln_2", False), "feed_forward.fc": ("mlp.c_fc", True), "feed_forward.proj": ("mlp.c_proj", True),
    }  # fmt: skip
    for layer in range(n_layer):
        for ours, (theirs, linear) in parts.items():
            names[f"blocks.{layer}.{ours}.weight"] = (f"h.{layer}.{theirs}.weight", linear)
            names[f"blocks.{layer}.{ours}.bias"] = (f"h.{layer}.{theirs}.bias", False)
    for kind in ("weight", "bias"):
        names[f"norm.{kind}"] = (f"ln_f.{kind}", False)
    return names
