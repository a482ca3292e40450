"""On a graphics card: how fast the course's loop trains its own GPT there, and that it learns the same.

aigc-lessons bench gpu [--layers 12 --width 768 --context 1024 --batch 32] [--peak TFLOPS] [--json FILE]

Model-FLOP utilisation: 6 N + 12 L C T floating-point operations a token (forward and backward; N: parameters that multiply,
L layers of width C, contexts of T tokens), times tokens a second, over what the card can do in bfloat16.
Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from aigc_lessons import recipes
from aigc_lessons.data.batches import windows
from aigc_lessons.language.objective import next_token_loss
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.training.device import DeviceError, in_bfloat16, placed, usable
from aigc_lessons.training.loop import TrainConfig, train

DENSE_BF16 = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L4": 121.0, "4090": 165.0}  # TFLOP/s, makers' data sheets
VOCABULARY = 50_304  # GPT-2's, rounded up to a multiple of 64


def steps_of(way: str, config: GPTConfig, batch: int, steps: int) -> dict:
    """Seconds of a training step through the course's loop, and the peak of memory."""
    torch.set_float32_matmul_precision("highest" if way == "float32" else "high")
    torch.cuda.reset_peak_memory_stats()
    ids = torch.randint(config.vocab_size, (2_000_000,), generator=torch.Generator().manual_seed(0))
    network = recipes.seeded(lambda: GPT(config), 0).cuda()
    if "compiled" in way:
        network.compile()
    loss = in_bfloat16(next_token_loss()) if "bfloat16" in way else next_token_loss()
    run = train(
        network, loss, placed(windows(ids, config.block_size, batch, 0), "cuda"), TrainConfig(steps, 3e-4, log_every=1)
    )
    seconds, since = [], time.perf_counter()
    for _ in run:  # the loop reads each loss: the card has finished
        seconds.append(time.perf_counter() - since)
        since = time.perf_counter()
    return {"seconds": statistics.median(seconds[len(seconds) // 2 :]), "first": seconds[0],
            "memory_gb": torch.cuda.max_memory_allocated() / 1e9}  # fmt: skip


def same_learning(steps: int) -> dict[str, list[float]]:
    """Losses of the recipe "shakespeare": on the CPU, on the card, on the card in bfloat16."""
    recipe = recipes.RECIPES["shakespeare"]
    train_set, held_out = recipe.load()
    config = replace(recipe.config, steps=steps, warmup=min(recipe.config.warmup, steps // 2))
    losses = {}
    for name in ("cpu", "cuda", "cuda, bfloat16"):
        device = name.split(",")[0]
        loss = in_bfloat16(recipe.loss()) if "bfloat16" in name else recipe.loss()
        torch.set_float32_matmul_precision("highest")
        network = recipe.network(train_set, 0).to(device)
        batches = placed(recipe.batches(train_set, 0), device)
        logs = list(train(network, loss, batches, config))
        held = recipe.measure(network.cpu(), train_set, held_out)["nats"]
        losses[name] = [logs[0].loss, logs[-1].loss, held, logs[-1].seconds]
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=32, help="contexts in a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning", type=int, default=300, help="steps of the comparison with the CPU; 0: none")
    parser.add_argument("--peak", type=float, help="what the card can do in bfloat16, TFLOP/s; known for some cards")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    try:
        usable("cuda")
    except DeviceError as error:
        parser.error(str(error))
    card = torch.cuda.get_device_name()
    peak = asked.peak or next((tflops for name, tflops in DENSE_BF16.items() if name in card), None)
    if peak is None:
        parser.error(f"what can {card} do? pass --peak, in TFLOP/s of bfloat16")

    rows = []
    for style in ("gpt2", "modern"):
        config = GPTConfig(VOCABULARY, asked.context, asked.layers, asked.width // 64, asked.width, style=style)
        for way in ("float32", "bfloat16", "bfloat16, compiled"):
            measured = steps_of(way, config, asked.batch, asked.steps)
            per_token = 6 * multiplying(config) + 12 * asked.layers * asked.width * asked.context
            tokens = asked.batch * asked.context / measured["seconds"]
            rows.append({"style": style, "way": way, **measured, "tokens_per_second": tokens,
                         "utilisation": per_token * tokens / (peak * 1e12)})  # fmt: skip
            print(f"{style:7s} {way:20s} {1000 * measured['seconds']:7.1f} ms a step {tokens:10,.0f} tokens/s"
                  f" {measured['memory_gb']:5.1f} GB  {rows[-1]['utilisation']:.1%} of {peak:g} TFLOP/s",
                  flush=True)  # fmt: skip
    learned = same_learning(asked.learning) if asked.learning else {}
    for name, (first, last, held, seconds) in learned.items():
        print(f"shakespeare, {asked.learning} steps, {name:14s}: loss {first:.4f} -> {last:.4f}, held out {held:.4f},"
              f" {seconds:.1f} s")  # fmt: skip
    if asked.json:
        result = {"card": card, "torch": torch.__version__, "rows": rows, "learned": learned}
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def multiplying(config: GPTConfig) -> int:
    """Parameters that a token is multiplied with: all but the embeddings that are looked up; the head counts."""
    return config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd


if __name__ == "__main__":
    main()
