"""The path explorer without a browser: what it gathers, what it says, what it refuses."""

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.mixture import ring
from aigc_lessons.diffusion.samplers import SampleStep, sample
from aigc_lessons.diffusion.schedule import linear_schedule
from aigc_lessons.widgets import paths
from aigc_lessons.widgets.paths import PathExplorer, Walk, arrow_places, arrows, expected_nats, verdict

SCHEDULE = linear_schedule(50, 2e-3, 0.3)
DATA = ring(4, spread=0.2)


@pytest.fixture(scope="module")
def x_T():
    return torch.randn(300, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def walk(x_T):
    steps = sample(DATA.denoiser(SCHEDULE), SCHEDULE, x_T, generator=torch.Generator().manual_seed(1))
    return Walk.of(x_T, list(steps), DATA, SCHEDULE)


def ending(x_T, x):
    return Walk.of(x_T, [SampleStep(0, x, x)], DATA, SCHEDULE)


def test_a_walk_holds_every_state_and_the_estimate_that_follows_it(x_T):
    steps = list(sample(DATA.denoiser(SCHEDULE), SCHEDULE, x_T, method="ddim", steps=5))
    walk = Walk.of(x_T, steps, DATA, SCHEDULE)
    assert walk.times == [50, 40, 30, 20, 10, 0]
    assert torch.equal(walk.x[0], x_T)
    assert torch.equal(walk.x[3], steps[2].x)
    assert torch.equal(walk.x0[2], steps[2].x0)
    assert torch.equal(walk.x0[5], steps[4].x0)
    assert torch.isclose(walk.nats[2], -DATA.log_prob(steps[1].x, SCHEDULE.alpha_bars[30]).median())
    with pytest.raises(ValueError, match="the last at t = 0"):
        Walk.of(x_T, steps[:-1], DATA, SCHEDULE)


def test_a_perfect_walk_is_as_surprising_as_data_at_every_time(walk):
    """300 points: the median scatters by about 0.07; within 0.3 everywhere, and home at the end."""
    honest = expected_nats(DATA, SCHEDULE, walk.times)
    assert ((walk.nats - honest).abs() < 0.3).all()
    said = verdict(walk, DATA, honest[-1].item())
    assert said.startswith("Home")
    assert "Reached: 4 of its 4" in said


def test_each_way_to_go_wrong_has_its_words(x_T):
    honest = expected_nats(DATA, SCHEDULE, [0])[-1].item()
    real, k = DATA.draw(300, torch.Generator().manual_seed(2))
    wide = DATA.means[k].float() + 1.3 * (real - DATA.means[k].float())
    cases = {"Lost": x_T, "Collapsed": real[k == 1].repeat(9, 1)[:300], "Too hot": wide, "Home": real}
    for word, x in cases.items():
        assert verdict(ending(x_T, x), DATA, honest).startswith(word)


def test_arrows_point_against_the_noise():
    places, t = arrow_places(), torch.full((len(arrow_places()),), 20)
    exact = arrows(DATA.denoiser(SCHEDULE), SCHEDULE, 20)
    abar = SCHEDULE.alpha_bars[20]
    assert torch.allclose(exact, ((1 - abar).sqrt() * DATA.score(places, abar)).float(), atol=1e-5)
    assert len(t) == paths.GRID**2
    assert torch.equal(arrows(DATA.denoiser(SCHEDULE), SCHEDULE, 0), torch.zeros_like(places))


def test_the_widget_sends_what_python_has(walk, x_T):
    other = ending(x_T, x_T)
    explorer = PathExplorer({"right": walk, "noise": other}, DATA, SCHEDULE, DATA.denoiser(SCHEDULE))
    sent = explorer.given["walks"]["right"]
    assert np.array_equal(np.frombuffer(sent["x"], "<f4").reshape(51, 300, 2), walk.x.numpy())
    assert sent["times"] == walk.times
    assert (sent["good"], explorer.given["walks"]["noise"]["good"]) == (True, False)
    assert (explorer.walk, explorer.t, explorer.point) == ("right", 50, 0)
    assert "right, noise" in repr(explorer)


def test_bad_settings_are_refused(walk, x_T):
    explorer = PathExplorer({"right": walk}, DATA, SCHEDULE, DATA.denoiser(SCHEDULE))
    with pytest.raises(Exception, match="walk must be one of right, got 'left'"):
        explorer.walk = "left"
    with pytest.raises(Exception, match=r"t must lie in 0\.\.50, got 51"):
        explorer.t = 51
    with pytest.raises(ValueError, match="same number of points"):
        PathExplorer({"right": walk, "few": ending(x_T[:3], x_T[:3])}, DATA, SCHEDULE, DATA.denoiser(SCHEDULE))
    with pytest.raises(ValueError, match="at least one walk"):
        PathExplorer({}, DATA, SCHEDULE, DATA.denoiser(SCHEDULE))
