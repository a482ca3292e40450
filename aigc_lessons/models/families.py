"""Four small networks for points of the plane, one for each way to model data: bins in turn, VAE, GAN, flow.

(The fifth way, diffusion, needs only `mlp.MLP`.) Every network has `draw(n, generator)`; those with a likelihood have
`log_prob(x)` in nats, or a bound of it. The losses have the form that `training.train` asks for.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))


def nll_loss(model: nn.Module, batch, generator: torch.Generator) -> Tensor:
    """Maximum likelihood: the mean of -log p(x), for every network that can say log p(x)."""
    return -model.log_prob(_points(batch)).mean()


# ---------------------------------------------------------------------------------------------------- one after the other


class Autoregressive(nn.Module):
    """p(x) = p(x_1) p(x_2 | x_1), each from a table of bins.

    Both coordinates are cut into equal bins of width d. The first has a logit for each bin; for the second, a network turns
    the bin of the first into logits. Within a bin the density is flat, so log p(x) = log P(bin_1) + log P(bin_2 | bin_1)
    - 2 log d.

    Args:
        bins:  for each coordinate.
        width: numbers in the hidden vectors.
        reach: bins go from -reach to reach; outside the density is 0.
    """

    def __init__(self, bins: int = 64, width: int = 50, reach: float = 3.0):
        super().__init__()
        self.bins, self.reach = bins, reach
        self.first = nn.Parameter(torch.zeros(bins))
        self.seen = nn.Embedding(bins, width)
        self.second = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, bins))

    @property
    def bin_width(self) -> float:
        return 2 * self.reach / self.bins

    def bin_of(self, x: Float[Tensor, "B 2"]) -> Int[Tensor, "B 2"]:
        """The bin of each coordinate; of places outside, the nearest."""
        return ((x + self.reach) / self.bin_width).floor().long().clamp(0, self.bins - 1)

    def log_prob(self, x: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        one, two = self.bin_of(x).unbind(1)
        log_first = self.first.log_softmax(0)[one]
        log_second = self.second(self.seen(one)).log_softmax(1).gather(1, two[:, None])[:, 0]
        inside = (x.abs() <= self.reach).all(1)
        return torch.where(inside, log_first + log_second - 2 * math.log(self.bin_width), -math.inf)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """First coordinate first, then the second given the first; a place within each bin at random."""
        one = torch.multinomial(self.first.softmax(0), n, replacement=True, generator=generator)
        two = torch.multinomial(self.second(self.seen(one)).softmax(1), 1, generator=generator)[:, 0]
        within = torch.rand(n, 2, generator=generator)
        return (torch.stack([one, two], 1) + within) * self.bin_width - self.reach


# ---------------------------------------------------------------------------------------------------- by a hidden cause


class VAE(nn.Module):
    """z ~ N(0, I), then x | z ~ N(m(z), diag v(z)); an encoder q(z | x) = N(a(x), diag b(x)) guesses which z it was.

    Args:
        width:  numbers in the hidden vectors.
        latent: numbers in z.
    Source: Kingma and Welling 2013, arXiv:1312.6114.
    """

    def __init__(self, width: int = 64, latent: int = 2):
        super().__init__()
        self.latent = latent
        self.encoder, self.decoder = perceptron(2, width, 2 * latent), perceptron(latent, width, 4)

    def encode(self, x: Float[Tensor, "B 2"]) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Mean and log variance of q(z | x)."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return mean, log_variance.clamp(-12, 6)

    def decode(self, z: Float[Tensor, "*B Z"]) -> tuple[Float[Tensor, "*B 2"], Float[Tensor, "*B 2"]]:
        """Mean and log variance of p(x | z)."""
        mean, log_variance = self.decoder(z).chunk(2, -1)
        return mean, log_variance.clamp(-8, 4)

    def elbo(
        self, x: Float[Tensor, "B 2"], eps: Float[Tensor, "B Z"], weight: float | Float[Tensor, ""] = 1.0
    ) -> Float[Tensor, " B"]:
        """One-sample estimate of the bound, its second part in closed form:

        log p(x | z) - KL( q(z | x) || N(0, I) ),   z = a + sqrt(b) eps

        Args:
            eps:    standard normal; the caller draws it.
            weight: of the KL, in 0..1; only with 1 it is the bound.
        """
        a, log_b = self.encode(x)
        z = a + (log_b / 2).exp() * eps
        kl = (a**2 + log_b.exp() - log_b - 1).sum(1) / 2
        return log_normal(x, *self.decode(z)) - weight * kl

    @torch.no_grad()
    def log_prob(self, x: Float[Tensor, "B 2"], generator: torch.Generator, k: int = 1000) -> Float[Tensor, " B"]:
        """A lower bound of log p(x), on average, that tends to it as k grows: the importance-weighted one,

        log 1/k sum_i p(z_i) p(x | z_i) / q(z_i | x),   z_i ~ q(z | x)

        Source: Burda et al. 2015, arXiv:1509.00519, eq. 8.
        """
        (a, log_b), total = self.encode(x), []
        for rows in range(0, len(x), 250):  # k weights for each row: a few rows at a time
            some = slice(rows, rows + 250)
            eps = torch.randn(k, *a[some].shape, generator=generator, dtype=a.dtype)
            z = a[some] + (log_b[some] / 2).exp() * eps
            log_q = -(eps**2 + log_b[some] + LOG_2PI).sum(-1) / 2
            log_joint = -(z**2 + LOG_2PI).sum(-1) / 2 + log_normal(x[some], *self.decode(z))
            total.append((log_joint - log_q).logsumexp(0) - math.log(k))
        return torch.cat(total)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        mean, log_variance = self.decode(torch.randn(n, self.latent, generator=generator))
        return mean + (log_variance / 2).exp() * torch.randn(n, 2, generator=generator)


def log_normal(
    x: Float[Tensor, "*#B D"], mean: Float[Tensor, "*#B D"], log_variance: Float[Tensor, "*#B D"]
) -> Float[Tensor, "*B"]:
    """log N(x; mean, diag(exp(log_variance))) in nats."""
    return -((x - mean) ** 2 / log_variance.exp() + log_variance + LOG_2PI).sum(-1) / 2


def vae_loss(model: VAE, batch, generator: torch.Generator) -> Tensor:
    """Minus the bound, with one z for each point. The batch is x, or (x, weight of the KL).

    While the KL is cheap, the decoder learns to use z; where it costs in full from the start, z may never be used at all.
    Source: Bowman et al. 2015, arXiv:1511.06349, section 3.1.
    """
    x, weight = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (_points(batch), 1.0)
    return -model.elbo(x, torch.randn(len(x), model.latent, generator=generator), weight).mean()


# ---------------------------------------------------------------------------------------------------- a forger and a judge


class GAN(nn.Module):
    """A generator turns noise into points; a discriminator says, as a logit, how much a point looks like data.

    Args:
        width:  numbers in the hidden vectors.
        latent: numbers in the noise.
    Source: Goodfellow et al. 2014, arXiv:1406.2661.
    """

    def __init__(self, width: int = 64, latent: int = 4):
        super().__init__()
        self.latent = latent
        self.generator, self.discriminator = perceptron(latent, width, 2), perceptron(2, width, 1)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """With gradients, for the generator learns from them."""
        return self.generator(torch.randn(n, self.latent, generator=generator))


def judge_loss(model: GAN, x: Float[Tensor, "B 2"], generator: torch.Generator, r1: float = 0.0) -> Tensor:
    """What the discriminator lowers: surprise at being told which points are data and which are not.

    mean of -log D(x) + mean of -log(1 - D(G(z))) + r1/2 mean of |gradient of D's logit at x|^2

    Args:
        r1: 0 or more; it keeps the discriminator smooth where the data is (Mescheder et al. 2018, arXiv:1801.04406, eq. 9).
    """
    fake = model.draw(len(x), generator).detach()
    x = x.detach().requires_grad_(r1 > 0)
    logit = model.discriminator(x)[:, 0]
    loss = F.softplus(-logit).mean() + F.softplus(model.discriminator(fake)).mean()
    if r1:
        (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
        loss = loss + r1 / 2 * slope.square().sum(1).mean()
    return loss


def forger_loss(model: GAN, x: Float[Tensor, "B 2"], generator: torch.Generator) -> Tensor:
    """What the generator lowers: the mean of -log D(G(z)), as many draws as there are points in the batch."""
    return F.softplus(-model.discriminator(model.draw(len(x), generator))).mean()


# ---------------------------------------------------------------------------------------------------- bent noise


class Coupling(nn.Module):
    """One coordinate stays and tells the other how to be scaled and moved:  y_b = x_b exp(s(x_a)) + m(x_a), y_a = x_a.

    Easy to undo, x_b = (y_b - m(y_a)) exp(-s(y_a)), and log |det dy/dx| = s(x_a).

    Args:
        stays: 0 or 1, the coordinate that stays.
        width: numbers in the hidden vectors.
    Source: Dinh et al. 2016, arXiv:1605.08803, eq. 7 and 8.
    """

    def __init__(self, stays: int, width: int):
        super().__init__()
        self.stays, self.net = stays, perceptron(1, width, 2)
        nn.init.zeros_(self.net[-1].weight)  # a new coupling changes nothing
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Float[Tensor, "B 2"], inverse: bool = False) -> tuple[Float[Tensor, "B 2"], Float[Tensor, " B"]]:
        """The other side of a point, and the log of the stretching on the way."""
        kept, other = x[:, self.stays], x[:, 1 - self.stays]
        s, m = self.net(kept[:, None]).unbind(1)
        s = 3 * torch.tanh(s / 3)  # no layer stretches more than 20-fold
        other = (other - m) * (-s).exp() if inverse else other * s.exp() + m
        pair = (kept, other) if self.stays == 0 else (other, kept)
        return torch.stack(pair, 1), -s if inverse else s


class CouplingFlow(nn.Module):
    """Couplings in a row turn data into standard normal noise, and back:  log p(x) = log N(f(x); 0, I) + log |det df/dx|.

    Args:
        layers: couplings; the coordinates take turns.
        width:  numbers in the hidden vectors of each.
    """

    def __init__(self, layers: int = 10, width: int = 28):
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(k % 2, width) for k in range(layers))

    def forward(self, x: Float[Tensor, "B 2"]) -> tuple[Float[Tensor, "B 2"], Float[Tensor, " B"]]:
        """From data to noise: f(x), and log |det df/dx|."""
        total = torch.zeros(len(x), dtype=x.dtype)
        for coupling in self.couplings:
            x, stretched = coupling(x)
            total = total + stretched
        return x, total

    def inverse(self, z: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
        """From noise to data."""
        for coupling in reversed(self.couplings):
            z, _ = coupling(z, inverse=True)
        return z

    def log_prob(self, x: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        z, stretched = self(x)
        return stretched - (z**2 + LOG_2PI).sum(1) / 2

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        return self.inverse(torch.randn(n, 2, generator=generator))


def _points(batch) -> Tensor:
    return batch[0] if isinstance(batch, (tuple, list)) else batch
