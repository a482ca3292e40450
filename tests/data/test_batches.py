import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lessons.data.batches import epochs, step_generator, windows


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


@given(n=st.integers(2, 40), length=st.integers(1, 20), size=st.integers(1, 5), seed=st.integers(0, 3))
def test_a_window_is_text_and_its_targets_are_one_later(n, length, size, seed):
    if n <= length:
        with pytest.raises(ValueError, match=rf"window of {length} tokens .* need a text of {length + 1}, this one has {n}"):
            windows(torch.arange(n), length, size)
        return
    ids = torch.arange(100, 100 + n, dtype=torch.int32)
    inputs, targets = windows(ids, length, size, seed)(7)
    assert inputs.shape == targets.shape == (size, length)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(length))
    assert inputs.min() >= 100
    assert targets.max() < 100 + n


def test_windows_begin_everywhere_equally_often():
    """5 places, 20,000 windows: each 4,000 times, within 5 standard deviations (57 each). The last token is a target."""
    inputs, targets = windows(torch.arange(8), 3, 20_000)(0)
    counts = inputs[:, 0].bincount()
    assert len(counts) == 5
    assert (counts - 4000).abs().max() < 5 * 57
    assert targets.max() == 7


def test_windows_are_a_pure_function_of_seed_and_step():
    ids = torch.arange(1000)
    one, other = windows(ids, 8, 4, seed=1), windows(ids, 8, 4, seed=1)
    assert torch.equal(one(5)[0], (other(0), other(9), other(5))[2][0])
    drawn = [windows(ids, 8, 4, seed=seed)(step)[0] for seed, step in [(1, 5), (1, 6), (2, 5)]]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("length", "size"), [(0, 1), (1, 0), (-3, 2)])
def test_bad_windows_are_named(length, size):
    with pytest.raises(ValueError, match=f"must be at least 1, got {length} and {size}"):
        windows(torch.arange(9), length, size)
