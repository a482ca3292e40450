"""How long from a key press to the new picture, in JupyterLab in headless Chromium: in the browser, and through the kernel.

aigc-lessons bench sliders [--presses 30] [--json FILE]
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser.harness import chromium, jupyterlab, latencies, opened  # noqa: E402

CASES = {
    "player (in the browser)": (
        "00_start_here.ipynb", ".al-player input",
        "document.querySelector('.al-player canvas').dataset.frame", 17),
    "map of AIGC (in the browser)": (
        "01_what_is_aigc.ipynb", '.al-aigc [tabindex="0"]',
        "document.querySelector('.al-aigc').dataset.chosen", 17),
    "two directions of KL (in the browser)": (
        "03_generative_models.ipynb", '.al-kl [data-control="mean"]', "document.querySelector('.al-kl').dataset.drawn", 17),
    "forward process (in the browser)": (
        "10_forward_process.ipynb", ".al-forward input", "document.querySelector('.al-forward').dataset.drawn", 17),
    "posterior (in the browser)": (
        "11_reverse_process_and_elbo.ipynb", ".al-posterior input",
        "document.querySelector('.al-posterior').dataset.drawn", 17),
    "paths of a sampler (in the browser)": (
        "12_ddpm_from_scratch.ipynb", ".al-paths input[type=range]",
        "document.querySelector('.al-paths').dataset.drawn", 17),
    "Langevin (in the browser)": (
        "14_score_sde_ode.ipynb", '.al-langevin [data-control="size"]',
        "document.querySelector('.al-langevin').dataset.drawn", 17),
    "steering (in the browser)": (
        "16_guidance.ipynb", '.al-steering [data-control="scale"]',
        "document.querySelector('.al-steering').dataset.drawn", 17),
    "flows (in the browser)": (
        "17_flow_matching.ipynb", ".al-flows input[type=range]",
        "document.querySelector('.al-flows').dataset.drawn", 17),
    "solver frontier (in the browser)": (
        "15_fast_samplers.ipynb", ".al-frontier input", "document.querySelector('.al-frontier').dataset.drawn", 17),
    "next token (in the browser)": (
        "33_pretraining.ipynb", '.al-next [data-control="temperature"]',
        "document.querySelector('.al-next .al-track .al-after').style.width", 17),
    "guidance (through the kernel, ten digits sampled anew)": (
        "13_ddpm_on_images.ipynb", ".guidance-slider .noUi-handle",
        "document.querySelector('img.guidance-picture').src", 150),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench sliders", description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=30)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "work")
        root.mkdir()
        for lesson in (ROOT / "course").glob("*.ipynb"):
            shutil.copy(lesson, root)
        with jupyterlab(root, Path(folder, "lab"), AIGC_LESSONS_BUDGET="tiny") as lab, chromium() as browser:
            for name, (notebook, target, sign, goal) in CASES.items():
                with opened(browser, lab, notebook) as lesson:
                    spent = latencies(lesson.page, target, sign, asked.presses)
                result = {"name": name, "median_ms": statistics.median(spent), "max_ms": max(spent), "goal_ms": goal}
                print(f"{name}: median {result['median_ms']:.1f} ms, largest {result['max_ms']:.1f} ms (goal {goal} ms)")
                results.append(result)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
