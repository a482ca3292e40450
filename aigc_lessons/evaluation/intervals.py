"""How sure a share is: intervals for right answers out of n, and for two systems that answered the same questions."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """A share with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def wilson(right: int, n: int, confidence: float = 0.95) -> Share:
    """Wilson's interval for a share: every p for which right / n is not surprising.

        |right/n - p| <= z sqrt(p (1 - p) / n)       solved for p;   z = 1.96 for 95 %

    Unlike right/n +- z sqrt(right/n (1 - right/n) / n) it has a width at 0 and at n, and never leaves 0..1.

    Args:
        confidence: how often, over many samples, the interval covers the true share; in (0, 1).
    Raises: ValueError for n below 1, right outside 0..n, or a confidence outside (0, 1).
    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"right must lie in 0..n with n at least 1, got {right} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Share(share, 0.0 if right == 0 else middle - half, 1.0 if right == n else middle + half)


@dataclass(frozen=True)
class Paired:
    """Two systems on the same questions: how many only the first got right, only the second, and the p-value of a tie."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Bool[Tensor, " N"], second: Bool[Tensor, " N"]) -> Paired:
    """McNemar's exact test: questions that both got right, or both wrong, say nothing about who is better.

    Of the others, were the two equally good, each side would win with probability 1/2. p is the probability of a split at
    least as lopsided as the one seen; 1 if there is none to look at.

    Raises: ValueError if the two did not answer equally many questions.
    Source: McNemar 1947; the exact form is the sign test.
    """
    if first.shape != second.shape:
        raise ValueError(f"the two must have answered the same questions, got {len(first)} and {len(second)} answers")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    return Paired(b, c, min(1.0, 2 * tail))


def paired_interval(
    differences: Tensor, generator: torch.Generator, *, draws: int = 2000, confidence: float = 0.95
) -> Share:
    """Bootstrap interval for the mean of paired differences, for example nats of two models on the same stretches of text.

    Args:
        differences: (N,), one for each stretch; stretches long enough that they hardly depend on one another.
        draws:       of N stretches with replacement.
    Raises: ValueError for fewer than two stretches.
    Source: Efron 1979, Bootstrap methods: another look at the jackknife.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"an interval needs at least two stretches, got {n}")
    differences = differences.double()
    means = differences[torch.randint(n, (draws, n), generator=generator)].mean(1)
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return Share(differences.mean().item(), low, high)
