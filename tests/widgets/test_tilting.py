"""The tilt explorer: its world sums to one, its curves are those of the definition, each verdict at its place."""

import numpy as np
import pytest

from aigc_lessons.widgets.tilting import (
    OVERPAID,
    STRONGEST,
    WEAKEST,
    WORDS,
    Pull,
    TiltExplorer,
    curve,
    ladder,
    learned,
    liked,
    log_reference,
    tilted,
    verdict,
)  # fmt: skip


def test_the_world_is_a_distribution_and_the_rewards_are_as_said():
    assert len(set(WORDS)) == 64
    assert np.exp(log_reference()).sum() == pytest.approx(1)
    said = dict(zip(WORDS, liked(), strict=True))
    assert (said["ton"], said["oto"], said["too"], said["ooo"], said["ttt"]) == (1, 1, 0.5, 0, 0)
    assert dict(zip(WORDS, learned(1.3), strict=True))["oto"] == pytest.approx(3.6)
    assert np.array_equal(learned(0), liked())


@pytest.mark.parametrize(("beta", "overpaid"), [(8.0, 0.0), (1.0, 1.3), (0.05, 2.0)])
def test_curves_are_the_definition(beta, overpaid):
    weights = np.exp(log_reference() + learned(overpaid) / beta)
    pi = weights / weights.sum()
    assert np.allclose(tilted(Pull(beta, overpaid)), pi)
    told = curve(overpaid, np.array([beta]))
    assert told["kl"][0] == pytest.approx((pi * np.log(pi / np.exp(log_reference()))).sum(), abs=1e-9)
    assert told["liked"][0] == pytest.approx((pi * liked()).sum())
    assert told["learned"][0] == pytest.approx((pi * learned(overpaid)).sum())


def test_the_learned_reward_and_kl_always_rise_with_the_pull():
    for overpaid in (0.0, 0.7, 1.3, 2.0):
        along = curve(overpaid, ladder())
        assert (np.diff(along["learned"]) > -1e-12).all()
        assert (np.diff(along["kl"]) > -1e-12).all()
    assert curve(0.7, ladder())["liked"][-1] > 0.95
    along = curve(1.3, ladder())["liked"]
    assert along.max() > along[0] + 0.05 > along[-1] + 0.3


@pytest.mark.parametrize(
    ("beta", "overpaid", "says"),
    [
        (8.0, 0.5, "Hardly moved"),
        (2.0, 1.3, "On the way up"),
        (0.8, 1.3, "Here readers like it best"),
        (0.5, 1.3, "Past the peak"),
        (0.05, 1.3, "Hacked"),
        (0.05, 0.0, "Here readers like it best"),
    ],
)
def test_each_place_has_its_words(beta, overpaid, says):
    said = verdict(Pull(beta, overpaid))
    assert said.startswith(says)
    assert "nats; most likely now:" in said


def test_the_widget_sends_what_python_has():
    explorer = TiltExplorer(Pull(0.5, 1.0))
    assert (explorer.beta, explorer.overpaid) == (0.5, 1.0)
    assert explorer.given["log_ref"] == log_reference().tolist()
    assert explorer.given["ladder"] == ladder().tolist()
    assert "64 words" in repr(explorer)
    with pytest.raises(Exception, match=rf"beta must lie in {STRONGEST}\.\.{WEAKEST}, got 0\.01"):
        explorer.beta = 0.01
    with pytest.raises(Exception, match=rf"overpaid must lie in 0\.\.{OVERPAID}, got -1"):
        explorer.overpaid = -1.0
