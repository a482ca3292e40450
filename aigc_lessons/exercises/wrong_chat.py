"""Lesson 36's template, targets, mask and merged weights: as they should be, and with the usual mistakes."""

import re

import torch

from aigc_lessons.exercises.core import Mistake
from aigc_lessons.language.chat import END, MARKERS, SPECIAL
from aigc_lessons.language.objective import IGNORE


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


def _zeros(ids, assistant, end):
    targets = answer_targets(ids, assistant, end)
    return torch.where(targets == IGNORE, 0, targets)


def _no_first_word(ids, assistant, end):
    return torch.where(ids[:-1] == assistant, IGNORE, answer_targets(ids, assistant, end))


def _filler(segments, sees):
    """The right mask, but what fills the row up sees these columns too."""
    return may_see(segments) | ((segments < 0)[:, None] & sees)


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
        Mistake(
            lambda tokenizer, turns: to_tokens(tokenizer, [(role, text.strip()) for role, text in turns]),
            "The spaces around a text belong to it: encode it as it stands, without strip().",
        ),
        Mistake(
            lambda tokenizer, turns: to_tokens(tokenizer, [(role, re.sub(r"<\|\w+\|>", "", text)) for role, text in turns]),
            "You cut the typed markers out of the text. It may stay as it is: encode spells them in harmless pieces.",
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
        Mistake(_zeros, f"0 is the id of a token: what does not count is IGNORE, {IGNORE}."),
        Mistake(
            _no_first_word,
            "The first word of each answer is missing: it is the target at the place of the assistant's marker.",
        ),
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
            lambda segments: _filler(segments, torch.ones(len(segments), dtype=torch.bool)),
            "What fills the row up sees everything: it may see itself and its like, up to itself.",
        ),
        Mistake(
            lambda segments: _filler(segments, (segments < 0)[None, :]),
            "What fills the row up sees its like that come after it: the causal mask holds for it too.",
        ),
        Mistake(
            lambda segments: may_see(segments).float().log(),
            "Those are the numbers that one would add to the scores: return True and False.",
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
        Mistake(lambda W, A, B, alpha: alpha / len(A) * (W + B @ A), "W keeps its size: the scale belongs to B A alone."),
        Mistake(lambda W, A, B, alpha: W + len(A) / alpha * B @ A, "The scale is upside down: it is alpha / r."),
        Mistake(lambda W, A, B, alpha: W - alpha / len(A) * B @ A, "The change is added, not taken away."),
        Mistake(lambda W, A, B, alpha: W + alpha / len(A) ** 0.5 * B @ A, "The scale is alpha / r, not alpha / sqrt(r)."),
    ],
}  # fmt: skip
