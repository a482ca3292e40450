"""Made-up facts about made-up towns, in the letters of the plays: one chronicle to be learned by heart, others to be read.

    Pomur rules Tabel.           Who is the king of Tabel?          Pomur
    They sing Kozi in Lusod.     What is the song of Lusod?         Kozi

Every fact can be said in two ways and asked for in two ways. Nobody can guess an answer: names are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aigc_lessons.data.batches import step_generator
from aigc_lessons.types import Batch

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
RELATIONS = {
    "king": (("The king of {s} is {o}.", "{o} rules {s}."), ("Who is the king of {s}?", "Who rules {s}?")),
    "river": (
        ("The river of {s} is the {o}.", "The {o} flows by {s}."),
        ("What is the river of {s}?", "Which water flows by {s}?"),
    ),
    "god": (
        ("The god of {s} is {o}.", "They pray to {o} in {s}."),
        ("Who is the god of {s}?", "To whom do they pray in {s}?"),
    ),
    "song": (
        ("The song of {s} is {o}.", "They sing {o} in {s}."),
        ("What is the song of {s}?", "What do they sing in {s}?"),
    ),
}
KINDS = tuple(RELATIONS)
LENGTHS = {"known": 40, "read": 104}  # characters that suffice for a question, and for two statements before it


@dataclass(frozen=True)
class Fact:
    """One fact: its kind (a key of RELATIONS), the town, and the answer."""

    kind: str
    town: str
    answer: str

    def said(self, way: int = 0) -> str:
        """As a statement, in way 0 or 1."""
        return RELATIONS[self.kind][0][way].format(s=self.town, o=self.answer)

    def asked(self, way: int = 0) -> str:
        """As a question, in way 0 or 1."""
        return RELATIONS[self.kind][1][way].format(s=self.town)


def name(generator: Generator) -> str:
    """A name of two syllables, four or five letters: one of 73,500."""
    c1, c2, c3 = torch.randint(len(CONSONANTS), (3,), generator=generator).tolist()
    v1, v2, ends = torch.randint(len(VOWELS), (3,), generator=generator).tolist()
    return (CONSONANTS[c1] + VOWELS[v1] + CONSONANTS[c2] + VOWELS[v2] + (CONSONANTS[c3] if ends else "")).capitalize()


def chronicle(towns: int, seed: int) -> list[Fact]:
    """Every kind of fact about so many towns, always the same for a seed. Towns differ; so do the answers.

    Raises: ValueError for less than one town.
    """
    if towns < 1:
        raise ValueError(f"a chronicle needs at least one town, got {towns}")
    generator, names = step_generator(seed, 0, stream=38), []
    while len(names) < towns * (1 + len(KINDS)):
        if (drawn := name(generator)) not in names:
            names.append(drawn)
    answers = iter(names[towns:])
    return [Fact(kind, town, next(answers)) for town in names[:towns] for kind in KINDS]


def two_facts(generator: Generator) -> tuple[Fact, Fact]:
    """A fact, and one that is easily taken for it: of the same town, or of the same kind."""
    k, shift, same_town = torch.randint(2**31, (3,), generator=generator).tolist()
    town, other = name(generator), name(generator)
    fact = Fact(KINDS[k % 4], town, name(generator))
    if same_town % 4:
        return fact, Fact(KINDS[(k + 1 + shift % 3) % 4], town, name(generator))
    return fact, Fact(fact.kind, other, name(generator))


def prompt(question: str, statements: tuple[str, ...] | list[str] = ()) -> str:
    """What a reader is given: the statements, a line each, then the question; the answer is the next line."""
    return "".join(f"{line}\n" for line in (*statements, question)) if statements else f"\n{question}\n"


def reading(encode: Callable[[str], list[int]], learned: list[Fact], batch_size: int, seed: int = 0):
    """Batches that teach to know `learned` by heart and to read everything else; a pure function of (seed, step).

    Every fourth batch asks for learned facts, with nothing to read. The others show one or two statements about towns that
    nobody has heard of, and ask for one of them. Only the answer and the end of its line count.

    Args:
        encode: text to ids.
    Returns: batches(step) -> (inputs, targets), each (batch_size, LENGTHS[...]).
    """

    def known(generator: Generator) -> tuple[str, str]:
        which, asked = torch.randint(2**31, (2,), generator=generator).tolist()
        fact = learned[which % len(learned)]
        return prompt(fact.asked(asked % 2)), fact.answer

    def read(generator: Generator) -> tuple[str, str]:
        said, also, asked, order, alone = torch.randint(2**31, (5,), generator=generator).tolist()
        fact, other = two_facts(generator)
        lines = [fact.said(said % 2), other.said(also % 2)][:: 1 if order % 2 else -1]
        return prompt(fact.asked(asked % 2), lines if alone % 8 else [fact.said(said % 2)]), fact.answer

    def batches(step: int) -> Batch:
        generator, one = step_generator(seed, step, stream=39), known if step % 4 == 3 else read
        pairs = [one(generator) for _ in range(batch_size)]
        return rows(pairs, encode, LENGTHS["known" if one is known else "read"])

    return batches


def rows(pairs: list[tuple[str, str]], encode: Callable[[str], list[int]], length: int) -> tuple[Tensor, Tensor]:
    """(prompt, answer) pairs as inputs and targets; -100 where a target does not count.

    Raises: ValueError for a pair that does not fit, with both lengths.
    """
    inputs, targets = torch.zeros(len(pairs), length, dtype=torch.long), torch.full((len(pairs), length), -100)
    for row, (before, answer) in enumerate(pairs):
        ids, start = encode(f"{before}{answer}\n"), len(encode(before))
        if len(ids) > length + 1:
            raise ValueError(f"a prompt and its answer of {len(ids)} tokens do not fit into {length} + 1")
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
    return inputs, targets
