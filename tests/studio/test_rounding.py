"""The series of rounded networks: complete, and one point of it again."""

import pytest
import torch

from aigc_lessons.experiments import results
from aigc_lessons.models.quantize import quantize_state
from aigc_lessons.studio import rounding
from aigc_lessons.studio.rounding import Setting
from aigc_lessons.training.checkpoints import pretrained


def test_the_shipped_series_is_complete_and_in_order():
    shipped = results("rounding")
    rows = {(r["method"], r["bits"], r["group"]): r for r in shipped["rows"]}
    assert set(rows) == {(s.method, s.bits, s.group) for s in rounding.settings([])}
    for bits in range(2, 9):
        near, best, fed = (rows[method, bits, 32] for method in rounding.METHODS)
        assert near["bytes"] == best["bytes"] == fed["bytes"]
        if bits <= 6:
            assert fed["more"] < best["more"] < near["more"]
    assert rows["nearest", 8, 32]["more"] <= 0.005
    assert rows["nearest", 4, 32]["more"] <= 0.05
    assert rows["feedback", 4, 32]["more"] <= 0.01


def test_sizes_are_those_of_the_packed_form():
    model = pretrained("shakespeare")
    for r in results("rounding")["rows"][::5]:
        if r["method"] == "nearest":
            assert r["bytes"] == rounding.size_of(rounding.rounded(model, Setting(r["bits"], r["group"], r["method"])))


def test_weights_are_exchanged_for_rounded_ones():
    model = pretrained("shakespeare")
    matrices = quantize_state(model.state_dict(), 4)
    copy = rounding.with_weights(model, matrices)
    for name, w in copy.state_dict().items():
        assert torch.equal(w, matrices[name].dequantize())
    assert not torch.equal(copy.head.weight, model.head.weight)


def test_what_cannot_be_is_refused():
    model = pretrained("shakespeare")
    with pytest.raises(ValueError, match="one of nearest, search, feedback, got 'luck'"):
        rounding.rounded(model, Setting(4, 32, "luck"))
    with pytest.raises(ValueError, match="feedback needs the moments"):
        rounding.rounded(model, Setting(4, 32, "feedback"))
