"""Lesson 11's checkers: references pass, planted mistakes are named, and 11.5 knows a good width from a bad one."""

import pytest
import torch

from aigc_lessons.diffusion.bound import reverse_variances
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.exercises import check, core, lesson_11

REFERENCES = {"11.1": lesson_11.step_back, "11.2": lesson_11.kl, "11.3": lesson_11.eps_weights, "11.4": lesson_11.bound_of}
PLANTED = [(name, mistake) for name, mistakes in lesson_11.MISTAKES.items() for mistake in mistakes]


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_passes_on_at_least_five_inputs(name):
    calls = []

    def counting(*args, **given):
        calls.append(1)
        return REFERENCES[name](*args, **given)

    assert check(name, counting).passed
    assert len(calls) >= 5


@pytest.mark.parametrize(("name", "mistake"), PLANTED, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PLANTED)])
def test_a_planted_mistake_is_named(name, mistake):
    result = check(name, mistake.answer)
    assert not result.passed
    assert result.hint == mistake.diagnosis
    assert result.message.startswith("for ")


def test_an_infinite_first_weight_is_named():
    def careless(alpha_bars):
        snr = alpha_bars / (1 - alpha_bars)
        return (snr[:-1] / snr[1:] - 1) / 2

    assert check("11.3", careless).hint == lesson_11.FIRST


def widths(alpha_bars, error, doubt=1.0):
    """The noise of the step, and the doubt about x_0 that reaches the mean."""
    beta = 1 - alpha_bars[1:] / alpha_bars[:-1]
    of_x0 = alpha_bars[:-1].sqrt() * beta / (1 - alpha_bars[1:])
    return (1 - alpha_bars[:-1]) / (1 - alpha_bars[1:]) * beta + doubt * of_x0**2 * error


def test_the_best_width_passes_and_others_are_told_why():
    assert check("11.5", widths).passed
    assert check("11.5", lambda abar, error: torch.cat([1 - abar[1:2], widths(abar, error)[1:]])).passed, "beta_1 first"
    for answer, says in [
        (lambda abar, error: reverse_variances(NoiseSchedule(abar), "beta"), "DDPM's choice 'beta'"),
        (lambda abar, error: reverse_variances(NoiseSchedule(abar)), "DDPM's choice 'posterior'"),
        (lambda abar, error: widths(abar, error, doubt=0.5), "Not yet for"),
        (lambda abar, error: 2 * widths(abar, error), "Not yet for"),
    ]:
        result = check("11.5", answer)
        assert not result.passed
        assert says in result.hint
    posterior = lambda abar, error: widths(abar, error, doubt=0.0)  # noqa: E731
    assert "sigma_1^2, is 0" in check("11.5", posterior).message
    assert "shape (10,), got" in check("11.5", lambda abar, error: abar).message
    assert "positive" in check("11.5", lambda abar, error: -error).message


def test_a_choice_is_named_only_if_it_is_that_choice_on_all_data():
    first = next(iter(lesson_11.measured().values())).error

    def sometimes(abar, error):
        beta = reverse_variances(NoiseSchedule(abar), "beta")
        return beta if torch.equal(error, first) else 1.5 * beta

    assert "Not yet for one Gaussian" in check("11.5", sometimes).hint


def test_no_width_has_a_smaller_bound():
    """A minimum: ten per cent more or less, at any step, costs."""
    for data in lesson_11.measured().values():
        best = widths(lesson_11.evenly_cut(10).alpha_bars, data.error)
        least = lesson_11.gap(data, best)
        assert least > -1e-9
        for t in range(10):
            for factor in (0.9, 1.1):
                other = best.clone()
                other[t] *= factor
                assert lesson_11.gap(data, other) > least


@pytest.mark.parametrize("name", [*REFERENCES, "11.5"])
@pytest.mark.parametrize("answer", [None, ..., lambda *a, **k: None, lambda *a, **k: ...])
def test_an_unsolved_stub_is_not_an_error(name, answer):
    assert check(name, answer).message == core.UNSOLVED
