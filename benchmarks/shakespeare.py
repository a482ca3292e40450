"""A character GPT from scratch on a text: how long to a held-out loss, or how low in a number of seconds.

aigc-lessons bench shakespeare --corpus FILE --until 1.88 --json FILE
aigc-lessons bench shakespeare --corpus FILE --seconds 90 --json FILE

The last tenth of the file is held out; its loss counts every character once, in windows of 64. Training goes through the
package's GPT and `train`. Beside it stand a smoothed 7-gram model's loss, and a training step of `transformers`' GPT-2 of
the same size, batch and dtype.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from _clock import train_for

from aigc_lessons import recipes
from aigc_lessons.data.batches import windows
from aigc_lessons.language.ngram import NGram
from aigc_lessons.language.objective import held_out_nats, next_token_loss
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.training.loop import TrainConfig, train
from aigc_lessons.training.optimizers import adamw

WINDOW = 64
SPRINT = TrainConfig(steps=450, lr=0.025, warmup=10, decay=0.9, optimizer="muon", log_every=10)
LONG = TrainConfig(steps=1, lr=0.02, warmup=10, optimizer="muon", ema=0.95)  # as many steps as the time allows


def sprint(train_set, held_out, until: float, seed: int) -> dict:
    """Seconds of training until the held-out loss is at most `until`; a run that falls short is repeated, longer.

    The rate falls to zero at the end of a run, so its length is decided beforehand; what a failed run took is counted.
    """
    seconds, config = 0.0, replace(SPRINT, seed=seed)
    for _ in range(6):
        started, excluded = time.perf_counter(), 0.0
        network = recipes.writer(64, 2, 2, WINDOW)(train_set, seed)
        batches = windows(train_set.ids, WINDOW, 16, seed)
        for log in train(network, next_token_loss(), batches, config):
            if log.step < 0.95 * config.steps:
                continue
            paused = time.perf_counter()
            loss = held_out_nats(log.network.eval(), held_out.ids, WINDOW)
            excluded += time.perf_counter() - paused
            if loss <= until:
                break
        seconds += time.perf_counter() - started - excluded
        if loss <= until:
            return {"seconds": round(seconds, 2), "loss": loss, "steps": log.step}
        config = replace(config, steps=config.steps * 3 // 2)
    return {"seconds": None, "loss": loss, "steps": config.steps}


def step_times(train_set, seed: int, rounds: int = 60) -> dict:
    """Median milliseconds of a training step, ours and `transformers`', in turns: GPT-2 style, AdamW, float32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    V, sizes = train_set.tokenizer.vocab_size, {"n_layer": 4, "n_head": 4, "n_embd": 128}
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    ours = recipes.seeded(lambda: GPT(GPTConfig(V, WINDOW, style="gpt2", **sizes)), seed)
    theirs = recipes.seeded(lambda: GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=WINDOW, **sizes, **none)), seed)
    both = {"ours": (ours, ours), "transformers": (theirs, lambda ids: theirs(ids, use_cache=False).logits)}
    optimizers = {name: adamw(network.parameters(), 1e-3) for name, (network, _) in both.items()}
    batches, times = windows(train_set.ids, WINDOW, 16, seed), {name: [] for name in both}
    for step in range(rounds):
        for name, (_, call) in both.items():
            inputs, targets = batches(step)
            started = time.perf_counter()
            loss = torch.nn.functional.cross_entropy(call(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(each[5:]), 2) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench shakespeare", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a text file; the course's plays if not given")
    parser.add_argument("--until", type=float, help="held-out loss to reach, in nats a character")
    parser.add_argument("--seconds", type=float, help="training time, instead of a loss to reach")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if (asked.until is None) == (asked.seconds is None):
        parser.error("say either --until LOSS or --seconds S")

    torch.set_num_threads(2)
    if asked.corpus:
        text = asked.corpus.read_text(encoding="utf-8")
        cut = int(0.9 * len(text))
        train_set, held_out = recipes.corpora(text[:cut], text[cut:], asked.corpus.name)
    else:
        train_set, held_out = recipes.shakespeare()
    if asked.until is not None:
        result = sprint(train_set, held_out, asked.until, asked.seed)
    else:
        build, batches = recipes.writer(96, 3, 2, WINDOW), windows(train_set.ids, WINDOW, 16, asked.seed)
        config = replace(LONG, seed=asked.seed)
        network, steps, spent = train_for(
            asked.seconds, lambda: build(train_set, asked.seed), config, batches, next_token_loss()
        )
        result = {"seconds": round(spent, 2), "loss": held_out_nats(network, held_out.ids, WINDOW), "steps": steps}
    ngram = NGram.fit(train_set.ids, 7, train_set.tokenizer.vocab_size)
    result["loss_7gram"] = ngram.surprisal(held_out.ids)[1:].mean().item()
    result["step_ms"] = step_times(train_set, asked.seed)
    result["step_ratio"] = round(result["step_ms"]["transformers"] / result["step_ms"]["ours"], 2)

    print(f"held-out loss {result['loss']:.4f} nats a character, {result['steps']} steps, {result['seconds']} s\n"
          f"smoothed 7-gram {result['loss_7gram']:.4f}\n"
          f"training step {result['step_ms']['ours']} ms, transformers {result['step_ms']['transformers']} ms:"
          f" ratio {result['step_ratio']}")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    if result["seconds"] is None:
        sys.exit(f"the loss {asked.until} was not reached")


if __name__ == "__main__":
    main()
