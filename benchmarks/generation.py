"""Writing with a cache, beside `transformers` with the same weights: tokens a second, in one run.

aigc-lessons bench generation [--tokens 200] [--rounds 7] [--json FILE]

One sequence, a GPT of 4 layers and width 128, the course's characters. Our GPT-2 style hands its weights to `transformers`'
GPT2LMHeadModel, which writes with use_cache, sdpa attention and no stopping; ours writes with `generate`. They take turns;
medians. Each with one thread and with two, greedy and drawn. The modern style stands beside them. First their greedy
tokens are compared, and the logits with a cache with those without.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from aigc_lessons import recipes
from aigc_lessons.language.generation import generate
from aigc_lessons.models.gpt import GPT, GPTConfig

V, PROMPT = 68, 8
SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128}
GOAL = 4.0  # times as fast as transformers
DRAWN = {"temperature": 0.8, "top_k": 20}


def writers(tokens: int) -> dict[str, dict]:
    """Name -> {"greedy": a function that writes, "drawn": the same with chance}; each returns the ids written."""
    from transformers import GPT2Config, GPT2LMHeadModel

    room = PROMPT + tokens
    ours = recipes.seeded(lambda: GPT(GPTConfig(V, room, style="gpt2", **SIZES)), 0).eval()
    modern = recipes.seeded(lambda: GPT(GPTConfig(V, room, **SIZES)), 0).eval()
    for weight in (*ours.parameters(), *modern.parameters()):
        weight.data.normal_(std=0.2, generator=torch.Generator().manual_seed(weight.numel()))
    config = GPT2Config(
        vocab_size=V, n_positions=room, **SIZES, bos_token_id=None, eos_token_id=None,
        attn_implementation="sdpa",
    )  # fmt: skip
    theirs = recipes.seeded(lambda: GPT2LMHeadModel(config), 0).eval()
    theirs.load_state_dict(ours.to_gpt2())
    ids = torch.randint(V, (1, PROMPT), generator=torch.Generator().manual_seed(1))

    def by_us(model, **how):
        drawn = generate(model, ids, tokens, generator=torch.Generator().manual_seed(0), **how)
        return torch.stack(list(drawn), 1)

    def by_them(**how):
        mask = torch.ones_like(ids)
        return theirs.generate(ids, attention_mask=mask, max_new_tokens=tokens, use_cache=True, **how)[:, PROMPT:]

    return {
        "gpt2": {"greedy": lambda: by_us(ours, temperature=0), "drawn": lambda: by_us(ours, **DRAWN)},
        "modern": {"greedy": lambda: by_us(modern, temperature=0), "drawn": lambda: by_us(modern, **DRAWN)},
        "without cache": {"greedy": lambda: by_us(ours, temperature=0, use_cache=False)},
        "transformers": {
            "greedy": lambda: by_them(do_sample=False),
            "drawn": lambda: by_them(do_sample=True, **DRAWN),
        },
    }


@torch.no_grad()
def cache_error(style: str, room: int) -> float:
    """Largest difference of logits read token by token from those read at once, relative to the largest logit."""
    model = recipes.seeded(lambda: GPT(GPTConfig(V, room, style=style, **SIZES)), 0).eval()
    for weight in model.parameters():
        weight.data.normal_(std=0.2, generator=torch.Generator().manual_seed(weight.numel()))
    ids, cache = torch.randint(V, (1, room), generator=torch.Generator().manual_seed(1)), model.new_cache()
    wanted = model(ids)
    got = torch.cat([model(one, cache) for one in ids.split(1, 1)], 1)
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


def measured(tokens: int, rounds: int) -> dict:
    """Tokens a second of each, medians of `rounds` in turns, for one and for two threads."""
    them = writers(tokens)
    torch.set_num_threads(1)
    greedy = {name: them[name]["greedy"]() for name in ("gpt2", "without cache", "transformers")}
    same = {name: torch.equal(greedy["gpt2"], greedy[name]) for name in greedy if name != "gpt2"}
    rates = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times = {}
        for turn in range(rounds + 1):
            for name, ways in them.items():
                for way, write in ways.items():
                    started = time.perf_counter()
                    write()
                    if turn:  # the first warms up
                        times.setdefault((name, way), []).append(time.perf_counter() - started)
        rates[f"{threads} threads"] = {
            f"{name}, {way}": round(tokens / statistics.median(each)) for (name, way), each in times.items()
        }
    ratios = {
        f"{threads}, {way}": round(found[f"gpt2, {way}"] / found[f"transformers, {way}"], 2)
        for threads, found in rates.items()
        for way in ("greedy", "drawn")
    }
    off = {style: cache_error(style, PROMPT + tokens) for style in ("gpt2", "modern")}
    return {
        "tokens": tokens, "same_greedy_tokens": same, "cached_logits_off": off, "tokens_per_second": rates, "ratio": ratios,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="aigc-lessons bench generation", description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=200, help="written each time")
    parser.add_argument("--rounds", type=int, default=7, help="turns; the median counts")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    result = measured(asked.tokens, asked.rounds)
    for threads, found in result["tokens_per_second"].items():
        print(f"{threads.removesuffix('s') if threads.startswith('1') else threads}:")
        for name, rate in found.items():
            print(f"  {name:24} {rate:6,} tokens/s")
    for name, ratio in result["ratio"].items():
        print(f"{name}: {ratio} times transformers (goal {GOAL:g})")
    print(f"the same greedy tokens as {result['same_greedy_tokens']}")
    print(f"logits with a cache against those without, relative: {result['cached_logits_off']}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    if not all(result["same_greedy_tokens"].values()):
        sys.exit("the greedy tokens differ")


if __name__ == "__main__":
    main()
