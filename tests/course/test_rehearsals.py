"""Lessons rehearsed on tiny budgets, two at a time: run twice, solved, stopped in the middle, without data."""

import copy
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
from nbformat import NotebookNode

from aigc_lessons.lessons import Execution, Lesson, execute, lessons

pytestmark = pytest.mark.notebooks
LESSONS = lessons()
# threads that spin while they wait would take the core away from the other lesson
TINY = {"AIGC_LESSONS_BUDGET": "tiny", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


@dataclass(frozen=True)
class Run:
    """One rehearsal: a lesson as a test wants it, with the course's data or with an empty folder."""

    lesson: Lesson
    prepare: Callable[[Lesson], NotebookNode]
    data: bool
    name: str

    def perform(self, empty: str) -> Execution:
        environment = TINY if self.data else {**TINY, "AIGC_LESSONS_DATA": empty}
        return execute(self.lesson, notebook=self.prepare(self.lesson), environment=environment)


@pytest.fixture(scope="module")
def rehearsals(request, tmp_path_factory):
    """All runs that the selected tests will ask for, begun in that order."""
    runs, empty = {}, str(tmp_path_factory.mktemp("empty"))
    with ThreadPoolExecutor(2) as pool:
        for item in request.session.items:
            if item.module is request.module:
                run = item.callspec.params["run"]
                runs[run] = pool.submit(run.perform, empty)
        yield runs
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def execution(run, rehearsals) -> Execution:
    done = rehearsals[run].result()
    assert done.error is None, done.error
    return done


def rehearsed(runs):
    return pytest.mark.parametrize("run", runs, ids=[run.name for run in runs])


def printed(execution: Execution) -> str:
    return "".join(o.get("text", "") for c in execution.notebook.cells for o in c.get("outputs", []))


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_solution(cell: NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


def twice(lesson: Lesson) -> NotebookNode:
    """Each cell, then the same cell again, as learners do; a stub is solved when it is run again."""
    notebook = lesson.read()
    code, again = code_of(notebook), copy.deepcopy(code_of(notebook))
    for stub, solution in pairwise(again):
        if is_solution(solution):
            name, mine = (cell.source.split("def ")[1].split("(")[0] for cell in (solution, stub))
            stub.source = solution.source.replace(name, mine)
    notebook.cells = [cell for pair in zip(code, again, strict=True) for cell in pair]
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    return notebook


@rehearsed([Run(lesson, twice, bool(lesson.facts["data"]), lesson.number) for lesson in LESSONS])
def test_cells_run_twice_and_solutions_pass_in_place_of_their_stubs(run, execution):
    """Untouched stubs raise nothing and are called unsolved; solved, every check says so; memory stays as declared."""
    assert execution.peak_mb <= run.lesson.facts["memory_mb"]
    verdicts = defaultdict(list)
    for cell in execution.notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain", "")
            if text.startswith(("✓", "✗", "…")):
                verdicts[text.split()[1]].append(text[0])
    assert len(verdicts) == sum(map(is_solution, code_of(run.lesson.read())))
    for exercise, said in verdicts.items():
        # a contest of tiny samples is not judged
        assert said == ["…", "✓", "✓", "✓"] or (exercise == "13.5" and len(said) == 4), exercise
    if not run.lesson.facts["data"]:
        assert "aigc-lessons fetch" not in printed(execution), "it needs data, and its metadata says it does not"


def stopped(step: int, lesson: Lesson) -> NotebookNode:
    """The stop button is pressed while the lesson trains."""
    notebook = lesson.read()
    training = next(cell for cell in code_of(notebook) if "watch(" in cell.source)
    training.source = (
        "import signal as _signal, aigc_lessons.training.loop as _loop\n_one = _loop._Run._one_step\n"
        "def _stop(self, *a):\n"
        f"    if self.step == {step}: _signal.raise_signal(_signal.SIGINT)\n"
        "    return _one(self, *a)\n"
        "_loop._Run._one_step = _stop\n" + training.source + "\n_loop._Run._one_step = _one"
    )
    return notebook


TRAINING = [lesson for lesson in LESSONS if "watch(" in lesson.path.read_text()]


@rehearsed([Run(x, partial(stopped, step), True, f"{x.number}-{step}") for x in TRAINING for step in (0, 3, 12)])
def test_a_stopped_training_goes_on(run, execution):
    """In the first step, before the first ten are done, or later: the rest still runs."""
    assert "stopped at step" in printed(execution)


@rehearsed([Run(lesson, Lesson.read, False, lesson.number) for lesson in LESSONS if lesson.facts["data"]])
def test_without_data_and_network_the_lesson_says_what_to_do(run, execution):
    assert "aigc-lessons fetch" in printed(execution)
