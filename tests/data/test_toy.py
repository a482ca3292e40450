"""Shapes with a known density: it adds up to 1, is that of the draws, and is the mixture that it says it is."""

import math

import pytest
import torch
from strict_typing import unchecked

from aigc_lessons.data import toy
from aigc_lessons.diffusion.mixture import GaussianMixture

SHAPES = {"moons": toy.moons(0.2), "spiral": toy.spiral(0.15), "checkerboard": toy.Checkerboard()}


def plane(reach=4.0, n=401):
    side = torch.linspace(-reach, reach, n + 1, dtype=torch.float64)
    middle = (side[:-1] + side[1:]) / 2
    return torch.cartesian_prod(middle, middle), (2 * reach / n) ** 2


@pytest.mark.parametrize("name", SHAPES)
def test_the_density_adds_up_to_one(name):
    x, area = plane(n=400)
    assert SHAPES[name].log_prob(x).exp().sum().item() * area == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_the_density_is_that_of_the_draws(name, generator):
    """The mean of any f(x) over 40,000 draws is the integral of p f, within 4 standard errors; of another shape not."""
    x, area = plane()
    draws = SHAPES[name].draw(40_000, generator)

    def gap(shape, f):
        values, p = f(draws.double()), shape.log_prob(x).exp()
        return abs(values.mean() - (p * f(x)).sum() * area) / (values.std() / len(values) ** 0.5)

    tests = [
        lambda x: x[:, 0] * x[:, 1],
        lambda x: (3 * x[:, 0]).sin(),
        lambda x: (-(x**2).sum(1)).exp(),
        lambda x: x[:, 1] ** 2,
    ]
    assert max(gap(SHAPES[name], f) for f in tests) < 4
    wrong = toy.moons(0.3) if name == "moons" else SHAPES["moons"]
    assert max(gap(wrong, f) for f in tests) > 8


@pytest.mark.parametrize("name", ["moons", "spiral"])
def test_strands_are_the_mixture_of_their_nodes(name, generator):
    """So the mixture's score and its density under noise are theirs too; halving the nodes' distance changes nothing."""
    shape = SHAPES[name]
    assert shape.weights.sum().item() == pytest.approx(1, abs=1e-12)
    K = len(shape.weights)
    mixture = GaussianMixture(shape.weights, shape.centres, shape.noise**2 * torch.eye(2).double().expand(K, 2, 2))
    x = shape.draw(200, generator).double()
    assert torch.allclose(mixture.log_prob(x), shape.log_prob(x), atol=1e-9)
    s = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    places = torch.cat([curve(s) for curve in shape.curves])
    square = torch.cdist(x, places) ** 2
    fine = (-square / (2 * shape.noise**2)).logsumexp(1) - math.log(len(places) * 2 * math.pi * shape.noise**2)
    assert torch.allclose(fine, shape.log_prob(x), atol=1e-6)


def test_moons_are_centred_and_apart(generator):
    """n = 40,000, 4 standard errors."""
    x = toy.moons().draw(40_000, generator)
    assert (x.mean(0).abs() < 4 * x.std(0) / 200).all()
    between = torch.tensor([[0.0, 0.0]]).double()
    assert toy.moons().log_prob(between).item() < toy.moons().log_prob(x).quantile(0.01)


def test_the_checkerboard_is_empty_on_light_squares():
    board = toy.Checkerboard(4, 2.0)
    x = torch.tensor([[-1.5, -1.5], [-0.5, -1.5], [0.5, -1.5], [1.5, 1.5], [2.5, 0.5]])
    assert board.log_prob(x).exp().tolist() == pytest.approx([0.125, 0, 0.125, 0.125, 0])


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="noise above 0, got 2 and 0"):
        toy.moons(0.0)
    with pytest.raises(ValueError, match="even number above 0, got 3"):
        toy.Checkerboard(3)
    with pytest.raises(ValueError, match="at least one curve"):
        unchecked(toy.Strands)([], 0.1)
