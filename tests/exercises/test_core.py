"""What a learner is told about the form of an answer: names, a forgotten return, a shape, a NaN."""

import pytest
import torch

from aigc_lessons.exercises import check, core, lesson_13

WRONG_NAMES = {
    "13.1": (lambda x, e, a: x, "x0, eps, abar"),
    "13.4": (lambda m1, S1, m2, S2: m1, "mu_a, S_a, mu_b, S_b"),
    "02.4": (lambda X, y, W, b, V, c: X, "X, y, W1, b1, W2, b2"),
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_other_parameter_names_are_named_without_a_hint(name):
    answer, names = WRONG_NAMES[name]
    result = check(name, answer)
    assert not result.passed
    assert f"keep the parameter names of the stub: {names}" in result.message
    assert not result.hint


@pytest.mark.parametrize("name", ["01.4", "02.5", "13.5"])
def test_other_parameters_of_an_open_exercise(name):
    result = check(name, lambda only, two: only)
    assert "keep the parameters of the stub" in result.message
    assert not result.hint


def forgets(*args, **kwargs):
    args = [*args, kwargs]


@pytest.mark.parametrize("name", ["13.1", "13.4", "02.4", "01.4", "02.5", "13.5"])
def test_a_forgotten_return_is_named(name):
    result = check(name, forgets)
    assert result.message != core.UNSOLVED
    assert "returned None" in result.message
    assert not result.hint


def test_a_stub_with_a_docstring_is_a_stub():
    def velocity(x0, eps, abar):
        """Mine, soon."""
        ...

    assert check("13.1", velocity).message == core.UNSOLVED


def test_a_function_of_torch_can_be_an_answer():
    assert core.call(torch.add, torch.ones(1), torch.ones(1)) == 2


@pytest.mark.parametrize(
    ("got", "expected", "says"),
    [
        ((3, 2), (2, 3), "changed places"),
        ((4,), (4, 1), "number of entries is right"),
        ((4, 4), (4,), "broadcasting"),
        ((4, 4), (4, 1), "broadcasting"),
        ((3,), (4,), "axis 0 has 3 entries in place of 4"),
        ((2, 3), (2, 4), "axis 1 has 3 entries in place of 4"),
        ((2,), (2, 3), "1 axes in place of 2"),
    ],
)
def test_a_wrong_shape_is_described_by_its_case(got, expected, says):
    hint = core.diagnose(torch.zeros(got), {}, torch.zeros(expected), [], 1e-4)
    assert says in hint
    assert ("broadcasting" in hint) == (says == "broadcasting")


def test_nan_is_spoken_of_only_where_there_is_one():
    assert "NaN" not in check("02.1", lambda scores: scores.sigmoid()).hint
    assert "NaN" in check("02.1", lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True)).hint


def test_only_the_plain_sampler_is_called_the_plain_sampler(monkeypatch):
    plain = lesson_13.Score(0.026, 1.6, 8)
    monkeypatch.setattr(lesson_13, "plain_score", lambda: plain)
    for mine, same in [(plain, True), (lesson_13.Score(0.026, 1.5, 16), False)]:
        monkeypatch.setattr(lesson_13, "score", lambda answer, mine=mine: mine)
        assert ("plain sampler itself" in check("13.5", forgets).hint) == same


def test_a_mistake_that_gives_infinity_explains_no_finite_answer():
    """Its tolerance would be infinite; and an infinite answer is still recognised by its finite entries."""
    finite, infinite = torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.inf])
    assert not core.agree(finite, infinite, 1e-4, nan=True)
    assert not core.agree(finite, infinite, 1e-4)
    assert core.agree(infinite.clone(), infinite, 1e-4, nan=True)


def _judge(got, expected):
    return core.compare("0", lambda x: got, lambda x: expected, [{"x": 1}], praise="", hint="").message


def test_numbers_that_look_alike_are_told_apart():
    """Only three entries are shown; where the fault lies further on, the message must lead there."""
    wrong = torch.arange(6.0).view(2, 3)
    wrong[1, 2] = 7
    assert "they differ first at [1, 2]: got 7, expected 5" in _judge(wrong, torch.arange(6.0).view(2, 3))
    wrong[1, 0] = torch.nan
    assert "they differ first at [1, 0]: got nan, expected 3" in _judge(wrong, torch.arange(6.0).view(2, 3))
    assert "differ first" not in _judge(torch.ones(6), torch.arange(6.0))  # seen at a glance
    assert "differ first" not in _judge(torch.ones(1, 2), torch.ones(2))  # the hint speaks of the shape
