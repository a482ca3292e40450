import pytest
import torch
from scipy.linalg import sqrtm
from strict_typing import unchecked

from aigc_lessons.data import digits
from aigc_lessons.evaluation.judges import accuracy, describe
from aigc_lessons.evaluation.metrics import (
    balanced_subset,
    copying,
    fit_power_law,
    frechet_distance,
    frechet_ratio,
    nearest,
)
from aigc_lessons.training.checkpoints import card, pretrained


def cloud(generator, n=200, d=5, shift=0.0):
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + shift


@pytest.mark.parametrize("planted", [False, True], ids=["right", "planted mistake"])
def test_frechet_against_scipy_s_matrix_root(generator, planted):
    a, b = cloud(generator), cloud(generator, shift=1.0)
    S_a, S_b = torch.cov(a.T).numpy(), torch.cov(b.T).numpy()
    factor = 1 if planted else 2
    wanted = (a.mean(0) - b.mean(0)).square().sum().item() + (S_a + S_b - factor * sqrtm(S_a @ S_b).real).trace()
    assert (frechet_distance(a, b) == pytest.approx(wanted, rel=1e-8)) != planted


def test_frechet_of_a_cloud_with_itself_is_zero(generator):
    a = cloud(generator)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 5)


def test_frechet_refuses_what_it_cannot_compare(generator):
    with pytest.raises(ValueError, match="equal length"):
        unchecked(frechet_distance)(torch.zeros(3, 2), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="at least 2 points"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(3, 2))


def test_the_ratio_of_real_images_is_one_and_its_interval_is_wide_enough(generator):
    """Forty fresh sets of samples against the same real images: the ratios' mean is near 1, and each interval is
    at least as wide as their spread asks for, and at most 2.2 times as wide."""
    mix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    draw = lambda n: torch.randn(n, 6, generator=generator, dtype=torch.float64) @ mix  # noqa: E731
    labels, train, held_out = torch.arange(4000) % 10, draw(4000), draw(500)
    ratios = [frechet_ratio(draw(500), held_out, train, labels, generator=generator, resamples=40) for _ in range(40)]
    values = torch.tensor([ratio.value for ratio in ratios])
    claimed = sum(ratio.high - ratio.low for ratio in ratios) / 40 / 3.92
    assert values.mean().item() == pytest.approx(1, abs=0.25)
    assert 0.9 < claimed / values.std().item() < 2.2


def test_the_ratio_notices_missing_variety(generator):
    """Samples of the right mean and half the spread: even the low end of the interval is far above 1."""
    mix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    train, held_out, samples = (torch.randn(n, 5, generator=generator, dtype=torch.float64) @ mix for n in (2000, 500, 500))
    labels = torch.arange(2000) % 10
    for spread, near in ((1.0, True), (0.5, False)):
        ratio = frechet_ratio(spread * samples, held_out, train, labels, generator=generator, resamples=20)
        assert ratio.low <= ratio.value <= ratio.high
        assert (ratio.low < 3) == near
    with pytest.raises(ValueError, match="subsets of 500"):
        frechet_ratio(samples, held_out, train[:100], labels[:100], generator=generator)


def test_balanced_subsets_are_balanced_and_without_repeats(generator):
    labels = torch.arange(400) % 10
    picked = balanced_subset(labels[torch.randperm(400, generator=generator)], 100, generator)
    assert len(set(picked.tolist())) == 100
    shuffled = labels[torch.randperm(400, generator=generator)]
    assert shuffled[balanced_subset(shuffled, 100, generator)].bincount().tolist() == [10] * 10


def test_nearest_finds_the_nearest(generator):
    reference = torch.randn(50, 1, 4, 4, generator=generator)
    found = nearest(reference[[7, 3]] + 1e-3, reference)
    assert found.index.tolist() == [7, 3]
    assert found.distance.tolist() == pytest.approx([4e-3, 4e-3], rel=0.1)


def test_copies_are_noticed(generator):
    train, held_out = torch.randn(300, 1, 5, 5, generator=generator), torch.randn(200, 1, 5, 5, generator=generator)
    fresh = torch.randn(200, 1, 5, 5, generator=generator)
    assert copying(fresh, held_out, train) < 0.06
    assert copying(train[:100] + 0.01, held_out, train) == 1.0


def test_the_judge_is_as_good_as_its_card_says():
    judge, (_, held_out) = pretrained("digits_judge"), digits.load()
    measured = accuracy(judge, held_out.images, held_out.labels)
    assert measured == pytest.approx(card("digits_judge")["metrics"]["accuracy_held_out"], abs=0.002)
    assert measured >= 0.98
    assert describe(judge, held_out.images).shape == (1000, judge.config.features)


def test_the_shipped_digits_are_as_good_as_their_card_says():
    """The headline, measured again: the Fréchet ratio of 1,000 digits, within its interval, and within the bars."""
    from aigc_lessons.recipes import judge_digits

    train, held_out = digits.load()
    measured, stated = judge_digits(pretrained("digits"), train, held_out), card("digits")["metrics"]
    assert stated["frechet_low"] <= measured["frechet_ratio"] <= stated["frechet_high"]
    assert measured["accuracy"] >= 0.97
    assert measured["copying"] <= 0.02


SIZES = torch.tensor([6_144, 24_576, 98_304, 221_184, 393_216]).repeat_interleave(3)


def measured(generator, scatter, floor=1.6, height=0.2, exponent=0.4):
    noise = scatter * torch.randn(len(SIZES), generator=generator, dtype=torch.float64)
    return floor + height * (SIZES.double() / 1e5) ** -exponent + noise


def test_a_law_without_scatter_is_found_again(generator):
    law = fit_power_law(SIZES, measured(generator, 0))
    assert law.floor == pytest.approx(1.6, abs=1e-6)
    assert law.exponent == pytest.approx(0.4, abs=1e-5)
    assert law.at(1e5) == pytest.approx(1.8, abs=1e-6)


def test_the_errors_of_a_law_are_those_of_many_fits(generator):
    """Over 300 sets of measurements: the exponents scatter as the standard error says (its own error is 4 %)."""
    laws = [fit_power_law(SIZES, measured(generator, 0.005)) for _ in range(300)]
    exponents = torch.tensor([law.exponent for law in laws])
    said = torch.tensor([law.error for law in laws]).square().mean().sqrt()
    assert abs(exponents.mean() - 0.4) < 4 * exponents.std() / 300**0.5 + 0.002
    assert 0.85 < exponents.std() / said < 1.15


@pytest.mark.parametrize(("N", "planted"), [(55_296, False), (1e4, False), (1e6, False), (55_296, True)])
def test_the_interval_of_a_law_covers_what_it_promises(N, planted, generator):
    """400 laws and a new measurement for each: 95 % lie inside (standard error 1.1 %); half as wide, far fewer."""
    inside = 0
    for _ in range(400):
        law = fit_power_law(SIZES, measured(generator, 0.005))
        low, high = law.interval(N)
        new = 1.6 + 0.2 * (N / 1e5) ** -0.4 + 0.005 * torch.randn((), generator=generator).item()
        inside += abs(new - law.at(N)) < (high - low) / (4 if planted else 2)
    assert (0.91 < inside / 400 < 0.985) != planted


def test_a_law_needs_points_that_can_bear_it():
    with pytest.raises(ValueError, match=r"at least four points at three sizes; got 3 sizes \(3 different\)"):
        fit_power_law(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match=r"got 4 sizes \(2 different\)"):
        fit_power_law(torch.tensor([1.0, 2.0, 2.0, 1.0]), torch.tensor([3.0, 2.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="above zero"):
        fit_power_law(torch.tensor([0.0, 2.0, 3.0, 4.0]), torch.tensor([3.0, 2.0, 1.0, 1.0]))
