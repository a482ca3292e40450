"""Random tokens that repeat."""

import pytest
import torch

from aigc_lessons.data.repeats import repeats


def test_every_row_repeats_with_a_period_of_its_own(generator):
    ids, again = repeats(300, 40, 1000, generator, 5, 12)
    periods = again.long().argmax(1)
    assert set(periods.tolist()) == set(range(5, 13))
    for row, period in zip(ids, periods.tolist(), strict=True):
        assert torch.equal(row[period:], row[:-period])
        assert len(set(row[:period].tolist())) > period - 3, "before that they are random"
    assert torch.equal(again, torch.arange(40) >= periods[:, None])


def test_the_same_generator_gives_the_same_rows():
    a, b = (repeats(4, 20, 9, torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(a, b)


def test_impossible_periods_are_named(generator):
    with pytest.raises(ValueError, match=r"got 9\.\.8"):
        repeats(2, 10, 5, generator, 9, 8)
