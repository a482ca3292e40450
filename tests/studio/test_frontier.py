"""Digits at any price: settings, pairs, intervals, the gallery."""

import pytest
import torch

from aigc_lessons.studio import frontier
from aigc_lessons.studio.digits import walk_digits
from aigc_lessons.studio.frontier import Setting

LABELS = torch.arange(10)


def test_on_the_usual_grid_the_digits_are_the_studio_s():
    x_T, steps = walk_digits(LABELS, seed=5, scale=1.5, method="dpmpp_2m", steps=4)
    mine = frontier.draw(Setting("dpmpp_2m", 4, scale=1.5, seed=5), LABELS)
    assert torch.equal(frontier.noise_for(10, 5), x_T)
    assert torch.allclose(mine, steps[-1].x, atol=1e-5)
    assert not torch.allclose(frontier.draw(Setting("dpmpp_2m", 4, 2.0, 1.0, 1.5, 5), LABELS), mine, atol=1e-2)


def test_dice_depend_on_the_seed_alone():
    first, again = (frontier.draw(Setting("ddpm", 2, seed=1), LABELS) for _ in range(2))
    assert torch.equal(first, again)
    x_T = frontier.noise_for(10, 1)
    assert not torch.allclose(frontier.draw(Setting("ddpm", 2, seed=2), LABELS, x_T=x_T), first, atol=1e-2)


def test_pieces_are_digits_of_the_whole(monkeypatch):
    """What is drawn together does not change what is drawn."""
    whole = frontier.draw(Setting("dpmpp_2m", 2), LABELS)
    monkeypatch.setattr(frontier, "PIECE", 4)
    assert torch.allclose(frontier.draw(Setting("dpmpp_2m", 2), LABELS), whole, atol=1e-4)


def test_an_interval_is_students():
    found = frontier.over_draws([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.high - found.mean == pytest.approx(4.302653 * (7 / 3 / 3) ** 0.5, rel=1e-5)  # t of 2 degrees, s^2 = 7/3
    assert 0 in frontier.over_draws([-1.0, 1.0, 0.3])
    assert 0 not in found or found.low < 0
    assert 0 not in frontier.over_draws([1.0, 1.1, 0.9])
    with pytest.raises(ValueError, match="need two or more, got 1"):
        frontier.over_draws([1.0])


def test_intervals_hold_the_truth_as_often_as_they_say():
    """n = 2,000 sets of five normal numbers of mean 0: 95 % of the intervals hold it, give or take 4 standard errors."""
    sets = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    held = sum(0 in frontier.over_draws(five) for five in sets) / 2000
    assert abs(held - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


def test_pairs_are_compared_as_pairs():
    """The same pictures differ by nothing, with no error; blurred ones are farther, beyond what resampling explains."""
    drawn = frontier.draw(Setting("dpmpp_2m", 2), LABELS.repeat(10))
    difference, error = frontier.paired_difference(drawn, drawn, resamples=5)
    assert (difference, error) == (0, 0)
    blurred = torch.nn.functional.avg_pool2d(drawn, 5, 1, 2)
    difference, error = frontier.paired_difference(blurred, drawn, resamples=20)
    assert difference > 4 * error > 0


def test_a_difference_is_that_of_the_ratios():
    a, b = (frontier.draw(Setting("dpmpp_2m", steps), LABELS.repeat(10)) for steps in (1, 3))
    ratios = [frontier.judged(drawn, LABELS.repeat(10))["ratio"] for drawn in (a, b)]
    unit = (
        frontier.frechet_distance(  # judged() measures in units of subsets as large as the samples
            frontier.describe(frontier.reality().judge, frontier.stored(a)), frontier.reality().held_out
        )
        / ratios[0]
    )
    difference, _ = frontier.paired_difference(a, b, resamples=2)
    assert difference * frontier.reality().unit == pytest.approx((ratios[0] - ratios[1]) * unit, rel=1e-6)


def test_a_gallery_holds_every_setting():
    shown = frontier.gallery(dict.fromkeys(frontier.METHODS, (2.0, 1.0)), seed=4, most=1)
    assert shown.drawn.shape == (2, 4, 7, 10, 28, 28)
    assert shown.end.shape == (2, 10, 28, 28)
    one = frontier.draw(Setting("ddim", 1, 2.0, 1.0, 4.0, 4), LABELS, x_T=frontier.noise_for(10, 4))
    assert torch.equal(shown.drawn[1, 1, 0], frontier.digits.to_uint8(one))
