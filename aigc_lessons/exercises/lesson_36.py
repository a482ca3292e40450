"""Lesson 36: the template, what is to be learned, who sees whom in a packed row, LoRA merged, and fewer questions."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from aigc_lessons.data.world import Question, world
from aigc_lessons.exercises.core import CheckResult, Mistake, Unusable, attempt, call, compare, exercise, noise, show
from aigc_lessons.language.chat import END, MARKERS, SPECIAL, packed, packed_loss
from aigc_lessons.language.objective import IGNORE
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.studio.assistant import BLOCK, Taught, chats_of, exact, prose_sets, rehearsed
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.training.loop import TrainConfig, train


def to_tokens(tokenizer, turns):
    special, ids = tokenizer.special_tokens, []
    for role, text in turns:
        ids += [special[f"<|{role}|>"], *tokenizer.encode(text), special["<|end|>"]]
    return [*ids, special["<|assistant|>"]]


def answer_targets(ids, assistant, end):
    targets, speaking = torch.full((len(ids) - 1,), IGNORE), False
    for place, token in enumerate(ids.tolist()):
        if speaking:
            targets[place - 1] = token
        speaking = token == assistant or (speaking and token != end)
    return targets


def may_see(segments):
    T = len(segments)
    return (segments[:, None] == segments[None, :]) & torch.ones(T, T, dtype=torch.bool).tril()


def merge(W, A, B, alpha):
    return W + alpha / len(A) * B @ A


def _text(turns, start=True):
    return "".join(f"<|{role}|>{text}<|end|>" for role, text in turns) + "<|assistant|>" * start


def _turns(tokenizer, turns, ended=True, marked=True, start=True):
    special, ids = tokenizer.special_tokens, []
    for role, text in turns:
        ids += [special[MARKERS[role]]] * marked + tokenizer.encode(text) + [special[END]] * ended
    return ids + [special["<|assistant|>"]] * start


def _not_shifted(ids, assistant, end):
    return torch.cat([torch.tensor([IGNORE]), answer_targets(ids, assistant, end)])[: len(ids) - 1]


def _without(ids, assistant, end):
    targets = answer_targets(ids, assistant, end)
    return torch.where(targets == end, IGNORE, targets)


def _with_marker(ids, assistant, end):
    targets = answer_targets(ids, assistant, end)
    return torch.where(ids[1:] == assistant, ids[1:], targets)


def _every_end(ids, assistant, end):
    targets = answer_targets(ids, assistant, end)
    return torch.where(ids[1:] == end, ids[1:], targets)


def _from_first(ids, assistant, end):
    begun = (ids == assistant).cumsum(0)[:-1] > 0
    return torch.where(begun, ids[1:], IGNORE)


def _last_only(ids, assistant, end):
    targets, last = answer_targets(ids, assistant, end), (ids == assistant).nonzero()[-1]
    return torch.where(torch.arange(len(targets)) >= last, targets, IGNORE)


MISTAKES = {
    "36.1": [
        Mistake(
            lambda tokenizer, turns: tokenizer.encode(_text(turns), SPECIAL),
            "You encoded the whole text, markers obeyed: whoever types <|end|> makes a turn. Encode each text alone.",
        ),
        Mistake(
            lambda tokenizer, turns: tokenizer.encode(_text(turns)),
            "The markers are spelled letter by letter: they are single tokens, tokenizer.special_tokens has their ids.",
        ),
        Mistake(lambda tokenizer, turns: _turns(tokenizer, turns, start=False), "The last marker is missing."),
        Mistake(lambda tokenizer, turns: _turns(tokenizer, turns, ended=False), "Every turn ends with <|end|>."),
        Mistake(lambda tokenizer, turns: _turns(tokenizer, turns, marked=False), "Each turn begins with its marker."),
        Mistake(
            lambda tokenizer, turns: [*to_tokens(tokenizer, turns), tokenizer.special_tokens[END]],
            "The assistant's turn has only begun: no <|end|> after its marker.",
        ),
    ],
    "36.2": [
        Mistake(
            _not_shifted,
            "The targets are one place too late: place i asks for token i + 1, so an answer begins at its marker.",
        ),
        Mistake(_without, "The end of an answer is to be learned too, or the assistant never stops."),
        Mistake(_with_marker, "The assistant's marker is set by the template: it is not to be learned."),
        Mistake(_every_end, "Only the end of an answer counts: the user's ends are not to be learned."),
        Mistake(_from_first, "From the first answer on you count everything: the user's next turn is not to be learned."),
        Mistake(_last_only, "Only the last answer counts in yours: every answer of the conversation is to be learned."),
        Mistake(lambda ids, assistant, end: ids[1:], "You count every token: what the user says is not to be learned."),
    ],
    "36.3": [
        Mistake(
            lambda segments: torch.ones(len(segments), len(segments), dtype=torch.bool).tril(),
            "That is the plain causal mask: a token sees the conversations before its own.",
        ),
        Mistake(lambda segments: segments[:, None] == segments[None, :], "A token sees what comes after it."),
        Mistake(
            lambda segments: may_see(segments) & ~torch.eye(len(segments), dtype=torch.bool),
            "A token sees itself too: without, the first of a conversation has nothing to look at.",
        ),
        Mistake(lambda segments: may_see(segments).T, "Rows and columns have changed places: row i says what token i sees."),
        Mistake(
            lambda segments: may_see(segments) & (segments >= 0)[:, None],
            "What fills the row up sees nothing at all, and a softmax over nothing is not a number: let it see itself.",
        ),
        Mistake(
            lambda segments: ~may_see(segments),
            "Yours is True where a token must not look: True means that it may.",
        ),
    ],
    "36.4": [
        Mistake(lambda W, A, B, alpha: W + B @ A, "The scale alpha / r is missing."),
        Mistake(lambda W, A, B, alpha: W + alpha * B @ A, "Divide by the rank: the scale is alpha / r."),
        Mistake(lambda W, A, B, alpha: W + alpha / B.shape[0] * B @ A, "r is the number of rows of A, not of B."),
        Mistake(lambda W, A, B, alpha: W + alpha / A.shape[1] * B @ A, "r is the number of rows of A, not of its columns."),
        Mistake(lambda W, A, B, alpha: alpha / len(A) * B @ A, "That is the change alone: add W."),
        Mistake(lambda W, A, B, alpha: W + alpha / len(A) ** 0.5 * B @ A, "The scale is alpha / r, not alpha / sqrt(r)."),
    ],
}  # fmt: skip


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
    """Of a plan: how many questions, and the share of exact answers on what is held out after training by it."""

    chosen: int
    share: float


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
    return Outcome(len(chosen), exact(network, known.tokenizer, judged).float().mean().item())


@exercise("36.5")
def check_plan(answer) -> CheckResult:
    got = attempt("36.5", answer, outcome, hint="Questions come in; (some of them, rows of prose, learning rate) go out.")
    if isinstance(got, CheckResult):
        return got
    message = f"got      {got.chosen} questions [here {got.share:.3f} exact]\nexpected at least {BAR} with at most {MOST}"
    if budget.is_tiny() or got.share >= BAR:
        return CheckResult("36.5", True, message)
    hint = "What does the network lose while it learns to answer, and what would keep it? Look at section 7."
    return CheckResult("36.5", False, message, hint)


REFERENCES = {"36.1": to_tokens, "36.2": answer_targets, "36.3": may_see, "36.4": merge}
