"""Asking: the same as greedy generation, one prompt at a time; confidences against the chain rule."""

import pytest
import torch

from aigc_lessons.language.answering import Answer, answers, exact
from aigc_lessons.language.generation import generate
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig

TOKENIZER = CharTokenizer("\nabcd")
PROMPTS = ["ab", "a", "dcba", "cc", "b\na", "bd"]


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = GPT(GPTConfig(5, 24, 2, 2, 8)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.7)
    return model


def test_answers_are_greedy_lines(model):
    given = answers(model, TOKENIZER, PROMPTS, most=9)
    assert len({answer.text for answer in given}) > 1
    for prompt, answer in zip(PROMPTS, given, strict=True):
        ids = torch.tensor([TOKENIZER.encode(prompt)])
        written = TOKENIZER.decode(torch.cat(list(generate(model, ids, 9, temperature=0))).tolist())
        assert answer.text == written.split("\n")[0]
        whole = (written.split("\n")[0] + "\n")[:9]
        both = torch.tensor([TOKENIZER.encode(prompt + whole)])
        with torch.no_grad():
            log_p = model(both[:, :-1]).log_softmax(-1).gather(-1, both[:, 1:, None])[0, len(prompt) - 1 :, 0].sum()
        assert answer.confidence == pytest.approx(log_p.exp().item(), rel=1e-4)


def test_exact_is_letter_by_letter():
    given = [Answer("Pomur", 0.9), Answer("Pomur ", 0.9), Answer("pomur", 0.2)]
    assert exact(given, ["Pomur"] * 3).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="3 answers for 1 questions"):
        exact(given, ["Pomur"])


def test_an_empty_prompt_is_named(model):
    with pytest.raises(ValueError, match="prompt number 1 is empty"):
        answers(model, TOKENIZER, ["a", ""])
