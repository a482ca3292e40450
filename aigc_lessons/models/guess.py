"""What a straight line knows: the best linear guess of a picture under noise, from the data's mean and covariance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class GaussianGuess(nn.Module):
    """E[x_0 | x_t, label] if the pictures of each label were Gaussian, in closed form.

    With x_0 ~ N(mu_label, S) and x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, every eigenvector of S (a picture u with
    variance lambda) can be treated on its own, and the guess moves from the mean along it by a gain:

        x_0 = mu + sum over u of   sqrt(abar) lambda / (abar lambda + 1 - abar)   u u^T (x_t - sqrt(abar) mu)

    Only the `rank` largest eigenvectors are kept; all other directions share their mean variance. Before `fit`, the data
    counts as white noise of variance 1, for which the velocity that the guess implies is 0.

    Args:
        dimension: numbers in a picture.
        classes:   number of labels; label `classes` stands for "any".
        rank:      eigenvectors kept.
        T:         steps of the noise schedule.
    Source: Wiener 1949; the low-rank Gaussian, Tipping and Bishop 1999; in diffusion, Wang and Vastola 2024,
        arXiv:2412.09726.
    """

    def __init__(self, dimension: int, classes: int, rank: int, T: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes + 1, dimension))
        self.register_buffer("directions", torch.zeros(dimension, rank))
        self.register_buffer("variances", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("alpha_bars", torch.linspace(1, 0, T + 1))

    @torch.no_grad()
    def fit(
        self, images: Float[Tensor, "N C H W"], labels: Int[Tensor, " N"], alpha_bars: Float[Tensor, " T1"]
    ) -> "GaussianGuess":
        """Take mean and covariance from the data: the means of each label, and one covariance around them for all.

        Raises: ValueError if the schedule has another number of steps, or a label no picture.
        """
        classes, rank = len(self.mean) - 1, len(self.variances)
        if len(alpha_bars) != len(self.alpha_bars):
            raise ValueError(
                f"the guess was made for T = {len(self.alpha_bars) - 1}, the schedule has {len(alpha_bars) - 1}"
            )
        missing = sorted(set(range(classes)) - set(labels.tolist()))
        if missing:
            raise ValueError(f"no picture has the label {missing[0]}; every label needs at least one")
        x = images.flatten(1).double()
        means = torch.stack([x[labels == label].mean(0) for label in range(classes)] + [x.mean(0)])
        around = x - means[labels]
        variances, directions = torch.linalg.eigh(around.T @ around / len(x))  # rising
        self.mean.copy_(means)
        self.directions.copy_(directions[:, -rank:])
        self.variances.copy_(variances[-rank:])
        self.rest.copy_(variances[:-rank].mean())
        self.alpha_bars.copy_(alpha_bars)
        return self

    def forward(
        self, x_t: Float[Tensor, "B C H W"], t: Int[Tensor, " B"], labels: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """The guess of x_0, and the velocity it implies: (sqrt(abar) x_t - x_0) / sqrt(1 - abar), 0 at t = 0."""
        abar = self.alpha_bars[t, None]  # (B, 1)
        signal, noise = abar.sqrt(), (1 - abar).sqrt()
        mean = self.mean[labels]
        off = x_t.flatten(1) - signal * mean

        def gain(variance: Tensor) -> Tensor:
            return signal * variance / (abar * variance + 1 - abar).clamp(min=1e-12)

        along = off @ self.directions * (gain(self.variances) - gain(self.rest))
        x0 = mean + gain(self.rest) * off + along @ self.directions.T
        velocity = (signal * x_t.flatten(1) - x0) / noise.clamp(min=1e-3)
        return x0.view_as(x_t), velocity.view_as(x_t)
