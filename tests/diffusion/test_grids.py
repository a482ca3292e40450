"""Grids of times: what they hold, that walks along them are the samplers' own, what walks cost, and orders."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lessons.diffusion import grids, samplers
from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.diffusion.samplers import final, sample, sample_times
from aigc_lessons.diffusion.schedule import cosine_schedule, linear_schedule

SCHEDULE = cosine_schedule()
METHODS = ["ddpm", "ddim", "heun", "dpmpp_2m"]


def noise(n=8, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_on_the_usual_grid_the_walk_is_the_sampler_s(method, steps):
    """Every state, every time, every estimate."""
    denoise, dice = ring().denoiser(SCHEDULE), lambda: torch.Generator().manual_seed(1)
    usual = list(sample(denoise, SCHEDULE, noise(), method=method, steps=steps, generator=dice()))
    walk = list(grids.visit(denoise, SCHEDULE, noise(), sample_times(1000, steps), method=method, generator=dice()))
    assert [step.t for step in walk] == [step.t for step in usual]
    for mine, theirs in zip(walk, usual, strict=True):
        assert torch.allclose(mine.x, theirs.x, rtol=1e-12)
        assert torch.allclose(mine.x0, theirs.x0, rtol=1e-12)


def test_a_walk_is_its_steps_one_after_the_other():
    """2M on an uneven grid that begins below T, against the step function called by hand."""
    denoise, times, x, memory = ring().denoiser(SCHEDULE), [990, 600, 570, 200, 0], noise(), None
    walk = grids.visit(denoise, SCHEDULE, x, times, method="dpmpp_2m")
    for (t, s), step in zip(pairwise(times), walk, strict=True):
        x, _, memory = samplers.dpmpp_2m_step(denoise, SCHEDULE, x, t, s, memory)
        assert step.t == s
        assert torch.allclose(step.x, x, rtol=1e-12)
    other = final(grids.visit(denoise, SCHEDULE, noise(), [990, 601, 570, 200, 0], method="dpmpp_2m"))
    assert not torch.allclose(other, x, rtol=1e-6), "a time that is off by one is noticed"


@pytest.mark.parametrize("times", [[], [1000], [1000, 500], [1001, 0], [500, 500, 0], [0, 500], [1000, 200, 300, 0]])
def test_times_must_fall_to_zero(times):
    with pytest.raises(ValueError, match=r"times must fall, from 1000 or below down to 0, got \["):
        grids.visit(ring().denoiser(SCHEDULE), SCHEDULE, noise(), times)


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 1000), st.integers(1, 1000), st.floats(0.3, 5), st.floats(0.3, 5), st.integers(1, 40))
def test_grids_fall_from_T_to_zero(T, steps, early, late, last):
    steps = min(steps, T)
    schedule = linear_schedule(T, 1e-4, 0.02)
    made = [grids.bent(schedule, steps, early, late)]
    if 2 <= steps <= T - last + 1:
        made.append(grids.even_log_snr(schedule, steps, last))
        assert made[1][-2] >= last
    for grid in made:
        assert (grid[0], grid[-1], len(grid)) == (T, 0, steps + 1)
        assert all(t > s for t, s in pairwise(grid))


def test_bends_are_those_of_the_formula():
    assert grids.bent(SCHEDULE, 10, early=2) == [1000, 990, 960, 910, 840, 750, 640, 510, 360, 190, 0]
    assert grids.bent(SCHEDULE, 4, late=2) == [1000, 562, 250, 62, 0]
    assert grids.bent(SCHEDULE, 10, 2.5, 2)[-2:] == [round(1000 * (1 - 0.9**2.5) ** 2), 0]
    for steps in (5, 7, 50, 1000):
        assert grids.bent(SCHEDULE, steps) == sample_times(1000, steps)
    assert grids.bent(SCHEDULE, 60, 2)[:4] == [1000, 999, 998, 997], "no time is visited twice"
    for wrong in ((0, 1, 1), (1001, 1, 1), (5, 0, 1), (5, 1, -1)):
        with pytest.raises(ValueError, match=r"need 1\.\.1000 steps and exponents above 0"):
            grids.bent(SCHEDULE, *wrong)


def test_even_log_snr_is_even():
    half = SCHEDULE.log_snr(torch.tensor(grids.even_log_snr(SCHEDULE, 8, last=20)[:-1])) / 2
    apart = half.diff()[3:]  # close to T, the schedule has few steps to choose from
    assert apart.max() / apart.min() < 1.1
    rough = SCHEDULE.log_snr(torch.tensor(sample_times(1000, 8)[:-1])).diff()[3:] / 2
    assert rough.max() / rough.min() > 1.5, "the usual grid is not"


def test_even_schedule_has_its_ends():
    even = grids.even_schedule(7, -4, 3)
    half = even.log_snr(torch.arange(1, 9)) / 2
    assert even.T == 8
    assert half.tolist() == pytest.approx([3 - k for k in range(8)])
    for wrong in ((0, -4, 3), (5, 3, 3)):
        with pytest.raises(ValueError, match="at least one step"):
            grids.even_schedule(*wrong)


def test_noise_levels_are_those_of_the_scaled_sample():
    sigma = grids.noise_levels(SCHEDULE)
    assert sigma[0] == 0
    assert torch.allclose(sigma[1:].log(), -SCHEDULE.log_snr(torch.arange(1, 1001)) / 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5])
def test_evaluations_are_counted_by_counting(method, scale):
    """A denoiser that counts its calls, and rows: guidance asks for twice as many rows."""
    asked = 0

    def counting(x, t):
        nonlocal asked
        asked += 1 if scale in (0, 1) else 2
        return torch.zeros_like(x)

    for steps in (1, 2, 9):
        asked = 0
        final(sample(counting, SCHEDULE, noise(), method=method, steps=steps, generator=torch.Generator().manual_seed(0)))
        assert asked == grids.evaluations(method, steps, scale)
    with pytest.raises(ValueError, match="at least one step"):
        grids.evaluations(method, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_most_steps_are_paid_for_and_one_more_is_not(method, scale):
    for budget in range(2, 70):
        steps = grids.most_steps(method, budget, scale)
        assert grids.evaluations(method, steps, scale) <= budget < grids.evaluations(method, steps + 1, scale)
    with pytest.raises(ValueError, match="costs more than 1 evaluations"):
        grids.most_steps(method, 1, 4.0)


def test_an_order_is_a_slope():
    steps = [5, 9, 20, 80]
    assert grids.order(steps, [3 / n**1.7 for n in steps]) == pytest.approx(1.7)
    errors = [1.0, 0.4, 0.11]
    by_torch = torch.linalg.lstsq(
        torch.tensor([[math.log(n), 1.0] for n in (4, 8, 16)]), torch.tensor([[math.log(e)] for e in errors])
    ).solution[0]
    assert grids.order([4, 8, 16], errors) == pytest.approx(-by_torch.item(), rel=1e-4)
    for wrong in (([4], [1.0]), ([4, 8], [1.0]), ([4, 8], [1.0, 0.0])):
        with pytest.raises(ValueError, match="two points or more"):
            grids.order(*wrong)


def interior(method, steps):
    """The state at lambda = 3, in even steps from the end of the cosine schedule."""
    even = grids.even_schedule(steps, SCHEDULE.log_snr(torch.tensor(1000)).item() / 2, 3.0)
    walk = sample(ring().denoiser(even), even, noise(32), method=method)
    return next(step.x for step in walk if step.t == 1)


@pytest.fixture(scope="module")
def truth():
    return interior("dpmpp_2m", 1600)


@pytest.mark.parametrize(("method", "least"), [("ddim", 0.95), ("heun", 1.9), ("dpmpp_2m", 1.8)])
def test_orders_on_the_ring(method, least, truth):
    """The bars of lesson 15, against 1,600 steps, whose error is a hundredth of the smallest here."""
    steps = [40, 80, 160]
    errors = [(interior(method, n) - truth).abs().mean().item() for n in steps]
    assert least <= grids.order(steps, errors) <= 2.4
