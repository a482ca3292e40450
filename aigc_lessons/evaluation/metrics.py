"""How good is it? Distances between sets of images, and laws through measured points, each with its uncertainty."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def frechet_distance(a: Float[Tensor, "N F"], b: Float[Tensor, "M F"]) -> float:
    """Squared Fréchet distance between two clouds of features, each seen as a Gaussian.

    d^2 = ||mu_a - mu_b||^2 + trace( S_a + S_b - 2 (S_a S_b)^(1/2) )

    The last trace is the sum of the square roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), a symmetric matrix.

    Raises: ValueError if the features differ in length or a cloud has fewer than two points.
    Source: Dowson and Landau 1982; for images, Heusel et al. 2017, arXiv:1706.08500.
    """
    if a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < 2:
        raise ValueError(f"two clouds of at least 2 points of equal length are needed, got {a.shape} and {b.shape}")
    a, b = a.double(), b.double()
    S_a, S_b = torch.cov(a.T), torch.cov(b.T)
    root = _sqrt(S_a)
    overlap = torch.linalg.eigvalsh(root @ S_b @ root).clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * overlap).item()


@dataclass(frozen=True)
class Ratio:
    """A Fréchet ratio with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def frechet_ratio(
    samples: Float[Tensor, "N F"], held_out: Float[Tensor, "M F"],
    train: Float[Tensor, "K F"], train_labels: Int[Tensor, " K"],
    *, generator: torch.Generator, subsets: int = 20, resamples: int = 200,
) -> Ratio:  # fmt: skip
    """Distance of samples to held-out images, in units of what real images of the same number have.

    ratio = d^2(samples, held_out) / mean over subsets of d^2(N real training images, held_out)

    1 means: as far from the held-out images as other real images are. The interval is value -+ 1.96 standard errors, the
    error taken from resampled samples with the real images held fixed. (Quantiles of resampled distances would not do:
    resampling repeats images, which adds distance to every one of them.) Near a ratio of 1 the interval errs on the wide
    side, up to about twice.

    Args:
        train, train_labels: features and labels of the training images; subsets hold equally many of each label.
        generator: draws subsets and resamples.
    Raises: ValueError if there are fewer training images than samples.
    Source: the ratio is this course's; the interval, Efron and Tibshirani 1993, section 13.3.
    """
    if len(train) < len(samples):
        raise ValueError(f"subsets of {len(samples)} real images are needed, but there are {len(train)}")
    real = [
        frechet_distance(train[balanced_subset(train_labels, len(samples), generator)], held_out) for _ in range(subsets)
    ]
    unit = sum(real) / subsets
    value = frechet_distance(samples, held_out)
    again = torch.tensor(
        [
            frechet_distance(samples[torch.randint(len(samples), (len(samples),), generator=generator)], held_out)
            for _ in range(resamples)
        ]
    )
    reach = 1.96 * again.std().item()
    return Ratio(value / unit, (value - reach) / unit, (value + reach) / unit)


def balanced_subset(labels: Int[Tensor, " K"], size: int, generator: torch.Generator) -> Int[Tensor, " size"]:
    """Indices of `size` rows, drawn without replacement, as equally spread over the labels as can be."""
    order = torch.randperm(len(labels), generator=generator)
    rank = torch.empty_like(order)  # how many of the same label come before, in the shuffled order
    for label in labels.unique():
        mine = (labels[order] == label).nonzero().flatten()
        rank[order[mine]] = torch.arange(len(mine))
    return order[rank[order].argsort(stable=True)][:size]


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each image: the distance to its nearest reference image, and that image's index."""

    distance: Tensor
    index: Tensor


def nearest(images: Float[Tensor, "N ..."], reference: Float[Tensor, "M ..."]) -> Nearest:
    """Nearest reference image by Euclidean distance over pixels, in the unit of the pixels."""
    distance, index = torch.cdist(images.flatten(1), reference.flatten(1)).min(1)
    return Nearest(distance, index)


def copying(samples: Float[Tensor, "N ..."], held_out: Float[Tensor, "M ..."], train: Float[Tensor, "K ..."]) -> float:
    """The share of samples suspiciously near to a training image.

    Suspicious is nearer than all but the nearest 1 % of held-out images, which cannot have been copied: a generator that
    has learned and not memorised has about 0.01.
    """
    limit = nearest(held_out, train).distance.quantile(0.01)
    return (nearest(samples, train).distance < limit).double().mean().item()


def _sqrt(S: Float[Tensor, "F F"]) -> Float[Tensor, "F F"]:
    values, vectors = torch.linalg.eigh(S)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


@dataclass(frozen=True)
class PowerLaw:
    """L = floor + scale N^-exponent, fitted to points; `error` is the standard error of the exponent."""

    floor: float
    scale: float
    exponent: float
    error: float
    covariance: tuple[tuple[float, ...], ...]  # of floor, scale, exponent
    scatter: float  # standard deviation of a point about the law
    freedom: int  # points less fitted numbers

    def at(self, N: float) -> float:
        """What the law says for N."""
        return self.floor + self.scale * N**-self.exponent

    def interval(self, N: float, share: float = 0.95) -> tuple[float, float]:
        """Where one new measurement at N lies with this probability, if the law holds and points scatter normally.

        L(N) -+ t sqrt(s^2 + g C g^T), with the scatter s, the gradient g of the law in its numbers, their covariance C, and
        t from Student's distribution.
        Source: Seber and Wild 1989, "Nonlinear Regression", section 5.1.
        """
        from scipy.stats import t  # slow to import

        power = N**-self.exponent
        gradient = torch.tensor([1.0, power, -self.scale * power * math.log(N)], dtype=torch.float64)
        variance = self.scatter**2 + (gradient @ torch.tensor(self.covariance, dtype=torch.float64) @ gradient).item()
        half = t.ppf((1 + share) / 2, self.freedom) * math.sqrt(variance)
        return self.at(N) - half, self.at(N) + half


def fit_power_law(N: Shaped[Tensor, " n"], L: Float[Tensor, " n"]) -> PowerLaw:
    """The law with the least squares of L; its floor, scale and exponent are all fitted.

    Args:
        N: above zero, of at least three different values.
        L: a measurement for each; several for one N tell how far they scatter.
    Raises: ValueError for fewer than four points, or an N that is not above zero.
    Source: the form, Henighan et al. 2020, arXiv:2010.14701, eq. 1.1; the fit is scipy's (Levenberg and Marquardt).
    """
    from scipy.optimize import curve_fit  # slow to import

    if len(N) != len(L) or len(N) < 4 or N.unique().numel() < 3:
        raise ValueError(
            f"three numbers and their uncertainty need at least four points at three sizes; got {len(N)} sizes"
            f" ({N.unique().numel()} different) and {len(L)} measurements"
        )
    if not (N > 0).all():
        raise ValueError("a power law needs numbers above zero")
    x, y = N.double().numpy(), L.double().numpy()
    middle = float(N.double().log().mean().exp())  # in units of a middle N the three numbers are of like size

    def law(n, floor, height, exponent):
        return floor + height * (n / middle) ** -exponent

    best, covariance = curve_fit(law, x, y, p0=(0.9 * y.min(), y.mean() - 0.9 * y.min(), 0.3), maxfev=20_000)
    floor, height, exponent = map(float, best)
    scale = height * middle**exponent
    # d(scale) = middle^exponent d(height) + scale log(middle) d(exponent)
    turn = torch.eye(3, dtype=torch.float64)
    turn[1, 1], turn[1, 2] = middle**exponent, scale * math.log(middle)
    C = turn @ torch.from_numpy(covariance) @ turn.T
    return PowerLaw(
        floor, scale, exponent, float(covariance[2, 2] ** 0.5), tuple(map(tuple, C.tolist())),
        scatter=float((((y - law(x, *best)) ** 2).sum() / (len(x) - 3)) ** 0.5), freedom=len(x) - 3,
    )  # fmt: skip
