"""The flow explorer without a browser: what it drives, what it says, what it sends, what it refuses."""

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.flow import exact_velocity, integrate, straightness
from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.widgets.flows import FINE, MOST, Drives, FlowExplorer, verdict

DATA = ring(3, 1.5, 0.2)
VELOCITY = exact_velocity(DATA)


def straight(x, t):
    """To a point of the data, each along a line."""
    return (x - DATA.means[0].to(x)) / t[:, None]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def x_1():
    return torch.randn(60, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def drives(x_1):
    return {"curved": Drives.of(VELOCITY, x_1, DATA), "straight": Drives.of(straight, x_1, DATA)}


def test_drives_hold_every_number_of_steps(drives, x_1):
    curved = drives["curved"]
    assert [len(walk) for walk in curved.walks] == list(range(2, MOST + 2))
    assert len(curved.true) == FINE + 1
    by_hand = x_1 - VELOCITY(x_1, torch.ones(60)) / 2
    by_hand = by_hand - VELOCITY(by_hand, torch.full((60,), 0.5)) / 2
    assert torch.allclose(curved.walks[1][-1], by_hand, atol=1e-5)
    ends = [walk[-1] for walk in curved.walks]
    assert curved.torn[6] == pytest.approx((ends[6] - curved.true[-1]).norm(dim=1).mean().item())
    fine = list(integrate(VELOCITY, x_1, steps=FINE))
    assert abs(straightness(x_1, fine) - curved.S) < 1e-9


def test_one_step_breaks_the_curved_flow_and_not_the_straight_one(drives):
    curved, line = drives["curved"], drives["straight"]
    assert curved.S > 0.1 > 1e-6 > line.S
    assert curved.off[0] > 0.9
    assert curved.torn[0] > 10 * curved.torn[-1]
    assert max(line.torn) < 1e-4
    assert verdict(curved, 1).startswith("Broken")
    assert "1 step:" in verdict(curved, 1)
    assert verdict(curved, MOST).startswith("Holds")
    assert "32 steps:" in verdict(curved, MOST)
    assert verdict(line, 1).startswith("Holds")


def test_a_point_on_the_data_but_elsewhere_is_bent(drives):
    line = drives["straight"]
    moved = Drives(line.walks, line.true, line.off, line.off_true, [0.5] * MOST, line.S)
    assert verdict(moved, 3).startswith("Bent")


def test_the_widget_sends_what_python_has(x_1):
    explorer = FlowExplorer({"curved": VELOCITY, "straight": straight}, DATA, x_1, steps=4)
    sent = np.frombuffer(explorer.given["flows"]["curved"]["walks"], "<i2").reshape(-1, 60, 2) / 1000
    n = 5  # its states begin after those of 1..4 steps: 2 + 3 + 4 + 5
    assert np.abs(sent[14 : 14 + n + 1] - explorer.drives["curved"].walks[n - 1].numpy()).max() <= 0.00051
    assert len(sent) == sum(range(2, MOST + 2))
    assert explorer.given["flows"]["straight"]["verdicts"][0] == verdict(explorer.drives["straight"], 1)
    assert (explorer.flow, explorer.steps, explorer.percent, explorer.point) == ("curved", 4, 100, 0)
    assert "curved, straight" in repr(explorer)


def test_bad_settings_are_refused(x_1):
    explorer = FlowExplorer({"straight": straight}, DATA, x_1)
    with pytest.raises(Exception, match="flow must be one of straight, got 'curved'"):
        explorer.flow = "curved"
    with pytest.raises(Exception, match=r"steps must lie in 1\.\.32, got 33"):
        explorer.steps = 33
    with pytest.raises(ValueError, match="at least one flow"):
        FlowExplorer({}, DATA, x_1)
