"""The torch primer's drawings and its explorer, without a browser: what they say must be what torch does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from aigc_lessons import plots
from aigc_lessons.widgets import primer

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def torch_says(a, b):
    try:
        return tuple((torch.empty(a) + torch.empty(b)).shape), ""
    except RuntimeError as error:
        return None, str(error)


@settings(max_examples=300, deadline=None)
@given(SHAPES, SHAPES)
def test_alignment_is_what_torch_does(a, b):
    alignment = primer.align(a, b)
    assert (alignment.shape, alignment.refusal) == torch_says(a, b)
    for p, q, out, says in alignment.columns:
        assert ("refused" in says) == (out is None)
        assert ("a stretched" in says) == (p == 1 and q not in (None, 1))
        assert ("missing" in says) == (p is None or q is None)


@pytest.mark.parametrize(
    ("a", "b"), [((3,), (4,)), ((2, 3), (2,)), ((5, 2, 3), (5, 2)), ((2, 3), (4, 5)), ((7, 8), (9, 3, 4))]
)
def test_remedies_work(a, b):
    made = {"a": torch.empty(a), "b": torch.empty(b)}
    assert torch_says(a, b)[0] is None
    found = primer.remedies(a, b)
    for code, shape in found:
        assert tuple(eval(code, {}, made).shape) == shape
        assert f"{code} has shape {shape}" in primer.verdict(a, b)
    assert found


def test_the_verdict_warns_of_the_trap_and_only_of_it():
    trap = "each number of a met each number of b"
    assert trap in primer.verdict((4, 1), (4,))
    assert "16 sums from 4 and 4 numbers" in primer.verdict((4, 1), (4,))
    for a, b in [((4,), (4,)), ((3, 1), (4,)), ((4000, 784), (784,)), ((), ())]:
        assert trap not in primer.verdict(a, b)
    assert "non-singleton dimension 0" in primer.verdict((3,), (4,))


def test_the_explorer_holds_its_shapes():
    explorer = primer.BroadcastExplorer((3, 1), (4,), {"trap": ((4, 1), (4,))})
    assert (explorer.a, explorer.b) == ([3, 1], [4])
    assert explorer.examples == [{"name": "trap", "a": [4, 1], "b": [4]}]
    with pytest.raises(ValueError, match=r"up to four axes, none negative; got \(1, 1, 1, 1, 1\)"):
        primer.BroadcastExplorer((1,) * 5, (2,))
    with pytest.raises(ValueError, match="negative"):
        primer.BroadcastExplorer((2,), (-1,))


@pytest.fixture
def figure():
    yield lambda n: plots.panels(n)[1]
    plt.close("all")


def written(ax):
    return [text.get_text() for text in ax.texts]


def test_broadcasting_is_drawn_with_its_copies_dashed(figure):
    a, b, total = primer.show_broadcast(figure(3), torch.tensor([[10], [20], [30]]), torch.tensor([1, 2, 3, 4]))
    dashed = lambda ax: sum(cell.get_linestyle() not in ("-", "solid") for cell in ax.patches)  # noqa: E731
    assert [len(ax.patches) for ax in (a, b, total)] == [12, 12, 12]
    assert [dashed(ax) for ax in (a, b, total)] == [9, 8, 0]
    assert written(total)[:12] == [str(10 * i + j) for i in (1, 2, 3) for j in (1, 2, 3, 4)]
    with pytest.raises(RuntimeError, match="must match the size"):
        primer.show_broadcast(figure(3), torch.ones(3), torch.ones(4))
    assert [len(ax.patches) for ax in primer.show_broadcast(figure(3), torch.ones(2), torch.ones(1))] == [2, 2, 2]


def test_views_are_read_out_of_memory_by_their_strides(figure):
    a = torch.arange(12).view(3, 4)
    (ax,) = figure(1)
    words = written(primer.show_views(ax, {"a.T": a, "turned": a.T, "part": a[1:, 1:3]}))
    cells = [word for word in words if word.isdigit()]
    assert cells[:12] == [str(n) for n in range(12)]
    assert cells[12:24] == [str(n) for n in a.T.flatten().tolist()]
    assert cells[24:28] == ["5", "6", "9", "10"]
    assert "shape (2, 2)\nstrides (4, 1), start 5" in words


def test_the_graph_shows_values_and_slopes(figure):
    values = dict(zip("xwbayzhpeL", range(10), strict=True))
    words = written(primer.show_graph(figure(1)[0], values, {"w": 0.25, "L": 1.0}))
    assert {"w = 1", "+0.25", "+1", "L = 9", "sin z"} <= set(words)
    assert sum(word.startswith("+") for word in words) == 2


def test_a_walk_lies_on_its_surface(figure):
    path = torch.tensor([[-4.0, 1.0], [-2.0, 0.5], [0.0, 0.0]])
    ax = primer.show_walk(figure(1)[0], lambda theta: theta.square().sum(-1), path, "down")
    assert ax.lines[0].get_xydata().tolist() == path.tolist()
    assert ax.get_title() == "down"
    rings = [abs(complex(*point)) for part in ax.collections[0].get_paths()[:1] for point in part.vertices]
    assert max(rings) - min(rings) < 0.05, "the lowest line of a round bowl is a circle"
