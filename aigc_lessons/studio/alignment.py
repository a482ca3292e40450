"""The stage of the lesson on alignment: a GPT that writes the first line of a speech, and a rule that judges the line."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.data.text import shakespeare
from aigc_lessons.language.policy import token_kl
from aigc_lessons.language.rollout import Rollout, roll_out
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.language.verse import Verse, words_of
from aigc_lessons.training.checkpoints import card, pretrained

SEEN, LONGEST = 16, 56  # characters of a prompt, of an answer


@dataclass(frozen=True, eq=False)
class Stage:
    """The reference network, how text becomes ids, what speeches begin after, and the rule."""

    reference: nn.Module
    tokenizer: CharTokenizer
    prompts: Int[Tensor, "N 16"]
    held_out: Int[Tensor, "M 16"]
    verse: Verse
    source: str

    @property
    def stop(self) -> int:
        """The end of a line ends an answer."""
        return self.tokenizer.encode("\n")[0]

    def batches(self, size: int, seed: int) -> Callable[[int], Tensor]:
        """step -> prompts, drawn anew for each step."""

        def batch(step: int) -> Tensor:
            rows = torch.randint(len(self.prompts), (size,), generator=step_generator(seed, step))
            return self.prompts[rows]

        return batch

    def draw(self, network: nn.Module, prompts: Tensor, seed: int, temperature: float = 1.0) -> Rollout:
        """An answer to each prompt."""
        generator = torch.Generator().manual_seed(seed)
        return roll_out(network, prompts, LONGEST, self.stop, generator, temperature)

    def lines(self, rollout: Rollout) -> list[str]:
        """The answers as text, without the end of the line."""
        rows = zip(rollout.answers.tolist(), rollout.mask.sum(1).tolist(), strict=True)
        return [self.tokenizer.decode(row[:n]).removesuffix("\n") for row, n in rows]

    def quality(self, rollout: Rollout) -> Float[Tensor, " B"]:
        """q of each answer."""
        ended = rollout.ended(self.stop).tolist()
        return torch.tensor([self.verse(line, e) for line, e in zip(self.lines(rollout), ended, strict=True)])


@lru_cache(maxsize=1)
def stage() -> Stage:
    """Speeches of the plays: prompts are the last 16 characters before one begins, the speaker's name and a line break."""
    plays = shakespeare(stand_in=True)
    tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
    train, held_out = ("".join(c for c in text if c in tokenizer.characters) for text in (plays.train, plays.held_out))
    prompts, fresh = (_prompts(text, tokenizer) for text in (train, held_out))
    return Stage(pretrained("shakespeare"), tokenizer, prompts, fresh, Verse(frozenset(words_of(train))), plays.source)


def _prompts(text: str, tokenizer: CharTokenizer) -> Tensor:
    ends = [m.end() for m in re.finditer(r":\n", text) if m.end() >= SEEN]
    return torch.tensor([tokenizer.encode(text[end - SEEN : end]) for end in ends])


@torch.no_grad()
def distance(network: nn.Module, reference: nn.Module, rollout: Rollout) -> Float[Tensor, " B"]:
    """Nats from the reference for each answer: KL at every place from all probabilities, summed over the answer."""
    log_p, log_q = (m(rollout.ids)[:, rollout.start - 1 : -1].log_softmax(-1) for m in (network, reference))
    return (token_kl(log_p, log_q) * rollout.mask).sum(1)
