"""Lesson 34: temperature, the nucleus, the penalty, a row of attention, the residual, and a filter to beat the lesson's."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch

from aigc_lessons.data.text import shakespeare
from aigc_lessons.exercises.core import CheckResult, Mistake, Unusable, attempt, call, compare, exercise, noise
from aigc_lessons.language.generation import generate
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training import budget
from aigc_lessons.training.checkpoints import card, pretrained


def at_temperature(p, T):
    powered = p ** (1 / T)
    return powered / powered.sum()


def nucleus(p, mass):
    ranked, order = p.sort(descending=True)
    kept = torch.where(ranked.cumsum(0) - ranked < mass, ranked, torch.zeros_like(ranked))
    return torch.zeros_like(p).scatter(0, order, kept / kept.sum())


def penalised(z, seen, theta):
    lowered = torch.where(z > 0, z / theta, z * theta)
    out = z.clone()
    out[seen] = lowered[seen]
    return out


def attend_new(x, Wq, Wk, Wv, K, V):
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    K, V = torch.cat([K, k[None]]), torch.cat([V, v[None]])
    return (K @ q / len(x) ** 0.5).softmax(0) @ V


def leftover(p, q):
    left = (p - q).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, p)


def _cut(keep):
    """A wrong `nucleus`: keep(ranked, mass) says which of the ranked probabilities stay."""

    def cut(p, mass):
        ranked, order = p.sort(descending=True)
        kept = torch.where(keep(ranked, mass), ranked, torch.zeros_like(ranked))
        return torch.zeros_like(p).scatter(0, order, kept / kept.sum())

    return cut


def _not_shared(p, mass):
    return torch.where(nucleus(p, mass) > 0, p, torch.zeros_like(p))


def _left_in_order(p, mass):
    return nucleus(p, mass).sort(descending=True).values


def _compounded(z, seen, theta):
    out = z.clone()
    for i in seen:
        out[i] = out[i] / theta if out[i] > 0 else out[i] * theta
    return out


def _only_where_seen(z, seen, values):
    out = z.clone()
    out[seen] = values[seen]
    return out


def _attend(x, Wq, Wk, Wv, K, V, *, own=True, scale=True, values=None):
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    if own:
        K, V = torch.cat([K, k[None]]), torch.cat([V, v[None]])
    return (K @ q / (len(x) ** 0.5 if scale else 1.0)).softmax(0) @ (V if values is None else values(K, V))


MISTAKES = {
    "34.1": [
        Mistake(lambda p, T: p**T / (p**T).sum(), "The exponent is 1 / T, not T: at T = 2 a ratio of 4 becomes 2."),
        Mistake(lambda p, T: p ** (1 / T), "The powers do not sum to 1: divide by their sum."),
        Mistake(
            lambda p, T: (p / T).softmax(0),
            "Those are probabilities, not logits: softmax(p / T) takes the exponential of what is one already.",
        ),
        Mistake(lambda p, T: p / T / (p / T).sum(), "Dividing all probabilities by T cancels: raise them to a power."),
    ],
    "34.2": [
        Mistake(
            _cut(lambda ranked, mass: ranked.cumsum(0) <= mass),
            "The token with which the mass is reached belongs to the nucleus: compare what is likelier than it, without it.",
        ),
        Mistake(
            _cut(lambda ranked, mass: ranked >= ranked.max() * mass),
            "That cuts by the ratio to the likeliest, which is min-p: top-p sums probabilities up.",
        ),
        Mistake(
            _cut(lambda ranked, mass: ranked.flip(0).cumsum(0).flip(0) - ranked < mass),
            "You summed up from the least likely: begin with the likeliest.",
        ),
        Mistake(_not_shared, "What remains does not sum to 1: divide by its sum."),
        Mistake(_left_in_order, "The probabilities are still in sorted order: put each back into its own place."),
    ],
    "34.3": [
        Mistake(
            lambda z, seen, theta: _only_where_seen(z, seen, z / theta),
            "Division makes a negative logit larger, and the token likelier: multiply those.",
        ),
        Mistake(
            lambda z, seen, theta: torch.where(z > 0, z / theta, z * theta),
            "That penalises every token: only those in `seen`.",
        ),
        Mistake(_compounded, "A token that occurs twice is penalised twice: once is enough, however often it occurs."),
        Mistake(
            lambda z, seen, theta: _only_where_seen(z, seen, z - theta),
            "That subtracts the penalty. It would be a sound idea, but here logits are divided, or multiplied below 0.",
        ),
        Mistake(
            lambda z, seen, theta: _only_where_seen(z, seen, torch.where(z > 0, z * theta, z / theta)),
            "The two cases have changed places: what was seen must become less likely.",
        ),
    ],
    "34.4": [
        Mistake(
            lambda **given: _attend(**given, own=False),
            "The new token looks at itself too: append its key and value before you gather.",
        ),
        Mistake(lambda **given: _attend(**given, scale=False), "The scores lack 1 / sqrt(d)."),
        Mistake(lambda **given: _attend(**given, values=lambda K, V: K), "You gathered the keys: scores weigh the values."),
        Mistake(
            lambda x, Wq, Wk, Wv, K, V: _attend(x, Wk, Wq, Wv, K, V),
            "W_q and W_k have changed places: the new token asks with its query, and appends its key.",
        ),
        Mistake(
            lambda x, Wq, Wk, Wv, K, V: _attend(x, Wq.T, Wk.T, Wv.T, K, V),
            "The matrices are transposed: the query is x @ Wq.",
        ),
    ],
    "34.5": [
        Mistake(
            lambda p, q: leftover(q, p),
            "That is where the draft gives too much: the residual is where it gives too little, p - q.",
        ),
        Mistake(
            lambda p, q: (p - q).abs() / (p - q).abs().sum(-1, keepdim=True),
            "Both signs are in: where q is larger than p, nothing is left over. Clamp, do not take the absolute value.",
        ),
        Mistake(lambda p, q: (p - q).clamp(min=0), "What is left does not sum to 1: divide each row by its own sum."),
        Mistake(lambda p, q: p, "Drawing from p itself gives those tokens too often that were guessed and accepted before."),
        Mistake(
            lambda p, q: (p - q).clamp(min=0) / (p - q).clamp(min=0).sum(),
            "You divided by the sum of the whole batch: each row has a sum of its own.",
        ),
    ],
}


def _probabilities(seed: int, *shape: int):
    return (2 * noise(seed, *shape).double()).softmax(-1)


@exercise("34.1")
def check_temperature(answer) -> CheckResult:
    inputs = [{"p": _probabilities(k, 3 + 2 * k), "T": T} for k, T in enumerate([0.5, 2.0, 0.7, 1.0, 3.0, 0.1])]
    inputs.append({"p": torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64), "T": 2.0})
    return compare(
        "34.1", answer, at_temperature, inputs, MISTAKES["34.1"], tolerance=1e-5,
        praise="Right: an exponent; and what was impossible stays impossible.",
        hint="p to the power 1 / T, divided by its sum. (log(0) is -infinity, which is fine; 0 / 0 is not.)",
    )  # fmt: skip


@exercise("34.2")
def check_nucleus(answer) -> CheckResult:
    flat = (0.5 * _probabilities(1, 7).log()).softmax(-1)
    inputs = [{"p": flat, "mass": 0.75}]
    inputs += [{"p": _probabilities(k, 4 + 3 * k), "mass": m} for k, m in enumerate([0.6, 0.9, 0.3, 0.5, 0.99])]
    inputs.append({"p": torch.tensor([0.01, 0.9, 0.06, 0.03], dtype=torch.float64), "mass": 0.5})  # one is enough
    inputs.append({"p": _probabilities(9, 5), "mass": 1.0})
    return compare(
        "34.2", answer, nucleus, inputs, MISTAKES["34.2"], tolerance=1e-5,
        praise="Right: never empty, and everything at p = 1.",
        hint="Sort, sum up what is likelier than each, keep where that is below the mass, share out, put back in place.",
    )  # fmt: skip


@exercise("34.3")
def check_penalty(answer) -> CheckResult:
    inputs = []
    for k, theta in enumerate([1.3, 2.0, 1.1, 1.5, 1.0, 1.2]):
        seen = torch.randint(5 + k, (3 + 2 * k,), generator=torch.Generator().manual_seed(k))
        inputs.append({"z": 2 * noise(k, 5 + k), "seen": seen, "theta": theta})
    inputs.append({"z": torch.tensor([2.0, -2.0, 0.0]), "seen": torch.tensor([1, 1, 2]), "theta": 2.0})
    result = compare(
        "34.3", answer, penalised, inputs, MISTAKES["34.3"], tolerance=1e-5,
        praise="Right: downwards on both sides of zero, once for each token.",
        hint="z / theta where z > 0, else z * theta; and only where a token occurs in `seen`.",
    )  # fmt: skip
    if not result.passed:
        return result
    z = torch.tensor([1.0, -1.0])
    kept = z.clone()
    answer(z=z, seen=torch.tensor([0, 1]), theta=2.0)
    if torch.equal(z, kept):
        return result
    message = f"for z = {kept.tolist()}, seen = [0, 1]\n  got      z itself changed to {z.tolist()}\n  expected z as it was"
    return CheckResult("34.3", False, message, "Work on a clone: the caller still needs the old logits.")


@exercise("34.4")
def check_row(answer) -> CheckResult:
    inputs = []
    for k, (T, d) in enumerate([(3, 4), (1, 2), (7, 3), (5, 8), (2, 6)]):
        x, Wq, Wk, Wv = noise(k, d), noise(k + 20, d, d), noise(k + 40, d, d), noise(k + 60, d, d)
        inputs.append({"x": x, "Wq": Wq, "Wk": Wk, "Wv": Wv, "K": noise(k + 80, T, d), "V": noise(k + 90, T, d)})
    first = {**inputs[0], "K": torch.zeros(0, 4), "V": torch.zeros(0, 4)}  # the first token of all sees itself alone
    return compare(
        "34.4", answer, attend_new, [*inputs, first], MISTAKES["34.4"],
        praise="Right: one row, and the first token sees itself alone.",
        hint="q, k, v from x; append k to K and v to V; softmax of K q / sqrt(d); the weighted sum of the values.",
    )  # fmt: skip


@exercise("34.5")
def check_leftover(answer) -> CheckResult:
    inputs = [{"p": _probabilities(k, 2 + k, 5), "q": _probabilities(k + 30, 2 + k, 5)} for k in range(5)]
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    inputs.append({"p": p, "q": torch.tensor([[0.5, 0.5, 0.0], [0.6, 0.4, 0.0]], dtype=torch.float64)})
    return compare(
        "34.5", answer, leftover, inputs, MISTAKES["34.5"], tolerance=1e-5,
        praise="Right, also where nothing is left over.",
        hint="max(0, p - q), each row divided by its sum; p where that sum is 0.",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- 34.6, diverse and spelled

ROWS, SEEN, NEW = 96, 32, 120
WORDS, PAIRS = 0.91, 0.89
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True)
class Outcome:
    """Of a filter: the share of words that exist, and of pairs of words that differ."""

    words: float
    pairs: float


@lru_cache(maxsize=1)
def _setting():
    """The network, its tokenizer, beginnings from held-out plays, and the words that exist."""
    plays = shakespeare(stand_in=True)
    tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
    text = "".join(c for c in plays.held_out if c in tokenizer.characters)
    apart = (len(text) - SEEN) // ROWS
    begins = torch.stack([torch.tensor(tokenizer.encode(text[k * apart :][:SEEN])) for k in range(ROWS)])
    return pretrained("shakespeare"), tokenizer, begins, set(_WORD.findall((plays.train + plays.held_out).lower()))


def outcome(my_filter, seeds: tuple[int, ...] = (0, 1)) -> Outcome:
    """Let the shipped network write with a filter, once for each seed, and measure the texts: means."""
    network, tokenizer, begins, known = _setting()
    tries, length = (begins[:4], 12) if budget.is_tiny() else (begins, NEW)

    def filtered(ids, *cache):
        logits = network(ids, *cache)
        got = call(my_filter, logits[:, -1].clone())
        if not isinstance(got, torch.Tensor) or got.shape != logits[:, -1].shape:
            shape = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
            raise Unusable(f"expected logits of shape {tuple(logits[:, -1].shape)}, got {shape}")
        if got.isnan().any() or (got == math.inf).any() or not got.isfinite().any(-1).all():
            raise Unusable(
                "expected finite logits, or -infinity for what must not come, and at least one finite in each row"
            )
        return got[:, None]

    filtered.config, filtered.new_cache = network.config, network.new_cache
    shares = []
    for seed in seeds:
        drawn = torch.stack(list(generate(filtered, tries, length, generator=torch.Generator().manual_seed(seed))), 1)
        found = [_WORD.findall(tokenizer.decode(row.tolist()).lower())[1:-1] for row in drawn]
        long = [word for text in found for word in text if len(word) > 3]
        pairs = [pair for text in found for pair in pairwise(text)]
        shares.append((sum(word in known for word in long) / max(1, len(long)), len(set(pairs)) / max(1, len(pairs))))
    return Outcome(*(sum(each) / len(shares) for each in zip(*shares, strict=True)))


@exercise("34.6")
def check_filter(answer) -> CheckResult:
    got = attempt("34.6", answer, outcome, hint="Logits (B, V) come in, logits (B, V) go out: filter_logits does that.")
    if isinstance(got, CheckResult):
        return got
    message = (
        f"got      [here {got.words:.3f} of the words exist, {got.pairs:.3f} of the pairs differ]\n"
        f"expected at least {WORDS} and {PAIRS}"
    )
    if budget.is_tiny() or (got.words >= WORDS and got.pairs >= PAIRS):
        return CheckResult("34.6", True, message)
    hint = (
        "Spelled, but the texts resemble one another: allow more chance among the likely letters."
        if got.words >= WORDS
        else "Too many words do not exist: the tail is not cut where the network is sure."
    )
    return CheckResult("34.6", False, message, hint)


REFERENCES = {"34.1": at_temperature, "34.2": nucleus, "34.3": penalised, "34.4": attend_new, "34.5": leftover}
