"""Calibration: a slow count, data that are calibrated by construction, a second optimizer, and cases solved by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from strict_typing import unchecked

from aigc_lessons.evaluation import calibration
from aigc_lessons.evaluation.calibration import (
    coverage_curve,
    expected_calibration_error,
    fit_temperature,
    group_interval,
    reliability,
)


def answers(n, seed, power=1.0):
    """Confidences, and verdicts that are right with probability confidence ** power: calibrated where power is 1."""
    generator = torch.Generator().manual_seed(seed)
    probs = 0.4 + 0.6 * torch.rand(n, generator=generator, dtype=torch.float64)
    return probs, torch.rand(n, generator=generator, dtype=torch.float64) < probs**power


def slow_ece(probs, right, bins):
    """By its definition, one answer at a time; a bin is found by comparing, not by arithmetic."""
    total = 0.0
    for k in range(bins):
        inside = [i for i, p in enumerate(probs.tolist()) if k / bins < p <= (k + 1) / bins or (k == 0 and p == 0)]
        if inside:
            confidence = sum(probs[i].item() for i in inside) / len(inside)
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            total += len(inside) / len(probs) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_the_error_is_its_definition(bins):
    for seed in range(5):
        probs, right = answers(200, seed)
        probs[:4] = torch.tensor([0.0, 0.5, 0.6, 1.0])  # edges
        assert expected_calibration_error(probs, right, bins) == pytest.approx(slow_ece(probs, right, bins), abs=1e-12)


def test_a_planted_mistake_in_the_bins_is_noticed(monkeypatch):
    """Bins closed on the other side put 0.5 elsewhere."""
    probs, right = torch.tensor([0.5, 0.5, 0.55], dtype=torch.float64), torch.tensor([True, True, False])
    assert expected_calibration_error(probs, right, 2) == pytest.approx(slow_ece(probs, right, 2))
    bucketize = torch.bucketize
    monkeypatch.setattr(calibration.torch, "bucketize", lambda x, edges: bucketize(x, edges, right=True))
    assert expected_calibration_error(probs, right, 2) != pytest.approx(slow_ece(probs, right, 2))


def test_by_hand():
    probs, right = torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, False, True, True])
    found = reliability(probs, right, 5)
    assert found.count.tolist() == [2, 2]
    assert found.confidence.tolist() == pytest.approx([0.6, 0.9])
    assert found.accuracy.tolist() == [1.0, 0.5]
    assert expected_calibration_error(probs, right, 5) == pytest.approx((0.4 + 0.4) / 2)


def test_calibrated_answers_have_an_error_that_vanishes():
    """With n answers a bin of share w errs by about sqrt(w / n); ten bins: below 4 sqrt(10 / n) in all."""
    for n in (1_000, 100_000):
        assert expected_calibration_error(*answers(n, 1)) < 4 * (10 / n) ** 0.5 / 4
    assert expected_calibration_error(*answers(100_000, 1, power=2.0)) > 0.1


def test_the_temperature_is_what_a_general_optimizer_finds():
    generator = torch.Generator().manual_seed(0)
    for T in (0.5, 1.0, 3.0):
        z = 2 * torch.randn(4_000, 4, generator=generator, dtype=torch.float64)
        labels = torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]
        nll = lambda log_t, z=z, labels=labels, T=T: torch.nn.functional.cross_entropy(  # noqa: E731
            T * z / np.exp(log_t), labels
        ).item()
        best = float(np.exp(minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x))
        assert fit_temperature(T * z, labels) == pytest.approx(best, rel=1e-4)
        assert best == pytest.approx(T, rel=0.1)  # labels were drawn at T = 1 of the logits before they were stretched


@pytest.mark.parametrize(("z", "wanted"), [([2.0, 0.0], 2 / np.log(3)), ([8.0, 0.0], 8 / np.log(3))])
def test_the_temperature_in_closed_form(z, wanted):
    """Two classes, the same logits four times, right three times: the best probability is 3/4, so z / T = ln 3."""
    assert fit_temperature(torch.tensor([z] * 4), torch.tensor([0, 0, 0, 1])) == pytest.approx(wanted, rel=1e-9)


def test_a_temperature_that_does_not_exist_is_said():
    with pytest.raises(ValueError, match="best temperature is 0"):
        fit_temperature(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="temperature is infinite"):
        fit_temperature(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0]))


def test_coverage_answers_the_surest_first():
    coverage, accuracy = coverage_curve(torch.tensor([0.6, 0.9, 0.7, 0.8]), torch.tensor([False, True, True, False]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


def test_equally_sure_answers_count_alike():
    probs, right = torch.tensor([0.7, 0.7, 0.7, 0.9]), torch.tensor([True, False, False, True])
    _, accuracy = coverage_curve(probs, right)
    _, turned = coverage_curve(probs, right[torch.tensor([2, 1, 0, 3])])
    torch.testing.assert_close(accuracy, turned)
    assert accuracy[1].item() == pytest.approx(0.5 * (1 + 1 / 3))


def test_the_interval_knows_that_a_group_is_one_draw():
    """100 groups of 20 equal answers: the standard error is that of 100 draws, 0.05, and not that of 2,000."""
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(100, generator=generator) < 0.5).double().repeat_interleave(20)
    groups = torch.arange(100).repeat_interleave(20)
    mean = lambda rows: values[rows].mean().item()  # noqa: E731
    low, high = group_interval(mean, groups, generator)
    assert high - low == pytest.approx(2 * 1.96 * 0.05, rel=0.15)
    low, high = group_interval(mean, torch.arange(2_000), generator)
    assert high - low == pytest.approx(2 * 1.96 * 0.0112, rel=0.15)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: unchecked(reliability)(torch.tensor([]), torch.tensor([], dtype=torch.bool)),
            "one confidence and one verdict",
        ),
        (lambda: unchecked(reliability)(torch.ones(3) / 2, torch.tensor([True])), r"\(3,\), \(1,\)"),
        (lambda: reliability(torch.tensor([1.2]), torch.tensor([True])), "0..1, got 1.2"),
        (lambda: reliability(torch.tensor([float("nan")]), torch.tensor([True])), "0..1"),
        (lambda: reliability(torch.tensor([0.2]), torch.tensor([True]), 0), "bins must be at least 1, got 0"),
        (lambda: unchecked(fit_temperature)(torch.ones(3) / 2, torch.tensor([0, 1, 0])), "logits"),
        (lambda: fit_temperature(torch.ones(2, 3), torch.tensor([0, 3])), r"0\.\.2, got 0\.\.3"),
        (lambda: group_interval(len, torch.tensor([1, 1]), torch.Generator()), "got 1 and 1000"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
