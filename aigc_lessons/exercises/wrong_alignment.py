"""Lesson 37's weight of an answer and its three losses: as they should be, and with the usual mistakes."""

import math

import torch
import torch.nn.functional as F

from aigc_lessons.exercises.core import Mistake


def answer_log_prob(logits, ids, start, stop):
    log_p = logits[:, start - 1 : -1].log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0]
    stops = ids[:, start:] == stop
    said = stops.long().cumsum(1) - stops.long() == 0
    return torch.where(said, log_p, torch.zeros_like(log_p)).sum(1)


def preference_loss(chosen, rejected):
    return F.softplus(rejected - chosen).mean()


def dpo(chosen, rejected, ref_chosen, ref_rejected, beta):
    return F.softplus(-beta * ((chosen - ref_chosen) - (rejected - ref_rejected))).mean()


def grpo(log_p, log_old, rewards, mask, clip):
    return _grpo(log_p, log_old, rewards, mask, clip)


def _grpo(log_p, log_old, rewards, mask, clip, *, advantages=None, gain=None, mean=None):
    """GRPO, with parts that a mistake replaces."""
    A = (advantages or _of_the_group)(rewards).flatten()[:, None]
    rho = (log_p - log_old).exp()
    each = (gain or _pessimistic)(rho, A, clip)
    each = torch.where(mask, each, torch.zeros_like(each))
    return -(mean or _by_answer)(each, mask)


def _wrong(**parts):
    """A wrong `grpo`: these parts are replaced."""
    return lambda log_p, log_old, rewards, mask, clip: _grpo(log_p, log_old, rewards, mask, clip, **parts)


def _of_the_group(rewards):
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, unbiased=False, keepdim=True)
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), torch.zeros_like(centred))


def _pessimistic(rho, A, clip):
    return torch.minimum(rho * A, rho.clamp(1 - clip, 1 + clip) * A)


def _by_answer(each, mask):
    return (each.sum(1) / mask.sum(1)).mean()


def _log_probs(logits, ids, start, shift=1):
    stop_at = -1 if shift else None
    return logits[:, start - shift : stop_at].log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0]


def _counted(counts, log_probs=_log_probs, reduce=None):
    """A wrong `answer_log_prob`: counts(stops) says which tokens count."""

    def weigh(logits, ids, start, stop):
        log_p, said = log_probs(logits, ids, start), counts(ids[:, start:] == stop)
        kept = torch.where(said, log_p, torch.zeros_like(log_p))
        return kept.sum(1) if reduce is None else reduce(kept, said)

    return weigh


def _said(stops):
    return stops.long().cumsum(1) - stops.long() == 0


def _of_four(loss):
    """A wrong `dpo`: loss(chosen, rejected, what the reference says of both, beta)."""

    def named(chosen, rejected, ref_chosen, ref_rejected, beta):
        return loss(chosen, rejected, ref_chosen, ref_rejected, beta)

    return named


OVERFLOW = "sigmoid rounds to 0 where everything is very wrong, and log(0) is -infinity: use softplus or logsigmoid."
NOTHING = "In a group whose rewards are all equal the spread is 0, and 0 / 0 is NaN: such a group teaches nothing, A = 0."

MISTAKES = {
    "37.1": [
        Mistake(
            _counted(_said, lambda logits, ids, start: _log_probs(logits, ids, start, shift=0)),
            "The logits at a token speak of the token after it: those of the answer begin one place earlier, at start - 1.",
        ),
        Mistake(
            _counted(lambda stops: stops.long().cumsum(1) == 0),
            "The stop itself was drawn too: it belongs to the answer. (Else a long answer pays nothing for its end.)",
        ),
        Mistake(_counted(torch.ones_like), "What comes after the first stop was never said: it must not count."),
        Mistake(
            _counted(_said, reduce=lambda kept, said: kept.sum(1) / said.sum(1)),
            "That is the mean over the tokens. The probability of an answer is a product: its logarithm is a sum.",
        ),
        Mistake(
            lambda logits, ids, start, stop: torch.where(
                _said(ids[:, start:] == stop), _log_probs(logits, ids, start).exp(), torch.ones(())
            ).prod(1),
            "That is the probability; asked for is its logarithm. (Of a long answer the product rounds to 0.)",
        ),
        Mistake(
            _counted(_said, lambda logits, ids, start: logits[:, start - 1 : -1].gather(-1, ids[:, start:, None])[..., 0]),
            "Logits are not yet log-probabilities: log_softmax over the V tokens first.",
        ),
        Mistake(
            lambda logits, ids, start, stop: -answer_log_prob(logits, ids, start, stop),
            "The sign: asked for is log pi, which is never positive, not the loss.",
        ),
        Mistake(
            lambda logits, ids, start, stop: answer_log_prob(logits, ids, 1, stop),
            "The prompt was given, not drawn: its tokens do not count, and a stop in it ends nothing.",
        ),
        Mistake(
            lambda logits, ids, start, stop: torch.where(
                _said(ids == stop)[:, start:], _log_probs(logits, ids, start), torch.zeros(())
            ).sum(1),
            "A stop in the prompt ends nothing: look for the first one among the tokens from `start` on.",
        ),
        Mistake(
            _counted(lambda stops: ~stops),
            "The stops alone were left out. The first stop counts, and nothing after it does.",
        ),
    ],
    "37.2": [
        Mistake(
            lambda chosen, rejected: F.softplus(chosen - rejected).mean(),
            "The sign is turned round: this loss falls when the rejected answer gets more.",
        ),
        Mistake(lambda chosen, rejected: -torch.sigmoid(chosen - rejected).log().mean(), OVERFLOW),
        Mistake(
            lambda chosen, rejected: (1 - torch.sigmoid(chosen - rejected)).mean(),
            "That is the mean probability of being wrong; the loss is minus the logarithm of that of being right.",
        ),
        Mistake(lambda chosen, rejected: F.softplus(rejected - chosen).sum(), "The mean over the pairs, not their sum."),
        Mistake(
            lambda chosen, rejected: (rejected - chosen).mean(),
            "That is the difference of the rewards; it would fall for ever. Put it through -log sigmoid.",
        ),
        Mistake(
            lambda chosen, rejected: F.softplus(rejected.mean() - chosen.mean()),
            "Each pair has its own loss; the mean comes last, not before the sigmoid.",
        ),
        Mistake(
            lambda chosen, rejected: F.softplus(rejected[:, None] - chosen).mean(),
            "Every chosen answer was compared with every rejected one: pair i is chosen[i] with rejected[i].",
        ),
        Mistake(
            lambda chosen, rejected: F.softplus(rejected - chosen).mean() / math.log(2),
            "That is the loss in bits; nats come from the natural logarithm.",
        ),
    ],
    "37.3": [
        Mistake(
            _of_four(lambda c, r, C, R, beta: F.softplus(-beta * (c - r)).mean()),
            "The reference is missing: what counts is by how much an answer has become likelier than it was.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: beta * dpo(c, r, C, R, 1)),
            "beta belongs inside the sigmoid: it scales the rewards, not the loss.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: dpo(r, c, R, C, beta)),
            "Chosen and rejected have changed places: this loss makes the rejected answers likelier.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: dpo(c, r, R, C, beta)),
            "Each answer is compared with the reference's opinion of the other one.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: dpo(c, r, C, R, 1)),
            "beta is missing: the implicit reward is beta times the difference of the logarithms.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: dpo(c, r, C, R, 1 / beta)),
            "The implicit reward is multiplied by beta, not divided.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: F.softplus(-beta * (c / C - r / R)).mean()),
            "The four numbers are logarithms already: the logarithm of a quotient is their difference.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: dpo(c, r, C, R, beta) * len(c)),
            "The mean over the pairs, not their sum.",
        ),
        Mistake(
            _of_four(lambda c, r, C, R, beta: -beta * (c - C - r + R).mean()),
            "That is minus the difference of the implicit rewards; it would fall for ever. Put it through -log sigmoid.",
        ),
        Mistake(_of_four(lambda c, r, C, R, beta: -torch.sigmoid(beta * ((c - C) - (r - R))).log().mean()), OVERFLOW),
    ],
    "37.4": [
        Mistake(
            _wrong(advantages=lambda r: (r - r.mean()) / r.std(unbiased=False).clamp(min=1e-6)),
            "Mean and spread are those of a group (a row of rewards): you took them over all answers.",
        ),
        Mistake(
            _wrong(advantages=lambda r: (r - r.mean(1, keepdim=True)) / r.std(1, unbiased=False, keepdim=True)),
            NOTHING,
        ),
        Mistake(
            _wrong(advantages=lambda r: r - r.mean(1, keepdim=True)),
            "The advantages are not divided by the spread of their group.",
        ),
        Mistake(
            _wrong(advantages=lambda r: ((r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True)).nan_to_num(0.0)),
            "The spread of a group is the root of the mean square: divide by G, not by G - 1 (unbiased=False).",
        ),
        Mistake(
            _wrong(gain=lambda rho, A, c: rho.clamp(1 - c, 1 + c) * A),
            "Only clipped: then a step in the wrong direction is forgiven too. Take the minimum with the unclipped product.",
        ),
        Mistake(
            _wrong(gain=lambda rho, A, c: (rho * A).maximum(rho.clip(1 - c, 1 + c) * A)),
            "The minimum of the two products, not the maximum: of the two, believe the worse one.",
        ),
        Mistake(
            _wrong(mean=lambda each, mask: each.sum() / mask.sum()),
            "Each answer is averaged over its own tokens first; then the answers are averaged.",
        ),
        Mistake(
            _wrong(mean=lambda each, mask: each.mean()),
            "The sum over an answer's tokens is divided by their number, mask.sum(1), not by T.",
        ),
        Mistake(
            _wrong(mean=lambda each, mask: each.sum(1).mean()),
            "An answer's tokens are averaged, not summed: divide by mask.sum(1).",
        ),
        Mistake(
            _wrong(mean=lambda each, mask: (each.sum(1) / mask.sum(1)).sum()),
            "The mean over the answers, not their sum.",
        ),
        Mistake(
            _wrong(gain=lambda rho, A, c: rho * A),
            "The clip is missing: a token that has moved far enough should stop.",
        ),
        Mistake(
            _wrong(gain=lambda rho, A, c: rho.minimum(rho.clip(1 - c, 1 + c)) * A),
            "The minimum of the two products with A, not of the two ratios: where A is negative they change places.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: grpo(log_old, log_p, rewards, mask, clip),
            "The ratio is upside down: pi now over pi when it was drawn.",
        ),
        Mistake(
            _wrong(gain=lambda rho, A, c: _pessimistic(rho.log(), A, c)),
            "The difference of the logarithms is the logarithm of the ratio: rho = exp(log_p - log_old).",
        ),
        Mistake(
            _wrong(advantages=lambda r: _of_the_group(r).T),
            "The advantages are in the wrong order: the answers of the first prompt come first, row by row.",
        ),
        Mistake(
            _wrong(advantages=lambda r: (r - r.mean(1, keepdim=True)) / (r.std(1, unbiased=False, keepdim=True) + 1e-4)),
            "You add 1e-4 to the spread, which shrinks every advantage. Guard the division only where the spread is 0.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: -grpo(log_p, log_old, rewards, mask, clip),
            "The sign: a loss goes down where the gain goes up.",
        ),
        Mistake(
            lambda log_p, log_old, rewards, mask, clip: grpo(log_p, log_old, rewards, torch.ones_like(mask), clip),
            "Tokens outside the mask were never said: they must not count, in the sum or in the length.",
        ),
    ],
}
