"""The solver frontier without a browser: its points, what it says, what it sends."""

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion.grids import evaluations, most_steps
from aigc_lessons.studio.frontier import BUDGETS, METHODS, SCALES, Gallery
from aigc_lessons.widgets import frontier

GRIDS = {"ddpm": (1.0, 1.0), "ddim": (2.0, 1.0), "heun": (3.0, 1.0), "dpmpp_2m": (2.5, 2.0)}


def row(method, price, scale, **known):
    steps = most_steps(method, price, scale)
    early, late = GRIDS[method]
    plain = {"method": method, "steps": steps, "early": early, "late": late, "scale": scale, "seed": 1, "accuracy": 0.98,
             "evaluations": evaluations(method, steps, scale), "ratio": 1.5, "low": 1.2, "high": 1.8, "distance": 0.05,
             "difference": 0.1}  # fmt: skip
    return plain | known


@pytest.fixture
def rows():
    return [row(m, b, s, ratio=1 + m.count("d") + b / 100 + s) for s in SCALES for m in METHODS for b in BUDGETS]


@pytest.fixture
def gallery():
    dice = torch.Generator().manual_seed(0)
    grey = lambda *shape: torch.randint(0, 256, shape, generator=dice, dtype=torch.uint8)  # noqa: E731
    return Gallery(grey(2, 4, 7, 10, 28, 28), grey(2, 10, 28, 28), GRIDS)


def test_points_are_the_rows_of_the_first_seed_on_each_samplers_grid(rows):
    decoys = [r | {"seed": 2, "ratio": 9.0} for r in rows] + [r | {"late": 7.0, "ratio": 9.0} for r in rows]
    found = frontier.points(decoys + rows, GRIDS)
    assert len(found) == len(rows) == 56
    assert max(r["ratio"] for r in found.values()) < 9
    assert found["heun", 8, 4.0]["evaluations"] == 6  # two steps of Heun, guided; a third would cost ten
    with pytest.raises(ValueError, match="no row for ddim, 2 evaluations, guidance 1"):
        frontier.points([r for r in rows if r["method"] != "ddim"], GRIDS)


def test_the_end_of_the_walk_is_a_row_less_its_difference(rows):
    found = frontier.points(rows, GRIDS)
    assert frontier.ends(found)[4.0] == pytest.approx(found["dpmpp_2m", 30, 4.0]["ratio"] - 0.1)


def test_the_verdict_names_what_is_wrong():
    says = lambda known, end=1.4, plain=1.4: frontier.verdict(row("ddim", 8, 1.0) | known, end, plain)  # noqa: E731
    assert says({"ratio": 2.2}).startswith("Broken: too few evaluations for DDIM.")
    assert says({"ratio": 2.0}).startswith("The digits of the full walk")
    assert says({"scale": 4.0}, end=5.0).startswith("Guidance 4 is too strong")
    assert says({"scale": 4.0, "ratio": 8.0}, end=5.0).startswith("Broken")
    assert says({"method": "ddpm"}).startswith("Dice")
    assert says({"distance": 0.2}).startswith("Good digits, but not yet")
    assert says({}).endswith(
        "8 evaluations (8 steps): Fréchet ratio 1.50 (1.20 to 1.80; the full walk 1.40), read right 98.0 %,"
        " distance to the full walk 0.050."
    )


def test_the_explorer_sends_what_the_page_needs(gallery, rows):
    explorer = frontier.FrontierExplorer(gallery, rows)
    given = explorer.given
    assert (given["prices"], given["scales"]) == (list(BUDGETS), list(SCALES))
    assert np.array_equal(np.frombuffer(given["drawn"], np.uint8), gallery.drawn.numpy().ravel())
    assert len(given["end"]) == 2 * 7840
    assert given["ratio"][1][2][3] == explorer.points["heun", 8, 4.0]["ratio"]
    assert given["evaluations"][1][3] == [2, 4, 6, 8, 10, 16, 30]
    assert explorer.verdict("ddim", 8, 4.0) == frontier.verdict(
        explorer.points["ddim", 8, 4.0], explorer.ends[4.0], explorer.ends[1.0]
    )
    assert "56 settings" in repr(explorer)


def test_only_what_is_offered_can_be_chosen(gallery, rows):
    explorer = frontier.FrontierExplorer(gallery, rows)
    explorer.price, explorer.scale, explorer.method, explorer.measure = 30, 4.0, "heun", "distance"
    for name, value, says in [("price", 7, "price must be one of 2, 4"), ("scale", 2.0, "scale must be one of 1.0, 4.0"),
                              ("method", "euler", "one of ddpm"), ("measure", "speed", "one of ratio")]:  # fmt: skip
        with pytest.raises(ValueError, match=says):
            setattr(explorer, name, value)
