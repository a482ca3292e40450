"""Lesson 01: Bayes' rule, the mean of a conditioned mixture, a 3-gram, and digits without a network."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aigc_lessons.data import digits
from aigc_lessons.evaluation.judges import accuracy, describe
from aigc_lessons.evaluation.metrics import balanced_subset, frechet_distance, nearest
from aigc_lessons.exercises.core import CheckResult, Mistake, attempt, call, compare, exercise, noise
from aigc_lessons.training.checkpoints import pretrained


def posterior(p_x_given_y, p_y):
    joint = p_x_given_y * p_y
    return joint / joint.sum(1, keepdim=True)


def expected_x2(x1, weights, means, covs):
    shares = _shares(x1, weights, means[:, 0], covs[:, 0, 0])
    return (shares * _line(means, covs, x1)).sum(1)


def _shares(x1, weights, mean, variance):
    """How much of p(x1) comes from each Gaussian: (M, K), rows sum to 1."""
    return _logs(x1, weights, mean, variance).softmax(1)


def _logs(x1, weights, mean, variance):
    return weights.log() - (x1[:, None] - mean).square() / (2 * variance) - variance.log() / 2


def _line(means, covs, x1):
    """The mean of x2 inside each Gaussian: (M, K)."""
    return means[:, 1] + covs[:, 1, 0] / covs[:, 0, 0] * (x1[:, None] - means[:, 0])


def _unnormalised(x1, weights, means, covs):
    off, variance = x1[:, None] - means[:, 0], covs[:, 0, 0]
    density = (-off.square() / (2 * variance)).exp() / (2 * torch.pi * variance).sqrt()
    return (weights * density * _line(means, covs, x1)).sum(1)


def _softmax_over_points(x1, weights, means, covs):
    return (_logs(x1, weights, means[:, 0], covs[:, 0, 0]).softmax(0) * _line(means, covs, x1)).sum(1)


def _without_variance(x1, weights, means, covs):
    logs = weights.log() - (x1[:, None] - means[:, 0]).square() / (2 * covs[:, 0, 0])
    return (logs.softmax(1) * _line(means, covs, x1)).sum(1)


def next_given(ids, a, b, vocab_size, alpha):
    return _smoothed(_after(ids, a, b), vocab_size, alpha)


def _after(ids, a, b):
    return ids[2:][(ids[:-2] == a) & (ids[1:-1] == b)]


def _smoothed(follows, vocab_size, alpha):
    counts = torch.bincount(follows, minlength=vocab_size) + alpha
    return counts / counts.sum()


MISTAKES = {
    "01.1": [
        Mistake(
            lambda p_x_given_y, p_y: p_x_given_y / p_x_given_y.sum(1, keepdim=True),
            "The prior is missing: a class that is rare needs more evidence. Multiply by p_y first.",
        ),
        Mistake(
            lambda p_x_given_y, p_y: p_x_given_y * p_y,
            "That is the joint p(x, y). Divide by p(x), its sum over the classes, so that each row sums to 1.",
        ),
        Mistake(
            lambda p_x_given_y, p_y: p_x_given_y * p_y / (p_x_given_y * p_y).sum(0, keepdim=True),
            "You normalised over the points. The classes are columns: each row must sum to 1.",
        ),
        Mistake(
            lambda p_x_given_y, p_y: p_x_given_y / (p_x_given_y * p_y).sum(1, keepdim=True),
            "The prior is in the denominator only: p(y|x) = p(x|y) p(y) / p(x) has it above the line as well.",
        ),
    ],
    "01.2": [
        Mistake(
            lambda x1, weights, means, covs: (weights * _line(means, covs, x1)).sum(1),
            "You weighted by w, as if x1 were unknown. What x1 says about which Gaussian it came from is missing.",
        ),
        Mistake(
            lambda x1, weights, means, covs: (_shares(x1, weights, means[:, 0], covs[:, 0, 0]) * means[:, 1]).sum(1),
            "The slope is missing: inside one Gaussian, x2 moves with x1 by S21 / S11 for each unit.",
        ),
        Mistake(
            lambda x1, weights, means, covs: (
                _shares(x1, weights, means[:, 0], covs[:, 0, 0])
                * (means[:, 1] + covs[:, 1, 0] / covs[:, 1, 1] * (x1[:, None] - means[:, 0]))
            ).sum(1),
            "The slope divides by the variance of x2. It should divide by that of x1, S11, which is what is given.",
        ),
        Mistake(
            _without_variance,
            "The factor 1 / sqrt(S11) of the normal density is missing in the shares: wide Gaussians are lower.",
        ),
        Mistake(
            lambda x1, weights, means, covs: (
                _shares(x1, torch.ones_like(weights), means[:, 0], covs[:, 0, 0]) * _line(means, covs, x1)
            ).sum(1),
            "The weights w are missing: before x1 is seen, some Gaussians are already more likely than others.",
        ),
        Mistake(_unnormalised, "The r of each x1 must sum to 1: divide by their sum over the Gaussians."),
        Mistake(
            _softmax_over_points,
            "Your softmax runs over the points. The Gaussians are columns: for each x1, the r of a row sum to 1.",
        ),
        Mistake(
            lambda x1, weights, means, covs: (
                _shares(x1, weights, means[:, 0], covs[:, 0, 0].square()) * _line(means, covs, x1)
            ).sum(1),
            "S11 is a variance already; you squared it in the shares, as if it were a standard deviation.",
        ),
    ],
    "01.3": [
        Mistake(
            lambda ids, a, b, vocab_size, alpha: _smoothed(ids[1:][ids[:-1] == b], vocab_size, alpha),
            "You looked at b alone: that is a 2-gram. Keep the places where a stands before b as well.",
        ),
        Mistake(
            lambda ids, a, b, vocab_size, alpha: _smoothed(ids[2:][(ids[:-2] == b) & (ids[1:-1] == a)], vocab_size, alpha),
            "a and b have changed places: a comes first in the text, then b, then the character asked for.",
        ),
        Mistake(
            lambda ids, a, b, vocab_size, alpha: next_given(ids, a, b, vocab_size, 0),
            "alpha is not added: what was never seen gets probability 0, and can never be written.",
        ),
        Mistake(
            lambda ids, a, b, vocab_size, alpha: _once(ids, a, b, vocab_size, alpha),
            "The probabilities do not sum to 1: alpha is added to every one of the vocab_size counts, so the total grows by"
            " vocab_size times alpha.",
        ),
        Mistake(
            lambda ids, a, b, vocab_size, alpha: torch.bincount(_after(ids, a, b), minlength=vocab_size) + alpha,
            "Those are counts. Divide by their sum, so that they become probabilities.",
        ),
    ],
}  # fmt: skip


def _once(ids, a, b, vocab_size, alpha):
    follows = _after(ids, a, b)
    return (torch.bincount(follows, minlength=vocab_size) + alpha) / (len(follows) + alpha)


@exercise("01.1")
def check_posterior(answer) -> CheckResult:
    inputs = []
    for k, (points, classes) in enumerate([(4, 2), (3, 3), (1, 2), (6, 5), (2, 10)]):
        inputs.append({"p_x_given_y": noise(k, points, classes).exp(), "p_y": noise(40 + k, classes).softmax(0)})
    likely = torch.tensor([[0.2, 0.2], [0.0, 0.3], [1e-12, 3e-12]])
    inputs.append({"p_x_given_y": likely, "p_y": torch.tensor([0.9, 0.1])})  # undecided, certain, far away
    return compare(
        "01.1", answer, posterior, inputs, MISTAKES["01.1"],
        praise="Right on six sets of points, two to ten classes: a generative model classifies without being told how.",
        hint="Multiply each column by its prior; then divide each row by its sum.",
    )  # fmt: skip


@exercise("01.2")
def check_expected_x2(answer) -> CheckResult:
    inputs = []
    for k, K in enumerate([2, 3, 1, 5, 4, 2]):
        root = noise(20 + k, K, 2, 2).double()
        inputs.append({
            "x1": 2 * noise(k, 4).double(), "weights": noise(60 + k, K).double().softmax(0),
            "means": noise(80 + k, K, 2).double(), "covs": root @ root.transpose(1, 2) + 0.1 * torch.eye(2).double(),
        })  # fmt: skip
    points = {"weights": torch.full((3,), 1 / 3), "means": torch.tensor([[0.0, 1.0], [1.0, -1.0], [2.0, 5.0]])}
    inputs.append(
        points | {"x1": torch.tensor([0.1, 1.9]), "covs": 0.01 * torch.eye(2).repeat(3, 1, 1)}
    )  # a density of points
    return compare(
        "01.2", answer, expected_x2, inputs, MISTAKES["01.2"],
        praise="Right on seven mixtures, one to five Gaussians: this is the formula from which the digit network starts.",
        hint="Two parts: the share of each Gaussian given x1 (Bayes' rule in one dimension), and the line of each Gaussian.",
        tolerance=1e-4,
    )  # fmt: skip


@exercise("01.3")
def check_next_given(answer) -> CheckResult:
    inputs = []
    for k, (vocab_size, alpha) in enumerate([(3, 1.0), (4, 0.5), (5, 0.1), (3, 2.0), (6, 0.01)]):
        ids = torch.randint(vocab_size, (120,), generator=torch.Generator().manual_seed(k))
        inputs.append({"ids": ids, "a": 0, "b": 1 + k % 2, "vocab_size": vocab_size, "alpha": alpha})
    inputs.append(inputs[0] | {"ids": torch.tensor([0, 1, 2, 0, 1]), "vocab_size": 4, "alpha": 0.5})  # ends with the context
    inputs.append(inputs[0] | {"ids": torch.tensor([2, 2, 2, 2]), "vocab_size": 5})  # a context never seen
    return compare(
        "01.3", answer, next_given, inputs, MISTAKES["01.3"],
        praise="Right on seven texts, one of them without the context: then every character is equally likely.",
        hint="ids[:-2], ids[1:-1] and ids[2:] are the first, second and third of every three neighbours.",
    )  # fmt: skip


# --------------------------------------------------------------------------------------- 01.4, digits without a network

EACH = 50  # digits of each class
CLOSEST = 0.8  # of the lesson's closeness is allowed
RATIO = 0.9  # times the lesson's Fréchet ratio is allowed


@dataclass(frozen=True)
class Score:
    """Of drawn digits: share read as asked, Fréchet ratio, and the share closer to a training image than the median
    held-out image is."""

    read: float
    ratio: float
    close: float


@lru_cache(maxsize=1)
def _judging():
    judge = pretrained("digits_judge")
    train, held_out = digits.load(stand_in=True)
    features, real = describe(judge, held_out.images), describe(judge, train.images)
    generator = torch.Generator().manual_seed(0)
    subsets = [real[balanced_subset(train.labels, 10 * EACH, generator)] for _ in range(10)]
    unit = sum(frechet_distance(subset, features) for subset in subsets) / len(subsets)
    return train, judge, features, unit, nearest(held_out.images, train.images).distance.median()


def score(answer, seed: int = 0) -> Score:
    """Let `answer(images, labels, wanted, generator)` draw 50 digits of each class, and judge them as the lesson does."""
    train, judge, held_out, unit, half = _judging()
    wanted = torch.arange(10).repeat_interleave(EACH)
    drawn = call(answer, train.images.clone(), train.labels.clone(), wanted.clone(), torch.Generator().manual_seed(seed))
    if not isinstance(drawn, Tensor) or drawn.shape != (len(wanted), 1, 28, 28):
        shape = tuple(getattr(drawn, "shape", ())) or type(drawn).__name__
        raise ValueError(f"return a tensor of shape ({len(wanted)}, 1, 28, 28), got {shape}")
    if not drawn.isfinite().all():
        raise ValueError("the digits contain NaN or infinity")
    drawn = digits.from_uint8(digits.to_uint8(drawn.float()))
    ratio = frechet_distance(describe(judge, drawn), held_out) / unit
    close = (nearest(drawn, train.images).distance < half).double().mean().item()
    return Score(accuracy(judge, drawn, wanted), ratio, close)


def mixture_digits(
    images: Float[Tensor, "N 1 28 28"], labels: Int[Tensor, " N"], wanted: Int[Tensor, " M"], generator: torch.Generator,
    K: int = 8, directions: int = 80, contrast: float = 1.4,
) -> Float[Tensor, "M 1 28 28"]:  # fmt: skip
    """The lesson's digits: for each class, K Gaussians in principal coordinates, then more contrast."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    seed = int(torch.randint(2**31, (), generator=generator))
    drawn = torch.empty(len(wanted), 784)
    with threadpool_limits(1):  # on such small matrices a second thread only gets in the way
        pca = PCA(directions, random_state=0).fit(images.flatten(1).double().numpy())
        for label in wanted.unique():
            z = pca.transform(images[labels == label].flatten(1).double().numpy())
            mixture = GaussianMixture(K, reg_covar=1e-3, random_state=seed).fit(z)
            mine = wanted == label
            new, _ = mixture.sample(int(mine.sum()))
            drawn[mine] = torch.from_numpy(pca.inverse_transform(new)).float()
    return (contrast * drawn).clamp(-1, 1).view(-1, 1, 28, 28)


@lru_cache(maxsize=1)
def lesson_score() -> Score:
    """What the lesson's mixture reaches, measured here and now."""
    return score(mixture_digits)


@exercise("01.4")
def check_better_digits(answer) -> CheckResult:
    mine = attempt("01.4", answer, score)
    if isinstance(mine, CheckResult):
        return mine
    theirs = lesson_score()
    most_ratio, most_close, least_read = RATIO * theirs.ratio, CLOSEST * theirs.close, theirs.read - 0.02
    message = (
        f"got      [here Fréchet ratio {mine.ratio:.3f}, close to training images {mine.close:.0%}, read {mine.read:.1%}]\n"
        f"expected [here at most {most_ratio:.3f} and {most_close:.0%}, at least {least_read:.1%}]"
        f" (the lesson's mixture has [here {theirs.ratio:.3f}, {theirs.close:.0%}, {theirs.read:.1%}])"
    )
    hint = ""
    if mine.read < least_read:
        hint = "They cannot be read well enough: are they blurred, or moved too far?"
    elif mine.ratio > most_ratio:
        hint = "Not varied or not sharp enough: more Gaussians for each class, or another contrast."
    elif mine.close > most_close:
        hint = "Too close to the training images: a rule can move each drawn digit a little and leave it the same digit."
    return CheckResult("01.4", not hint, message, hint)


REFERENCES = {"01.1": posterior, "01.2": expected_x2, "01.3": next_given}
