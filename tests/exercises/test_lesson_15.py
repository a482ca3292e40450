"""15.5, the contest of grids: what beats the usual one, and what is said to what does not."""

import pytest
import torch

from aigc_lessons.diffusion import grids
from aigc_lessons.exercises import check, core, lesson_15


def jump_then_even(schedule, N):
    half = schedule.log_snr(torch.arange(1, schedule.T + 1)) / 2
    wanted = torch.linspace(half[949].item(), half[19].item(), N - 1).double()
    return [schedule.T, *((half[None] - wanted[:, None]).abs().argmin(1) + 1).tolist(), 0]


def test_a_jump_and_then_even_steps_beat_the_usual_grid():
    result = check("15.5", jump_then_even)
    assert result.passed
    assert "expected: at most 0.6" in result.message
    assert check("15.5", lambda schedule, N: torch.tensor(jump_then_even(schedule, N))).passed, "a tensor is fine too"


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (lambda schedule, N: grids.bent(schedule, N), "the usual grid itself"),
        (lambda schedule, N: grids.even_log_snr(schedule, N), "where nothing happens yet: jump"),
        (lambda schedule, N: [1000, *range(940, 940 - 50 * (N - 1), -50), 0], "Start it later"),
        (lambda schedule, N: [1000, *range(900, 900 - 900 // N * (N - 1), -(900 // N)), 0], ""),
    ],
)
def test_a_grid_that_does_not_is_told_why(grid, says):
    result = check("15.5", grid)
    assert not result.passed
    assert says in result.hint
    assert result.hint


@pytest.mark.parametrize("answer", [None, ..., lambda schedule, N: None, lambda schedule, N: ...])
def test_an_unsolved_stub_is_not_an_error(answer):
    result = check("15.5", answer)
    assert not result.passed
    assert result.message == core.UNSOLVED


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (lambda schedule, N: list(range(1000, -1, -100)), "return 13 whole numbers for N = 12"),
        (lambda schedule, N: [999.5] * (N + 1), "the first of them T = 1000"),
        (lambda schedule, N: [1000] * N + [0], "times must fall"),
        (lambda schedule, N: 3, "raised TypeError"),
        (lambda: [1000, 0], "keep the parameters of the stub"),
    ],
)
def test_nonsense_gets_a_verdict(grid, says):
    result = check("15.5", grid)
    assert not result.passed
    assert says in result.message


def test_the_hidden_worlds_are_not_the_lessons():
    assert len(lesson_15.worlds()) == 5
    assert all(world.means.shape != (8, 2) for world in lesson_15.worlds().values())
