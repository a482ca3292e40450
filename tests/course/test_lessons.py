"""What a lesson must be, on its text alone: nothing is executed here."""

import ast
import re

import pytest

from aigc_lessons.lessons import lessons

LESSONS = lessons()
ids = [lesson.number for lesson in LESSONS]


def code_cells(lesson):
    return [cell for cell in lesson.read().cells if cell.cell_type == "code"]


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def text(lesson):
    return "\n".join(cell.source for cell in lesson.read().cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_metadata_states_what_the_lesson_needs(lesson):
    facts = lesson.facts
    for key in ("title", "promise", "reading_minutes", "running_seconds", "memory_mb", "data", "checkpoints", "after"):
        assert key in facts
    assert 15 <= facts["reading_minutes"] <= 60
    assert facts["memory_mb"] <= 1000
    assert "widgets" not in lesson.read().metadata


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_the_head_promises_and_the_close_refers(lesson):
    cells = lesson.read().cells
    head, close = cells[0].source, cells[-1].source
    assert head.startswith(f"# {lesson.number} · ")
    assert lesson.facts["promise"] in head or f"**{lesson.facts['promise']}**" in head
    assert len(re.findall(r"^\d\. [a-z]", head, re.M)) in range(3, 6), "3 to 5 objectives that begin with a verb"
    assert "What comes next" in close
    assert "arXiv:" in close
    assert "中文" in close


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_something_is_seen_within_three_cells(lesson):
    first = lesson.read().cells[:3]
    assert any("image/png" in o.get("data", {}) for c in first for o in c.get("outputs", []))


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_outputs_are_committed_and_fresh(lesson):
    """A stripped notebook would pass the comparison of outputs by comparing nothing."""
    counts = [cell.execution_count for cell in code_cells(lesson)]
    assert counts == list(range(1, len(counts) + 1)), "run: aigc-lessons run --write"
    silent = [cell for cell in code_cells(lesson) if not cell.outputs]
    assert len(silent) <= 0.2 * len(counts)
    assert not [o for c in code_cells(lesson) for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_no_comparison_with_the_package_failed(lesson):
    """A committed "same as the package: False" would be compared with itself, and pass."""
    printed = [line for c in code_cells(lesson) for o in c.outputs for line in o.get("text", "").splitlines()]
    assert not [line for line in printed if "DOES NOT HOLD" in line or (line.startswith("same as") and "True" not in line)]


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_ignored_outputs_assert_something_and_are_few(lesson):
    ignored = [cell for cell in code_cells(lesson) if tagged(cell, "nbval-ignore-output")]
    assert len(ignored) <= 4
    for cell in ignored:
        assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source)))
    assert not any(tagged(cell, "nbval-skip") for cell in code_cells(lesson))


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_every_figure_is_described(lesson):
    for cell in code_cells(lesson):
        assert "plt.show" not in cell.source
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 20
                assert output.metadata["figure"]


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_every_widget_follows_a_still_figure(lesson):
    still = False
    for cell in code_cells(lesson):
        kinds = {kind for o in cell.outputs for kind in o.get("data", {})}
        if "application/vnd.jupyter.widget-view+json" in kinds and "watch(" not in cell.source:
            assert still, f"no figure before the widget of: {cell.source[:60]}"
        still = still or "image/png" in kinds


def exercises(lesson):
    """number -> (stub cell, solution cell, the Markdown between)."""
    cells, found = lesson.read().cells, {}
    for i, cell in enumerate(cells):
        if cell.cell_type == "code" and (match := re.search(r'check\("(\d\d\.\d)", (?!solution)', cell.source)):
            hints, solution = cells[i + 1], cells[i + 2]
            found[match[1]] = (cell, solution, hints.source, cells[i - 1].source)
    return found


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_exercises_have_stub_hints_and_hidden_solution(lesson):
    found = exercises(lesson)
    assert list(found) == [f"{lesson.number}.{k}" for k in range(1, len(found) + 1)]
    assert len(found) >= (1 if lesson.number == "00" else 3)
    for number, (stub, solution, hints, task) in found.items():
        assert re.search(r"### Exercise " + number + r" · .+\((easy|medium|hard|open), \d+ minutes\)", task)
        assert "    ..." in stub.source
        assert hints.count("<details>") == 2
        name = "solution_" + number.replace(".", "_")
        assert tagged(solution, "solution")
        assert solution.metadata.jupyter.source_hidden
        assert solution.source.rstrip().endswith(f'check("{number}", {name})')
        defined = [
            node.name for node in ast.parse(solution.source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        ]
        assert defined == [name]
        assert not [n for n in ast.parse(solution.source).body if isinstance(n, (ast.Assign, ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_questions_are_asked_before_the_cell_is_run(lesson):
    asked = re.findall(r"(?:Predict, then run|before you run).*?<details>", text(lesson), re.S)
    assert len(asked) >= (1 if lesson.number == "00" else 2)


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_the_text_holds_no_hype_and_closes_its_tags(lesson):
    words = text(lesson)
    assert words.count("<details>") == words.count("</details>")
    for word in ("amazing", "revolution", "game-chang", "cutting-edge", "state-of-the-art", "simply ", "obviously"):
        assert word not in words.lower()


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_formulas_have_single_backslashes(lesson):
    """A doubled one, left over from a string of Python, is a line break: the reader sees letters in place of the formula."""
    assert not re.findall(r"\\\\[a-zA-Z]{2,}", text(lesson))


def test_lesson_13_trains_what_the_bench_trains():
    from aigc_lessons.recipes import BATCH, LESSON_13

    lesson = next(lesson for lesson in LESSONS if lesson.number == "13")
    cell = next(cell for cell in code_cells(lesson) if "TrainConfig(" in cell.source)
    calls = [
        n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "TrainConfig"
    ]
    stated = {k.arg: k.value for k in calls[0].keywords}
    assert ast.literal_eval(stated.pop("steps").args[0]) == LESSON_13.steps
    for name, value in stated.items():
        assert ast.literal_eval(value) == getattr(LESSON_13, name), name
    assert f"batch_size={BATCH}" in cell.source
