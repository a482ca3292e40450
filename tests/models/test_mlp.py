"""The network for points: what it says when new, and that it is the formula in its docstring."""

import torch
import torch.nn.functional as F

from aigc_lessons.models.layers import sinusoidal
from aigc_lessons.models.mlp import MLP
from aigc_lessons.recipes import seeded


def test_a_new_network_says_zero(generator):
    x = torch.randn(5, 3, generator=generator)
    assert torch.equal(seeded(lambda: MLP(3), 0)(x, torch.arange(5)), torch.zeros(5, 3))


def test_it_is_the_formula(generator):
    network = seeded(lambda: MLP(2, width=16, layers=2, features=8), 1)
    torch.nn.init.normal_(network.leave.weight, generator=generator)
    x, t = torch.randn(7, 2, generator=generator), torch.tensor([0, 1, 2, 50, 100, 999, 1000])
    h = torch.cat([x, sinusoidal(t, 8)], 1) @ network.enter.weight.T + network.enter.bias
    for layer in network.hidden:
        h = h + F.silu(h) @ layer.weight.T + layer.bias
    assert torch.allclose(network(x, t), F.silu(h) @ network.leave.weight.T, atol=1e-5)


def test_it_can_tell_steps_apart(generator):
    """Least squares on the hidden features separates t = 1 from t = 3, which a bare number over 1000 could hardly do."""
    a, b = sinusoidal(torch.tensor([1]), 32), sinusoidal(torch.tensor([3]), 32)
    assert (a - b).norm() > 1
