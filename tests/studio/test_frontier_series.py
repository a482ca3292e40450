"""The series "samplers": what it measures, how it goes on after a stop, and the shipped results that the lesson draws on."""

import dataclasses

import pytest
import torch

from aigc_lessons import experiments
from aigc_lessons.diffusion.grids import evaluations, most_steps
from aigc_lessons.studio import frontier, frontier_series
from aigc_lessons.studio.frontier import Setting
from aigc_lessons.studio.frontier_series import best_grid
from aigc_lessons.training import checkpoints


@pytest.fixture(scope="module")
def shipped():
    return experiments.results("samplers")


def test_the_best_grid_is_the_nearest_one_of_the_tuning_seed():
    tried = [(1.0, 1.0, 9, 0.4), (2.0, 1.0, 9, -0.1), (3.0, 1.0, 9, -0.6), (2.5, 2.0, 1, 0.0)]
    rows = [{"method": "ddim", "early": a, "late": b, "seed": seed, "difference": d} for a, b, seed, d in tried]
    assert best_grid([*rows, rows[2] | {"method": "heun", "difference": 0.0}], "ddim") == (2.0, 1.0)


def test_what_is_kept_is_what_is_drawn_and_a_stop_costs_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(frontier, "PIECE", 4)
    labels, setting = torch.arange(10), Setting("ddim", 2, seed=5)
    whole, draw, asked = frontier.draw(setting, labels), frontier.draw, []

    def stopped(*a, **k):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(a[1]))
        return draw(*a, **k)

    monkeypatch.setattr(frontier, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        frontier_series.kept(setting, labels, tmp_path)
    assert asked == [4, 4]
    asked.clear()
    assert torch.equal(frontier_series.kept(setting, labels, tmp_path), whole)
    assert asked == [2], "only the piece that was missing"
    other = frontier_series.kept(dataclasses.replace(setting, seed=6), labels[:4], tmp_path)
    assert not torch.allclose(other, whole[:4], atol=1e-2), "another setting is not mistaken for it"


def test_the_shipped_series_is_complete(shipped):
    rows = shipped["rows"]
    settings = {tuple(row[field.name] for field in dataclasses.fields(Setting)) for row in rows}
    assert len(settings) == len(rows), "no setting twice"
    planned = frontier_series.settings(rows)
    assert [tuple(dataclasses.astuple(setting)) for setting in planned] == [
        tuple(row[field.name] for field in dataclasses.fields(Setting)) for row in rows
    ]
    grids = {method: best_grid(rows, method) for method in frontier.METHODS}
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
    return [row["difference"] for row in own if row["seed"] in frontier_series.PAIRED_SEEDS]


def test_ten_evaluations_are_not_told_from_the_full_walk_and_four_are(shipped):
    """The bar of lesson 15, and that the test can fail."""
    rows = shipped["rows"]
    best = best_grid(rows, "dpmpp_2m")
    for steps in (8, 10):
        found = differences(rows, "dpmpp_2m", steps, *best)
        assert len(found) == 5
        assert 0 in frontier.over_draws(found)
    assert 0 not in frontier.over_draws(differences(rows, "dpmpp_2m", 4, *best))


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
