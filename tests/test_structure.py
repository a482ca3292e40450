"""The house in order: imports one way, files short, environment.yml and pyproject.toml the same, nothing foreign."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
FILES = [ROOT / name for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def test_import_contracts_are_kept():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout


def test_environment_yml_is_the_same_set():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"] + [f"python{project['requires-python']}"]
    split = lambda line: re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", line).groups()  # noqa: E731
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in map(split, wanted)}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert dict(map(split, environment["dependencies"])) == wanted
    assert environment["channels"][0] == "conda-forge"


def test_files_can_be_read_in_one_sitting():
    long = {f.name: n for f in FILES if f.suffix == ".py" and (n := len(f.read_text().splitlines())) > 350}
    assert long == {}


def test_every_file_of_the_package_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for file in (ROOT / "aigc_lessons").rglob("*.py"):
        stem = file.stem if not file.stem.startswith("lesson_") else "lesson_NN"
        assert stem == "__init__" or f"`{stem}`" in readme or f"`{stem}.py`" in readme, f"{file} has no line in the README"


def test_the_readme_lists_every_lesson_with_its_minutes():
    from aigc_lessons.lessons import lessons

    readme = (ROOT / "README.md").read_text()
    for lesson in lessons():
        row = next(line for line in readme.splitlines() if lesson.path.name in line)
        assert row.startswith(f"| {lesson.number} |")
        assert row.rstrip().endswith(f"| {lesson.facts['reading_minutes']} |")


def test_links_in_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_nothing_large_or_foreign_is_committed():
    for file in FILES:
        assert file.stat().st_size <= 3_000_000, file
        assert file.suffix not in {".whl", ".ttf", ".otf", ".woff", ".woff2", ".pt", ".pkl"}, file


def test_cards_name_no_machine():
    """Recipes and cards are read by others: nothing depends on the machine they were made on."""
    for file in (ROOT / "aigc_lessons" / "weights").glob("*.json"):
        assert not re.search(r"/(home|root|work|tmp|Users)/", file.read_text())
