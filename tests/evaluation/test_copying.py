"""Copies against looking everywhere; exposure against its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lessons.evaluation.copying import Copies, exposure, longest_copy

TEXT = "To be, or not to be: that is the question: Whether 'tis nobler in the mind to suffer"


@settings(max_examples=80, deadline=None)
@given(st.text("ab c", max_size=40), st.text("ab c", min_size=4, max_size=60), st.integers(1, 4))
def test_marks_are_those_of_looking_everywhere(text, source, n):
    marked = np.zeros(len(text), bool)
    for i in range(len(text) - n + 1):
        if text[i : i + n] in source:
            marked[i : i + n] = True
    assert np.array_equal(Copies(source, n).marked(text), marked)


@settings(max_examples=80, deadline=None)
@given(st.text("abc", max_size=25), st.text("abc", max_size=40))
def test_the_longest_copy_is_that_of_trying_all(text, source):
    stretches = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] in source]
    longest = longest_copy(text, source)
    assert len(longest) == max(map(len, stretches), default=0)
    assert longest in text
    assert longest in source


def test_other_alphabets_and_shares():
    assert Copies(TEXT, 6).share("the question is 四海") == pytest.approx(
        len("the question") / len("the question is 四海"), abs=0.08
    )
    assert Copies("曹操大惊曰" * 3, 3).share("操大惊") == 1
    assert Copies(TEXT, 10).share("") == 0
    assert Copies(TEXT, 10).share("short") == 0
    assert longest_copy("xx the mind to xx", TEXT) == " the mind to "
    with pytest.raises(ValueError, match="no stretch of 100"):
        Copies(TEXT, 100)
    with pytest.raises(ValueError, match="no stretch of 0"):
        Copies(TEXT, 0)


def test_exposure_is_bits_of_rank():
    log_p = torch.tensor([0.0, -1.0, -2.0, -2.0, -5.0, -6.0, -7.0, -8.0])
    assert exposure(log_p, 0) == 3
    assert exposure(log_p, 1) == 2
    assert exposure(log_p, 2) == 1  # tied for the third place: counted as the fourth
    assert exposure(log_p, 7) == 0
    assert exposure(torch.zeros(64), 5) == 0
    with pytest.raises(ValueError, match="one of the 8 candidates, got place 8"):
        exposure(log_p, 8)


def test_exposure_of_chance_is_small(generator):
    """A random rank has a mean exposure of about 1 / ln 2 = 1.44 bits; 2,000 draws, four standard errors."""
    log_p = torch.randn(1000, generator=generator)
    drawn = torch.tensor([exposure(log_p, int(i)) for i in torch.randint(1000, (2000,), generator=generator)])
    assert abs(drawn.mean().item() - 1 / math.log(2)) < 4 * drawn.std().item() / 2000**0.5 + 0.02
