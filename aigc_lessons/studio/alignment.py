"""The stage of the lesson on alignment: a GPT that writes the first line of a speech, and a rule that judges the line."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.data.text import shakespeare
from aigc_lessons.language.preference import fit_linear_reward, prefer_probability, token_kl
from aigc_lessons.language.rollout import Pairs, Rollout, roll_out, weigh
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.language.verse import Verse, syllables, words_of
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

    def fresh(self, n: int) -> Int[Tensor, "n 16"]:
        """n prompts from all over the held-out plays."""
        return self.held_out[torch.arange(n) * len(self.held_out) // n]

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


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Two answers to each prompt, the q of each, and which one a reader preferred.

    The reader is a stand-in, and is said to be one: he has q in mind, and prefers the first with the probability of Bradley
    and Terry for the rewards q / FICKLE. A difference of 0.1 in q decides three times of four.
    """

    first: Rollout
    second: Rollout
    q_first: Float[Tensor, " N"]
    q_second: Float[Tensor, " N"]
    prefers_first: Bool[Tensor, " N"]

    def sorted(self) -> tuple[Rollout, Rollout]:
        """The preferred answers, and the others."""
        mine = self.prefers_first[:, None]
        ids = [torch.where(keep, self.first.ids, self.second.ids) for keep in (mine, ~mine)]
        masks = [torch.where(keep, self.first.mask, self.second.mask) for keep in (mine, ~mine)]
        return Rollout(ids[0], masks[0]), Rollout(ids[1], masks[1])

    def pairs(self, reference: nn.Module) -> Pairs:
        """What DPO learns from."""
        return Pairs.of(reference, *self.sorted())


FICKLE = 0.1


def compare(there: Stage, n: int, seed: int, prompts: Tensor | None = None) -> Comparisons:
    """n comparisons of answers that the reference drew.

    Args:
        prompts: to draw from; those of the training plays unless given.
    """
    generator = torch.Generator().manual_seed(seed)
    prompts = there.prompts if prompts is None else prompts
    asked = prompts[torch.randint(len(prompts), (n,), generator=generator)]
    both = there.draw(there.reference, asked.repeat(2, 1), 10_000 + seed)
    first, second = both.pick(torch.arange(n)), both.pick(torch.arange(n, 2 * n))
    q = [there.quality(answers) for answers in (first, second)]
    prefers = torch.rand(n, generator=generator) < prefer_probability(q[0] / FICKLE, q[1] / FICKLE)
    return Comparisons(first, second, *q, prefers)


def letter_counts(rollout: Rollout, V: int) -> Float[Tensor, "B V"]:
    """How often each character comes in each answer: a bag of letters, in which order and words are lost."""
    counts = torch.zeros(len(rollout.ids), V)
    return counts.scatter_add_(1, rollout.answers, rollout.mask.float())


def letter_reward(there: Stage, comparisons: Comparisons, ridge: float = 1e-2) -> Float[Tensor, " V"]:
    """What a reader seems to pay for each letter: a reward model that knows letters only, fitted to comparisons."""
    chosen, rejected = (letter_counts(r, there.tokenizer.vocab_size) for r in comparisons.sorted())
    return fit_linear_reward(chosen, rejected, ridge)


def varied(there: Stage, rollout: Rollout) -> Float[Tensor, " B"]:
    """A better rule: q, times the share of the line's words that are not said for a second time."""
    return there.quality(rollout) * torch.tensor([variety(line) for line in there.lines(rollout)])


def variety(line: str) -> float:
    """Different words over words; 1 for a line without any."""
    words = words_of(line)
    return len(set(words)) / len(words) if words else 1.0


@torch.no_grad()
def report(there: Stage, network: nn.Module, answers: Rollout) -> dict[str, float]:
    """What a network wrote, measured: means over its answers.

    q, strict:    the rule, and the share of answers at q = 1.
    kl:           nats from the reference for an answer.
    spelled:      share of words that are known; syllables: of an answer.
    variety:      different words over words, of all answers together.
    odd:          nats a character of what is written, to the reference: how far from the plays it sounds.
    """
    lines, q = there.lines(answers), there.quality(answers)
    words = [word for line in lines for word in words_of(line)]
    return {
        "q": q.mean().item(),
        "strict": (q == 1).double().mean().item(),
        "kl": distance(network, there.reference, answers).mean().item(),
        "spelled": sum(word in there.verse.known for word in words) / max(1, len(words)),
        "syllables": sum(map(syllables, lines)) / len(lines),
        "variety": len(set(words)) / max(1, len(words)),
        "odd": -weigh(there.reference, answers).sum().item() / answers.mask.sum().item(),
    }
