"""Lesson 02: softmax, distances by broadcasting, Adam, a backward pass by hand, and a network that draws better."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from aigc_lessons.data import digits
from aigc_lessons.data.batches import epochs
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.training import budget
from aigc_lessons.training.loop import TrainConfig, train

# ------------------------------------------------------------- the references are torch's own, never a second try of ours


def softmax(scores):
    return torch.softmax(scores, dim=-1)


def squared_distances(a, b):
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def adam(w, grads, lr, beta1, beta2, eps):
    parameter = nn.Parameter(w)
    optimizer = torch.optim.Adam([parameter], lr=lr, betas=(beta1, beta2), eps=eps)
    for g in grads:
        parameter.grad = g
        optimizer.step()
    return parameter.detach()


def backward(X, y, W1, b1, W2, b2):
    weights = [p.requires_grad_() for p in (W1, b1, W2, b2)]
    with torch.enable_grad():
        loss = (torch.sin(X @ W1.T + b1) @ W2.T + b2 - y).square().mean()
    return torch.autograd.grad(loss, weights)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _without_keepdim(scores):
    """torch accepts it for square scores, and refuses the others."""
    e = scores.exp()
    return e / e.sum(-1) if scores.ndim == 2 and len(scores) in (1, scores.shape[1]) else torch.full_like(e, torch.nan)


def _adam_with(power=torch.square, sign=-1.0, correct=lambda k: k, swap=False, inside=False, root=True, store=False):
    """Adam with one thing wrong."""

    def wrong(w, grads, lr, beta1, beta2, eps):
        b1, b2 = (beta2, beta1) if swap else (beta1, beta2)
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        for k, g in enumerate(grads, 1):
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * power(g)
            n = correct(k)
            m_hat, v_hat = (m / (1 - b1**n), v / (1 - b2**n)) if n else (m, v)
            m, v = (m_hat, v_hat) if store else (m, v)
            below = (v_hat + eps).sqrt() if inside else (v_hat.sqrt() if root else v_hat) + eps
            w = w + sign * lr * m_hat / below
        return w

    return wrong


def _adam_shared(w, grads, lr, beta1, beta2, eps):
    m = v = torch.zeros_like(w)
    for k, g in enumerate(grads, 1):
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g.square()
        w = w - lr * m / (1 - beta1**k) / ((v / (1 - beta2**k)).sqrt() + eps)
    return w


def _backward_with(mean=True, two=True, sign=1.0, bend=torch.cos, through=True):
    """The backward pass with one thing wrong; bend: Z -> the factor that leads from H back to Z."""

    def wrong(X, y, W1, b1, W2, b2):
        Z = X @ W1.T + b1
        H = Z.sin()
        dP = sign * (2 if two else 1) * (H @ W2.T + b2 - y) / (len(X) if mean else 1)
        dZ = (dP @ W2 if through else dP.expand(-1, len(b1))) * bend(Z)
        return dZ.T @ X, dZ.sum(0), dP.T @ H, dP.sum(0)

    return wrong


OVERFLOW = (
    "NaN: exp(100) is already infinite in float32, and infinite / infinite is not a number. Subtract from each row its own"
    " largest score first: the shares stay the same, and no exponent is above 0."
)
MISTAKES = {
    "02.1": [
        Mistake(lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True), OVERFLOW),
        Mistake(lambda scores: scores.exp() / scores.exp().sum(0, keepdim=True),
                "Your columns add up to 1; the rows should: the sum runs over the last axis, dim=-1."),
        Mistake(_without_keepdim,
                "keepdim=True is missing: the sums have shape (B,), so broadcasting laid them along the columns."),
        Mistake(lambda scores: scores.exp() / scores.exp().sum(),
                "All entries together add up to 1; each row should by itself: sum with dim=-1."),
        Mistake(lambda scores: scores.log_softmax(-1), "Those are logarithms: a softmax is positive, its rows add up to 1."),
        Mistake(lambda scores: scores / scores.sum(-1, keepdim=True), "The exp is missing: scores may be negative."),
        Mistake(lambda scores: scores.clamp(max=80).exp() / scores.clamp(max=80).exp().sum(-1, keepdim=True),
                "Clamping makes different scores equal. Subtract the row's largest score instead: that changes no share."),
    ],
    "02.2": [
        Mistake(lambda a, b: (a[:, None] - b).square().sum(-1).sqrt(),
                "Those are distances; the exercise asks for their squares. Leave the root out."),
        Mistake(lambda a, b: (a[:, None] - b).abs().sum(-1), "You added absolute differences; square them."),
        Mistake(lambda a, b: (a[:, None] - b).square().mean(-1), "You took the mean over the coordinates; take their sum."),
        Mistake(lambda a, b: (a[:, None] - b).sum(-1).square(), "Square first, then sum: in your sum differences cancel."),
        Mistake(lambda a, b: (b[:, None] - a).square().sum(-1),
                "Rows and columns have changed places: entry (i, j) belongs to a[i] and b[j]."),
        Mistake(lambda a, b: (a[:, None] + b).square().sum(-1), "A plus for a minus: from a point to itself it is 0."),
        Mistake(lambda a, b: a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T,
                "Right on paper, but far from the origin two large numbers cancel, and float32 keeps only seven digits."
                " Subtract the points first."),
    ],
    "02.3": [
        Mistake(_adam_with(correct=lambda k: 0),
                "The corrections are missing: m and v start at 0, so divide them by 1 - beta1^k and 1 - beta2^k."),
        Mistake(_adam_with(correct=lambda k: 1),
                "The corrections must fade: the exponent is the step k = 1, 2, 3, ..., and yours stays 1."),
        Mistake(_adam_with(inside=True), "eps stands outside the root: sqrt(v) + eps, not sqrt(v + eps)."),
        Mistake(_adam_with(swap=True), "beta1 and beta2 have changed places: beta1 belongs to m, beta2 to v."),
        Mistake(_adam_with(root=False), "The square root of v is missing: v is in the unit of the gradient squared."),
        Mistake(_adam_with(sign=1.0), "The sign: a step goes against the gradient, so it is subtracted."),
        Mistake(_adam_with(power=torch.abs), "v averages the squares of the gradient; yours averages absolute values."),
        Mistake(_adam_with(store=True),
                "The hats were stored: m and v go on uncorrected, and each step computes m_hat and v_hat from them anew."),
        Mistake(_adam_shared, "m and v are one tensor with two names (m = v = zeros): m += changes both. Make two."),
    ],
    "02.4": [
        Mistake(_backward_with(mean=False), "Your gradient is N times too large: the loss is a mean."),
        Mistake(_backward_with(two=False), "Your gradient is half of the true one: the derivative of e^2 is 2 e."),
        Mistake(_backward_with(sign=-1.0), "The sign is turned round: the error is prediction minus y."),
        Mistake(_backward_with(bend=torch.ones_like),
                "W2 and b2 are right. On the way from H to Z the derivative of the sine is missing: multiply by cos(Z)."),
        Mistake(_backward_with(bend=torch.sin),
                "W2 and b2 are right. From H back to Z the factor is cos(Z), the derivative of the sine, and not sin(Z)."),
        Mistake(_backward_with(bend=lambda Z: Z.sin().cos()),
                "W2 and b2 are right. The cosine is taken at Z, the input of the sine; yours is taken at H, its output."),
        Mistake(_backward_with(through=False),
                "W2 and b2 are right. The way back from the prediction to H leads through W2: multiply by it."),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the checkers


@exercise("02.1")
def check_softmax(answer) -> CheckResult:
    scores = [noise(1, 3, 3), 2 * noise(2, 4, 6), noise(3, 2, 1), 90 + 20 * noise(5, 2, 2), 100 * noise(4, 5, 3)]
    scores += [noise(6, 2, 5) + torch.tensor([[500.0], [-500.0]]), torch.zeros(2, 4), noise(7, 2, 3, 4)]
    return compare(
        "02.1", answer, softmax, [{"scores": s} for s in scores], MISTAKES["02.1"],
        praise="Right on eight inputs: scores of a thousand, rows far apart, a single column and three axes among them.",
        hint="Three lines: subtract from each row its largest score, take exp, divide by the sum over the last axis.",
    )  # fmt: skip


@exercise("02.2")
def check_squared_distances(answer) -> CheckResult:
    sizes = [(3, 3, 2), (5, 4, 2), (2, 7, 3), (1, 6, 4), (6, 1, 1), (4, 0, 3)]
    inputs = [{"a": noise(k, n, d), "b": noise(40 + k, m, d)} for k, (n, m, d) in enumerate(sizes)]
    inputs.append({"a": inputs[1]["a"], "b": inputs[1]["a"]})  # points and themselves
    inputs.append({"a": noise(8, 3, 5) + 3000, "b": noise(9, 4, 5) + 3000})
    return compare(
        "02.2", answer, squared_distances, inputs, MISTAKES["02.2"],
        praise="Right on eight pairs of sets: one point, no point, points and themselves, and points far from the origin.",
        hint="Give a an axis for b's points to stretch along: a[:, None] has shape (N, 1, D). Then subtract, square, sum.",
    )  # fmt: skip


@exercise("02.3")
def check_adam(answer) -> CheckResult:
    settings = [(0.1, 0.9, 0.99, 1e-2, 5), (0.01, 0.9, 0.999, 1e-8, 20), (1.0, 0.5, 0.8, 1e-3, 3), (0.1, 0.9, 0.99, 1e-8, 1)]
    inputs = [
        {"w": noise(k, 3), "grads": noise(30 + k, steps, 3), "lr": lr, "beta1": b1, "beta2": b2, "eps": eps}
        for k, (lr, b1, b2, eps, steps) in enumerate(settings)
    ]
    inputs.append(inputs[1] | {"grads": inputs[1]["grads"] * 1e4})  # a thousand times steeper, the same steps
    inputs.append(inputs[1] | {"grads": inputs[1]["grads"] * torch.tensor([1.0, 0.0, 1.0])})  # one weight without a slope
    inputs.append(inputs[0] | {"beta1": 0.0})
    return compare(
        "02.3", answer, adam, inputs, MISTAKES["02.3"],
        praise="The same weights as torch.optim.Adam in seven runs, huge gradients and a weight without any included.",
        hint="Keep m and v between the steps, both zero at first; k counts the steps from 1, and eps is added to the root.",
    )  # fmt: skip


GRADIENTS = ("dW1", "db1", "dW2", "db2")


def _one_of(answer) -> Callable | object:
    """A backward pass asked for one of its four gradients at a time."""
    if not callable(answer):
        return answer

    def asked(*, gradient, **given):
        got = call(answer, **given)
        if not isinstance(got, (tuple, list)) or len(got) != 4:
            raise TypeError(f"return the four gradients {', '.join(GRADIENTS)}, not a {type(got).__name__}")
        return got[GRADIENTS.index(gradient)]

    return asked


@exercise("02.4")
def check_backward(answer) -> CheckResult:
    inputs = []
    for k, (N, K) in enumerate([(3, 4), (8, 2), (1, 5), (6, 1), (20, 7)]):
        shapes = {"X": (N, 2), "y": (N, 1), "W1": (K, 2), "b1": (K,), "W2": (1, K), "b2": (1,)}
        given = {name: noise(100 * k + i, *shape).double() for i, (name, shape) in enumerate(shapes.items())}
        # the last layer first, as the chain rule meets it: a mistake is named where it is made
        inputs += [{"gradient": name, **given} for name in ("dW2", "db2", "dW1", "db1")]
    mistakes = [Mistake(_one_of(mistake.answer), mistake.diagnosis) for mistake in MISTAKES["02.4"]]
    return compare(
        "02.4", _one_of(answer), _one_of(backward), inputs, mistakes,
        praise="All four gradients agree with autograd on five networks, a single point and a single wave among them.",
        hint="Walk back one line at a time: prediction, then W2 and b2, then H, then Z, then W1 and b1.",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- 02.5, a network to beat

WEIGHTS, STEPS, SHARE = 600, 300, 0.6


class Waves(nn.Module):
    """The lesson's network: 128 sine waves over the paper, added up."""

    def __init__(self, waves: int = 128):
        super().__init__()
        self.hidden, self.out = nn.Linear(2, waves), nn.Linear(waves, 1)
        nn.init.normal_(self.hidden.weight, std=10)

    def forward(self, points):
        return self.out(self.hidden(points).sin())


@dataclass(frozen=True)
class Drawn:
    """Mean squared errors on pixels that were trained on and on those that were not; how many numbers the network holds."""

    seen: float
    unseen: float
    weights: int


def squared_error(network, batch, generator):
    points, grey = batch
    return (network(points) - grey).square().mean()


@lru_cache(maxsize=1)
def _pictures() -> tuple[Tensor, Tensor, list[Tensor]]:
    """Points (784, 2), which of them may be seen (784,), and some held-out digits (784, 1) that the lesson does not show."""
    side = torch.linspace(-1, 1, 28)
    points = torch.stack(torch.broadcast_tensors(side[None, :], side[:, None]), -1).view(784, 2)
    row, column = torch.arange(28)[:, None], torch.arange(28)
    _, held_out = digits.load(stand_in=True)
    picked = [held_out.images[held_out.labels == label][7].view(784, 1) for label in (5, 8, 2, 9, 0)]
    return points, ((row + column) % 2 == 0).flatten(), picked


def draw(make: Callable[[], nn.Module]) -> Drawn:
    """Train a fresh network on half of the pixels of each picture, and measure it on both halves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # steps this small only lose time by being divided, most of all on a busy machine
    try:
        return _draw(make)
    finally:
        torch.set_num_threads(threads)


def _draw(make: Callable[[], nn.Module]) -> Drawn:
    points, seen, pictures = _pictures()
    errors = []
    for seed, grey in enumerate(pictures[: budget.steps(5, at_least=2)]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = call(make)
        if not isinstance(network, nn.Module):
            raise TypeError(f"return a network (an nn.Module), not a {type(network).__name__}")
        weights = sum(t.numel() for t in (*network.parameters(), *network.buffers()))
        if weights > WEIGHTS:
            return Drawn(math.nan, math.nan, weights)
        with torch.no_grad():
            if (shape := tuple(network(points).shape)) != (784, 1):
                raise ValueError(f"points (784, 2) must give greys (784, 1); your network gives {shape}")
        batches = epochs((points[seen], grey[seen]), batch_size=196, seed=seed)
        for _ in train(network, squared_error, batches, TrainConfig(steps=STEPS, lr=0.01, clip=None, log_every=STEPS)):
            pass
        with torch.no_grad():
            errors.append((network(points) - grey).square().flatten())
    error = torch.stack(errors).mean(0)
    return Drawn(error[seen].mean().item(), error[~seen].mean().item(), weights)


@lru_cache(maxsize=2)
def lesson_score(tiny: bool) -> Drawn:
    """The lesson's network, measured here and now."""
    return draw(Waves)


@exercise("02.5")
def check_better_network(answer) -> CheckResult:
    mine = attempt("02.5", answer, draw)
    if isinstance(mine, CheckResult):
        return mine
    if mine.weights > WEIGHTS:
        message = f"got      {mine.weights} weights and buffers\nexpected at most {WEIGHTS}"
        return CheckResult("02.5", False, message, "Fewer waves, or a second layer that is narrow.")
    lesson = lesson_score(budget.is_tiny())
    limit = SHARE * lesson.unseen
    message = (
        f"got      error [here {mine.unseen:.4f}] on the unseen pixels, {mine.weights} weights\n"
        f"expected at most [here {limit:.4f}], {SHARE:.0%} of the lesson's [here {lesson.unseen:.4f}], {WEIGHTS} weights"
    )
    return CheckResult("02.5", mine.unseen <= limit, message, "" if mine.unseen <= limit else _advice(mine, lesson))


def _advice(mine: Drawn, lesson: Drawn) -> str:
    if mine == lesson:
        return "That is the lesson's network itself. Greys lie between -1 and 1: does the network know?"
    if mine.seen > 3 * lesson.seen:
        return "Not even the seen pixels fit: the picture is blurred or flat. Are there bends, and waves short enough?"
    if mine.unseen > 5 * mine.seen and mine.unseen > lesson.unseen:
        return "It fits what it saw and guesses wildly between: the waves are too short. Make the first weights smaller."
    return "On the way. What could keep the greys between -1 and 1, and would a second layer of bends help?"


REFERENCES = {"02.1": softmax, "02.2": squared_distances, "02.3": adam, "02.4": backward}
