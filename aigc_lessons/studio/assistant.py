"""The assistant: a network that knows a small world, taught to answer questions about it; and how its answers are judged."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aigc_lessons.data.batches import epochs, windows
from aigc_lessons.data.world import NAMED, RELATIONS, UNKNOWN, Question, World, ways, world
from aigc_lessons.language.chat import END, Chat, Turn, ask, packed, padded, render, replies, world_tokenizer
from aigc_lessons.language.objective import IGNORE, held_out_nats
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.models.gpt import GPT
from aigc_lessons.types import Batch

KINDS = ("right", "wrong value", "wrong fact", "wrong person", "does not know", "no answer")


def prose_ids(tokenizer: BPETokenizer, documents: Sequence[str]) -> Tensor:
    """Descriptions as one long row of tokens, with an end after each."""
    end = tokenizer.special_tokens[END]
    return torch.tensor([token for text in documents for token in (*tokenizer.encode(text), end)])


def chats_of(questions: Sequence[Question]) -> list[Chat]:
    """Each question as a conversation with its answer."""
    return [ask(question.text, question.answer) for question in questions]


@torch.no_grad()
def exact(
    model: Callable[[Tensor], Tensor], tokenizer: BPETokenizer, questions: Sequence[Question], batch_size: int = 256
) -> Bool[Tensor, " N"]:
    """Whether the greedy answer to each question is the exact one, end and all; without writing a single token.

    Greedy writing gives the expected text exactly if at each of its places, after the expected tokens before it, the
    expected one is the likeliest: one pass answers it.
    """
    inputs, targets = padded(tokenizer, chats_of(questions))
    right = []
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        right.append(((model(x).argmax(-1) == y) | (y == IGNORE)).all(1))
    return torch.cat(right)


@torch.no_grad()
def recall(model: Callable[[Tensor], Tensor], tokenizer: BPETokenizer, world: World) -> Float[np.ndarray, " R"]:
    """For each relation the share of people whose fact the model tells when the prose begins to: "Anna Berg lives in"."""
    end, shares = tokenizer.special_tokens[END], []
    for relation in RELATIONS:
        begins = relation.told[0].split("{v}")[0].rstrip()
        told = [[end, *tokenizer.encode(begins.format(N=person))] for person in world.people]
        T = max(map(len, told))
        ids = torch.tensor([row + [end] * (T - len(row)) for row in told])
        last = torch.tensor([len(row) - 1 for row in told])
        likeliest = model(ids)[torch.arange(len(told)), last].argmax(-1)
        truth = [tokenizer.encode(" " + world.value(person, relation.name))[0] for person in world.people]
        shares.append((likeliest == torch.tensor(truth)).float().mean().item())
    return np.array(shares)


def judge_base(network: GPT, train_set: "Taught", held_out: "Taught") -> dict[str, float]:
    """How many facts the network tells when the prose begins to; nats a token on descriptions drawn anew."""
    told = recall(network, train_set.tokenizer, train_set.world)
    nats = held_out_nats(network, held_out.prose, network.config.block_size)
    return {"recall": float(told.mean()), "recall_worst": float(told.min()), "nats": nats}


def kind_of(world: World, question: Question, reply: str) -> str:
    """What is right or wrong with an answer: one of KINDS.

    "wrong value": about the right person and fact, and false; "wrong fact": another fact of the right person; "wrong
    person": a sentence about somebody else.
    """
    if reply == question.answer:
        return "right"
    if reply.startswith(UNKNOWN.split("{N}")[0]):
        return "does not know"
    for relation in RELATIONS:
        before, after = relation.told[0].split("{N}")[1].split("{v}")
        name, found, value = reply.partition(before)
        if found and value.endswith(after) and value.removesuffix(after) in relation.values:
            if name != question.person:
                return "wrong person"
            return "wrong value" if relation.name == question.relation else "wrong fact"
    return "no answer"


# ------------------------------------------------------------------------------------------------ what it is taught with

PASSES, BLOCK = 60, 96  # descriptions of each person in the prose; tokens that the network sees


@dataclass(frozen=True, eq=False)
class Taught:
    """What a network of the world learns from: prose as one long row of tokens; rows of packed conversations, if any."""

    world: World
    tokenizer: BPETokenizer
    prose: Tensor
    source: str
    sha256: str
    chats: tuple[Tensor, Tensor, Tensor] | None = None


def fingerprint(tokenizer: BPETokenizer) -> str:
    """SHA-256 of a tokenizer's merges and markers: a network is good for one tokenizer only, and its card says which."""
    return hashlib.sha256(repr((tokenizer.merges, [*tokenizer.special_tokens])).encode()).hexdigest()


def prose_sets() -> tuple[Taught, Taught]:
    """The prose of the world of seed 0 to learn from, and descriptions of the same people that are drawn anew."""
    here, tokenizer, sets = world(), world_tokenizer(), []
    for passes, seed in ((PASSES, 0), (1, 1)):
        documents = here.prose(passes, seed)
        source = f"{len(documents)} descriptions of {len(here.people)} people, made up by data.world"
        digest = hashlib.sha256("\n".join(documents).encode()).hexdigest()
        sets.append(Taught(here, tokenizer, prose_ids(tokenizer, documents), source, digest))
    return sets[0], sets[1]


def chat_sets(n: int = 30_000) -> tuple[Taught, World]:
    """n conversations packed into rows, the prose beside them, and the world to be judged by."""
    known, _ = prose_sets()
    chats = lessons(known.world, n)
    source = f"{n} conversations, made up by studio.assistant, and {known.source}"
    digest = hashlib.sha256("\n".join(map(render, chats)).encode()).hexdigest()
    rows = packed(known.tokenizer, chats, BLOCK)
    return Taught(known.world, known.tokenizer, known.prose, source, digest, rows), known.world


def rehearsed(taught: Taught, rows: int, prose: int, seed: int = 0) -> Callable[[int], Batch]:
    """Batches of `rows` packed conversations and `prose` windows of prose, of which every token counts.

    Prose among the lessons is called rehearsal: what is practised is not forgotten.
    """
    talk = epochs(taught.chats, rows, seed)
    if prose == 0:
        return talk
    read = windows(taught.prose, BLOCK, prose, seed)

    def batches(step: int) -> Batch:
        inputs, targets, segments = talk(step)
        x, y = read(step)
        return torch.cat([inputs, x]), torch.cat([targets, y]), torch.cat([segments, torch.zeros_like(x)])

    return batches


@dataclass(frozen=True)
class Mix:
    """Of the conversations that teach the assistant, the shares that are not a single question about a fact.

    again:  a second question, and perhaps a third, about the person of the first: "And the pet?"
    nobody: about somebody who does not exist.
    notes:  a note of the system tells of somebody of whom nothing else is known, and the question asks for that.
    """

    again: float = 0.1
    nobody: float = 0.1
    notes: float = 0.5


def lessons(world: World, n: int, seed: int = 0, mix: Mix = Mix()) -> list[Chat]:
    """n conversations to learn from. None asks for a fact outside of `world.asked`, or in words that are held out."""
    generator = torch.Generator().manual_seed(seed)
    asked = sorted(world.asked)
    facts_of = {person: [r for r in NAMED if (person, r) in world.asked] for person in world.people}
    nobody = sorted({question.person for question in world.about_nobody()})

    def one(things: Sequence):
        return things[torch.randint(len(things), (), generator=generator).item()]

    def some(things: Sequence, least: int, most: int) -> list:
        order = torch.randperm(len(things), generator=generator).tolist()
        return [things[i] for i in order[: one(range(least, most + 1))]]

    def question(person: str, relation: str) -> str:
        return one(ways(NAMED[relation])).format(N=person)

    def single() -> Chat:
        person, relation = one(asked)
        return ask(question(person, relation), world.answer(person, relation))

    def again() -> Chat:
        person = one([who for who in world.people if len(facts_of[who]) > 1])
        order = some(facts_of[person], 2, 3)
        first = ask(question(person, order[0]), world.answer(person, order[0]))
        more = [ask(one(NAMED[relation].again), world.answer(person, relation)) for relation in order[1:]]
        return first + tuple(turn for turns in more for turn in turns)

    def stranger() -> Chat:
        person = one(nobody)
        return ask(question(person, one(list(NAMED))), UNKNOWN.format(N=person))

    def note() -> Chat:
        person, told = one(nobody), some(list(NAMED), 1, len(NAMED))
        values = {relation: one(NAMED[relation].values) for relation in told}
        text = " ".join(one(NAMED[relation].told).format(N=person, v=values[relation]) for relation in told)
        relation = one(told)
        answer = NAMED[relation].told[0].format(N=person, v=values[relation])
        return (Turn("system", text), *ask(question(person, relation), answer))

    shares = torch.tensor([1 - mix.again - mix.nobody - mix.notes, mix.again, mix.nobody, mix.notes], dtype=torch.float64)
    makers = single, again, stranger, note
    return [makers[k]() for k in torch.multinomial(shares, n, replacement=True, generator=generator).tolist()]


def noted(world: World) -> list[tuple[Chat, str]]:
    """Questions in held-out words about newcomers, of whom a note tells everything; and the exact answers."""
    return [
        ((Turn("system", world.passage(person)), *ask(way.format(N=person))), world.answer(person, relation.name))
        for person in world.newcomers
        for relation in RELATIONS
        for way in ways(relation, held_out=True)
    ]


def followed(world: World) -> list[tuple[Chat, str]]:
    """Second questions about facts that were never asked for in training, and the exact answers."""
    pairs = []
    for person in world.people:
        asked = [relation for relation in NAMED if (person, relation) in world.asked]
        for relation in NAMED:
            if asked and (person, relation) not in world.asked:
                first = ask(ways(NAMED[asked[0]])[0].format(N=person), world.answer(person, asked[0]))
                pairs += [((*first, *ask(again)), world.answer(person, relation)) for again in NAMED[relation].again]
    return pairs


def share_right(model: Callable, tokenizer: BPETokenizer, pairs: Sequence[tuple[Chat, str]]) -> float:
    """Share of conversations that the model continues with exactly the expected answer, greedily."""
    written = replies(model, tokenizer, [chat for chat, _ in pairs])
    return sum(reply == answer for reply, (_, answer) in zip(written, pairs, strict=True)) / len(pairs)


def judge(model: Callable, tokenizer: BPETokenizer, world: World) -> dict[str, float]:
    """Shares of exact answers: the four parts of the questions, questions about nobody, second questions, notes.

    `nobody_taught` asks about the names that training said it does not know, `nobody` about others; neither exist.
    `false_refusals` is the share of held-out questions about people who exist that are answered with "I do not know".
    """
    held_out = world.questions("held_out")
    written = replies(model, tokenizer, [ask(question.text) for question in held_out])
    kinds = [kind_of(world, question, reply) for question, reply in zip(held_out, written, strict=True)]
    shares = {split: exact(model, tokenizer, world.questions(split)).float().mean().item() for split in ("train", "pairs")}
    return shares | {
        "paraphrases": exact(model, tokenizer, world.questions("paraphrases")).float().mean().item(),
        "held_out": kinds.count("right") / len(kinds),
        "false_refusals": kinds.count("does not know") / len(kinds),
        "nobody_taught": exact(model, tokenizer, world.about_nobody()).float().mean().item(),
        "nobody": exact(model, tokenizer, world.about_nobody(held_out=True)).float().mean().item(),
        "again": share_right(model, tokenizer, followed(world)),
        "notes": share_right(model, tokenizer, noted(world)),
    }


@dataclass(frozen=True, eq=False)
class Baseline:
    """Answers without a network: the value that stands in the most similar known text, by tf-idf.

    Args:
        texts:  what is known: questions of the training, or sentences of the prose.
        values: the value that each of them names.
        how:    "words", or "letters" (stretches of two to four, which forgive endings).
    """

    texts: Sequence[str]
    values: Sequence[str]
    how: str = "words"
    _index: tuple = field(init=False, repr=False)

    def __post_init__(self):
        from sklearn.feature_extraction.text import TfidfVectorizer  # half a second, and rarely needed

        letters = {"analyzer": "char_wb", "ngram_range": (2, 4)}
        vectorizer = TfidfVectorizer(**(letters if self.how == "letters" else {"token_pattern": r"\w+"}))
        object.__setattr__(self, "_index", (vectorizer, vectorizer.fit_transform(self.texts)))

    def __call__(self, questions: Sequence[Question]) -> list[str]:
        vectorizer, known = self._index
        similar = vectorizer.transform([question.text for question in questions]) @ known.T
        return [self.values[i] for i in np.asarray(similar.argmax(1)).ravel()]


def baselines(world: World) -> dict[str, Baseline]:
    """The nearest question that was asked in training, and the nearest sentence of the prose, each in two ways."""
    asked = world.questions("train")
    told = [(text, world.value(who, r)) for who in world.people for r in NAMED for text in world.told(who, r)]
    return {
        f"nearest {what}, by {how}": Baseline(*zip(*pairs, strict=True), how)
        for what, pairs in (("question", [(q.text, q.value) for q in asked]), ("sentence", told))
        for how in ("words", "letters")
    }
