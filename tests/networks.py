"""Small networks whose weights hide nothing, for tests of what is built on a GPT."""

import torch

from aigc_lessons.models.gpt import GPT, GPTConfig


def restless_gpt(config: GPTConfig, seed: int = 0, std: float = 0.4) -> GPT:
    """All weights drawn from N(0, std^2), also those that begin at zero; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(config).eval()
        for p in model.parameters():
            p.data.normal_(std=std)
    return model
