import math

import pytest
import torch

from aigc_lessons.language.objective import IGNORE, cross_entropy, held_out_nats, next_token_loss


def bigram(table):
    """A model that knows one token of context."""
    return lambda ids: table[ids]


def test_the_loss_is_minus_log_probability(generator):
    logits, targets = torch.randn(2, 3, 5, generator=generator), torch.tensor([[0, 4, IGNORE], [2, 2, 1]])
    log_p = logits.log_softmax(-1)
    wanted = -sum(log_p[b, t, y] for b, row in enumerate(targets) for t, y in enumerate(row) if y != IGNORE) / 5
    assert cross_entropy(logits, targets).item() == pytest.approx(wanted.item(), rel=1e-6)
    batch = torch.tensor([[1, 2]]), torch.tensor([[2, 3]])
    uniform = torch.nn.Embedding.from_pretrained(torch.zeros(9, 7))
    assert next_token_loss()(uniform, batch, generator).item() == pytest.approx(math.log(7))
    with pytest.raises(ValueError, match="every target is masked"):
        cross_entropy(logits, torch.full((2, 3), IGNORE))


@pytest.mark.parametrize("N", [2, 5, 64, 65, 66, 300])
def test_every_token_but_the_first_counts_once(N, generator):
    """With one token of context, windows change nothing, and the mean must be that over all pairs."""
    ids, table = torch.randint(9, (N,), generator=generator), torch.randn(9, 9, generator=generator)
    pairs = -table.log_softmax(-1)[ids[:-1], ids[1:]].mean().item()
    assert held_out_nats(bigram(table), ids, window=8, batch_size=3) == pytest.approx(pairs, rel=1e-5)
    if N > 60:
        left_out = -table.log_softmax(-1)[ids[:-2], ids[1:-1]].mean().item()
        assert held_out_nats(bigram(table), ids, window=8) != pytest.approx(left_out, rel=1e-5)


def test_no_window_is_longer_than_asked(generator):
    seen = []

    def model(ids):
        seen.append(tuple(ids.shape))
        return torch.zeros(*ids.shape, 4)

    assert held_out_nats(model, torch.zeros(22, dtype=torch.long), window=5, batch_size=3) == pytest.approx(math.log(4))
    assert seen == [(3, 5), (1, 5), (1, 1)]
    with pytest.raises(ValueError, match="got 1 tokens"):
        held_out_nats(model, torch.zeros(1, dtype=torch.long), window=5)
