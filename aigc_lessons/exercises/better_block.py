"""What stands behind exercise 32.5: a GPT-2 whose blocks are somebody else's, trained in a moment, and judged."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.exercises.core import Unusable, call, noise
from aigc_lessons.language.objective import held_out_nats, next_token_loss
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.training import budget
from aigc_lessons.training.loop import TrainConfig, train

SIZES = GPTConfig(68, 32, 2, 2, 48, style="gpt2")
TRAINING = TrainConfig(120, lr=0.02, warmup=5, decay=0.9, optimizer="muon", log_every=1000)
PLAIN, LIMIT = 2.40, 2.34  # nats a character: of GPT-2's own blocks (mean of the seeds), and what is to be reached
SEEDS, CHARACTERS = (0, 1), 10_000


@dataclass(frozen=True)
class Outcome:
    """Of a block: its weights, and the mean held-out loss of a GPT-2 made of it."""

    weights: int
    nats: float


class Shell(nn.Module):
    """A GPT-2 whose blocks are somebody else's: embedding, positions, last norm and head stay."""

    outer = ("embed", "head")

    def __init__(self, V: int, make_block, seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            gpt = GPT(replace(SIZES, vocab_size=V))
            made = [call(make_block, SIZES.n_embd, SIZES.n_head) for _ in range(SIZES.n_layer)]
        if strange := [type(one).__name__ for one in made if not isinstance(one, nn.Module)]:
            raise Unusable(
                f"expected a torch module for a block, got {strange[0]}: return an instance, not a class or a tensor"
            )
        self.embed, self.position, self.blocks, self.norm, self.head = (
            gpt.embed,
            gpt.position,
            nn.ModuleList(made),
            gpt.norm,
            gpt.head,
        )

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position.weight[: ids.shape[1]]
        for one in self.blocks:
            x = one(x)
        return self.head(self.norm(x))


@lru_cache(maxsize=1)
def _plays() -> tuple[Tensor, Tensor, int]:
    text = shakespeare(stand_in=True)
    tokenizer = CharTokenizer.from_text(text.train + text.held_out)
    known = [torch.tensor(tokenizer.encode(part)) for part in (text.train[:1_000_000], text.held_out[: CHARACTERS + 1])]
    return *known, tokenizer.vocab_size


def allowed() -> int:
    """Weights of a block of the lesson's GPT-2."""
    return 12 * SIZES.n_embd**2 + 13 * SIZES.n_embd


def _read(block: nn.Module, x: Tensor) -> Tensor:
    """The block's answer, with the same random numbers at every call: dropout is no look into the future."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return block(x)


def outcome(make_block) -> Outcome:
    """Put blocks into a GPT-2 shell, train it on the plays, judge it; mean of the seeds.

    Raises: Unusable if a block is too large, changes the shape, is not finite, or lets a token see a later one.
    """
    train_ids, held_out_ids, V = _plays()
    nats, size = [], 0
    for seed in SEEDS:
        network = Shell(V, make_block, seed)
        size = max(sum(p.numel() for p in one.parameters()) for one in network.blocks)
        if size > allowed():
            raise Unusable(f"got      a block of {size:,} weights\nexpected at most {allowed():,}")
        x = noise(seed, 2, 9, SIZES.n_embd)
        y, z = (_read(network.blocks[0], one) for one in (x, torch.cat([x[:, :5], noise(seed + 9, 2, 4, SIZES.n_embd)], 1)))
        if not isinstance(y, Tensor) or y.shape != x.shape:
            shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise Unusable(f"expected a stream of shape {tuple(x.shape)}, got {shape}")
        if not y.isfinite().all():
            raise Unusable("the block returned numbers that are not finite (nan or inf), before any training")
        if not torch.allclose(y[:, :5], z[:, :5], atol=1e-5):
            raise Unusable("the first five tokens changed when only later ones did: a token sees its future")
        config = TrainConfig(2) if budget.is_tiny() else replace(TRAINING, seed=seed)
        for _ in train(network, next_token_loss(), windows(train_ids, SIZES.block_size, 16, seed), config):
            pass
        nats.append(held_out_nats(network, held_out_ids[:200] if budget.is_tiny() else held_out_ids, SIZES.block_size))
    return Outcome(size, sum(nats) / len(nats))
