"""What can be said about a picture under noise in closed form: the answer for a mixture of Gaussians."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn


class MixtureGuess(nn.Module):
    """E[x_0 | x_t, label] if the pictures of each label came from a few Gaussians, in closed form.

    For one Gaussian, x_0 ~ N(mu, S) and x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, every eigenvector u of S (with variance
    lambda) can be treated on its own: the guess starts at the mean and moves along u by a gain times what x_t says there,

        m(x_t) = mu + sum over u of   sqrt(abar) lambda / (abar lambda + 1 - abar)   u u^T (x_t - sqrt(abar) mu) .

    For several, each has its own m_i, and counts as much as it explains x_t (Bayes' rule):

        E[x_0 | x_t] = sum_i r_i m_i(x_t),     r_i proportional to  w_i N(x_t; sqrt(abar) mu_i, abar S_i + (1 - abar) I) .

    With a label only its own Gaussians count; without one, all. Each keeps its `rank` largest eigenvectors, and one variance
    for every other direction; to save room, they lie in the `subspace` largest principal directions of all pictures. Before
    `fit`, the data counts as white noise of variance 1, for which the v that the guess implies is 0.

    Args:
        dimension:  numbers in a picture, D.
        classes:    number of labels; label `classes` stands for "any".
        components: Gaussians for each label.
        subspace:   principal directions, R <= D.
        rank:       eigenvectors of each Gaussian, K <= R.
        T:          steps of the noise schedule.
    Source: the gain, Wiener 1949; denoising with a mixture, Zoran and Weiss 2011; in diffusion models,
        Wang and Vastola 2024, arXiv:2412.09726.
    """

    def __init__(self, dimension: int, classes: int, components: int, subspace: int, rank: int, T: int):
        super().__init__()
        n = classes * components
        self.classes, self.components = classes, components
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("basis", torch.eye(dimension, subspace))  # principal directions, one a column
        self.register_buffer("means", torch.zeros(n, subspace))  # of each Gaussian, in principal coordinates
        self.register_buffer("axes", torch.eye(subspace, rank).repeat(n, 1, 1))  # (n, R, K), eigenvectors
        self.register_buffer("variances", torch.ones(n, rank))
        self.register_buffer("rest", torch.ones(n))  # variance of every other direction
        self.register_buffer("log_weights", torch.zeros(n))
        self.register_buffer("alpha_bars", torch.linspace(1, 0, T + 1))
        foreign = torch.arange(n) // components != torch.arange(classes + 1)[:, None]  # (classes + 1, n)
        foreign[classes] = False
        self.register_buffer("excluded", torch.zeros(classes + 1, n).masked_fill(foreign, -torch.inf), persistent=False)

    @torch.no_grad()
    def fit(
        self, images: Float[Tensor, "N C H W"], labels: Int[Tensor, " N"], alpha_bars: Float[Tensor, " T1"],
        shrink: float = 0.4,
    ) -> "MixtureGuess":  # fmt: skip
        """Take directions, means and covariances from the data: the groups of each label are found by k-means.

        Args:
            shrink: share that the average covariance of the label has in each of its Gaussians, 0..1: a hundred pictures
                    alone would tell too much about themselves.
        Raises: ValueError if the schedule has another number of steps, or a label fewer pictures than Gaussians.
        """
        if len(alpha_bars) != len(self.alpha_bars):
            raise ValueError(
                f"the guess was made for T = {len(self.alpha_bars) - 1}, the schedule has {len(alpha_bars) - 1}"
            )
        counts = torch.bincount(labels, minlength=self.classes)
        if counts.min() < self.components:
            label = int(counts.argmin())
            raise ValueError(f"label {label} has {counts[label]} pictures; every label needs at least {self.components}")
        D, (n, R, K) = len(self.center), self.axes.shape
        x = images.flatten(1).double()
        center = x.mean(0)
        variances, directions = torch.linalg.eigh((x - center).T @ (x - center) / len(x))  # rising
        basis, outside = directions[:, -R:], variances[:-R].sum()
        z = (x - center) @ basis
        group = _groups(z, labels, self.components)
        size = torch.bincount(group, minlength=n).double()
        means = torch.zeros(n, R, dtype=torch.double).index_add(0, group, z) / size[:, None]
        around = z - means[group]
        own = torch.stack([around[group == i].T @ around[group == i] for i in range(n)])  # sums, not yet means
        shared = own.unflatten(0, (self.classes, -1)).sum(1) / counts[:, None, None]
        shared = shared.repeat_interleave(self.components, 0)
        spread, axes = torch.linalg.eigh((1 - shrink) * own / size[:, None, None] + shrink * shared)

        self.center.copy_(center)
        self.basis.copy_(basis)
        self.means.copy_(means)
        self.axes.copy_(axes[..., -K:])
        self.variances.copy_(spread[:, -K:])
        self.rest.copy_((spread[:, :-K].sum(1) + outside).clamp(min=0) / max(1, D - K))
        self.log_weights.copy_(size.log())
        self.alpha_bars.copy_(alpha_bars)
        return self

    def forward(
        self, x_t: Float[Tensor, "B C H W"], t: Shaped[Tensor, " B"], labels: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """The guess of x_0, and the velocity it implies.

        A whole t is a step: (sqrt(abar) x_t - x_0) / sqrt(1 - abar), 0 at t = 0. A t in floating point is a flow's time,
        with x_t = (1 - t) x_0 + t eps: eps - x_0. Divided by r = sqrt((1 - t)^2 + t^2), it is one of a schedule too.
        """
        flow = t.is_floating_point()
        if flow:
            t = t[:, None]
            r = ((1 - t).square() + t.square()).sqrt()
            x_t, abar = x_t / r[..., None, None], ((1 - t) / r).square()
        else:
            abar = self.alpha_bars[t, None]  # (B, 1)
        signal, noise = abar.sqrt(), (1 - abar).sqrt()

        def gain(variance: Tensor, abar: Tensor) -> Tensor:
            return abar.sqrt() * variance / (abar * variance + 1 - abar).clamp(min=1e-12)

        off = x_t.flatten(1) - signal * self.center  # (B, D)
        z = off @ self.basis  # (B, R)
        along = torch.einsum("bnr,nrk->bnk", z[:, None] - signal[..., None] * self.means, self.axes)  # (B, n, K)
        distance = off.square().sum(1, keepdim=True) - 2 * signal * z @ self.means.T + abar * self.means.square().sum(1)
        across = distance - along.square().sum(-1)  # what of the squared distance lies outside the eigenvectors
        wide, narrow = abar[..., None] * self.variances + 1 - abar[..., None], abar * self.rest + 1 - abar
        explains = self.log_weights - 0.5 * (
            (along.square() / wide.clamp(min=1e-12) + wide.clamp(min=1e-12).log()).sum(-1)
            + across / narrow.clamp(min=1e-12) + (len(self.center) - along.shape[-1]) * narrow.clamp(min=1e-12).log()
        )  # fmt: skip
        share = (explains + self.excluded[labels]).softmax(-1)  # (B, n)

        little = gain(self.rest, abar)  # (B, n)
        more = share[..., None] * (gain(self.variances, abar[..., None]) - little[..., None]) * along
        inside = (share * (1 - signal * little)) @ self.means + torch.einsum("bnk,nrk->br", more, self.axes)
        x0 = self.center + (share * little).sum(1, keepdim=True) * off + inside @ self.basis.T
        x, noise = x_t.flatten(1), noise.clamp(min=1e-3)
        velocity = (x - signal * x0) / noise - x0 if flow else (signal * x - x0) / noise
        return x0.view_as(x_t), velocity.view_as(x_t)


def _groups(z: Float[Tensor, "N R"], labels: Int[Tensor, " N"], components: int) -> Int[Tensor, " N"]:
    """For each row, label * components + the k-means group that it belongs to among the rows of its label."""
    from sklearn.cluster import KMeans  # slow to import, and only needed here

    group = labels * components
    if components == 1:
        return group
    for label in labels.unique():
        mine = labels == label
        found = KMeans(components, n_init=3, random_state=0).fit_predict(z[mine].numpy())
        group[mine] += torch.from_numpy(found).long()
    return group
