"""The forward-process explorer without a browser: the schedules it draws, what it says, what it sends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.forward import Facts, curves
from aigc_lessons.diffusion.schedule import cosine_schedule, from_betas, linear_schedule
from aigc_lessons.exercises import lesson_10
from aigc_lessons.widgets import forward


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    """Facts that resemble the digits': their bands, and two values of a pixel."""
    levels, shares = torch.tensor([-1.0, 1.0]).double(), torch.tensor([0.87, 0.13]).double()
    return Facts(torch.tensor(lesson_10.DIGITS).double(), torch.tensor(lesson_10.COUNT), levels, shares)


def test_a_drawn_schedule_passes_its_handles():
    heights = [9.0, 5, 3.5, 1, 0, -1, -3, -5, -10]
    schedule = forward.drawn(heights)
    assert schedule.log_snr(torch.tensor(forward.PLACES)).tolist() == pytest.approx(heights)
    assert schedule.log_snr(torch.tensor(200)).item() == pytest.approx((3.5 + 1) / 2), "straight lines between"
    for wrong in (heights[::-1], heights[:-1], [*heights[:-1], -5]):
        with pytest.raises(ValueError, match=r"each below the one before; got \["):
            forward.drawn(wrong)


def test_the_verdict_names_what_is_wrong(data):
    says = lambda schedule: forward.verdict(curves(schedule, data))  # noqa: E731
    assert says(linear_schedule()).startswith("It destroys too early")
    assert says(cosine_schedule()).startswith("It arrives, and few steps are wasted.")
    assert says(forward.named()["too early"]).startswith("It destroys too early")
    assert says(forward.named()["never"]).startswith("It never gets there: a pixel of x_T still has mean -0.6")
    assert says(forward.drawn([12, 11, 10, 9, 8, 3, -3, -6, -9.5])).startswith("It starts too late")
    fair = curves(cosine_schedule(), data)
    assert forward.verdict(replace(fair, work=torch.ones(1000))).startswith("Even")
    assert forward.verdict(replace(fair, work=torch.full((1000,), 4.0))).startswith("It destroys in a rush")
    latent = from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
    assert "mean -0.051, and noise" in says(latent)


def test_small_numbers_are_written_as_a_browser_writes_them():
    numbers = (0.63, 0.01, 0.0022, 1.9e-5, 1.1e-10)
    assert [forward._small(x) for x in numbers] == ["0.63", "0.01", "2.2e-3", "1.9e-5", "1.1e-10"]


@pytest.fixture
def explorer():
    images = noise(0, 5, 1, 8, 8).clamp(-1, 1).float()
    return forward.ForwardExplorer(images[0, 0], noise(1, 30, 2), images[1, 0, :3], images, t=400, seed=3)


def test_the_explorer_sends_what_the_page_needs(explorer):
    given = explorer.given
    read = lambda raw: np.frombuffer(raw, "<f8")  # noqa: E731
    assert (given["T"], given["pixels"], given["places"]) == (1000, 64, forward.PLACES)
    assert read(given["things"]["spiral"]["x0"]).reshape(30, 2) == pytest.approx(noise(1, 30, 2).numpy())
    assert given["things"]["sentence"]["shape"] == [3, 8]
    assert set(given["schedules"]) == {"linear", "cosine", "too early", "never"}
    assert read(given["schedules"]["cosine"])[499] == pytest.approx(cosine_schedule().log_snr(torch.tensor(500)).item())
    assert read(given["shares"]).sum() == pytest.approx(1)
    assert "needs a running kernel" in repr(explorer)


def test_the_explorer_gives_its_schedule_back(explorer):
    assert torch.equal(explorer.schedule.alpha_bars, linear_schedule().alpha_bars)
    explorer.handles = [9.0, 5, 3.5, 1, 0, -1, -3, -5, -10]
    explorer.choice = "own"
    assert torch.equal(explorer.schedule.alpha_bars, forward.drawn(explorer.handles).alpha_bars)
    with pytest.raises(ValueError, match="choice must be one of linear, cosine"):
        explorer.choice = "quadratic"
    with pytest.raises(ValueError, match=r"t must lie in 1\.\.1000, got 0"):
        explorer.t = 0


def test_drawing_begins_at_the_curve_within_reach():
    heights = forward.heights(cosine_schedule())
    assert heights[-1] == forward.LOWEST
    assert heights[4] == pytest.approx(cosine_schedule().log_snr(torch.tensor(500)).item(), abs=0.005)
