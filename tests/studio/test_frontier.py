"""Digits at any price: settings, pairs, intervals, and the shipped series that the lesson draws on."""

import dataclasses

import pytest
import torch

from aigc_lessons import experiments
from aigc_lessons.diffusion.grids import evaluations, most_steps
from aigc_lessons.studio import frontier
from aigc_lessons.studio.digits import walk_digits
from aigc_lessons.studio.frontier import Setting
from aigc_lessons.training import checkpoints

LABELS = torch.arange(10)


@pytest.fixture(scope="module")
def shipped():
    return experiments.results("samplers")


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
    assert shown.drawn.shape == (3, 4, 8, 10, 28, 28)
    assert shown.end.shape == (3, 10, 28, 28)
    one = frontier.draw(Setting("ddim", 1, 2.0, 1.0, 4.0, 4), LABELS, x_T=frontier.noise_for(10, 4))
    assert torch.equal(shown.drawn[2, 1, 0], frontier.digits.to_uint8(one))


# ------------------------------------------------------------------------------------------------------ the shipped series


def test_the_shipped_series_is_complete(shipped):
    rows = shipped["rows"]
    settings = {tuple(row[field.name] for field in dataclasses.fields(Setting)) for row in rows}
    assert len(settings) == len(rows), "no setting twice"
    planned = experiments.sampler_settings(rows)
    assert [tuple(dataclasses.astuple(setting)) for setting in planned] == [
        tuple(row[field.name] for field in dataclasses.fields(Setting)) for row in rows
    ]
    grids = {method: experiments.best_grid(rows, method) for method in frontier.METHODS}
    for scale in frontier.SCALES:
        for method in frontier.METHODS:
            for budget in frontier.BUDGETS:
                wanted = (method, most_steps(method, budget, scale), *grids[method], scale, 1)
                assert wanted in settings
    for row in rows:
        assert row["evaluations"] == evaluations(row["method"], row["steps"], row["scale"])
        assert row["low"] < row["ratio"] < row["high"]
        assert 0 <= row["accuracy"] <= 1
    assert shipped["sha256"] == checkpoints.card("digits")["sha256"], "measured with the network that is shipped"


def differences(rows, method, steps, early, late):
    chosen = (method, steps, early, late, 1.0)
    own = [r for r in rows if tuple(r[name] for name in ("method", "steps", "early", "late", "scale")) == chosen]
    return [row["difference"] for row in own if row["seed"] in experiments.PAIRED_SEEDS]


def test_ten_evaluations_are_not_told_from_the_full_walk_and_four_are(shipped):
    """The bar of lesson 15, and that the test can fail."""
    rows = shipped["rows"]
    best = experiments.best_grid(rows, "dpmpp_2m")
    for steps in (8, 9, 10):
        found = differences(rows, "dpmpp_2m", steps, *best)
        assert len(found) == 5
        assert 0 in frontier.over_draws(found)
    assert 0 not in frontier.over_draws(differences(rows, "dpmpp_2m", 4, *best))
    assert 0 not in frontier.over_draws(differences(rows, "dpmpp_2m", 10, 1.0, 1.0))


def test_eighty_steps_stand_for_a_thousand(shipped):
    """DDIM with 1,000 steps against the reference, 1,000 draws from the same noise."""
    [row] = [row for row in shipped["rows"] if row["steps"] == 1000]
    assert (row["method"], row["early"], row["late"], row["scale"]) == ("ddim", 1.0, 1.0, 1.0)
    assert abs(row["difference"]) < 0.02
    assert row["distance"] < 0.01
    for own in shipped["rows"]:
        if (own["method"], own["steps"]) == ("dpmpp_2m", 80):
            assert (own["difference"], own["distance"]) == (0, 0)


def test_a_shipped_row_is_reproduced(shipped):
    """The cheapest row, anew: 1,000 digits in two evaluations."""
    [row] = [r for r in shipped["rows"] if (r["method"], r["steps"], r["scale"], r["seed"]) == ("ddim", 2, 1.0, 1)]
    labels = frontier.thousand()
    found = frontier.judged(frontier.draw(Setting("ddim", 2, row["early"], row["late"]), labels), labels)
    assert found["ratio"] == pytest.approx(row["ratio"], rel=0.01)
    assert found["accuracy"] == pytest.approx(row["accuracy"], abs=0.005)
    other = frontier.judged(frontier.draw(Setting("ddim", 2, row["early"] + 1), labels), labels)
    assert other["ratio"] != pytest.approx(row["ratio"], rel=0.01)
