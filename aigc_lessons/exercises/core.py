"""Checking a learner's answer: run it beside the reference, and name the mistake when its numbers give it away."""

import dis
import html
import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNSOLVED = "Not solved yet: replace the `...` and run the cell again."
_CHECKERS: dict[str, Callable[[object], "CheckResult"]] = {}


@dataclass(frozen=True)
class CheckResult:
    """The verdict on an answer. `message` gives input, got and expected; `hint` what to look at."""

    exercise: str
    passed: bool
    message: str
    hint: str = ""

    @property
    def _mark(self) -> str:
        return "✓" if self.passed else ("…" if self.message == UNSOLVED else "✗")

    def __repr__(self) -> str:
        lines = [f"{self._mark} {self.exercise}: {self.message}"]
        return "\n".join(lines + [f"  Hint: {self.hint}"] * bool(self.hint))

    def _repr_html_(self) -> str:
        colour = {"✓": "#009E73", "…": "#7a8794", "✗": "#D55E00"}[self._mark]
        hint = f"<p style='margin:4px 0'><b>Hint:</b> {html.escape(self.hint)}</p>" if self.hint else ""
        return (
            f"<div style='border-left:4px solid {colour};padding:4px 12px'>"
            f"<b style='color:{colour}'>{self._mark} {self.exercise}</b>"
            f"<pre style='margin:4px 0;white-space:pre-wrap'>{html.escape(self.message)}</pre>{hint}</div>"
        )


@dataclass(frozen=True)
class Mistake:
    """A usual wrong answer and what to say about it. The wrong answer is code, so that tests can hand it in."""

    answer: Callable
    diagnosis: str


class Unsolved(Exception):  # noqa: N818 (a state, not an error)
    """The stub was not touched."""


class Unusable(Exception):  # noqa: N818 (a verdict, not an error)
    """There is nothing to compare; the message says what to change in the form of the answer."""


def exercise(name: str):
    """Register a checker: a function from an answer to a CheckResult."""

    def register(checker):
        _CHECKERS[name] = checker
        return checker

    return register


def check(exercise: str, answer: object) -> CheckResult:
    """Judge an answer to an exercise of the course.

    Args:
        exercise: "LESSON.NUMBER", for example "13.2".
        answer:   what the exercise asks for, usually a function.
    Returns: a CheckResult; it never raises because of the answer.
    Raises: KeyError listing the exercises there are, for an unknown name.
    """
    lesson = exercise.split(".")[0]
    module = f"aigc_lessons.exercises.lesson_{lesson}"
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    if exercise not in _CHECKERS:
        known = sorted(name for name in _CHECKERS if name.split(".")[0] == lesson)
        raise KeyError(f"no exercise is called {exercise!r}; lesson {lesson} has: {', '.join(known) or 'none'}")
    return _CHECKERS[exercise](answer)


def compare(
    name: str,
    answer: object,
    reference: Callable,
    inputs: Sequence[dict],
    mistakes: Sequence[Mistake] = (),
    *,
    praise: str,
    hint: str,
    tolerance: float = 1e-4,
) -> CheckResult:
    """Run answer and reference on every input; stop at the first that differs and say why, if a known mistake explains it.

    Args:
        inputs:    keyword arguments of each call; they are cloned, so that an answer that changes them harms nobody.
        mistakes:  each is tried on the input that failed; the first to give the learner's numbers names the error.
        hint:      what to say where no mistake explains the numbers, or the function raised.
        tolerance: relative to the largest entry of the expected result.
    """
    for given in inputs:
        got = attempt(name, answer, lambda function: call(function, **_cloned(given)), describe(given), hint)  # noqa: B023
        if isinstance(got, CheckResult):
            return got
        expected = reference(**_cloned(given))
        if agree(got, expected, tolerance):
            continue
        message = f"{describe(given)}\n  got      {show(got)}\n  expected {show(expected)}"
        if show(got) == show(expected):  # three entries of many: say where it is wrong
            message += _first_difference(got, expected, tolerance)
        return CheckResult(name, False, message, diagnose(got, given, expected, mistakes, tolerance) or hint)
    return CheckResult(name, True, praise)


def attempt(
    name: str, answer: object, run: Callable[[Callable], object], given: str = "", hint: str = ""
) -> object | CheckResult:
    """run(answer); or, where that leaves nothing to judge, the CheckResult that says why.

    Args:
        run:   calls the answer, through `call`.
        given: what the answer was given, in words.
        hint:  what to say if the answer raises.
    """
    if answer is None or answer is ...:
        return CheckResult(name, False, UNSOLVED)
    if not callable(answer):
        return CheckResult(name, False, f"expected a function, got {type(answer).__name__}: {show(answer)}")
    try:
        return run(answer)
    except Unsolved:
        return CheckResult(name, False, UNSOLVED)
    except Unusable as error:
        return CheckResult(name, False, str(error))
    except Exception as error:  # whatever a learner's code may raise
        said = f"your function raised {type(error).__name__}: {error}"
        return CheckResult(name, False, f"{given}\n  {said}" if given else said, hint)


def call(answer: Callable, *places: object, **given: object) -> object:
    """What the answer returns.

    Raises: Unsolved for a stub that was not touched; Unusable if the parameters are not the stub's, or None came back.
    """
    try:
        inspect.signature(answer).bind(*places, **given)
    except TypeError as error:
        wanted = f"parameter names of the stub: {', '.join(given)}" if given else "parameters of the stub"
        raise Unusable(f"your function cannot be called ({error}); keep the {wanted}") from None
    except ValueError:
        pass  # a function that does not tell its parameters: the call itself will say what is wrong
    got = answer(*places, **given)
    if got is ... or (got is None and _untouched(answer)):
        raise Unsolved
    if got is None:
        raise Unusable("your function returned None: does its last line begin with `return`?")
    return got


def _untouched(answer: object) -> bool:
    """Whether a function computes nothing: its body is `...`."""
    code = getattr(answer, "__code__", None)
    idle = ("RESUME", "NOP", "LOAD_CONST", "RETURN")
    return code is not None and all(step.opname.startswith(idle) for step in dis.get_instructions(code))


def diagnose(got, given: dict, expected, mistakes: Sequence[Mistake], tolerance: float) -> str:
    """What to say about a wrong result: the wrong shape, or the known mistake that gives exactly these numbers."""
    if isinstance(expected, Tensor) and (expected.ndim or isinstance(got, Tensor)):
        if not isinstance(got, Tensor):
            return f"Return a tensor of shape {tuple(expected.shape)}; yours is a {type(got).__name__}."
        if got.shape != expected.shape:
            return f"The shape is {tuple(got.shape)}, it should be {tuple(expected.shape)}: {_reshaped(got, expected)}."
    for mistake in mistakes:
        wrong = mistake.answer(**_cloned(given))
        if agree(got, wrong, tolerance, nan=True) and not agree(wrong, expected, tolerance):
            return mistake.diagnosis
    return ""


def _reshaped(got: Tensor, expected: Tensor) -> str:
    """How a wrong shape came about, as far as the shape tells."""
    if got.ndim > 1 and got.shape == expected.shape[::-1]:
        return "rows and columns have changed places"
    if got.numel() == expected.numel():
        return "the number of entries is right, the axes are not"
    last_first = zip(reversed(expected.shape), reversed(got.shape), strict=False)
    if got.ndim >= expected.ndim and all(e in (1, g) for e, g in last_first):
        return "an axis was stretched, check the broadcasting"
    if got.ndim != expected.ndim:
        return f"it has {got.ndim} axes in place of {expected.ndim}"
    k = next(k for k, (g, e) in enumerate(zip(got.shape, expected.shape, strict=True)) if g != e)
    return f"axis {k} has {got.shape[k]} entries in place of {expected.shape[k]}"


def agree(got, expected, tolerance: float, *, nan: bool = False) -> bool:
    """Same shape, and equal up to `tolerance` times the largest expected entry; NaN agrees with nothing.

    With `nan`, to recognise a mistake by its result, entries that are not finite on both sides are passed over, as long as
    a number is left to compare.
    """
    if isinstance(expected, Tensor) and expected.ndim == 0 and isinstance(got, (int, float)):
        got = torch.tensor(got, dtype=expected.dtype)  # a number and a tensor of one number are equally good
    if isinstance(expected, Tensor) != isinstance(got, Tensor):
        if not isinstance(got, (Tensor, int, float)) or not isinstance(expected, (Tensor, int, float)):
            return False
        if isinstance(got, Tensor) and got.numel() == 1 and not isinstance(expected, Tensor):
            got = got.item()
        else:
            return False
    if isinstance(expected, Tensor):
        if got.shape != expected.shape:
            return False
        if nan and expected.isfinite().any() and torch.equal(got.isfinite(), expected.isfinite()):
            got, expected = got[got.isfinite()], expected[expected.isfinite()]
        if not (got.isfinite().all() and expected.isfinite().all()):
            return False  # an infinite entry would also make every tolerance infinite
        size = expected.abs().max().item() if expected.numel() else 0.0
        return bool(((got - expected).abs() <= tolerance * max(size, 1e-6)).all())
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        return math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-2)
    return got == expected


def _first_difference(got, expected, tolerance: float) -> str:
    """The first entry of two tensors that differs by more than `agree` allows, as a line of a message."""
    if not isinstance(got, Tensor) or not isinstance(expected, Tensor) or got.shape != expected.shape or not expected.ndim:
        return ""
    size = max(expected.abs().max().item(), 1e-6)
    at = tuple((~((got - expected).abs() <= tolerance * size)).nonzero()[0].tolist())
    return f"\n  they differ first at {list(at)}: got {got[at].item():.6g}, expected {expected[at].item():.6g}"


def describe(given: dict) -> str:
    """One input of an exercise, in words."""
    return "for " + ", ".join(f"{name} = {show(value)}" for name, value in given.items())


def show(value: object) -> str:
    """A value in one short line."""
    if isinstance(value, Tensor):
        if value.numel() <= 4:
            return str([round(entry, 4) for entry in value.flatten().tolist()])
        first = ", ".join(f"{entry:.4g}" for entry in value.flatten()[:3].tolist())
        return f"[{first}, ...] of shape {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def noise(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _cloned(given: dict) -> dict:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in given.items()}
