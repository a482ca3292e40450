"""The series "samplers" (`aigc-lessons train samplers`): which settings are measured, how, and what is kept on the way."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lessons.diffusion.grids import most_steps
from aigc_lessons.studio import frontier
from aigc_lessons.studio.frontier import Setting
from aigc_lessons.training import checkpoints

TUNED_ON, PAIRED_SEEDS = 9, (1, 2, 3, 4, 5)  # the seed for choosing grids takes part in nothing else
BENDS = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (2.5, 2.0))
FEW, LONG = (4, 6, 8, 10), 1000


def best_grid(rows: list[dict], method: str) -> tuple[float, float]:
    """The bends whose digits, at ten evaluations, come nearest to the Fréchet ratio of the full walk."""
    tried = [row for row in rows if row["method"] == method and row["seed"] == TUNED_ON]
    best = min(tried, key=lambda row: abs(row["difference"]))
    return best["early"], best["late"]


def settings(rows: list[dict]) -> Iterator[Setting]:
    """A grid for each sampler; few evaluations against many, five times; every sampler at every price; the full walk."""
    done = set()

    def once(method: str, steps: int, early: float = 1.0, late: float = 1.0, scale: float = 1.0, seed: int = 1):
        setting = Setting(method, steps, early, late, scale, seed)
        if setting not in done:
            done.add(setting)
            yield setting

    for method in frontier.METHODS:
        for bends in BENDS:
            yield from once(method, most_steps(method, 10), *bends, seed=TUNED_ON)
    grids = {method: best_grid(rows, method) for method in frontier.METHODS}
    for seed in PAIRED_SEEDS:
        yield from once(*astuple(frontier.full(1.0, seed)))
        for steps in FEW:
            yield from once("dpmpp_2m", steps, *grids["dpmpp_2m"], seed=seed)
        yield from once("dpmpp_2m", 10, seed=seed)  # the usual grid
        yield from once("ddim", 10, *grids["ddim"], seed=seed)

    def every_price(scale: float):
        for budget in frontier.BUDGETS:
            for method in frontier.METHODS:
                yield from once(method, most_steps(method, budget, scale), *grids[method], scale)

    yield from every_price(1.0)
    for seed in PAIRED_SEEDS[1:]:
        yield from once("ddpm", frontier.BUDGETS[-1], *grids["ddpm"], seed=seed)
    yield from once("ddim", LONG)
    for scale in frontier.SCALES[1:]:
        yield from every_price(scale)


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How digits of a setting are drawn and judged, alone and beside the end of the walk from the same noise; the card."""
    torch.set_num_threads(1)  # two that wait for each other beside other work are ten times slower
    labels = frontier.thousand()

    def row(setting: Setting) -> dict:
        end = frontier.full(setting.scale, setting.seed)
        slow = setting in (end, Setting("ddim", LONG, seed=setting.seed))
        drawn = kept(setting, labels) if slow else frontier.draw(setting, labels)
        theirs = kept(end, labels)
        found = frontier.judged(drawn, labels) | {"distance": frontier.rms(drawn, theirs)}
        found["difference"], found["error"] = frontier.paired_difference(drawn, theirs, resamples=50)
        seen = {name: round(value, 5) for name, value in found.items()}
        return asdict(setting) | {"evaluations": setting.evaluations} | seen

    card = checkpoints.card("digits")
    facts = {
        "network": "digits, the shipped one",
        "sha256": card["sha256"],
        "measured": "1,000 digits, a hundred of each class, from the noise of `seed`: judge accuracy; Fréchet ratio with its"
        " 95 % interval; beside the full deterministic walk from the same noise, for which DPM-Solver++(2M) stands with 80"
        " steps, early 2.5, late 2: `distance`, the root of the mean square of a pixel, `difference` of the two Fréchet"
        " ratios, and its standard error by resampling pairs",
        "data": card["data"],
    }
    return row, facts


def kept(setting: Setting, labels: Tensor, folder: Path = Path("runs"), network=None) -> Tensor:
    """`frontier.draw` for walks without dice that take minutes: piece by piece on disk, so that a stopped series goes on."""
    pieces, noise = [], frontier.noise_for(len(labels), setting.seed)
    size = max(1, min(frontier.PIECE, 50_000 // setting.steps))  # a minute's work at most
    named = "_".join(f"{part:g}" if isinstance(part, float) else str(part) for part in astuple(setting))
    for k, (x_T, asked) in enumerate(zip(noise.split(size), labels.split(size), strict=True)):
        file = folder / f"samplers_{named}_{k}.npy"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            half = file.with_suffix(f".{os.getpid()}.part")
            with half.open("wb") as opened:
                np.save(opened, frontier.draw(setting, asked, x_T=x_T, network=network).numpy())
            os.replace(half, file)
        pieces.append(torch.from_numpy(np.load(file)))
    return torch.cat(pieces)
