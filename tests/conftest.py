"""Shapes in signatures are enforced in every test: beartype checks jaxtyping's annotations at each call."""

import jaxtyping

ROOMS = ["data", "models", "diffusion", "training", "evaluation", "plots"]
LANGUAGE = ["ngram", "tokenizer", "objective", "generation", "speculative", "answering", "retrieval"]
LANGUAGE += ["preference", "rollout", "verse"]
ROOMS += [f"language.{file}" for file in LANGUAGE]
jaxtyping.install_import_hook([f"aigc_lessons.{room}" for room in ROOMS], "strict_typing.check")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(2)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture(autouse=True)
def _global_state_is_left_alone():
    """No function of the package may draw from the global generator, or leave it moved."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "the global random state has moved"
