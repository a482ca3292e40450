"""Digits from scratch in a minute: train the lesson's network for a number of seconds, draw 1,000 digits, judge them.

aigc-lessons bench digits --seconds 60 --out DIR --json FILE
aigc-lessons bench digits --seconds 60 --peer        also the peer: diffusers' UNet2DModel, with ten times as long
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from _clock import train_for
from torch import nn

from aigc_lessons import recipes
from aigc_lessons.data import digits
from aigc_lessons.studio.digits import draw_digits


class Peer(nn.Module):
    """diffusers' U-Net of about the same number of parameters, on pixels, called as ours is."""

    def __init__(self):
        super().__init__()
        from diffusers import UNet2DModel

        self.net = UNet2DModel(
            sample_size=28, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32, 48),
            down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3, norm_num_groups=4,
            num_class_embeds=11, add_attention=False,
        )  # fmt: skip

    def forward(self, x_t, t, labels):
        return self.net(x_t, t, labels).sample


def measure(name: str, seconds: float, build, config, train_set, held_out, seed: int) -> tuple[dict, torch.Tensor]:
    batches = recipes.digit_batches(train_set, config.seed)
    network, steps, spent = train_for(seconds, lambda: build(train_set, config.seed), config, batches, recipes.digit_loss())
    result = {
        "name": name,
        "seconds": round(spent, 2),
        "steps": steps,
        "images_per_second": round(steps * recipes.BATCH / spent),
        "parameters": sum(p.numel() for p in network.parameters()),
        **recipes.judge_digits(network, train_set, held_out, seed),
    }
    return result, draw_digits(torch.arange(10).repeat_interleave(100), seed=seed, network=network, **recipes.AT_BEST)


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench digits", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="training time")
    parser.add_argument("--out", type=Path, help="folder for samples.npy and labels.npy")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true", help="also train the peer, with AdamW, for ten times as long")
    asked = parser.parse_args()

    torch.set_num_threads(2)
    train_set, held_out = digits.load()
    config = replace(recipes.LESSON_13, seed=asked.seed)
    ours, drawn = measure("this course", asked.seconds, recipes.digit_network, config, train_set, held_out, asked.seed)
    results = [ours]
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        np.save(asked.out / "samples.npy", digits.to_uint8(drawn).numpy())
        np.save(asked.out / "labels.npy", np.arange(10).repeat(100))
    if asked.peer:
        plain = replace(config, optimizer="adamw", lr=2e-3)
        results.append(
            measure(
                "diffusers",
                10 * asked.seconds,
                lambda _, seed: recipes.seeded(Peer, seed),
                plain,
                train_set,
                held_out,
                asked.seed,
            )[0]
        )

    for result in results:
        print(f"{result['name']}: {result['parameters']:,} parameters, {result['steps']} steps in {result['seconds']} s"
              f" ({result['images_per_second']} images/s)\n"
              f"  judge accuracy {result['accuracy']:.3f} (real held-out images {result['accuracy_held_out']:.3f})\n"
              f"  Fréchet ratio {result['frechet_ratio']:.2f}"
              f" (95 % interval {result['frechet_low']:.2f} to {result['frechet_high']:.2f})\n"
              f"  copying {result['copying']:.3f}")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps({**ours, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
