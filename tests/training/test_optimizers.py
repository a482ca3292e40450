import pytest
import torch
from torch import nn

from aigc_lessons.training.optimizers import Muon, make_optimizers, newton_schulz, orthogonalize, split_parameters


def test_orthogonalize_brings_singular_values_near_one(generator):
    shapes = [(16, 16), (8, 40), (40, 8), (3, 40), (8, 9), (16, 70)]
    for made, shape in zip(
        orthogonalize([torch.randn(shape, generator=generator) for shape in shapes]), shapes, strict=True
    ):
        values = torch.linalg.svdvals(made)
        assert made.shape == shape
        assert values.max() < 1.25
        assert values.median() > 0.6


def test_single_precision_is_enough_for_a_gradient_of_almost_rank_one(generator):
    """Working on X X^T squares the singular values: what is lost must lie where nothing was to be known."""
    U, _, Vh = torch.linalg.svd(torch.randn(64, 256, generator=generator, dtype=torch.float64), full_matrices=False)
    G = U @ torch.diag(torch.logspace(0, -6, 64, dtype=torch.float64)) @ Vh
    exact, single = orthogonalize([G])[0], orthogonalize([G.float()])[0]
    assert (exact - single).abs().max() < 2e-3
    assert newton_schulz((G @ G.T / G.square().sum()).float()[None]).isfinite().all()


def test_orthogonalize_keeps_the_singular_vectors(generator):
    """Against the direct formulation through an SVD: U p(S) V^T with the same polynomial on each singular value."""
    G = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    U, S, Vh = torch.linalg.svd(G / G.norm(), full_matrices=False)
    for _ in range(5):
        S = 3.4445 * S - 4.7750 * S**3 + 2.0315 * S**5
    assert torch.allclose(orthogonalize([G])[0], U @ torch.diag(S) @ Vh, atol=1e-6)


def direct_muon(weights, gradients, lr, momentum, decay):
    """One matrix, written out: no batching, no optimizer class."""
    buffer = torch.zeros_like(weights)
    for g in gradients:
        buffer = momentum * buffer + g
        update = (g + momentum * buffer).flatten(1)
        rows, columns = update.shape
        step = 0.2 * max(rows, columns) ** 0.5 * orthogonalize([update])[0]
        weights = weights * (1 - lr * decay) - lr * step.view(weights.shape)
    return weights


@pytest.mark.parametrize("planted", [False, True], ids=["right", "planted mistake"])
def test_muon_against_a_direct_formulation(planted, generator):
    shapes = [(6, 4, 3, 3), (6, 4, 3, 3), (5, 7)]
    starts = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    gradients = [[torch.randn(s, generator=generator, dtype=torch.float64) for _ in range(4)] for s in shapes]
    parameters = [nn.Parameter(w.clone()) for w in starts]
    optimizer = Muon(parameters, lr=0.1, momentum=0.9, weight_decay=0.05)
    for k in range(4):
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g[k]
        optimizer.step()
    momentum = -0.9 if planted else 0.9
    wanted = [direct_muon(w, g, 0.1, momentum, 0.05) for w, g in zip(starts, gradients, strict=True)]
    assert all(torch.allclose(p, w, atol=1e-9) for p, w in zip(parameters, wanted, strict=True)) != planted


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


class Net(nn.Module):
    outer = ("head",)

    def __init__(self):
        super().__init__()
        self.table, self.inner, self.conv = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Conv2d(1, 2, 3)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 5)


def test_every_parameter_goes_to_one_optimizer():
    with torch.random.fork_rng():
        net = Net()
    hidden, rest = split_parameters(net)
    assert {id(p) for p in hidden} == {id(net.inner.weight), id(net.conv.weight)}
    assert {id(p) for p in hidden + rest} == {id(p) for p in net.parameters()}
    assert len(hidden) + len(rest) == len(list(net.parameters()))
    made = make_optimizers("muon", net, 1e-3)
    assert [type(o).__name__ for o in made] == ["Muon", "AdamW"]
    with pytest.raises(ValueError, match="'adamw' or 'muon', got 'sgd'"):
        make_optimizers("sgd", net, 1e-3)
