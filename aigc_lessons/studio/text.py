"""Text on request, from the shipped GPT, which has read Shakespeare one character at a time."""

import torch

from aigc_lessons.language.generation import generate
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained


def continue_text(prompt: str, *, characters: int = 200, seed: int = 0, temperature: float = 0.8) -> str:
    """What the shipped GPT writes after a prompt, without the prompt.

    Args:
        prompt:      at least one character, all of them among those of the plays.
        characters:  how many to write.
        seed:        decides the draws.
        temperature: 0 always takes the likeliest character; 1 draws as the model predicts.
    Raises: ValueError for an empty prompt, or naming a character that the plays do not have.
    """
    if not prompt:
        raise ValueError("the prompt is empty: give at least one character to go on from")
    tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
    ids = torch.tensor([tokenizer.encode(prompt)])
    drawn = generate(
        pretrained("shakespeare"), ids, characters,
        temperature=temperature, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return tokenizer.decode([token.item() for token in drawn])
