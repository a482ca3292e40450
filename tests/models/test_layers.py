import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strict_typing import unchecked

from aigc_lessons.models.layers import (
    Condition,
    ResBlock,
    SquaredReLU,
    TanhGELU,
    haar,
    inverse_haar,
    rope_turns,
    rotate,
    sinusoidal,
)  # fmt: skip


@given(b=st.integers(1, 3), c=st.integers(1, 3), h=st.integers(1, 5), w=st.integers(1, 5), seed=st.integers(0, 99))
def test_haar_is_lossless_and_keeps_lengths(b, c, h, w, seed):
    x = torch.randn(b, c, 2 * h, 2 * w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = haar(x)
    assert y.shape == (b, 4 * c, h, w)
    assert torch.allclose(inverse_haar(y), x, atol=1e-12)
    assert torch.allclose(haar(inverse_haar(y)), y, atol=1e-12)
    assert y.square().sum().item() == pytest.approx(x.square().sum().item())


def test_haar_of_known_blocks():
    block = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    assert haar(block).flatten().tolist() == [5.5, -1.5, -2.5, 0.5]


def test_haar_refuses_what_it_cannot_halve():
    with pytest.raises(ValueError, match="even; got 5 x 4"):
        unchecked(haar)(torch.zeros(1, 1, 5, 4))
    with pytest.raises(ValueError, match="multiple of 4 channels, got 6"):
        unchecked(inverse_haar)(torch.zeros(1, 6, 2, 2))


def test_sinusoidal_features_tell_times_apart():
    features = sinusoidal(torch.arange(1001), 64)
    assert features.abs().max() <= 1
    assert torch.allclose(features[:, :32] ** 2 + features[:, 32:] ** 2, torch.ones(1001, 32), atol=1e-5)
    distance = torch.cdist(features, features) + 10 * torch.eye(1001)
    assert distance.min() > 0.1
    with pytest.raises(ValueError, match="even, got 7"):
        unchecked(sinusoidal)(torch.arange(3), 7)


def fresh(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def test_a_fresh_block_is_its_shortcut(generator):
    x, cond = torch.randn(2, 8, 4, 4, generator=generator), torch.randn(2, 6, generator=generator)
    assert torch.equal(fresh(lambda: ResBlock(8, 8, 6))(x, cond), x)
    wider = fresh(lambda: ResBlock(8, 12, 6))
    assert torch.equal(wider(x, cond), wider.shortcut(x))


def test_labels_outside_are_named():
    condition = fresh(lambda: Condition(10, 8))
    t = torch.tensor([1, 2])
    assert torch.equal(condition(t), condition(t, torch.tensor([10, 10])))
    with pytest.raises(ValueError, match=r"0\.\.9, or 10 for any; got 3\.\.11"):
        condition(t, torch.tensor([3, 11]))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(SquaredReLU, lambda x: F.relu(x).square()), (TanhGELU, lambda x: F.gelu(x, approximate="tanh"))],
    ids=["squared relu", "gelu"],
)
def test_activations_and_their_slopes_are_the_references(ours, theirs, generator):
    x = torch.randn(50, 20, generator=generator, dtype=torch.float64).mul_(4).requires_grad_()
    weights = torch.randn(50, 20, generator=generator, dtype=torch.float64)
    assert torch.allclose(ours.apply(x), theirs(x), atol=1e-12)
    (mine,), (reference,) = (torch.autograd.grad((f(x) * weights).sum(), x) for f in (ours.apply, theirs))
    assert torch.allclose(mine, reference, atol=1e-12)
    assert torch.autograd.gradcheck(ours.apply, (x[:3, :4],))
    assert not torch.allclose(mine, 1.01 * reference, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rotation_keeps_lengths_and_the_kind_of_number(dtype, generator):
    x = torch.randn(2, 5, 1, 3, 8, generator=generator).to(dtype)
    turned = rotate(x, rope_turns(5, 8))
    assert turned.dtype == dtype
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=0.02 if dtype == torch.bfloat16 else 1e-6)
    assert torch.equal(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1], x[:, 1])
