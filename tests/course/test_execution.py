"""Lessons executed in full, strictly, against their committed outputs."""

import copy
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest

from aigc_lessons.lessons import Lesson, execute, lessons
from aigc_lessons.widgets.figure import RECORD, differs, is_empty

pytestmark = pytest.mark.notebooks
ROOT = Path(__file__).parent.parent.parent
LESSONS = lessons()
ids = [lesson.number for lesson in LESSONS]
NOMINAL_SECONDS = 0.8  # 50 products of 1024 x 1024 matrices on two cores at 134 GFLOP/s


def without_network() -> list[str]:
    """A prefix that cuts the network for a command, where this machine allows it; loopback stays for the kernel."""
    prefix = ["unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"', "sh"]
    probe = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    if not shutil.which("unshare"):
        return []
    try:
        works = subprocess.run([*prefix, sys.executable, "-c", probe], capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return []
    return prefix if works.returncode == 0 else []


def slowness() -> float:
    """How many times slower this machine is, right now, than the one whose seconds the lessons declare; at least 1.

    A declared time is a promise about the lesson, not about a busy machine, so the limit moves with this measure.
    """
    code = (
        "import time, torch; torch.set_num_threads(2); a = torch.randn(1024, 1024)\n"
        "for _ in range(5): a @ a\n"
        "t = time.perf_counter()\n"
        "for _ in range(50): a @ a\n"
        "print(time.perf_counter() - t)"
    )
    seconds = float(subprocess.check_output([sys.executable, "-c", code], text=True))
    return max(1.0, seconds / NOMINAL_SECONDS)


def nbval(path, junit, record, extra=()):
    command = [*without_network(), sys.executable, "-m", "pytest", "-q", "--override-ini", "addopts=", "-p", "no:randomly",
               "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300",
               "--nbval-sanitize-with", str(ROOT / "tests" / "course" / "sanitize.cfg"),
               f"--junitxml={junit}", *extra, str(path)]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "AIGC_LESSONS_BUDGET"} | {RECORD: str(record)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lesson", LESSONS, ids=ids)
def test_a_clean_run_gives_the_committed_outputs(lesson, tmp_path):
    """Every cell, in full, strictly, without a network; then every figure, by what it shows."""
    slow_before = slowness()
    done = nbval(lesson.path, tmp_path / "junit.xml", tmp_path / "figures")
    assert done.returncode == 0, done.stdout[-6000:]
    code = [cell for cell in lesson.read().cells if cell.cell_type == "code"]
    suite = ET.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert (int(suite.get("tests")), int(suite.get("skipped"))) == (len(code), 0)
    allowed = 2 * lesson.facts["running_seconds"] * max(slow_before, slowness())
    assert float(suite.get("time")) <= allowed, "slower than twice what it declares"

    fresh = [json.loads(line) for line in (tmp_path / "figures").read_text().splitlines()]
    shown = [(cell, o.metadata["figure"]) for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(fresh) == len(shown)
    for now, (cell, kept) in zip(fresh, shown, strict=True):
        kept = json.loads(json.dumps(kept))
        if "trained" in cell.metadata.get("tags", []):
            assert not is_empty(now), cell.source
            assert len(now) == len(kept), cell.source
        else:
            assert differs(now, kept) == "", f"{cell.source}\n{differs(now, kept)}"


def test_the_strict_comparison_can_fail(tmp_path):
    """A planted change in a committed output must be noticed."""
    cells = [nbformat.v4.new_code_cell("print(40 + 2)"), nbformat.v4.new_code_cell("print('took 3 s')")]
    for text, answer in (("42\n", True), ("43\n", False)):
        nb = nbformat.v4.new_notebook(cells=copy.deepcopy(cells))
        for number, cell in enumerate(nb.cells, 1):
            cell.execution_count = number
        nb.cells[0].outputs = [nbformat.v4.new_output("stream", text=text)]
        nb.cells[1].outputs = [nbformat.v4.new_output("stream", text="took 999 s\n")]
        nbformat.write(nb, tmp_path / "x.ipynb")
        done = nbval(tmp_path / "x.ipynb", tmp_path / "junit.xml", tmp_path / "figures")
        assert (done.returncode == 0) == answer, done.stdout[-2000:]


def test_a_lesson_that_breaks_its_promise_is_reported(tmp_path):
    cells = [nbformat.v4.new_code_cell("from aigc_lessons.training.budget import bound\nbound(2, '<', 1, 'two');")]
    path = tmp_path / "99_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert execute(Lesson(path)).broken_bounds == ["two < 1: DOES NOT HOLD [here 2]"]
