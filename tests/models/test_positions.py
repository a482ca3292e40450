"""The smallest network that attends: what each kind of positions can and cannot tell apart."""

import pytest
import torch
from strict_typing import unchecked

from aigc_lessons.models.positions import Reader


def made(kind, n_layer=1, longest=12):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Reader(7, 16, 2, kind, longest, n_layer).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["none", "learned", "sinusoidal", "rope"])
def test_the_future_does_not_matter_and_order_does_or_not(kind, generator):
    ids = torch.randint(7, (3, 10), generator=generator)
    reader, other = made(kind), ids.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 7
    assert torch.equal(reader(ids)[:, :6], reader(other)[:, :6])
    shuffled = ids[:, [3, 0, 2, 1, 4, 5, 6, 7, 8, 9]]
    gap = (reader(shuffled)[:, -1] - reader(ids)[:, -1]).abs().max()
    assert (gap < 1e-5) == (kind == "none"), "one causal layer without positions sees a bag"


@torch.no_grad()
def test_two_causal_layers_without_positions_see_some_order(generator):
    ids = torch.randint(7, (3, 10), generator=generator)
    reader = made("none", 2)
    gap = (reader(ids[:, [3, 0, 2, 1, 4, 5, 6, 7, 8, 9]])[:, -1] - reader(ids)[:, -1]).abs().max()
    assert gap > 1e-3


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="positions must be one of none, learned, sinusoidal, rope, got 'alibi'"):
        unchecked(Reader.__init__)(object.__new__(Reader), 7, 16, 2, "alibi", 12)
    with pytest.raises(ValueError, match=r"whole even number .* got 18 and 4"):
        Reader(7, 18, 4, "rope", 12)
    with pytest.raises(ValueError, match="learned vectors for 12 places, the text has 13"):
        made("learned")(torch.zeros(1, 13, dtype=torch.long))
