"""What the forward process does to a data set: to its pixels, to its frequencies, and to the last step.

Three quantities judge a schedule on data: how far q(x_T | x_0) is from pure noise, how much of the data a guess wave by
wave could still recover at each step, and which steps destroy next to nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from aigc_lessons.data.digits import to_uint8
from aigc_lessons.diffusion.schedule import NoiseSchedule

WASTED = 0.1  # of a fair share: a step that destroys less is called wasted
EDGES = torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)  # bins of 0.05 for histograms of pixel values


def band_power(images: Float[Tensor, "N 1 H W"]) -> tuple[Float[Tensor, " K"], Int[Tensor, " K"]]:
    """How strongly square images vary about their mean picture, frequency by frequency.

    P_k = mean of |F(x - mean)|^2 over images and over the n_k frequencies of |f| in k - 1/2 .. k + 1/2 cycles a picture,
    with F the orthonormal Fourier transform: standard normal noise has P_k = 1 for every k.

    Returns: P (K,) float64 and n (K,), k = 0, 1, ...; sum n_k = S * S, and sum n_k P_k / (S * S) is the variance of a pixel.
    Raises: ValueError for fewer than two images, or images that are not square.
    """
    N, _, H, W = images.shape
    if H != W or N < 2:
        raise ValueError(f"need at least two square images, got {N} of {H} x {W}")
    x = images[:, 0]
    energy = torch.fft.fft2(x - x.mean(0), norm="ortho").abs().square().mean(0).double()
    f = torch.fft.fftfreq(H, 1 / H, dtype=torch.float64)
    band = (f[:, None] ** 2 + f**2).sqrt().round().long().flatten()
    n = torch.bincount(band)
    return torch.bincount(band, weights=energy.flatten()) / n, n


def recoverable(
    alpha_bars: Float[Tensor, " T1"], power: Float[Tensor, " K"], count: Shaped[Tensor, " K"]
) -> Float[Tensor, " T1"]:
    """The share of the data's variance that the best guess of x_0 explains which takes each wave by itself, given x_t.

    R_t = sum_k n_k P_k g_k / sum_k n_k P_k,   g_k = abar_t P_k / (abar_t P_k + 1 - abar_t)

    Args:
        alpha_bars: of any times, in 0..1.
        power, count: P_k and n_k, as `band_power` gives them.
    Returns: 1 for clean data, 0 for pure noise.
    Source: Wiener 1949, frequency by frequency.
    """
    abar = alpha_bars.double()[:, None]
    gain = abar * power / (abar * power + 1 - abar)
    return (count * power * gain).sum(1) / (count * power).sum()


def kl_to_noise(alpha_bar: Float[Tensor, "*B"], mean_square: float) -> Float[Tensor, "*B"]:
    """KL( q(x_t | x_0) || N(0, I) ) in nats a pixel, averaged over data whose pixels have this mean square.

    KL = [ abar (mean_square - 1) - log(1 - abar) ] / 2

    Args:
        alpha_bar: in 0 .. 1, below 1.
    Source: Ho et al. 2020, arXiv:2006.11239, the term L_T of eq. 5.
    """
    abar = alpha_bar.double()
    return (abar * (mean_square - 1) - torch.log1p(-abar)) / 2


def pixel_histogram(
    levels: Float[Tensor, " L"], shares: Float[Tensor, " L"], alpha_bar: float, edges: Float[Tensor, " E1"] = EDGES
) -> Float[Tensor, " E"]:
    """Shares of the values of x_t in bins, exactly: a pixel of value v becomes N(sqrt(abar) v, 1 - abar).

    Args:
        levels, shares: the values that clean pixels take, and how often; shares add up to 1.
    Returns: one share for each bin; together 1 less what lies outside of the edges.
    """
    sigma = max((1 - alpha_bar) ** 0.5, 1e-6)
    z = (edges.double() - alpha_bar**0.5 * levels.double()[:, None]) / sigma
    return shares.double() @ torch.special.ndtr(z).diff(dim=1)


def distance_to_normal(histogram: Float[Tensor, " E"], edges: Float[Tensor, " E1"] = EDGES) -> float:
    """Total variation distance of a histogram to the standard normal's: half the sum of |differences|, tails included."""
    normal = torch.special.ndtr(edges.double()).diff()
    tails = abs(histogram.sum() - normal.sum())
    return ((histogram - normal).abs().sum() + tails).item() / 2


@dataclass(frozen=True, eq=False)
class Facts:
    """What the explorer must know of a data set: the power of each band, the values of its pixels and their shares."""

    power: Float[Tensor, " K"]
    count: Int[Tensor, " K"]
    levels: Float[Tensor, " L"]
    shares: Float[Tensor, " L"]

    @property
    def mean(self) -> float:
        return (self.shares @ self.levels).item()

    @property
    def mean_square(self) -> float:
        return (self.shares @ self.levels.square()).item()


def facts(images: Float[Tensor, "N 1 S S"]) -> Facts:
    """Measure a data set; pixels are counted as the nearest of the 256 grey values."""
    counts = torch.bincount(to_uint8(images).flatten(), minlength=256).double()
    return Facts(*band_power(images), torch.arange(256, dtype=torch.float64) / 127.5 - 1, counts / counts.sum())


@dataclass(frozen=True, eq=False)
class Curves:
    """A schedule on a data set, for t = 0..T unless said otherwise.

    signal, noise: the factors sqrt(abar), sqrt(1 - abar).
    recoverable:   R_t.
    work:          T (R_{t-1} - R_t) for t = 1..T: what step t destroys, in fair shares; the mean is R_0 - R_T, about 1.
    wasted:        for t = 1..T, whether that is below a tenth.
    early, late:   how many steps are wasted before and after the one that destroys most, which is number `largest`.
    kl:            nats a pixel between q(x_T | x_0) and pure noise.
    mean:          of a pixel of x_T.
    """

    signal: Float[Tensor, " T1"]
    noise: Float[Tensor, " T1"]
    recoverable: Float[Tensor, " T1"]
    work: Float[Tensor, " T"]
    wasted: Bool[Tensor, " T"]
    largest: int
    early: int
    late: int
    kl: float
    mean: float


def curves(schedule: NoiseSchedule, data: Facts) -> Curves:
    """Everything that the explorer shows of a schedule, as numbers."""
    abar = schedule.alpha_bars
    R = recoverable(abar, data.power, data.count)
    work = schedule.T * (R[:-1] - R[1:])
    wasted, top = work < WASTED, int(work.argmax())
    return Curves(
        signal=abar.sqrt(),
        noise=(1 - abar).sqrt(),
        recoverable=R,
        work=work,
        wasted=wasted,
        largest=top + 1,
        early=int(wasted[:top].sum()),
        late=int(wasted[top:].sum()),
        kl=kl_to_noise(abar[-1], data.mean_square).item(),
        mean=abar[-1].sqrt().item() * data.mean,
    )
