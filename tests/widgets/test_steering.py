"""The steering explorer without a browser: its flow, its claim, what it says, what it sends."""

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.tilted import Table
from aigc_lessons.widgets import steering
from aigc_lessons.widgets.steering import DATA, POINTS, SCHEDULE, Setting, SteeringExplorer, start, steer, verdict


def says(**how):
    setting = Setting(**how)
    return verdict(steer(setting), setting)


def test_against_any_it_is_classifier_free_guidance():
    labels = torch.full((POINTS,), 1)
    guided = classifier_free(DATA.denoiser(SCHEDULE), labels, DATA.any, 2.5)
    expected = final(sample(guided, SCHEDULE, start(), method="ddim", steps=50))
    steered = steer(Setting(label=1, scale=2.5))
    assert torch.allclose(steered.frames[-1], expected)
    assert torch.equal(steered.frames[0], start())
    assert len(steered.frames) == 51


def test_no_interval_is_no_guidance():
    plain = steer(Setting(scale=1.0))
    for how in ({"first": 600, "last": 400}, {"first": 990, "last": 995}):
        assert torch.allclose(steer(Setting(scale=7.0, **how)).frames, plain.frames)
    assert not torch.allclose(steer(Setting(scale=7.0, first=0, last=300)).frames, plain.frames)


def test_the_claim_is_the_tilted_density(generator):
    """Against 20,000 draws of the tabulated density, 4 standard errors for each share."""
    steered = steer(Setting(scale=3.0))
    x = Table.of(lambda x: DATA.log_tilted(x, 0, 3.0)).draw(20_000, generator)
    drawn = torch.bincount(steering._place(x), minlength=8).double() / 20_000
    error = (steered.claimed * (1 - steered.claimed) / 20_000).sqrt() + 1e-4
    assert ((drawn - steered.claimed).abs() < 4 * error).all()
    assert steered.claimed.sum().item() == pytest.approx(1)
    assert steered.outside < 1e-6


def test_honest_draws_count_as_right(generator):
    """300 draws from the claim: half the sum of share differences stays below the limit; a lost hill does not."""
    claim = steer(Setting(scale=3.0)).claimed
    x = Table.of(lambda x: DATA.log_tilted(x, 0, 3.0)).draw(POINTS, generator)
    shares = torch.bincount(steering._place(x), minlength=8).double() / POINTS
    assert (shares - claim).abs().sum() / 2 < steering.WRONG
    assert steer(Setting(scale=3.0)).wrong > steering.WRONG


@pytest.mark.parametrize(
    ("how", "head"),
    [
        ({"scale": 1.0}, "As claimed"),
        ({"scale": 0.0}, "Not as asked"),
        ({"scale": 3.0}, "Wrong shares"),
        ({"scale": 3.0, "last": 500}, "As claimed"),
        ({"label": 1, "scale": 8.0}, "Off the data"),
        ({"label": 1, "scale": 8.0, "last": 400}, "As claimed"),
        ({"against": 1, "scale": 2.0}, "Sent away"),
        ({"label": 1, "against": 1, "scale": 9.0}, "As claimed"),
    ],
)
def test_each_way_to_steer_has_its_words(how, head):
    assert says(**how).startswith(head)


def test_the_words_hold_the_numbers():
    setting = Setting(label=2, scale=4.0)
    steered = steer(setting)
    words = verdict(steered, setting)
    percent = [f"{100 * s:.0f}" for s in steered.shares[5:7].tolist()]
    assert f"at the hills of C: {percent[0]} : {percent[1]}, claimed" in words
    assert f"Off the data: {round(300 * steered.shares[7].item())} of 300" in words


def test_the_widget_sends_what_python_has():
    explorer = SteeringExplorer(Setting(label=1, scale=2.0, last=500))
    assert explorer.setting == Setting(1, 3, 2.0, 0, 500)
    sent = np.frombuffer(explorer.given["noise"], "<f4").reshape(POINTS, 2)
    assert np.array_equal(sent.astype("f8"), start().numpy())
    assert explorer.given["times"][0] == 1000
    assert explorer.given["abars"][-1] == 1.0
    assert len(explorer.given["abars"]) == 51
    assert "needs a running kernel" in repr(explorer)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label", 3, r"label must lie in 0\.\.2, got 3"),
        ("against", 4, r"against must lie in 0\.\.3, got 4"),
        ("scale", 11.0, r"scale must lie in 0\.\.10, got 11"),
        ("last", 1001, r"last must lie in 0\.\.1000, got 1001"),
        ("first", -1, r"first must lie in 0\.\.1000, got -1"),
    ],
)
def test_bad_settings_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(SteeringExplorer(), name, value)
