"""Does 80 % sure mean right in 80 of 100? Reliability, its error, one number that mends it, abstaining, intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability diagram shows: for each bin that is not empty, in order,

    count:      how many answers were given with a confidence in it;
    confidence: their mean confidence;
    accuracy:   the share of them that was right.
    """

    count: Int[Tensor, " K"]
    confidence: Float[Tensor, " K"]
    accuracy: Float[Tensor, " K"]


def reliability(probs: Float[Tensor, " N"], right: Bool[Tensor, " N"], bins: int = 10) -> Reliability:
    """Sort answers by confidence into bins of equal width, and ask each bin how often it was right.

    Bin k holds (k/bins, (k+1)/bins]; 0 belongs to the first.

    Args:
        probs: the probability that each answer gave itself, in 0..1: of the class it chose.
        right: whether it was right.
        bins:  at least 1.
    Raises: ValueError if there is no answer, lengths differ, a probability leaves 0..1 or bins is below 1.
    Source: Murphy and Winkler 1977; for networks, Guo et al. 2017, arXiv:1706.04599.
    """
    _check_answers(probs, right)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    probs = probs.double()
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    k = torch.bucketize(probs, edges)  # counts the edges below: an edge itself belongs to the bin on its left
    count = torch.bincount(k, minlength=bins)
    sums = torch.zeros(2, bins, dtype=torch.float64).index_add_(1, k, torch.stack([probs, right.double()]))
    confidence, accuracy = sums[:, count > 0] / count[count > 0]
    return Reliability(count[count > 0], confidence, accuracy)


def expected_calibration_error(probs: Float[Tensor, " N"], right: Bool[Tensor, " N"], bins: int = 10) -> float:
    """ECE = sum over bins of (count / N) |accuracy - confidence|: how far confidence is from accuracy, on average.

    0 is perfect; but a perfectly calibrated model, too, has a positive ECE on few answers, since chance moves each bin.

    Args, Raises: as for `reliability`.
    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    found = reliability(probs, right, bins)
    return ((found.accuracy - found.confidence).abs() * found.count).sum().item() / len(probs)


def fit_temperature(logits: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> float:
    """The T > 0 for which softmax(logits / T) gives the labels their highest likelihood.

    With b = 1 / T the mean loss is convex, and its slope rises with b:

        d/db mean(-log softmax(b z)_y) = mean( sum_k p_k z_k - z_y )

    so the zero of the slope is found by halving an interval. Fit it on validation data: on the training set a network is
    right nearly everywhere, and T would say that all is well.

    Args:
        labels: in 0..K-1.
    Returns: above 1 if the model was too sure, below 1 if it was not sure enough.
    Raises: ValueError if shapes do not fit, a label is out of range, or no T in 0.001..1000 is best: with every label the
        likeliest class, the best T is 0; with logits that lead astray, it is infinite.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(logits) == 0:
        raise ValueError(f"logits (N, K) and labels (N) are needed, got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels lie in 0..{logits.shape[1] - 1}, got {labels.min().item()}..{labels.max().item()}")
    z = logits.double()
    of_label = z.gather(1, labels[:, None])[:, 0]

    def slope(b: float) -> float:
        return (((b * z).softmax(1) * z).sum(1) - of_label).mean().item()

    low, high = 1e-3, 1e3
    if slope(high) <= 0:
        raise ValueError("every label is the likeliest class: sharper is always better, and the best temperature is 0")
    if slope(low) > 0:
        raise ValueError("these logits lead astray: flatter is always better, and the best temperature is infinite")
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / (low * high) ** 0.5


def coverage_curve(probs: Float[Tensor, " N"], right: Bool[Tensor, " N"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Answer the surest questions only: the share answered (1/N, 2/N ... 1), and the accuracy on it.

    Equally sure answers cannot be told apart: where a threshold cannot separate them, all of them count alike.

    Raises: as for `reliability`.
    Source: El-Yaniv and Wiener 2010; for networks, Geifman and El-Yaniv 2017, arXiv:1705.08500.
    """
    _check_answers(probs, right)
    order = probs.argsort(descending=True, stable=True)
    values, hit = probs[order], right[order].double()
    _, group, size = torch.unique_consecutive(values, return_inverse=True, return_counts=True)
    mean = torch.zeros(len(size), dtype=torch.float64).index_add_(0, group, hit) / size
    answered = torch.arange(1, len(probs) + 1, dtype=torch.float64)
    return answered / len(probs), mean[group].cumsum(0) / answered


def group_interval(
    statistic: Callable[[Int[Tensor, " M"]], float],
    groups: Shaped[Tensor, " N"],
    generator: torch.Generator,
    *,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Ends of a 95 % interval of a statistic, whole groups resampled: examples of one group (a scene) resemble each other.

    Args:
        statistic: row numbers (with repetitions) -> a number.
        groups:    which group each example belongs to.
    Returns: the 2.5 % and 97.5 % quantiles over the resamples.
    Raises: ValueError if there are fewer than two groups, or resamples is below 1.
    Source: Efron and Tibshirani 1993, section 13.3; for clusters, Davison and Hinkley 1997, section 3.8.
    """
    names, member = groups.unique(return_inverse=True)
    if len(names) < 2 or resamples < 1:
        raise ValueError(f"at least 2 groups and 1 resample are needed, got {len(names)} and {resamples}")
    rows = [(member == k).nonzero()[:, 0] for k in range(len(names))]
    found = []
    for _ in range(resamples):
        drawn = torch.randint(len(rows), (len(rows),), generator=generator).tolist()
        found.append(float(statistic(torch.cat([rows[k] for k in drawn]))))
    low, high = torch.tensor(found, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _check_answers(probs: Tensor, right: Tensor) -> None:
    if probs.ndim != 1 or probs.shape != right.shape or len(probs) == 0:
        raise ValueError(f"each answer has one confidence and one verdict, got {tuple(probs.shape)}, {tuple(right.shape)}")
    if not (probs.min() >= 0 and probs.max() <= 1):  # also refuses NaN
        raise ValueError(f"confidences lie in 0..1, got {probs.min().item():.4g}..{probs.max().item():.4g}")
