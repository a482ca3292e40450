"""Digits in few evaluations: how long 1,000 take, and whether they can be told from the full walk.

aigc-lessons bench samplers [--steps 8] [--draws 5] [--full] [--device cpu] [--json FILE]
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from aigc_lessons.studio import frontier
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.training.device import usable

GOAL = 4.0  # seconds for 1,000 digits, on two threads
GRID = (2.5, 2.0)  # the bends that the series "samplers" chose for 2M


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench samplers", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="of DPM-Solver++(2M), no guidance: one evaluation each")
    parser.add_argument("--times", type=int, default=5, help="how often 1,000 digits are drawn for the clock")
    parser.add_argument("--draws", type=int, default=5, help="draws of 1,000 pairs, from noises new to the series")
    parser.add_argument("--full", action="store_true", help="compare with 1,000 steps of DDIM, not with 80 of 2M")
    parser.add_argument("--device", default="cpu", help="cuda: --full takes minutes; the clock is then the card's")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    if asked.draws < 2 or asked.times < 1:
        parser.error("an interval needs two draws or more, a median one time or more")

    torch.set_num_threads(2)
    torch.backends.cudnn.allow_tf32 = False  # a card rounds no more than a CPU
    network = pretrained("digits").to(usable(asked.device))
    draw = partial(frontier.draw, network=network)
    labels, few = frontier.thousand(), frontier.Setting("dpmpp_2m", asked.steps, *GRID)
    draw(few, labels[:100])  # the first calls are slower
    seconds = []
    for k in range(asked.times):
        begun = time.perf_counter()
        draw(frontier.Setting("dpmpp_2m", asked.steps, *GRID, seed=k), labels)
        seconds.append(time.perf_counter() - begun)

    differences = []
    for seed in range(21, 21 + asked.draws):  # noises that the series has not used
        end = frontier.Setting("ddim", 1000, seed=seed) if asked.full else frontier.full(1.0, seed)
        pair = [draw(how, labels) for how in (frontier.Setting("dpmpp_2m", asked.steps, *GRID, seed=seed), end)]
        differences.append(frontier.paired_difference(*pair, resamples=2)[0])
    interval = frontier.over_draws(differences)
    result = {
        "evaluations": few.evaluations,
        "seconds": statistics.median(seconds),
        "slowest": max(seconds),
        "digits_per_second": round(len(labels) / statistics.median(seconds)),
        "reference": "DDIM, 1,000 steps" if asked.full else "2M, 80 steps",
        "differences": differences,
        "low": interval.low,
        "high": interval.high,
        "told_apart": 0 not in interval,
    }
    print(f"1,000 digits with {few.evaluations} evaluations: median {result['seconds']:.2f} s,"
          f" slowest {result['slowest']:.2f} s (goal {GOAL:g} s on two threads)\n"
          f"against {result['reference']}, {asked.draws} draws of 1,000 pairs: difference of Fréchet ratios"
          f" {interval.mean:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}:"
          f" {'told' if result['told_apart'] else 'not told'} apart")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
