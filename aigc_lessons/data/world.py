"""A small world that a seed makes up: people, what is true of each, many ways to tell it and many ways to ask for it.

Everything that is true is told in the prose of the world (`World.prose`), so a network can learn it there. Questions
(`World.questions`) exist for a part of the facts only: whether the others can be asked for, and in words that were never
used for asking, is the test. Every answer is exact. All of it is synthetic, and a pure function of the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch

SPLITS = ("train", "pairs", "paraphrases", "held_out")
Fact = tuple[str, str]  # (person, relation)


def words(text: str) -> list[str]:
    return text.split()


FIRST_NAMES = words("Adam Anna Bella Boris Carlo Clara David Diana Emma Erik Felix Freya Georg Greta Helen Hugo")
FAMILIES = words("Abel Berg Cole Dorn Ekman Frost Gray Hall Iven Jung Kern Lind Moor Nord Olsen Park")
TOWNS = words("Aldor Brill Corva Delm Estry Fanholt Gorm Hasper Ivo Jarrow Kelm Lunden")
TRADES = words("baker carpenter doctor gardener judge miller nurse painter sailor tailor teacher weaver")
ANIMALS = words("cat cow dog donkey duck goat goose hen horse pig rabbit sheep")
INSTRUMENTS = words("bell cello drum fiddle flute guitar harp horn lute organ piano trumpet")
YEARS = [str(year) for year in range(1941, 1981)]
PEOPLE, NEWCOMERS = 96, 32  # of 256 names; the other names belong to nobody
ASKED = 0.6  # of the facts of each relation may be asked for in training
HELD_OUT = 6  # of the questions of each relation, the last ones, are never used in training

ABOUT_NOUNS = ("What is the {} of {N}?", "Tell me the {} of {N}.", "Do you know the {} of {N}?",
               "I would like to know the {} of {N}.")  # fmt: skip
ABOUT_CLAUSES = ("Tell me {}.", "Do you know {}?", "I would like to know {}.", "Is it known {}?")


def wordings(nouns: Sequence[str], clauses: Sequence[str], direct: Sequence[str]) -> tuple[str, ...]:
    """All ways to ask: every noun and every clause in each of four frames, and questions as they are.

    The last HELD_OUT have each noun and each clause once, in another frame each time: all their words, and all the frames,
    stand among the others; what is new is that they come together.
    """
    frames = [(noun, ABOUT_NOUNS) for noun in nouns] + [(clause, ABOUT_CLAUSES) for clause in clauses]
    kept, held_out = list(direct), []
    for k, (core, around) in enumerate(frames):
        for f, frame in enumerate(around):
            (held_out if f == k % len(around) else kept).append(frame.replace("{}", core))
    return (*kept, *held_out)


@dataclass(frozen=True)
class Relation:
    """One kind of fact: its possible values, how it is told and how it is asked for.

    {N} stands for the person and {v} for the value. The first way of telling is how the assistant answers. `again` asks
    for it once it is clear whom the talk is about.
    """

    name: str
    values: Sequence[str]
    told: Sequence[str]
    asked: Sequence[str]
    again: Sequence[str]


RELATIONS = (
    Relation(
        "birth", TOWNS,
        ("{N} was born in the town of {v}.", "{N} is a native of {v}.", "{N} grew up among the people of {v}.",
         "{v} is the place where {N} was a child.", "The cradle of {N} stood in {v}."),
        wordings(("birthplace", "place of birth", "native town"),
                 ("where {N} was born", "where {N} comes from", "in which town {N} was born"),
                 ("Where was {N} born?", "Where does {N} come from?", "In which town was {N} born?", "Where is {N} from?")),
        ("And the birthplace?", "Born where?"),
    ),
    Relation(
        "home", TOWNS,
        ("{N} lives in {v}.", "{N} has a house in {v}.", "{N} sleeps under a roof in {v}.",
         "{v} is the place where {N} pays taxes.", "The door of {N} is in {v}."),
        wordings(("address", "home", "residence"),
                 ("where {N} lives", "where I find {N} today", "in which town {N} lives"),
                 ("Where does {N} live?", "Where can I visit {N}?", "To which town do I write to {N}?",
                  "In which town does {N} live?")),
        ("And the address?", "At home where?"),
    ),
    Relation(
        "year", YEARS,
        ("{N} was born in the year {v}.", "{N} has been in this world since {v}.", "{N} counts birthdays from {v} on.",
         "In {v} the mother of {N} had a child.", "The first shoes of {N} were made after {v}."),
        wordings(("age", "year of birth", "birth year"),
                 ("when {N} was born", "how old {N} is", "in which year {N} was born"),
                 ("When was {N} born?", "How old is {N}?", "In which year was {N} born?",
                  "When did the life of {N} begin?")),
        ("And the age?", "Born when?"),
    ),
    Relation(
        "work", TRADES,
        ("{N} works as a {v}.", "{N} earns money as a {v}.", "{N} became a {v} long ago.",
         "People pay {N} for the skill of a {v}.", "The tools of {N} are those of a {v}."),
        wordings(("job", "profession", "occupation"),
                 ("what {N} does all day", "what job {N} has", "how {N} makes a living"),
                 ("What does {N} do all day?", "Which job does {N} have?", "How does {N} make a living?",
                  "Which profession does {N} have?")),
        ("And the job?", "Doing what all day?"),
    ),
    Relation(
        "animal", ANIMALS,
        ("{N} keeps a {v}.", "{N} feeds a {v} every morning.", "{N} has a {v} in the house.",
         "People see {N} walk with a {v}.", "The garden of {N} belongs to a {v}."),
        wordings(("pet", "animal", "companion"),
                 ("which animal {N} owns", "what pet {N} has", "what kind of animal is with {N}"),
                 ("Which animal does {N} own?", "What pet does {N} have?", "What animal lives with {N}?",
                  "What kind of animal is with {N}?")),
        ("And the pet?", "With which animal?"),
    ),
    Relation(
        "music", INSTRUMENTS,
        ("{N} plays the {v}.", "{N} took lessons on the {v}.", "{N} owns a fine {v}.",
         "People love to hear {N} on the {v}.", "The evenings of {N} are spent at the {v}."),
        wordings(("instrument", "musical instrument", "part in the orchestra"),
                 ("what {N} plays", "which instrument {N} practises", "on what {N} makes music"),
                 ("Which instrument does {N} play?", "What does {N} practise?", "On what does {N} make music?",
                  "What would {N} bring to the orchestra?")),
        ("And the instrument?", "Playing what?"),
    ),
)  # fmt: skip
NAMED = {relation.name: relation for relation in RELATIONS}
UNKNOWN = "I do not know {N}."


@dataclass(frozen=True)
class Question:
    """A question about one fact, with the exact answer. For somebody who does not exist, `value` is empty."""

    text: str
    answer: str
    person: str
    relation: str
    value: str = ""


@dataclass(frozen=True, eq=False)
class World:
    """People and what is true of them.

    people:    those whom the prose tells of.
    newcomers: they exist, and no prose tells of them: only `passage` does. For libraries.
    nobody:    names that could exist and do not.
    facts:     (person, relation) -> value, of people and newcomers.
    asked:     the facts that may be asked for in training.
    """

    seed: int
    people: tuple[str, ...]
    newcomers: tuple[str, ...]
    nobody: tuple[str, ...]
    facts: dict[Fact, str] = field(repr=False)
    asked: frozenset[Fact] = field(repr=False)

    def value(self, person: str, relation: str) -> str:
        """What is true. Raises KeyError for a person or relation that does not exist."""
        return self.facts[person, relation]

    def answer(self, person: str, relation: str) -> str:
        """The exact answer of an assistant: a sentence, or that it does not know the person."""
        if (person, relation) not in self.facts:
            return UNKNOWN.format(N=person)
        return NAMED[relation].told[0].format(N=person, v=self.facts[person, relation])

    def told(self, person: str, relation: str) -> list[str]:
        """All sentences of the prose that tell a fact."""
        value = self.facts[person, relation]
        return [way.format(N=person, v=value) for way in NAMED[relation].told]

    def prose(self, passes: int, seed: int = 0) -> list[str]:
        """Descriptions of all people, `passes` of each: every fact once, in an order and in words drawn anew.

        Args:
            passes: times that each person is described, at least 1.
            seed:   of the drawing; another seed gives other descriptions of the same people.
        """
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}")
        generator = torch.Generator().manual_seed(seed)
        people, relations = len(self.people), len(RELATIONS)
        who = torch.rand(passes, people, generator=generator).argsort(1).flatten().tolist()
        order = torch.rand(passes * people, relations, generator=generator).argsort(1).tolist()
        ways = torch.randint(len(RELATIONS[0].told), (passes * people, relations), generator=generator).tolist()
        sentences = {(n, r): self.told(self.people[n], RELATIONS[r].name) for n in range(people) for r in range(relations)}
        return [
            " ".join(sentences[n, r][way] for r, way in zip(facts, words, strict=True))
            for n, facts, words in zip(who, order, ways, strict=True)
        ]

    def passage(self, person: str) -> str:
        """One description of a person, the same at every call: for people and for newcomers."""
        return " ".join(self.told(person, relation.name)[i % 3] for i, relation in enumerate(RELATIONS))

    def questions(self, split: str) -> list[Question]:
        """All questions of a part.

                                        asked in known words   in words never used in training
        facts asked for in training         "train"                "paraphrases"
        facts never asked for               "pairs"                "held_out"

        Raises: ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [
            Question(way.format(N=person), self.answer(person, name), person, name, self.value(person, name))
            for person in self.people
            for name, relation in NAMED.items()
            if ((person, name) in self.asked) == (split in ("train", "paraphrases"))
            for way in ways(relation, held_out=split in ("paraphrases", "held_out"))
        ]

    def about_nobody(self, held_out: bool = False) -> list[Question]:
        """Questions about people who do not exist. Half of the names, in known words; or the other half, in new words."""
        half = len(self.nobody) // 2
        return [
            Question(way.format(N=person), UNKNOWN.format(N=person), person, relation.name)
            for person in (self.nobody[half:] if held_out else self.nobody[:half])
            for relation in RELATIONS
            for way in ways(relation, held_out=held_out)
        ]


def ways(relation: Relation, held_out: bool = False) -> Sequence[str]:
    """The ways of asking that training uses, or those that it never uses."""
    cut = len(relation.asked) - HELD_OUT
    return relation.asked[cut:] if held_out else relation.asked[:cut]


@lru_cache(maxsize=8)
def world(seed: int = 0) -> World:
    """The world of a seed: who exists, what is true, and which facts may be asked for in training.

    Raises: ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, got {seed}")
    generator = torch.Generator().manual_seed(seed)

    def shuffled(things: Sequence) -> list:
        return [things[i] for i in torch.randperm(len(things), generator=generator).tolist()]

    names = shuffled([f"{first} {family}" for first in FIRST_NAMES for family in FAMILIES])
    people, newcomers, nobody = names[:PEOPLE], names[PEOPLE : PEOPLE + NEWCOMERS], names[PEOPLE + NEWCOMERS :]
    facts, asked = {}, set()
    for relation in RELATIONS:
        drawn = torch.randint(len(relation.values), (len(people + newcomers),), generator=generator).tolist()
        facts |= {(who, relation.name): relation.values[i] for who, i in zip(people + newcomers, drawn, strict=True)}
        asked |= {(who, relation.name) for who in shuffled(people)[: round(ASKED * len(people))]}
    return World(seed, *(tuple(sorted(group)) for group in (people, newcomers, nobody)), facts, frozenset(asked))
