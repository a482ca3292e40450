"""Every checker passes its reference, fails every planted mistake with the right words, and survives any nonsense."""

import importlib
import pkgutil

import pytest
import torch

from aigc_lessons import exercises
from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.exercises import check, core, lesson_00, lesson_13

LESSONS = [
    importlib.import_module(f"{exercises.__name__}.{module.name}")
    for module in pkgutil.iter_modules(exercises.__path__)
    if module.name.startswith("lesson_")
]
REFERENCES = {name: reference for lesson in LESSONS for name, reference in lesson.REFERENCES.items()}
OPEN = [name for name in core._CHECKERS if name not in REFERENCES]  # where any answer that is good enough passes
PLANTED = [(name, m) for lesson in LESSONS for name, ms in lesson.MISTAKES.items() for m in ms]


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_passes(name):
    result = check(name, REFERENCES[name])
    assert result.passed
    assert result.message


@pytest.mark.parametrize(("name", "mistake"), PLANTED, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PLANTED)])
def test_a_planted_mistake_is_recognised(name, mistake):
    result = check(name, mistake.answer)
    assert not result.passed
    assert result.hint == mistake.diagnosis
    assert "got " in result.message
    assert "expected " in result.message
    assert result.message.startswith("for ")


@pytest.mark.parametrize("name", REFERENCES)
def test_there_are_at_least_two_planted_mistakes_for_each(name):
    assert sum(n == name for n, _ in PLANTED) >= 2


@pytest.mark.parametrize("name", [*REFERENCES, *OPEN])
@pytest.mark.parametrize("answer", [None, ..., lambda *a, **k: None, lambda *a, **k: ...])
def test_an_unsolved_stub_is_not_an_error(name, answer):
    result = check(name, answer)
    assert not result.passed
    assert result.message == core.UNSOLVED


def raising(*args, **kwargs):
    raise RuntimeError("my own bug")


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(
    "answer",
    [3, "text", raising, lambda *a, **k: "text", lambda *a, **k: torch.zeros(0), lambda: 1, torch.tensor(float("nan"))],
)
def test_nonsense_gets_a_verdict_and_no_exception(name, answer):
    result = check(name, answer)
    assert not result.passed
    assert result.message


def test_a_nan_is_never_right():
    assert not check("00.1", lambda x0, eps, abar: x0 * float("nan")).passed


def test_an_exception_is_shown_with_its_input():
    result = check("13.1", raising)
    assert "RuntimeError: my own bug" in result.message
    assert "x0 =" in result.message


def test_a_wrong_shape_is_named():
    result = check("13.1", lambda x0, eps, abar: x0[:1])
    assert "shape" in result.hint


def test_an_answer_may_not_spoil_the_inputs():
    def greedy(x0, eps, abar):
        right = lesson_00.mix(x0, eps, abar)
        x0.zero_()
        eps.zero_()
        return right

    assert check("00.1", greedy).passed


def test_an_unknown_exercise_lists_those_there_are():
    with pytest.raises(KeyError, match=r"13\.1, 13\.2, 13\.3, 13\.4, 13\.5"):
        check("13.9", None)
    with pytest.raises(KeyError, match="none"):
        check("77.1", None)


def test_results_render():
    for answer in (lesson_00.mix, None, lambda x0, eps, abar: x0 * 1):
        html = check("00.1", answer)._repr_html_()
        assert "00.1" in html
        assert "<pre" in html
    assert "&lt;" in core.CheckResult("x", False, "a < b")._repr_html_()
    assert repr(check("00.1", lesson_00.mix)).startswith("✓ 00.1")


def test_every_checker_tries_at_least_five_inputs():
    for name, reference in REFERENCES.items():
        calls = []

        def counting(*args, _reference=reference, _calls=calls, **kwargs):
            _calls.append(1)
            return _reference(*args, **kwargs)

        assert check(name, counting).passed
        assert len(calls) >= 5


def guided(scale, steps=8):
    def my_sampler(denoise, schedule, x_T, labels):
        pull = classifier_free(denoise, labels, 10, scale)
        return final(sample(pull, schedule, x_T, method="dpmpp_2m", steps=steps))

    return my_sampler


def test_a_sampler_that_beats_the_lesson_passes_and_others_are_told_why(monkeypatch):
    """13.5 on the shipped network, full size."""
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)
    assert check("13.5", guided(1.45)).passed
    for answer, says in [
        (lesson_13.plain_sampler, "plain sampler itself"),
        (guided(1.4, steps=10), "Too many evaluations"),
        (guided(6.0), "too much alike"),
    ]:
        result = check("13.5", answer)
        assert not result.passed
        assert says in result.hint
    assert "shape" in check("13.5", lambda denoise, schedule, x_T, labels: x_T[:3]).message
