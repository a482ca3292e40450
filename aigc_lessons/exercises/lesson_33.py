"""Lesson 33: the loss of the next token, the learning rate, Muon's direction, a power law, and a plan to beat."""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch

from aigc_lessons.data.batches import windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.evaluation.metrics import fit_power_law
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.language.objective import held_out_nats, next_token_loss
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.training import budget
from aigc_lessons.training.loop import TrainConfig, train


def next_token_nats(logits, ids):
    log_p = logits.log_softmax(-1)
    return -log_p[torch.arange(len(logits)), ids[1:]].mean()


def rate(step, steps, lr, warmup, decay):
    up = min(1, (step + 1) / (warmup + 1))
    down = min(1, (steps - step) / (decay * steps))
    return lr * min(up, down)


def nearest_orthogonal(G):
    U, _, Qt = torch.linalg.svd(G, full_matrices=False)
    return U @ Qt


def power_law(N, L):
    x, y = N.log(), L.log()
    dx = x - x.mean()
    slope = (dx * y).sum() / (dx * dx).sum()
    residual = y - y.mean() - slope * dx
    error = (residual.square().sum() / (len(x) - 2) / (dx * dx).sum()).sqrt()
    return torch.stack([-slope, error])


def _line(x, y):
    """Slope of the line through the points, its residuals, and x less its mean."""
    dx = x - x.mean()
    slope = (dx * y).sum() / (dx * dx).sum()
    return slope, y - y.mean() - slope * dx, dx


def _without_logarithms(N, L):
    slope, residual, dx = _line(N, L)
    return torch.stack([-slope, (residual.square().sum() / (len(N) - 2) / (dx * dx).sum()).sqrt()])


def _error_as(spread):
    """A wrong `power_law`: its standard error is spread(residuals, x less its mean)."""

    def fit(N, L):
        slope, residual, dx = _line(N.log(), L.log())
        return torch.stack([-slope, spread(residual, dx)])

    return fit


def _with_floor(N, L):
    """The law with a floor in place of the straight line; NaN where it cannot be fitted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            law = fit_power_law(N, L)
    except (ValueError, RuntimeError):
        return torch.full((2,), math.nan, dtype=torch.float64)
    return torch.tensor([law.exponent, law.error], dtype=torch.float64)


OVERFLOW = "exp overflowed, or a probability became 0: log_softmax gives the logarithms without computing either."

MISTAKES = {
    "33.1": [
        Mistake(
            lambda logits, ids: -logits.log_softmax(-1)[torch.arange(len(logits)), ids[:-1]].mean(),
            "You asked for the token that the network was shown: position i must predict ids[i + 1].",
        ),
        Mistake(
            lambda logits, ids: -logits[torch.arange(len(logits)), ids[1:]].mean(),
            "Those are logits, not logarithms of probabilities: log_softmax makes their exponentials sum to 1.",
        ),
        Mistake(
            lambda logits, ids: -logits.log_softmax(0)[torch.arange(len(logits)), ids[1:]].mean(),
            "The probabilities must sum to 1 over the vocabulary (the last axis), not over the positions.",
        ),
        Mistake(
            lambda logits, ids: -logits.log_softmax(-1)[torch.arange(len(logits)), ids[1:]].sum(),
            "That is the sum over the positions: the loss is their mean.",
        ),
        Mistake(
            lambda logits, ids: logits.log_softmax(-1)[torch.arange(len(logits)), ids[1:]].mean(),
            "The sign is turned round: a logarithm of a probability is negative, a loss is not.",
        ),
        Mistake(
            lambda logits, ids: -logits.log_softmax(-1)[torch.arange(len(logits)), ids[1:]].mean() / math.log(2),
            "That is in bits. Nats use the natural logarithm.",
        ),
        Mistake(
            lambda logits, ids: -logits.softmax(-1)[torch.arange(len(logits)), ids[1:]].mean().log(),
            "The logarithm of a mean is not the mean of logarithms: take the logarithm of each probability first.",
        ),
        Mistake(
            lambda logits, ids: -logits.softmax(-1)[torch.arange(len(logits)), ids[1:]].mean(),
            "The logarithm is missing: that is the mean probability with a minus.",
        ),
        Mistake(lambda logits, ids: -logits.softmax(-1)[torch.arange(len(logits)), ids[1:]].log().mean(), OVERFLOW),
    ],
    "33.2": [
        Mistake(
            lambda step, steps, lr, warmup, decay: lr * min(step / (warmup + 1), 1, (steps - step) / (decay * steps)),
            "Step 0 has rate 0 and is wasted: count from 1, (step + 1) / (warmup + 1).",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: (
                lr * min(1, (step + 1) / (warmup + 1)) * min(1, (steps - step) / (decay * steps))
            ),
            "You multiplied the two factors: where warm-up and decay overlap the smaller one rules.",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: lr * min(1, (step + 1) / (warmup + 1), (steps - step) / steps),
            "The rate falls from the first step on: it should begin to fall decay * steps before the end.",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: lr * min(1, (step + 1) / (warmup + 1)),
            "The rate does not fall at the end. Is the second factor there, and divided by decay * steps (in brackets)?"
            " That product is a number of steps; decay alone is a share.",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: min(lr, (step + 1) / (warmup + 1), (steps - step) / (decay * steps)),
            "lr stands inside the min: the factors are compared with 1, and the smallest is multiplied by lr.",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: lr * min(1, (steps - step) / (decay * steps)),
            "The warm-up is missing: the first steps should be small.",
        ),
        Mistake(
            lambda step, steps, lr, warmup, decay: min(1, (step + 1) / (warmup + 1), (steps - step) / (decay * steps)),
            "That is the factor in 0..1: multiply it by lr.",
        ),
    ],
    "33.3": [
        Mistake(lambda G: G / G.norm(), "You only changed the length: the singular values still differ from each other."),
        Mistake(
            lambda G: (
                torch.linalg.svd(G, full_matrices=False)[0] @ torch.linalg.svd(G, full_matrices=False)[2].T
                if G.shape[0] == G.shape[1]
                else G
            ),
            "torch.linalg.svd returns Q already transposed (its third result is Q^T): do not transpose it again.",
        ),
        Mistake(lambda G: nearest_orthogonal(G).T, "That is transposed: U comes first, then the third result of svd."),
        Mistake(lambda G: G.sign(), "The sign of every entry is Adam's first step. Here the singular values become 1."),
        Mistake(
            lambda G: G / torch.linalg.svdvals(G)[0],
            "Only the largest singular value is 1 now: all of them should be.",
        ),
        Mistake(lambda G: G, "That is G itself: put the singular values aside, and multiply U and Q^T alone."),
    ],
    "33.4": [
        Mistake(
            lambda N, L: power_law(N, L) * torch.tensor([-1, 1]),
            "The slope of log L is -alpha: alpha itself is positive when the loss falls.",
        ),
        Mistake(
            _with_floor,
            "You fitted a floor, too: here it is the straight line through (log N, log L), with two numbers.",
        ),
        Mistake(
            _without_logarithms,
            "You fitted a straight line to N and L themselves: take the logarithm of both.",
        ),
        Mistake(
            _error_as(lambda r, dx: (r.square().sum() / len(r) / (dx * dx).sum()).sqrt()),
            "The spread is divided by n: two numbers were fitted, so n - 2 remain.",
        ),
        Mistake(
            _error_as(lambda r, dx: (r.square().sum() / (len(r) - 1) / (dx * dx).sum()).sqrt()),
            "The spread is divided by n - 1: two numbers were fitted, so n - 2 remain.",
        ),
        Mistake(
            _error_as(lambda r, dx: (r.square().sum() / (len(r) - 2)).sqrt()),
            "That is how far the points lie from the line. The slope is known better, the wider the range of log N.",
        ),
        Mistake(
            _error_as(lambda r, dx: r.square().sum() / (len(r) - 2) / (dx * dx).sum()),
            "That is the variance of the slope: the standard error is its square root.",
        ),
    ],
}


def _texts(seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        T, V = 1 + seed % 7, 2 + 3 * seed % 11
        yield {
            "logits": 3 * torch.randn(T, V, generator=generator),
            "ids": torch.randint(V, (T + 1,), generator=generator),
        }


@exercise("33.1")
def check_loss(answer) -> CheckResult:
    inputs = [*_texts([6, 1, 2, 3, 5, 9]), {"logits": torch.zeros(4, 68), "ids": torch.tensor([3, 1, 4, 1, 5])}]
    huge = {"logits": torch.tensor([[1000.0, 0.0, -1000.0]]), "ids": torch.tensor([1, 1])}
    praise = "Right; with equal logits it is ln V, and logits of 1000 break nothing."
    result = compare(
        "33.1", answer, next_token_nats, inputs, MISTAKES["33.1"], praise=praise,
        hint="log_softmax over the last axis, the entries of ids[1:], their mean, a minus.",
    )  # fmt: skip
    return compare("33.1", answer, next_token_nats, [huge], praise=praise, hint=OVERFLOW) if result.passed else result


@exercise("33.2")
def check_rate(answer) -> CheckResult:
    # first an input on which every mistake gives another number
    inputs = [{"step": 5, "steps": 20, "lr": 0.5, "warmup": 9, "decay": 0.9375}] + [
        {"step": step, "steps": steps, "lr": lr, "warmup": warmup, "decay": decay}
        for steps, lr, warmup, decay in [(100, 0.02, 10, 0.5), (300, 0.003, 0, 1.0), (50, 1.0, 40, 0.9), (7, 0.1, 2, 0.25)]
        for step in (steps // 3, 0, 1, steps // 2, steps - 2, steps - 1)
    ]
    return compare(
        "33.2", answer, rate, inputs, MISTAKES["33.2"],
        praise="Right, also where the warm-up meets the decay.",
        hint="Two factors, each at most 1: one climbs, one falls. The smaller one times lr is the rate.",
    )  # fmt: skip


@exercise("33.3")
def check_nearest(answer) -> CheckResult:
    inputs = [{"G": noise(seed, *shape)} for seed, shape in enumerate([(3, 3), (2, 5), (5, 2), (4, 4), (1, 6), (8, 3)])]
    inputs.append({"G": 1e-4 * noise(9, 4, 6)})
    return compare(
        "33.3", answer, nearest_orthogonal, inputs, MISTAKES["33.3"], tolerance=1e-3,
        praise="Right, for lying, standing and tiny matrices: only the directions count, not the size.",
        hint="torch.linalg.svd(G, full_matrices=False) gives U, S, Q^T with G = U diag(S) Q^T. Which factor should go?",
    )  # fmt: skip


@exercise("33.4")
def check_power_law(answer) -> CheckResult:
    inputs = []
    for seed, n in enumerate([5, 4, 9, 15, 3, 6]):
        N = 10 ** torch.linspace(3 + seed % 2, 6, n, dtype=torch.float64)
        L = (2 + seed) * N ** -(0.05 + 0.03 * seed) * (0.02 * noise(seed, n).double()).exp()
        inputs.append({"N": N, "L": L})
    return compare(
        "33.4", answer, power_law, inputs, MISTAKES["33.4"], tolerance=1e-5,
        praise="Right: the exponent, and how well it is known.",
        hint="A line through (log N, log L): slope and standard error as in the lesson, the slope with its sign turned.",
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- 33.5, a plan to beat

FLOPS = 1.2e11  # 6 x weights x characters: about what 200 steps of the lesson's small network take
LIMIT = 2.0  # nats a character on held-out plays
COUNTED = 3.3  # nats of the 1-gram


@lru_cache(maxsize=1)
def _plays():
    text = shakespeare(stand_in=True)
    tokenizer = CharTokenizer.from_text(text.train + text.held_out)
    return torch.tensor(tokenizer.encode(text.train)), torch.tensor(tokenizer.encode(text.held_out[:50_000])), tokenizer


@dataclass(frozen=True)
class Outcome:
    """Of a plan: the floating-point operations it takes, and its held-out loss."""

    flops: float
    nats: float


def outcome(network: GPTConfig, training: TrainConfig, batch_size: int) -> Outcome:
    """Train a plan on the plays, if it keeps to the budget."""
    train_ids, held_out_ids, tokenizer = _plays()
    if network.vocab_size != tokenizer.vocab_size:
        raise ValueError(f"vocab_size must be {tokenizer.vocab_size}, got {network.vocab_size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = GPT(network)
    weights = sum(p.numel() for p in model.parameters())
    flops = 6.0 * weights * training.steps * batch_size * network.block_size
    if flops > FLOPS:
        return Outcome(flops, math.inf)
    if budget.is_tiny():
        training = TrainConfig(steps=2, lr=training.lr, optimizer=training.optimizer)
    for _ in train(model, next_token_loss(), windows(train_ids, network.block_size, batch_size, training.seed), training):
        pass
    return Outcome(flops, held_out_nats(model, held_out_ids, network.block_size))


@exercise("33.5")
def check_plan(answer) -> CheckResult:
    judged = attempt("33.5", answer, _judged, hint=_PLAN)
    if isinstance(judged, CheckResult):
        return judged
    training, got = judged
    if got.nats == math.inf:
        message = f"got      {got.flops:.3g} operations\nexpected at most {FLOPS:.3g}"
        return CheckResult("33.5", False, message, "Nothing was trained: fewer steps, a smaller batch or network.")
    reached = f"got      [here {got.nats:.3f} nats], {got.flops:.3g} operations"
    message = f"{reached}\nexpected below {LIMIT:.1f} nats, {FLOPS:.3g}"
    if budget.is_tiny() or got.nats < LIMIT:
        return CheckResult("33.5", True, message)
    return CheckResult("33.5", False, message, _advice(training, got.nats))


def _judged(plan) -> tuple[TrainConfig, Outcome]:
    network, training, batch_size = call(plan, _plays()[2].vocab_size)
    return training, outcome(network, training, batch_size)


def _advice(training: TrainConfig, nats: float) -> str:
    """What to look at first, in a plan that falls short."""
    if nats > COUNTED:
        return f"Counting single characters gives {COUNTED}: something blew up. Lower the rate, or warm up longer."
    if training.optimizer != "muon":
        return "Which of the two optimizers was ahead in section 5, and at which rate?"
    if training.decay == 0:
        return "The rate stays high to the end: let it fall (decay)."
    return "Is the rate tuned? Would a smaller network, or a smaller batch, with more steps do better?"


_PLAN = "Return three things: a GPTConfig, a TrainConfig, and the batch size."


REFERENCES = {"33.1": next_token_nats, "33.2": rate, "33.3": nearest_orthogonal, "33.4": power_law}
