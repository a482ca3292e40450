"""The reader: the shipped Shakespeare network, taught a chronicle by heart, and to read out a new one; how it is measured.

It copies the right name out of one line. Of two lines it takes either: to choose, it would have to learn for longer.
"""

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import step_generator
from aigc_lessons.data.chronicle import Fact, chronicle, prompt, reading, two_facts
from aigc_lessons.language.answering import answers, exact
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained

TOWNS, OLD, NEW = 40, 0, 1  # towns in a chronicle; the seeds of the two
ASKED = 320  # questions of each kind
SOURCE = "made-up facts (data/chronicle.py); begins with the network shakespeare"


def old_chronicle() -> list[Fact]:
    """What the reader has learned by heart: 160 facts about 40 towns."""
    return chronicle(TOWNS, OLD)


def new_chronicle() -> list[Fact]:
    """160 facts about 40 towns of which no training ever spoke."""
    return chronicle(TOWNS, NEW)


def tokenizer() -> CharTokenizer:
    """The characters of the plays."""
    return CharTokenizer.from_text(card("shakespeare")["characters"])


def beginner() -> nn.Module:
    """The shipped Shakespeare network, ready to learn."""
    return pretrained("shakespeare").requires_grad_(True)


def lessons(facts: list[Fact], seed: int):
    """Batches of 32 for the reader."""
    return reading(tokenizer().encode, facts, 32, seed)


def by_heart(network: nn.Module, facts: list[Fact]) -> Tensor:
    """Each fact asked in both ways, with nothing to read: which answers were right."""
    given = answers(network, tokenizer(), [prompt(fact.asked(way)) for fact in facts for way in (0, 1)])
    return exact(given, [fact.answer for fact in facts for _ in (0, 1)])


def from_lines(network: nn.Module, lines: int, seed: int = 0, asked: int = ASKED) -> Tensor:
    """Questions about unheard-of towns, the answer in one line, or in one of two: which were right."""
    prompts, wanted, generator = [], [], step_generator(seed, 0, stream=40)
    for k in range(asked):
        fact, other = two_facts(generator)
        both = [fact.said(k // 2 % 2), other.said(k // 4 % 2)][:: 1 if k % 3 else -1]
        prompts.append(prompt(fact.asked(k % 2), both if lines == 2 else [fact.said(k // 2 % 2)]))
        wanted.append(fact.answer)
    return exact(answers(network, tokenizer(), prompts), wanted)


def measure(network: nn.Module, learned: list[Fact], unheard: list[Fact]) -> dict[str, float]:
    """Shares of right answers: learned facts by heart, new ones by heart, new ones from a line, and from one of two."""
    with torch.no_grad():
        return {
            "learned": by_heart(network, learned).double().mean().item(),
            "unheard": by_heart(network, unheard).double().mean().item(),
            "one_line": from_lines(network, 1).double().mean().item(),
            "two_lines": from_lines(network, 2).double().mean().item(),
        }
