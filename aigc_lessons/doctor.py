"""Is this machine ready? One finding a line, each fine or with what to do."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from aigc_lessons.data import wheels

NEEDED_GB = {"memory": 3.0, "disk": 1.0}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `optional` ones may be missing."""

    name: str
    fine: bool
    says: str
    optional: bool = False


def examine() -> list[Finding]:
    """Look at everything the course uses. Nothing is changed."""
    return [_python(), *_torch(), _cores(), _memory(), _disk(), *_data(), _pip(), _chromium()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    return Finding("Python", fine, version if fine else f"{version}; install Python 3.11 or newer, then: make lab")


def _torch() -> list[Finding]:
    try:
        import torch
        import torchvision
    except ImportError as error:
        what = f"{error}. Install torch and torchvision from the same index: pip install --upgrade torch torchvision"
        return [Finding("torch", False, what)]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; the course does not need one"
    return [
        Finding("torch", True, f"{torch.__version__}, torchvision {torchvision.__version__}"),
        Finding("GPU", torch.cuda.is_available(), gpu, optional=True),
    ]


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    says = f"{cores}" if cores >= 2 else "1; everything works, at about half the speed that the lessons state"
    return Finding("cores", cores >= 2, says, optional=True)


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    fine = free >= NEEDED_GB["memory"]
    return Finding(
        "memory", fine, f"{free:.1f} GB free" + ("" if fine else f"; close programs until {NEEDED_GB['memory']:g} GB are")
    )


def _disk() -> Finding:
    folder = wheels.data_folder()
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    fine = free >= NEEDED_GB["disk"]
    return Finding(
        "disk", fine, f"{free:.1f} GB free at {_short(existing)}" + ("" if fine else "; make room, or set AIGC_LESSONS_DATA")
    )


def _short(path: Path) -> str:
    """The path as a person writes it, with ~ for home."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def _data() -> list[Finding]:
    findings = []
    for wheel in wheels.WHEELS.values():
        fine = wheels.is_intact(wheel)
        there = (wheels.data_folder() / wheel.filename).exists()
        says = f"{wheel.use}: " + ("intact" if fine else f"{'damaged' if there else 'not here yet'}; run: {wheels.REMEDY}")
        findings.append(Finding("data", fine, says))
    return findings


def _pip() -> Finding:
    try:
        return Finding("pip", True, metadata.version("pip"))
    except metadata.PackageNotFoundError:
        return Finding("pip", False, f"missing; run: {sys.executable} -m ensurepip --upgrade")


def _chromium() -> Finding:
    path = find_chromium()
    return Finding("Chromium", path is not None, path or "none; only the browser tests need it", optional=True)


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome: the environment variable CHROMIUM, or one on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)
