"""What watching a training costs, and how often the picture changes: the training cell of lesson 13 in a kernel, in full.

aigc-lessons bench live [--steps 600] [--json FILE]
"""

import argparse
import json
import statistics
import sys
from itertools import pairwise
from pathlib import Path

from aigc_lessons.lessons import execute, find

GAP, SHARE = 5.0, 0.05  # goals: seconds between two pictures at most; share of the time
STEPS = "budget.steps(600, at_least=20)"
BEFORE = """\
import json as _json, time as _time
from aigc_lessons.widgets import live as _live
_pictures, _picture = [], _live._Notebook._picture
def _timed(*all):
    begun = _time.perf_counter()
    _picture(*all)
    _pictures.append((begun, _time.perf_counter()))
_live._Notebook._picture = _timed
_begun = _time.perf_counter()
"""
AFTER = """
print("measured", _json.dumps({"begun": _begun, "done": _time.perf_counter(), "pictures": _pictures}))
"""


def measured(steps: int) -> dict:
    """When the cell began and was done, and when each picture was."""
    [lesson] = find(["13"])
    notebook = lesson.read()
    at = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "watch(train(" in cell.source)
    notebook.cells = notebook.cells[: at + 1]
    cell = notebook.cells[at]
    if STEPS not in cell.source:
        sys.exit(f"lesson 13 no longer says {STEPS}: tell this benchmark what it says now")
    cell.source = BEFORE + cell.source.replace(STEPS, str(steps)) + AFTER
    execution = execute(lesson, notebook=notebook)
    if execution.error:
        sys.exit(execution.error)
    said = "".join(output.get("text", "") for output in execution.notebook.cells[at].outputs)
    return json.loads(said.split("measured ")[1].splitlines()[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench live", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="of training; the lesson has 600")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    times = measured(asked.steps)
    drawing = [done - begun for begun, done in times["pictures"]]
    seconds = times["done"] - times["begun"]
    result = {
        "seconds": seconds,
        "pictures": len(drawing),
        "drawing_median": statistics.median(drawing),
        "drawing_longest": max(drawing),
        "longest_gap": max(b - a for a, b in pairwise([times["begun"], *(done for _, done in times["pictures"])])),
        "share": sum(drawing) / seconds,
    }
    print(f"{asked.steps} steps in {seconds:.1f} s, {len(drawing)} pictures")
    print(f"one drawing: median {result['drawing_median']:.3f} s, longest {result['drawing_longest']:.3f} s")
    print(f"from picture to picture: at most {result['longest_gap']:.2f} s (goal {GAP:g} s)")
    print(f"drawing takes {100 * result['share']:.1f} % of the time (goal {100 * SHARE:g} %)")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
