"""The lessons of the course: finding, opening, executing and exporting them."""

import asyncio
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode


class LessonError(RuntimeError):
    """A lesson is missing or cannot be run; the message says what to do."""


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course, with what its metadata says about it."""

    path: Path

    @property
    def number(self) -> str:
        return self.path.name[:2]

    @property
    def name(self) -> str:
        return self.path.stem

    def read(self) -> NotebookNode:
        return nbformat.read(self.path, as_version=4)

    @cached_property
    def facts(self) -> dict:
        """title, promise, reading_minutes, running_seconds, memory_mb, data, checkpoints, after."""
        facts = self.read().metadata.get("aigc_lessons")
        if facts is None:
            raise LessonError(f"{self.path} is not a lesson: its metadata has no entry 'aigc_lessons'")
        return dict(facts)


def checkout() -> Path:
    """The folder that holds course/: the package's own checkout, or the current folder or one above it.

    Raises: LessonError saying where it looked.
    """
    here = Path.cwd()
    for folder in [Path(__file__).parent.parent, here, *here.parents]:
        if (folder / "course" / "syllabus.json").is_file():
            return folder
    raise LessonError(f"no folder course/ beside the package or above {here}: run this inside a clone of the project")


def lessons() -> list[Lesson]:
    """All lessons there are, in number order."""
    return [Lesson(path) for path in sorted((checkout() / "course").glob("[0-9][0-9]_*.ipynb"))]


def find(numbers: list[str]) -> list[Lesson]:
    """Lessons by number ("13", "3" for "03"); all of them for an empty list.

    Raises: LessonError listing the numbers there are.
    """
    there = {lesson.number: lesson for lesson in lessons()}
    wanted = [number.zfill(2) for number in numbers] or list(there)
    unknown = [number for number in wanted if number not in there]
    if unknown:
        raise LessonError(f"there is no lesson {', '.join(unknown)}; there are: {', '.join(there)}")
    return [there[number] for number in wanted]


def course_map() -> list[dict]:
    """The syllabus, part by part, with what each written lesson says about itself; the others are marked not ready."""
    there = {lesson.number: lesson for lesson in lessons()}
    syllabus = json.loads((checkout() / "course" / "syllabus.json").read_text(encoding="utf-8"))
    parts = []
    for part in syllabus["parts"]:
        tiles = []
        for entry in part["lessons"]:
            tile = {**entry, "ready": entry["number"] in there}
            if tile["ready"]:
                lesson = there[entry["number"]]
                seconds = lesson.facts["running_seconds"]
                tile |= {key: lesson.facts[key] for key in ("title", "promise", "reading_minutes", "after")}
                tile |= {"file": lesson.path.name, "running": f"{seconds} seconds"}
            tiles.append(tile)
        parts.append({"title": part["title"], "lessons": tiles})
    return parts


@dataclass(frozen=True, eq=False)
class Execution:
    """What came of executing a lesson: the notebook with outputs, seconds, peak memory, and the error if there was one."""

    lesson: Lesson
    notebook: NotebookNode
    seconds: float
    peak_mb: float  # above a kernel that has only imported torch
    error: str | None

    @property
    def broken_bounds(self) -> list[str]:
        """Lines in which the lesson's own claims failed."""
        texts = [o.get("text", "") for c in self.notebook.cells for o in c.get("outputs", [])]
        return [line for text in texts for line in text.splitlines() if "DOES NOT HOLD" in line]


def execute(
    lesson: Lesson,
    *,
    notebook: NotebookNode | None = None,
    on_cell: Callable[[int, int], None] = lambda done, of: None,
    timeout: int = 300,
    environment: dict[str, str] | None = None,
) -> Execution:
    """Run a lesson from top to bottom in a clean kernel, in a folder of its own.

    Args:
        notebook:    run this in place of the lesson's file.
        on_cell:     called after each cell with (cells done, cells in all).
        timeout:     seconds a single cell may take.
        environment: variables of the kernel, beside those of this process.
    """
    from nbclient import NotebookClient  # slow to import, and most commands do not need it
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    notebook = notebook or lesson.read()
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", store_widget_state=False,
                            resources={"metadata": {"path": str(lesson.path.parent)}})  # fmt: skip
    client.on_cell_complete = lambda cell, cell_index: on_cell(cell_index + 1, len(notebook.cells))
    error, started = None, time.perf_counter()
    with _Memory(client) as memory:
        try:
            # a loop of its own is closed with all its sockets; the kernel talks to its terminal about itself
            asyncio.run(client.async_execute(stderr=subprocess.DEVNULL, env=os.environ | (environment or {})))
        except CellExecutionError as raised:
            error = f"{_failing_cell(notebook)}\n{raised}"
        except CellTimeoutError as raised:
            error = f"{_failing_cell(notebook)}\n{raised}"
    seconds = time.perf_counter() - started
    return Execution(lesson, notebook, seconds, max(0.0, memory.peak_mb - torch_mb()), error)


def _failing_cell(notebook: NotebookNode) -> str:
    """Number and first lines of the cell that ran last."""
    ran = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.get("execution_count") or cell.get("outputs")]
    if not ran:
        return "before the first cell"
    i, cell = ran[-1]
    return f"cell {i} failed:\n" + "\n".join(f"    {line}" for line in cell.source.splitlines()[:12])


class _Memory:
    """Watches the resident memory of a client's kernel, twenty times a second."""

    def __init__(self, client):
        self.client, self.peak_mb, self.done = client, 0.0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def _watch(self):
        import psutil

        while not self.done.wait(0.05):
            provisioner = getattr(getattr(self.client, "km", None), "provisioner", None)
            pid = getattr(provisioner, "pid", None)
            if pid:
                try:
                    self.peak_mb = max(self.peak_mb, psutil.Process(pid).memory_info().rss / 2**20)
                except psutil.Error:
                    continue


def torch_mb() -> float:
    """Resident memory, in MiB, of a Python that has imported torch and nothing else."""
    code = "import torch, psutil; print(psutil.Process().memory_info().rss)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 2**20


def write(execution: Execution) -> None:
    """Put the outputs of an execution into the lesson's file, without what differs from run to run.

    Raises: LessonError if the execution failed or one of its claims does not hold; the file stays as it was.
    """
    if execution.error:
        raise LessonError(f"lesson {execution.lesson.number} failed; its file stays as it was")
    if execution.broken_bounds:
        raise LessonError(f"lesson {execution.lesson.number} claims what did not hold: {execution.broken_bounds}")
    notebook = execution.notebook
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    text = nbformat.writes(notebook)
    temporary = execution.lesson.path.with_suffix(".part")
    temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    os.replace(temporary, execution.lesson.path)


def export_html(lesson: Lesson, folder: Path, *, solutions: bool = True, notebook: NotebookNode | None = None) -> Path:
    """The lesson as one HTML page.

    Args:
        solutions: False leaves the solution cells out.
        notebook:  export this (freshly executed) in place of the lesson's file.
    Returns: the file written.
    """
    from nbconvert import HTMLExporter

    notebook = notebook or lesson.read()
    if not solutions:
        notebook = notebook.copy()
        notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    # the page must work without a network: equations stay as MathJax finds them in the browser's cache, or as TeX
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, {"metadata": {"name": lesson.facts["title"]}})
    html = _with_alt_texts(html, notebook)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{lesson.name}{'' if solutions else '_without_solutions'}.html"
    path.write_text(html, encoding="utf-8")
    return path


def _with_alt_texts(html: str, notebook: NotebookNode) -> str:
    """Put each figure's description into its <img>, which the exporter leaves out."""
    from html import escape

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                head = re.escape(output.data["image/png"].strip()[:120])
                pattern = re.compile(r'<img alt="[^"]*"(?=[^>]*base64,' + head + ")|<img(?=[^>]*base64," + head + ")")
                html = pattern.sub(f'<img alt="{escape(alt)}"', html, count=1)
    return html


@dataclass(frozen=True)
class Copied:
    """What became of a lesson in the learner's folder: "new", "same", "yours kept" or "update beside" (with its path)."""

    lesson: Lesson
    outcome: str
    path: Path


def copy_to(work: Path) -> list[Copied]:
    """Copy the lessons into the learner's folder without ever writing over a file there.

    A lesson that is already there stays as it is. If the course's version has changed since the copy was made, the new
    version is put beside it as NAME.update-HASH.ipynb, once.
    """
    work.mkdir(parents=True, exist_ok=True)
    ledger = work / ".copied.json"
    origin = json.loads(ledger.read_text(encoding="utf-8")) if ledger.is_file() else {}
    outcomes = []
    for lesson in lessons():
        data = lesson.path.read_bytes()
        version = hashlib.sha256(data).hexdigest()[:8]
        copy = work / lesson.path.name
        beside = work / f"{lesson.name}.update-{version}.ipynb"
        if not copy.exists():
            outcome, target = "new", copy
            origin[lesson.name] = version
        elif origin.get(lesson.name) == version or copy.read_bytes() == data:
            outcomes.append(Copied(lesson, "same", copy))
            continue
        elif beside.exists():
            outcomes.append(Copied(lesson, "yours kept", beside))
            continue
        else:
            outcome, target = "update beside", beside
        _write_new(target, data)
        outcomes.append(Copied(lesson, outcome, target))
    temporary = ledger.with_suffix(".part")
    temporary.write_text(json.dumps(origin, indent=1), encoding="utf-8")
    os.replace(temporary, ledger)
    return outcomes


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet; refuse to touch one that does."""
    with path.open("xb") as file:
        file.write(data)


def pictures(notebook: NotebookNode) -> list[bytes]:
    """The PNG outputs of a notebook, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [base64.b64decode(o.data["image/png"]) for o in outputs if "image/png" in o.get("data", {})]
