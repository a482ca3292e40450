import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lessons.data.batches import epochs, step_generator


@given(rows=st.integers(1, 12), size=st.integers(1, 30), seed=st.integers(0, 5))
def test_every_row_once_before_any_twice(rows, size, seed):
    batches = epochs((torch.arange(rows),), size, seed)
    stream = torch.cat([batches(step)[0] for step in range(2 * rows)])
    for k in range(len(stream) // rows):
        assert sorted(stream[k * rows : (k + 1) * rows].tolist()) == list(range(rows))


def test_a_batch_is_a_pure_function_of_seed_and_step():
    data = torch.arange(100), torch.arange(100) * 2
    one, other = epochs(data, 32, seed=1), epochs(data, 32, seed=1)
    backwards = [other(step) for step in reversed(range(10))][::-1]
    for step in range(10):
        x, y = one(step)
        assert torch.equal(x, backwards[step][0])
        assert torch.equal(2 * x, y)
    assert not torch.equal(one(0)[0], epochs(data, 32, seed=2)(0)[0])


def test_generators_differ_by_seed_step_and_stream():
    draws = {torch.randn(1, generator=step_generator(*key)).item() for key in [(0, 0), (0, 1), (1, 0), (0, 0, 1), (0, 0, 2)]}
    assert len(draws) == 5
    assert torch.rand(1, generator=step_generator(3, 4)) == torch.rand(1, generator=step_generator(3, 4))


def test_bad_data_is_named():
    with pytest.raises(ValueError, match=r"same number of rows.*\[2, 3\]"):
        epochs((torch.zeros(2), torch.zeros(3)), 1)
    with pytest.raises(ValueError, match="at least one"):
        epochs((torch.zeros(0),), 1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        epochs((torch.zeros(2),), 0)
