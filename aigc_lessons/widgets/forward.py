"""The forward process, measured and played with: what a schedule does to pixels, to frequencies and to the last step.

Three quantities judge a schedule on a data set: how far q(x_T | x_0) is from pure noise, how much of the data the best
linear guess could still recover at each step, and which steps destroy next to nothing.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aigc_lessons.data.digits import to_uint8
from aigc_lessons.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule

WASTED = 0.1  # of a fair share: a step that destroys less is called wasted
EDGES = torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)  # bins of 0.05 for histograms of pixel values
PLACES = [1, 20, 100, 300, 500, 700, 900, 980, 1000]  # steps at which a hand can take hold of a schedule,
LOWEST, HIGHEST = -13.0, 12.0  # and the log-SNRs that it can reach


def band_power(images: Float[Tensor, "N 1 S S"]) -> tuple[Float[Tensor, " K"], Int[Tensor, " K"]]:
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
    alpha_bars: Float[Tensor, " T1"], power: Float[Tensor, " K"], count: Int[Tensor, " K"]
) -> Float[Tensor, " T1"]:
    """The share of the data's variance that the best linear guess of x_0 explains, given x_t.

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


def drawn(log_snrs: list[float]) -> NoiseSchedule:
    """The schedule of 1000 steps whose log-SNR runs in straight lines through these heights at t = 1, 20, 100, ..., 1000.

    Args:
        log_snrs: one for each of PLACES.
    Raises: ValueError unless there are as many heights as places, each below the one before.
    """
    heights = np.asarray(log_snrs, dtype=float)
    if len(heights) != len(PLACES) or not (np.diff(heights) < 0).all():
        said = [float(height) for height in heights]
        raise ValueError(f"need {len(PLACES)} log-SNRs, at t = {PLACES}, each below the one before; got {said}")
    log_snr = torch.from_numpy(np.interp(np.arange(1, PLACES[-1] + 1), PLACES, heights))
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), log_snr.sigmoid()]))


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


def verdict(seen: Curves, pixels: int = 784) -> str:
    """What the explorer says about a schedule, in words."""
    T, most = len(seen.work), seen.work.max().item()
    if seen.kl > 1e-3:
        head = f"It never gets there: a pixel of x_T still has mean {seen.mean:+.3f}, and noise to start from has mean 0."
    elif seen.late > T / 5:
        head = "It destroys too early: the last steps move noise about, and a sampler must walk back through them."
    elif seen.early > T / 5:
        head = "It starts too late: the first steps hardly touch the digits."
    elif most > 3:
        head = "It destroys in a rush: a sampler must undo much in few steps."
    elif most < 1.25:
        head = "Even: no step does much more than its share."
    else:
        head = "It arrives, and few steps are wasted."
    return (
        f"{head} Wasted steps: {100 * (seen.early + seen.late) / T:.1f} % ({seen.early} early, {seen.late} late)."
        f" The largest step, t = {seen.largest}, destroys {most:.2f} fair shares."
        f" KL at T: {_small(seen.kl)} nats a pixel, {_small(pixels * seen.kl)} a picture."
    )


def _small(x: float) -> str:
    """Two digits; below 0.01 with an exponent, written as a browser writes it."""
    if x >= 0.01:
        return f"{x:.2f}"
    digits, exponent = f"{x:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


@lru_cache(maxsize=1)
def named() -> dict[str, NoiseSchedule]:
    """The schedules that the explorer offers: two that people use, and two that break something."""
    return {
        "linear": linear_schedule(),
        "cosine": cosine_schedule(),
        "too early": drawn([9, 4, -3, -6, -8, -9.5, -11, -12, -12.5]),
        "never": drawn([10, 9, 8, 6, 4.5, 3.4, 2.4, 1.6, 1]),
    }


class ForwardExplorer(anywidget.AnyWidget):
    """A schedule to shape by its log-SNR, and its consequences for pictures, pixels and steps while the hand still moves.

    Data and schedules are sent once; everything is computed and drawn in the browser. The kernel hears `t`, `choice` and
    `handles` once the hand is still; `schedule` is the one on show.

    Args:
        digit:    (S, S) picture in [-1, 1].
        spiral:   (N, 2) points, each coordinate of mean 0 and variance 1.
        sentence: (H, W) picture in [-1, 1].
        images:   the data set that the schedule is judged on.
        t:        the step shown first.
        seed:     of the noise that the three are mixed with.
    Raises: ValueError unless t lies in 1..1000.
    """

    _esm = Path(__file__).with_name("forward.js")
    _css = Path(__file__).with_name("forward.css")
    given = traitlets.Dict().tag(sync=True)
    choice = traitlets.Unicode("linear").tag(sync=True)
    handles = traitlets.List(traitlets.Float()).tag(sync=True)
    t = traitlets.Int(300).tag(sync=True)

    def __init__(
        self,
        digit: Float[Tensor, "S S"],
        spiral: Float[Tensor, "N 2"],
        sentence: Float[Tensor, "H W"],
        images: Float[Tensor, "M 1 R R"],
        t: int = 300,
        seed: int = 0,
    ):
        generator = torch.Generator().manual_seed(seed)
        things = {"digit": digit, "spiral": spiral, "sentence": sentence}
        noise = {name: torch.randn(x.shape, generator=generator) for name, x in things.items()}
        self.facts = data = facts(images)
        given = {
            "T": PLACES[-1],
            "places": PLACES,
            "pixels": images[0].numel(),
            "mean": data.mean,
            "mean_square": data.mean_square,
            "edges": _floats(EDGES),
            "power": _floats(data.power),
            "count": _floats(data.count),
            "levels": _floats(data.levels),
            "shares": _floats(data.shares),
            "things": {
                name: {"shape": list(x.shape), "x0": _floats(x), "eps": _floats(noise[name])} for name, x in things.items()
            },
            "schedules": {name: _floats(schedule.log_snr(torch.arange(1, 1001))) for name, schedule in named().items()},
        }
        super().__init__(given=given, handles=heights(named()["linear"]), t=t)

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule on show; the one drawn by hand after a handle was moved."""
        return drawn(self.handles) if self.choice == "own" else named()[self.choice]

    @traitlets.validate("choice")
    def _a_choice(self, proposal):
        if proposal.value not in (offered := [*named(), "own"]):
            raise ValueError(f"choice must be one of {', '.join(offered)}, got {proposal.value!r}")
        return proposal.value

    @traitlets.validate("t")
    def _a_step(self, proposal):
        if not 1 <= proposal.value <= 1000:
            raise ValueError(f"t must lie in 1..1000, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return f"the forward-process explorer, {len(named())} schedules and one to draw (needs a running kernel)"


def heights(schedule: NoiseSchedule) -> list[float]:
    """A schedule's log-SNR at PLACES, rounded to 0.01: where drawing by hand begins."""
    at_places = schedule.log_snr(torch.tensor(PLACES))
    return [round(height, 2) for height in at_places.clamp(LOWEST, HIGHEST).tolist()]


def _floats(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().double().numpy().astype("<f8").tobytes()
