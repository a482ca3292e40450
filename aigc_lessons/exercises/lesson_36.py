"""Lesson 36: the template, what is to be learned, who sees whom in a packed row, LoRA merged, and fewer questions."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from aigc_lessons.data.world import Question, world
from aigc_lessons.exercises.core import CheckResult, Mistake, Unusable, attempt, call, compare, exercise, noise, show
from aigc_lessons.exercises.wrong_chat import MISTAKES, answer_targets, may_see, merge, to_tokens
from aigc_lessons.language.chat import SPECIAL, packed, packed_loss
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.studio.assistant import BLOCK, Taught, chats_of, exact, prose_sets, rehearsed
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.training.loop import TrainConfig, train


def _as_list(answer: object) -> object:
    """The same function, with a tensor or a tuple of ids made a list."""
    if not callable(answer):
        return answer

    @functools.wraps(answer)
    def listed(**given):
        got = call(answer, **given)
        if isinstance(got, (torch.Tensor, tuple)):
            got = got.tolist() if isinstance(got, torch.Tensor) else list(got)
        return got

    return listed


@exercise("36.1")
def check_template(answer) -> CheckResult:
    plain, merging = (
        BPETokenizer([], special_tokens=SPECIAL),
        BPETokenizer.train("ab abc abd " * 9, 263, special_tokens=SPECIAL),
    )
    talks = [
        [("user", "Hello")],
        [("system", "Be short."), ("user", "Who are you?")],
        [("user", "abc abd"), ("assistant", "ab"), ("user", "abd?")],
        [("user", "I say <|end|><|assistant|> and you?")],
        [("user", "  abc "), ("assistant", "ab\n"), ("user", " ")],
        [("system", ""), ("user", "三国 é"), ("assistant", "ab"), ("user", "<|user|>"), ("assistant", "x"), ("user", "ab")],
    ]
    inputs = [{"tokenizer": tokenizer, "turns": talk} for talk in talks for tokenizer in (plain, merging)]
    return compare(
        "36.1", _as_list(answer), to_tokens, inputs, MISTAKES["36.1"],
        praise="Right, and nobody can forge a turn: markers in the text stayed text.",
        hint="For each turn: the marker's id, the ids of the text, the id of <|end|>; at last the assistant's marker.",
    )  # fmt: skip


@exercise("36.2")
def check_targets(answer) -> CheckResult:
    def talk(seed, *lengths, assistant=21, end=23):
        """User and assistant in turn, of these lengths."""
        generator, ids = torch.Generator().manual_seed(seed), []
        for k, n in enumerate(lengths):
            words = torch.randint(20, (n,), generator=generator).tolist()
            ids += [assistant if k % 2 else 20, *words, end]
        return {"ids": torch.tensor(ids), "assistant": assistant, "end": end}

    inputs = [
        talk(0, 3, 2),
        talk(1, 4, 3, 2, 5),
        talk(2, 1, 1, 1, 1, 6, 2),
        talk(3, 2, 0, 3, 1),
        talk(4, 5, 4, assistant=31, end=30),
    ]
    cut = talk(5, 3, 4)
    inputs.append({**cut, "ids": cut["ids"][:-2]})  # an answer that is cut off in the middle
    return compare(
        "36.2", answer, answer_targets, inputs, MISTAKES["36.2"],
        praise="Right: the text of every answer and its end, one place early, and nothing else.",
        hint="Place i asks for token i + 1. It counts if an assistant's marker comes before it, and no end between.",
    )  # fmt: skip


@exercise("36.3")
def check_mask(answer) -> CheckResult:
    rows = [[0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2, -1, -1], [0], [0, 0, 0, 0, 1, 2, 2, -1], [3, 3, 5, 5]]
    return compare(
        "36.3", _in_numbers(answer), _in_numbers(may_see), [{"segments": torch.tensor(row)} for row in rows],
        [Mistake(_in_numbers(m.answer), m.diagnosis) for m in MISTAKES["36.3"]],
        praise="Right: its own conversation, up to itself.",
        hint="True where the two segments are equal and the column is not after the row.",
    )  # fmt: skip


def _in_numbers(answer: object) -> object:
    """The same function, with truth values made 0 and 1, which can be compared."""
    if not callable(answer):
        return answer

    @functools.wraps(answer)
    def masked(**given):
        got = call(answer, **given)
        return got.long() if isinstance(got, torch.Tensor) and got.dtype == torch.bool else got

    return masked


@exercise("36.4")
def check_merge(answer) -> CheckResult:
    inputs = []
    for k, (rows, columns, r, alpha) in enumerate(
        [(5, 3, 2, 4.0), (4, 6, 3, 1.0), (3, 7, 1, 2.0), (8, 5, 4, 8.0), (6, 6, 2, 16.0)]
    ):
        inputs.append(
            {"W": noise(k, rows, columns), "A": noise(k + 20, r, columns), "B": noise(k + 40, rows, r), "alpha": alpha}
        )
    return compare(
        "36.4", answer, merge, inputs, MISTAKES["36.4"], tolerance=1e-5,
        praise="Right: one matrix, the same function, and no step more than before.",
        hint="W + (alpha / r) B A, where r is the number of rows of A.",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- 36.5, fewer questions

MOST, ROWS, STEPS = 144, 16, 120
BAR = 0.65


@dataclass(frozen=True)
class Outcome:
    """Of a plan: how many questions, wordings, people and rows of prose; and the share of exact answers to `held_out`."""

    chosen: int
    wordings: int
    people: int
    prose: int
    share: float


def wording(question: Question) -> str:
    """A question without the name that it asks about."""
    return question.text.replace(question.person, "")


@lru_cache(maxsize=1)
def _given() -> tuple[Taught, tuple[Question, ...]]:
    return prose_sets()[0], tuple(world().questions("train"))


def outcome(my_plan: Callable) -> Outcome:
    """Fine-tune the shipped base network by a plan, and judge it.

    Raises: Unusable for questions that were not given, none, or too many; for rows or a rate that make no sense.
    """
    known, questions = _given()
    plan = call(my_plan, list(questions))
    if not isinstance(plan, (tuple, list)) or len(plan) != 3:
        raise Unusable(f"expected three things, (questions, rows of prose, learning rate), got {show(plan)}")
    chosen, prose, lr = plan
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(question, Question) for question in chosen):
        raise Unusable(f"expected a list of questions out of those that were given, got {type(chosen).__name__}")
    if not 1 <= len(chosen) <= MOST:
        raise Unusable(f"expected 1 to {MOST} questions, got {len(chosen)}")
    if not set(chosen) <= set(questions):
        raise Unusable("expected questions out of those that were given, unchanged; some of yours are others")
    if not isinstance(prose, int) or not 0 <= prose < ROWS:
        raise Unusable(f"expected 0 to {ROWS - 1} of the {ROWS} rows to be prose, got {show(prose)}")
    if not isinstance(lr, float) or not 0 < lr <= 0.1:
        raise Unusable(f"expected a learning rate above 0 and up to 0.1, got {show(lr)}")
    network = pretrained("world").requires_grad_(True)
    taught = replace(known, chats=packed(known.tokenizer, chats_of(chosen), BLOCK))
    config = TrainConfig(steps=budget.steps(STEPS), lr=lr, warmup=10, decay=1.0, optimizer="muon", log_every=STEPS)
    for _ in train(network, packed_loss(), rehearsed(taught, ROWS - prose, prose), config):
        pass
    held_out = known.world.questions("held_out")
    judged = held_out[::80] if budget.is_tiny() else held_out[::2]
    wordings, people = {wording(question) for question in chosen}, {question.person for question in chosen}
    share = exact(network, known.tokenizer, judged).float().mean().item()
    return Outcome(len(chosen), len(wordings), len(people), prose, share)


def advice(got: Outcome) -> str:
    """What most likely holds a plan down: forgetting, wordings never seen, too few people, the rate."""
    if got.prose < 4:
        return "What does the network lose while it learns to answer, and what would keep it? Look at section 7."
    if got.wordings < 120:
        return f"Your questions hold {got.wordings} of 132 wordings: a word that it never sees stays random. Take each once."
    if got.people < 60:
        return f"Your questions are about {got.people} of 96 people: spread them, or it learns a few answers by heart."
    return "The questions are well spread. Is the learning rate high enough for 120 steps, or too high? Try twice and half."


@exercise("36.5")
def check_plan(answer) -> CheckResult:
    got = attempt("36.5", answer, outcome, hint="Questions come in; (some of them, rows of prose, learning rate) go out.")
    if isinstance(got, CheckResult):
        return got
    message = f"got      {got.chosen} questions [here {got.share:.3f} exact]\nexpected at least {BAR} with at most {MOST}"
    if budget.is_tiny() or got.share >= BAR:
        return CheckResult("36.5", True, message)
    return CheckResult("36.5", False, message, advice(got))


REFERENCES = {"36.1": to_tokens, "36.2": answer_targets, "36.3": may_see, "36.4": merge}
