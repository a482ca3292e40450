import pytest

from aigc_lessons.training import budget


def test_full_budgets_are_what_they_say(monkeypatch):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)
    assert budget.steps(700) == 700
    assert not budget.is_tiny()


def test_tiny_budgets_are_tiny(monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    assert (budget.steps(700), budget.steps(50), budget.steps(1000, at_least=200), budget.steps(1)) == (7, 2, 200, 1)


def test_another_budget_is_refused(monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "huge")
    with pytest.raises(ValueError, match="'tiny' or 'full', got 'huge'"):
        budget.steps(10)


def test_bound_judges_both_ways(monkeypatch, capsys):
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)
    budget.bound(0.97, ">", 0.9, "accuracy")
    budget.bound(0.85, ">", 0.9, "accuracy")
    assert capsys.readouterr().out == ("accuracy > 0.9: holds [here 0.97]\naccuracy > 0.9: DOES NOT HOLD [here 0.85]\n")
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    budget.bound(0.1, ">", 0.9, "accuracy")
    assert capsys.readouterr().out == "accuracy > 0.9: not judged\n"
    with pytest.raises(ValueError, match="comparison"):
        budget.bound(1, "==", 1)
