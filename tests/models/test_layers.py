import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strict_typing import unchecked

from aigc_lessons.models.layers import Condition, ResBlock, haar, inverse_haar, sinusoidal


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
