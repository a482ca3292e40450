"""Three tasks and the series that measures them."""

import pytest
import torch

from aigc_lessons import experiments
from aigc_lessons.studio import places

IDS = torch.tensor([[4, 1, 4, 7, 7, 9, 7, 2]])


def test_the_right_answers_by_hand():
    right, asked = places.ask("three back", IDS)
    assert asked[0].tolist() == [False] * 3 + [True] * 5
    assert right[0, 3:].tolist() == [4, 1, 4, 7, 7]
    right, asked = places.ask("place five", IDS)
    assert asked[0].tolist() == [False] * 6 + [True] * 2
    assert right[0, 6:].tolist() == [9, 9]
    right, asked = places.ask("most often", IDS)
    assert asked[0].tolist() == [True, False, True, True, False, False, True, True]
    assert right[asked].tolist() == [4, 4, 4, 7, 7]


class Oracle:
    """Answers rightly, or always with token 0."""

    def __init__(self, task, right):
        self.task, self.right = task, right

    def __call__(self, ids):
        answer = places.ask(self.task, ids)[0] if self.right else torch.zeros_like(ids)
        return torch.nn.functional.one_hot(answer, places.V).float()


@pytest.mark.parametrize("task", places.TASKS)
def test_accuracy_of_one_who_knows_and_of_one_who_does_not(task):
    """Token 0 is right once in 12; 400 texts, 12 or so places in each: within 4 standard errors of the place-five kind."""
    assert places.accuracy(Oracle(task, True), task, 24) == 1
    assert places.accuracy(Oracle(task, False), task, 24) == pytest.approx(1 / 12, abs=4 * (1 / 12 / 400) ** 0.5 + 0.01)


def test_the_shipped_series_is_complete_and_tuned():
    rows = experiments.results("positions")["rows"]
    table = places.table(rows)
    assert set(table) == {(kind, layers, task) for kind, layers in places.KINDS for task in places.TASKS}
    assert all(shares.shape == (len(places.SEEDS), len(places.LENGTHS)) for shares in table.values())
    for (kind, _, _), shares in table.items():
        assert shares[:, 1:].isnan().all() == (kind == "learned")
    for row in rows:
        if row["seed"] != places.TUNING_SEED:
            assert row["lr"] == places.best_rate(rows, row["task"], row["positions"], row["n_layer"])
    assert len({row["parameters"] for row in rows if row["n_layer"] == 1 and row["positions"] != "learned"}) == 1


def test_a_shipped_row_is_reproduced():
    rows = experiments.results("positions")["rows"]
    row = next(r for r in rows if (r["task"], r["positions"], r["seed"]) == ("three back", "rope", 0))
    setting = places.Setting(*(row[name] for name in ("task", "positions", "n_layer", "lr", "seed", "steps")))
    again = places.measure(setting)
    assert again["right"]["24"] == pytest.approx(row["right"]["24"], abs=0.03)
    assert again["parameters"] == row["parameters"]
    short = places.measure(places.Setting(*(row[name] for name in ("task", "positions", "n_layer", "lr", "seed")), steps=20))
    assert short["right"]["24"] < 0.6, "an untrained one would be noticed"
