"""Every token once, with the context it should have."""

import pytest
import torch

from aigc_lessons.evaluation.perplexity import strided_nats
from aigc_lessons.language.objective import held_out_nats
from aigc_lessons.models.gpt import GPT, GPTConfig


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = GPT(GPTConfig(7, 12, 1, 2, 8)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.6)
    return model


@pytest.mark.parametrize("n", [2, 5, 12, 13, 14, 40, 61])
@pytest.mark.parametrize("stride", [1, 5, 11, 12])
def test_each_token_with_its_context(model, n, stride, generator):
    ids = torch.randint(7, (n,), generator=generator)
    got = strided_nats(model, ids, 12, stride, batch_size=3)
    assert len(got) == n - 1
    for i in range(n - 1):  # token i + 1 is predicted in the first window that reaches it
        start = 0
        while start + 12 <= i:
            start += stride
        with torch.no_grad():
            wanted = -model(ids[None, start : i + 1])[0, -1].double().log_softmax(-1)[ids[i + 1]]
        assert got[i] == pytest.approx(wanted.item(), abs=1e-5)


def test_without_overlap_it_is_held_out_nats(model, generator):
    ids = torch.randint(7, (50,), generator=generator)
    assert strided_nats(model, ids, 12, 12).mean().item() == pytest.approx(held_out_nats(model, ids, 12), rel=1e-6)


@pytest.mark.parametrize(("n", "stride", "says"), [(1, 3, "got 1 tokens"), (5, 0, "got 0 with"), (5, 13, "got 13 with")])
def test_what_cannot_be_is_refused(model, n, stride, says):
    with pytest.raises(ValueError, match=says):
        strided_nats(model, torch.zeros(n, dtype=torch.long), 12, stride)
