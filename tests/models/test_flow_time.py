"""The networks of diffusion, told a flow's time: they train, they drive, and the U-Net's guess is the exact velocity."""

import pytest
import torch

from aigc_lessons.diffusion.flow import exact_velocity, flow_matching_loss, integrate
from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.models.mlp import MLP
from aigc_lessons.models.unet import UNet, UNetConfig
from aigc_lessons.recipes import seeded


def small_unet():
    return UNet(UNetConfig(size=8, classes=3, width=8, cond_dim=16, middle=1, components=1, subspace=6, rank=3, T=40))


@pytest.mark.parametrize("build", [lambda: MLP(2, width=16), small_unet], ids=["MLP", "UNet"])
def test_the_networks_of_diffusion_take_flow_time(build, generator):
    network = seeded(build, 0)
    unet = isinstance(network, UNet)
    x0 = torch.randn(6, 1, 8, 8, generator=generator) if unet else torch.randn(6, 2, generator=generator)
    batch = (x0, torch.arange(6) % 3) if unet else x0
    loss = flow_matching_loss()(network, batch, generator)
    loss.backward()
    assert loss.isfinite()
    conditions = batch[1:] if unet else ()
    walk = list(integrate(lambda x, t: network(x, t, *conditions).detach(), x0, steps=3, method="heun"))
    assert walk[-1].x.isfinite().all()


def test_the_guess_of_the_unet_is_the_exact_velocity_of_its_mixture(generator):
    """A new UNet adds nothing: its velocity is that of a Gaussian for each label, computed from its buffers."""
    network = seeded(small_unet, 0)
    images = 0.5 * torch.randn(90, 1, 8, 8, generator=generator) + torch.linspace(-1, 1, 8)
    labels = torch.arange(90) % 3
    network.guess.fit(images, labels, cosine_schedule(40).alpha_bars)
    g = network.guess
    for label in range(3):
        mean = (g.center + g.basis @ g.means[label]).double()
        axes = (g.basis @ g.axes[label]).double()
        S = g.rest[label].double() * torch.eye(64).double()
        S += axes @ torch.diag(g.variances[label].double() - g.rest[label].double()) @ axes.T
        exact = exact_velocity(GaussianMixture(torch.ones(1), mean[None], S[None]))
        x, t = torch.randn(5, 1, 8, 8, generator=generator), torch.tensor([0.05, 0.3, 0.5, 0.8, 1.0])
        with torch.no_grad():
            got = network(x, t, torch.full((5,), label))
        assert torch.allclose(got.flatten(1).double(), exact(x.flatten(1).double(), t.double()), atol=2e-3)
