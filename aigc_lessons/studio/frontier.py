"""Quality against cost: digits from the shipped network by any sampler, on any grid, at any price, and judged."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from aigc_lessons.data import digits
from aigc_lessons.diffusion.grids import bent, evaluations, most_steps, visit
from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.samplers import Method, final
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.judges import accuracy, describe
from aigc_lessons.evaluation.metrics import balanced_subset, frechet_distance, frechet_ratio
from aigc_lessons.studio.digits import ANY
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.types import Denoise

PIECE = 250  # digits that are sampled together: as fast as more, and small
BUDGETS = (2, 4, 6, 8, 10, 16, 30)  # evaluations of the network for a digit
SCALES = (1.0, 4.0)
METHODS = ("ddpm", "ddim", "heun", "dpmpp_2m")


@dataclass(frozen=True)
class Setting:
    """How digits are drawn: a sampler, its steps and the bends of their grid (`grids.bent`), guidance, the noise's seed."""

    method: Method
    steps: int
    early: float = 1.0
    late: float = 1.0
    scale: float = 1.0
    seed: int = 1

    @property
    def evaluations(self) -> int:
        """Of the network, for one digit."""
        return evaluations(self.method, self.steps, self.scale)


def full(scale: float, seed: int) -> Setting:
    """What stands for the full deterministic walk, 1,000 steps of DDIM: not to be told from it, and twelve times cheaper."""
    return Setting("dpmpp_2m", 80, 2.5, 2.0, scale, seed)


def conditional(labels: Int[Tensor, " N"], scale: float, network: nn.Module | None = None) -> Denoise:
    """The shipped network as a denoiser for these labels; no estimate is darker than ink or lighter than paper."""
    guided = classifier_free(denoiser(network or pretrained("digits"), cosine_schedule(), "v"), labels, ANY, scale)
    return lambda x_t, t: guided(x_t, t).clamp(-1, 1)


def noise_for(N: int, seed: int) -> Float[Tensor, "N 1 28 28"]:
    """x_T: the same for every sampler, so that what they make of it can be compared digit by digit."""
    return torch.randn(N, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def draw(
    setting: Setting, labels: Int[Tensor, " N"], *, x_T: Tensor | None = None, network: nn.Module | None = None
) -> Float[Tensor, "N 1 28 28"]:
    """A digit for each label.

    Args:
        x_T:     noise to start from; that of the setting's seed unless given.
        network: a v-predicting network, which is asked on its device; the shipped one unless given.
    """
    schedule, network = cosine_schedule(), network or pretrained("digits")
    device = next(network.parameters()).device
    piece = PIECE if device.type == "cpu" else len(labels)
    times = bent(schedule, setting.steps, setting.early, setting.late)
    x_T = noise_for(len(labels), setting.seed) if x_T is None else x_T
    drawn = []
    for k, (noise, asked) in enumerate(zip(x_T.to(device).split(piece), labels.to(device).split(piece), strict=True)):
        dice = torch.Generator().manual_seed(1_000_000 + 1000 * setting.seed + k)  # for samplers that draw
        denoise = conditional(asked, setting.scale, network)
        drawn.append(final(visit(denoise, schedule, noise, times, method=setting.method, generator=dice)))
    return torch.cat(drawn).cpu()


def thousand() -> Int[Tensor, "1000"]:
    """A hundred labels of each class."""
    return torch.arange(10).repeat_interleave(100)


@dataclass(frozen=True, eq=False)
class Reality:
    """The judge and what it says of real digits; `unit` is the Fréchet distance of 1,000 of them to the held-out ones."""

    judge: nn.Module
    held_out: Float[Tensor, "M F"]
    train: Float[Tensor, "K F"]
    labels: Int[Tensor, " K"]
    unit: float


@lru_cache(maxsize=1)
def reality() -> Reality:
    """Seen by the shipped judge."""
    train_set, held_out = digits.load(stand_in=True)
    judge, dice = pretrained("digits_judge"), torch.Generator().manual_seed(0)
    real, theirs = describe(judge, train_set.images), describe(judge, held_out.images)
    size = min(1000, len(real))
    subsets = [balanced_subset(train_set.labels, size, dice) for _ in range(20)]
    unit = sum(frechet_distance(real[rows], theirs) for rows in subsets) / len(subsets)
    return Reality(judge, theirs, real, train_set.labels, unit)


def stored(images: Float[Tensor, "N 1 28 28"]) -> Float[Tensor, "N 1 28 28"]:
    """Rounded to 256 grey values, as pictures are kept."""
    return digits.from_uint8(digits.to_uint8(images))


def judged(images: Float[Tensor, "N 1 28 28"], labels: Int[Tensor, " N"]) -> dict[str, float]:
    """Judge accuracy and Fréchet ratio with its interval."""
    real = reality()
    seen = describe(real.judge, stored(images))
    ratio = frechet_ratio(seen, real.held_out, real.train, real.labels, generator=torch.Generator().manual_seed(0))
    return {
        "accuracy": accuracy(real.judge, stored(images), labels),
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
    }


def rms(a: Float[Tensor, "N *D"], b: Float[Tensor, "N *D"]) -> float:
    """Root of the mean squared difference of a pixel, in units of pixels that go from -1 to 1."""
    return (a - b).square().mean().sqrt().item()


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def paired_difference(
    a: Float[Tensor, "N 1 28 28"], b: Float[Tensor, "N 1 28 28"], resamples: int = 200, seed: int = 0
) -> tuple[float, float]:
    """How much farther a is from real digits than b, in Fréchet ratios, and the standard error of that.

    Both came from the same noise, row by row: pairs are resampled, so that what they have in common cancels.
    """
    real, dice = reality(), torch.Generator().manual_seed(seed)
    first, second = describe(real.judge, stored(a)), describe(real.judge, stored(b))

    def difference(rows: Tensor | slice) -> float:
        return (frechet_distance(first[rows], real.held_out) - frechet_distance(second[rows], real.held_out)) / real.unit

    again = torch.tensor([difference(torch.randint(len(a), (len(a),), generator=dice)) for _ in range(resamples)])
    return difference(slice(None)), again.std().item()


def over_draws(differences: list[float]) -> Interval:
    """Mean of independent draws -+ t standard errors, t from Student's distribution with one less degree of freedom.

    Raises: ValueError for fewer than two draws.
    """
    from scipy.special import stdtrit  # the quantile of t; scipy.stats would be slow to import

    n = len(differences)
    if n < 2:
        raise ValueError(f"one draw has no spread: need two or more, got {n}")
    x = torch.tensor(differences, dtype=torch.float64)
    reach = float(stdtrit(n - 1, 0.975)) * x.std().item() / n**0.5
    return Interval(x.mean().item(), x.mean().item() - reach, x.mean().item() + reach)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Ten digits at every setting, and after 60 steps of 2M, from the same ten noises: grey values 0..255.

    The first axes are SCALES, METHODS and BUDGETS.
    """

    drawn: UInt8[Tensor, "S M B 10 28 28"]
    end: UInt8[Tensor, "S 10 28 28"]
    grids: dict[str, tuple[float, float]]


def gallery(
    grids: dict[str, tuple[float, float]], seed: int = 3, most: int = 60, network: nn.Module | None = None
) -> Gallery:
    """Draw them all: about ten thousand evaluations of the network.

    Args:
        grids: the bends of each sampler's grid, `early` and `late`.
        most:  steps that no walk may have more of, to be quick at the price of the truth.
    """
    labels, x_T = torch.arange(10), noise_for(10, seed)

    def pictures(setting: Setting) -> Tensor:
        short = replace(setting, steps=min(setting.steps, most))
        return digits.to_uint8(draw(short, labels, x_T=x_T, network=network))

    drawn = [
        pictures(Setting(method, most_steps(method, price, scale), *grids[method], scale, seed))
        for scale in SCALES
        for method in METHODS
        for price in BUDGETS
    ]
    end = torch.stack([pictures(Setting("dpmpp_2m", 60, 2.5, 2.0, scale, seed)) for scale in SCALES])
    return Gallery(torch.stack(drawn).unflatten(0, (len(SCALES), len(METHODS), len(BUDGETS))), end, grids)
