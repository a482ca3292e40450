"""The chi-square test, and with it: what guidance samples is not the tilted density."""

import pytest
import torch
from scipy import stats

from aigc_lessons.diffusion.guidance import classifier_free
from aigc_lessons.diffusion.samplers import final, sample
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.diffusion.tilted import Table, three_classes
from aigc_lessons.evaluation.goodness import Fit, chi_square

DATA, SCHEDULE, N = three_classes(), cosine_schedule(), 2000


def tilted(label, scale):
    return Table.of(lambda x: DATA.log_tilted(x, label, scale))


def flow(denoise, seed=0, steps=50, method="dpmpp_2m"):
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(N, 2, generator=generator, dtype=torch.float64)
    return final(sample(denoise, SCHEDULE, x_T, method=method, steps=steps, generator=generator))


def guided(label, scale, **how):
    return flow(classifier_free(DATA.denoiser(SCHEDULE), torch.full((N,), label), DATA.any, scale), **how)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_exact_draws_of_the_tilted_density_are_accepted(label, generator):
    table = tilted(label, 3.0)
    assert chi_square(table.draw(N, generator), table).p > 1e-3


@pytest.mark.parametrize("label", [0, 1, 2])
def test_guided_samples_do_not_follow_the_tilted_density(label):
    """At scale 3, for every label; the flow draws no dice, so the sampler's own noise is no excuse."""
    assert chi_square(guided(label, 3.0), tilted(label, 3.0)).p < 1e-9


def test_nor_does_the_random_sampler():
    """DDPM in 100 steps, label 0: another density again, and still not the tilted one."""
    assert chi_square(guided(0, 3.0, steps=100, method="ddpm"), tilted(0, 3.0)).p < 1e-9


@pytest.mark.parametrize("label", [0, 1, 2])
def test_at_scale_one_they_do(label):
    assert chi_square(guided(label, 1.0), tilted(label, 1.0)).p > 1e-3


def test_the_same_flow_with_the_tilted_density_s_own_denoiser_does():
    """So neither the sampler nor the test is what fails above."""
    table = tilted(0, 3.0)
    assert chi_square(flow(table.denoiser(SCHEDULE)), table).p > 1e-3


def test_the_p_values_of_exact_draws_are_uniform():
    """100 tests, Kolmogorov at 1 in 1000; and of draws from another scale, none above 1e-3."""
    table, other = tilted(0, 3.0), tilted(0, 0.0)
    generator = torch.Generator().manual_seed(5)
    p = [chi_square(table.draw(1000, generator), table).p for _ in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert max(chi_square(other.draw(1000, generator), table).p for _ in range(20)) < 1e-3


def test_it_is_scipy_s_statistic(generator):
    """Four bins by hand, on a table of four cells."""
    table = Table(torch.tensor([-0.5, 0.5]).double(), torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double())
    corners = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]).double()
    counts = [12, 18, 41, 29]
    fit = chi_square(corners.repeat_interleave(torch.tensor(counts), 0), table, block=1)
    expected = stats.chisquare(counts, [10, 20, 30, 40])
    assert (fit.statistic, fit.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert fit.freedom == 3


def test_what_lies_outside_is_counted(generator):
    table = tilted(0, 1.0)
    x = table.draw(N, generator)
    x[:200] = 50.0
    assert chi_square(x, table).p < 1e-9


def test_what_cannot_be_tested_is_refused(generator):
    table = tilted(0, 1.0)
    with pytest.raises(ValueError, match="divide the 120 cells of a side, got 7"):
        chi_square(table.draw(100, generator), table, block=7)
    with pytest.raises(ValueError, match="3 points are too few"):
        chi_square(table.draw(3, generator), table)


def test_a_verdict_in_words():
    assert str(Fit(63.2, 60, 0.3641)) == "chi-square 63 on 60 degrees of freedom, p = 0.364"
    assert str(Fit(6000.0, 60, 0.0)) == "chi-square 6000 on 60 degrees of freedom, p below 0.001"
