"""How fast the data drowns in noise: the variance-preserving forward process in discrete time.

q(x_t | x_0) = N( sqrt(abar_t) x_0 , (1 - abar_t) I ),   t = 0..T.   Index 0 is clean data, index T is noise.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The numbers abar_0 .. abar_T, kept in float64; the code's index is the paper's index.

    Args:
        alpha_bars: (T+1,) float64, strictly decreasing, alpha_bars[0] == 1 and alpha_bars[T] > 0.
    Raises: ValueError naming the offending entry.
    Source: Ho et al. 2020, arXiv:2006.11239, section 2.
    """

    alpha_bars: Float[Tensor, " T1"]

    def __post_init__(self):
        abar = self.alpha_bars.to(torch.float64)
        object.__setattr__(self, "alpha_bars", abar)
        if abar.ndim != 1 or len(abar) < 2:
            raise ValueError(f"alpha_bars needs shape (T+1,) with T >= 1, got {tuple(abar.shape)}")
        if abar[0] != 1:
            raise ValueError(f"alpha_bars[0] is clean data and must be 1, got {abar[0].item():g}")
        if not abar[-1] > 0:
            raise ValueError(f"alpha_bars[{self.T}] must be above 0, got {abar[-1].item():g}")
        rising = (~(abar[1:] < abar[:-1])).nonzero()
        if len(rising):
            t = int(rising[0]) + 1
            raise ValueError(
                f"alpha_bars must decrease at every step, but alpha_bars[{t - 1}] = {abar[t - 1].item():g}"
                f" and alpha_bars[{t}] = {abar[t].item():g}"
            )

    @property
    def T(self) -> int:
        """Number of noising steps."""
        return len(self.alpha_bars) - 1

    def alpha_bar(self, t: Int[Tensor, "*B"], like: Shaped[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
        """abar_t in float64, with trailing axes of size 1 so that it multiplies `like`.

        Raises: ValueError if any t leaves 0..T, or if t does not index the rows of `like`.
        """
        t = torch.as_tensor(t)
        if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
            raise ValueError(f"t counts steps and must be an integer tensor, got {t.dtype}")
        outside = (t < 0) | (t > self.T)
        if outside.any():
            raise ValueError(f"t must lie in 0..{self.T}, got {t[outside].flatten()[0].item()}")
        abar = self.alpha_bars.to(t.device)[t]
        if like is None or t.ndim == 0:
            return abar
        if t.shape != like.shape[:1]:
            raise ValueError(f"t has shape {tuple(t.shape)}, but x has {len(like)} rows: one t for each row")
        return abar.reshape(-1, *[1] * (like.ndim - 1))

    def add_noise(
        self, x0: Float[Tensor, "B *D"], t: Int[Tensor, "..."], eps: Float[Tensor, "B *D"]
    ) -> Float[Tensor, "B *D"]:
        """Draw x_t from q(x_t | x_0).

        x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps                  (DDPM, eq. 4)

        Args:
            x0:  clean data scaled to [-1, 1].
            t:   steps in 0..T, one for each row (or a single one); 0 returns x0.
            eps: standard normal noise; the caller draws it.
        Returns: x_t in the dtype of x0.
        Raises: ValueError if t leaves 0..T or the shapes differ; states both numbers.
        Source: Ho et al. 2020, arXiv:2006.11239.
        """
        if eps.shape != x0.shape:
            raise ValueError(f"eps has shape {tuple(eps.shape)}, x0 has {tuple(x0.shape)}: they must agree")
        abar = self.alpha_bar(t, like=x0)
        return (abar.sqrt() * x0 + (1 - abar).sqrt() * eps).to(x0.dtype)

    def posterior(
        self,
        x0: Float[Tensor, "B *D"],
        x_t: Float[Tensor, "B *D"],
        t: Int[Tensor, "..."],
        s: Int[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "B *D"], Float[Tensor, "..."]]:
        """Mean and variance of q(x_s | x_t, x_0), the exact step back when x_0 is known; s = t - 1 unless given.

        With a = abar_t / abar_s (for s = t - 1 this is alpha_t):

        mean     = [ sqrt(abar_s) (1 - a) x0 + sqrt(a) (1 - abar_s) x_t ] / (1 - abar_t)      (DDPM, eq. 7)
        variance = (1 - abar_s) (1 - a) / (1 - abar_t)

        Args:
            x0, x_t: same shape.
            t: steps in 1..T, one for each row (or a single one).
            s: earlier steps in 0..t-1, to skip several at once.
        Returns: the mean in the dtype of x_t; the variance, broadcastable to it. At s = 0 the variance is 0.
        Raises: ValueError if t leaves 1..T, s is not below t, or the shapes differ.
        """
        if x0.shape != x_t.shape:
            raise ValueError(f"x0 has shape {tuple(x0.shape)}, x_t has {tuple(x_t.shape)}: they must agree")
        t = torch.as_tensor(t)
        if (t == 0).any():
            raise ValueError(f"t must lie in 1..{self.T}, got 0: clean data has no step back")
        s = t - 1 if s is None else torch.as_tensor(s)
        if not (s < t).all():
            raise ValueError("s must be an earlier step than t")
        abar_t, abar_s = self.alpha_bar(t, like=x_t), self.alpha_bar(s, like=x_t)
        a = abar_t / abar_s
        mean = (abar_s.sqrt() * (1 - a) * x0 + a.sqrt() * (1 - abar_s) * x_t) / (1 - abar_t)
        variance = (1 - abar_s) * (1 - a) / (1 - abar_t)
        return mean.to(x_t.dtype), variance.to(x_t.dtype)

    def log_snr(self, t: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """log( abar_t / (1 - abar_t) ) in float64: +inf at t = 0, falling with t.

        Source: Kingma et al. 2021, arXiv:2107.00630.
        """
        abar = self.alpha_bar(t)
        return abar.log() - (1 - abar).log()


def from_betas(betas: Float[Tensor, " T"]) -> NoiseSchedule:
    """The schedule whose step t keeps alpha_t = 1 - beta_t of the variance: abar_t = alpha_1 ... alpha_t."""
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.to(torch.float64)).cumprod(0)]))


def linear_schedule(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """beta_t rises in a straight line from beta_start to beta_end.

    Raises: ValueError unless T >= 1 and 0 < beta_start <= beta_end < 1.
    Source: Ho et al. 2020, arXiv:2006.11239, section 4.
    """
    _check_steps(T)
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"need 0 < beta_start <= beta_end < 1, got {beta_start:g} and {beta_end:g}")
    return from_betas(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))


def cosine_schedule(T: int = 1000, s: float = 0.008) -> NoiseSchedule:
    """abar_t = f(t) / f(0) with f(t) = cos^2( (t/T + s) / (1 + s) * pi/2 ), betas clipped at 0.999.

    Args:
        s: a small offset that keeps beta_1 from vanishing.
    Raises: ValueError unless T >= 1 and s >= 0.
    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17.
    """
    _check_steps(T)
    if s < 0:
        raise ValueError(f"the offset s must not be negative, got {s:g}")
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))


def _check_steps(T: int) -> None:
    if T < 1:
        raise ValueError(f"a schedule needs at least one step, got T = {T}")
