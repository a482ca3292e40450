"""The KL explorer without a browser: its numbers against closed forms, its minima, what it says, what it sends."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aigc_lessons.widgets import divergence
from aigc_lessons.widgets.divergence import KLExplorer, Placed, kl, lowest, verdict


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_with_the_humps_together_it_is_the_kl_of_two_gaussians(direction):
    m, w, s = 0.7, 1.3, divergence.SPREAD
    forward = math.log(w / s) + (s**2 + m**2) / (2 * w**2) - 0.5
    reverse = math.log(s / w) + (w**2 + m**2) / (2 * s**2) - 0.5
    wanted = {"forward": forward, "reverse": reverse}
    assert kl(Placed(m, w, 0.0, direction)) == pytest.approx(wanted[direction], abs=1e-9)
    assert abs(forward - reverse) > 0.5, "taken for one another they would not pass"


def test_forward_is_least_at_the_moments_of_the_mixture():
    for apart in (0.0, 1.2, 3.2):
        best = lowest(apart, "forward")
        x, p = divergence.GRID, np.exp(divergence.log_p(divergence.GRID, apart))
        mean = (x * p).sum() / p.sum()
        assert best[0].mean == pytest.approx(mean, abs=1e-9)
        assert best[0].width == pytest.approx((((x - mean) ** 2 * p).sum() / p.sum()) ** 0.5, abs=1e-9)
        around = [replace(best[0], mean=mean + dm, width=best[0].width + dw) for dm in (-0.1, 0.1) for dw in (-0.1, 0.1)]
        assert all(kl(other) > kl(best[0]) for other in around)


def test_reverse_has_one_minimum_near_and_three_far_each_lower_than_all_around():
    assert len(lowest(1.2, "reverse")) == 1
    found = lowest(3.2, "reverse")
    assert [round(m.mean, 1) for m in found] == [-1.6, 1.6, -0.3]
    for m in found:
        angles = np.linspace(0, 2 * np.pi, 17)
        around = [replace(m, mean=m.mean + 0.05 * np.cos(a), width=m.width * np.exp(0.05 * np.sin(a))) for a in angles]
        assert all(kl(other) > kl(m) for other in around)
    # a Gaussian on one of two far humps costs the logarithm of the hump's share
    far = lowest(4.0, "reverse")
    assert kl(far[0]) == pytest.approx(-math.log(0.6), abs=2e-3)
    assert kl(far[1]) == pytest.approx(-math.log(0.4), abs=2e-3)


@pytest.mark.parametrize(
    ("placed", "says"),
    [
        (Placed(-0.32, 1.65), "Found"),
        (Placed(-1.6, 0.5, direction="reverse"), "Found"),
        (Placed(1.6, 0.5, direction="reverse"), "A trap"),
        (Placed(-0.25, 1.42, direction="reverse"), "A trap"),
        (Placed(0.0, 0.5), "Between the humps: p has points"),
        (Placed(0.0, 0.5, direction="reverse"), "Between the humps: q has its points"),
        (Placed(-1.6, 0.5), "Too narrow"),
        (Placed(0.0, 3.0, direction="reverse"), "Too wide"),
        (Placed(2.5, 2.0), "Not there yet"),
    ],
)
def test_the_verdict_names_what_is_wrong(placed, says):
    words = verdict(placed)
    assert words.startswith(says)
    assert f"= {kl(placed):.3f} nats" in words


def test_the_explorer_holds_a_place_and_sends_the_minima():
    explorer = KLExplorer(Placed(0.5, 0.8, 2.0, "reverse"))
    assert explorer.placed == Placed(0.5, 0.8, 2.0, "reverse")
    sent = explorer.given["minima"]["3.2"]
    assert [round(m, 2) for m, _, _ in sent["reverse"]] == [-1.6, 1.6, -0.25] or len(sent["reverse"]) == 3
    assert sent["forward"][0][2] == pytest.approx(kl(lowest(3.2, "forward")[0]))
    assert "needs a running kernel" in repr(explorer)
    with pytest.raises(ValueError, match=r"mean must lie in -4\.\.4, got 5"):
        explorer.mean = 5.0
    with pytest.raises(ValueError, match=r"width must lie in 0\.2\.\.4, got 0"):
        explorer.width = 0.0
    with pytest.raises(ValueError, match="direction must be one of forward, reverse, got 'both'"):
        explorer.direction = "both"
