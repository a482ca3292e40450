"""What every browser test stands on: a Chromium, and the lesson that the test file names, opened with all its cells run.

A browser lives as long as one test file: playwright's event loop must not run beside the notebooks that other tests
execute.
"""

import os
import shutil
from pathlib import Path

import pytest
from browser.harness import chromium, jupyterlab, opened

from aigc_lessons.doctor import find_chromium
from aigc_lessons.lessons import checkout

MARKS = [
    pytest.mark.browser,
    # playwright's event loop closes its sockets after the interpreter has looked
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for mark in MARKS:
                item.add_marker(mark)


@pytest.fixture(scope="module")
def browser():
    if not find_chromium():
        if os.environ.get("CI"):
            pytest.fail("no Chromium: in CI no browser test may be skipped")
        pytest.skip("no Chromium; install it, or name one in CHROMIUM")
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on copies of all lessons, which train for a few steps only: one for all test files."""
    root, scratch = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("lab")
    for lesson in (checkout() / "course").glob("*.ipynb"):
        shutil.copy(lesson, root)
    with jupyterlab(root, scratch, AIGC_LESSONS_BUDGET="tiny") as running:
        yield running


@pytest.fixture(scope="module")
def lesson(browser, lab, request):
    """The test file's LESSON; or, where it names none, a notebook of one cell, its SETUP."""
    test = request.module
    name = getattr(test, "LESSON", None) or lab.write(f"{Path(test.__file__).stem}.ipynb", test.SETUP)
    with opened(browser, lab, name) as running:
        yield running
