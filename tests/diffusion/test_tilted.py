"""Labelled points and the tilted density, against sums, draws, and each other."""

import math

import pytest
import torch

from aigc_lessons.diffusion.mixture import GaussianMixture
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.diffusion.tilted import Labelled, Table, three_classes

DATA = three_classes()
SCHEDULE = cosine_schedule(200)


def test_labels_divide_the_mixture(generator):
    x = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    for abar in (1.0, 0.4):
        shares = torch.stack([DATA.log_label(x, y, abar).exp() for y in range(3)])
        assert torch.allclose(shares.sum(0), torch.ones(50).double())
        mine = DATA.mixture.responsibilities(x, abar)[:, DATA.labels == 1].sum(1)
        assert torch.allclose(shares[1], mine)
    assert torch.allclose(DATA.log_label(x, DATA.any), torch.zeros(50).double())
    assert DATA.given(DATA.any).weights.numel() == 7
    assert [len(DATA.given(y).weights) for y in range(3)] == [3, 2, 2]


def test_the_denoiser_takes_a_label_and_a_time_for_each_row(generator):
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    t, labels = torch.randint(1, 200, (40,), generator=generator), torch.arange(40) % 4
    got = DATA.denoiser(SCHEDULE)(x, t, labels)
    for i in range(40):
        expected = DATA.given(int(labels[i])).denoise(x[i : i + 1], SCHEDULE.alpha_bars[t[i]])
        assert torch.allclose(got[i], expected[0])


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="7 Gaussians need 7 labels, got 2"):
        Labelled(DATA.mixture, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"without gaps, got \[0, 2\]"):
        Labelled(DATA.mixture, torch.tensor([0, 2, 2, 2, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"0\.\.3 \(3 is any\), got 4"):
        DATA.given(4)


def test_the_tilt_is_bayes_to_a_power(generator):
    """Against any: p(x) p(y | x)^w up to one factor for all x."""
    x = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    for abar in (1.0, 0.3):
        by_hand = DATA.mixture.log_prob(x, abar) + 2.5 * DATA.log_label(x, 0, abar)
        assert (DATA.log_tilted(x, 0, 2.5, alpha_bar=abar) - by_hand).std() < 1e-9
    a, b = DATA.given(0).log_prob(x), DATA.given(2).log_prob(x)
    assert torch.allclose(DATA.log_tilted(x, 0, 2.5, against=2), 2.5 * a - 1.5 * b)


def test_a_table_is_the_density_that_it_was_made_from(generator):
    """Moments of 40,000 draws within 4 standard errors; the denoiser is the mixture's within a fifteenth of a cell."""
    table = Table.of(lambda x: DATA.given(0).log_prob(x) + 7)
    assert table.p.sum().item() == pytest.approx(1)
    given = DATA.given(0)
    x = table.draw(40_000, generator)
    mean = (given.weights[:, None] * given.means).sum(0)
    assert ((x.mean(0) - mean).abs() < 4 * x.std(0) / 200).all()
    x0, _ = given.draw(300, generator)
    eps = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    for t in (1, 20, 60, 120, 190):  # where noisy data is; far out, a density may change much within a cell
        x_t, times = SCHEDULE.add_noise(x0.double(), torch.tensor(t), eps), torch.full((300,), t)
        assert (table.denoise(x_t, SCHEDULE.alpha_bars[t]) - given.denoise(x_t, SCHEDULE.alpha_bars[t])).abs().max() < 4e-3
        assert torch.equal(table.denoiser(SCHEDULE)(x_t, times), table.denoise(x_t, SCHEDULE.alpha_bar(times)))
    assert table.denoiser(SCHEDULE)(x_t.float(), times).dtype == torch.float32


def test_far_away_points_still_have_a_nearest_cell():
    table = Table.of(lambda x: DATA.log_tilted(x, 0, 3.0))
    x0 = table.denoise(torch.tensor([[9.0, -9.0], [3.5, 3.5]]).double(), 0.9999)
    assert x0.isfinite().all()
    assert (x0[1].abs() < 3.61).all()


def test_a_table_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="lies at the border of the square up to 1"):
        Table.of(lambda x: DATA.mixture.log_prob(x), reach=1.0, cells=24)
    with pytest.raises(ValueError, match="no finite sum"):
        Table.of(lambda x: x.square().sum(-1))


def test_a_tilted_gaussian_has_the_precision_of_the_tilt():
    """p ~ N(0, 1), p(. | y) ~ N(0, 1/4) in each axis; w = 3: precision 3 * 4 - 2 * 1 = 10."""
    wide, narrow = (GaussianMixture(torch.ones(1), torch.zeros(1, 2), v * torch.eye(2)[None]) for v in (1.0, 0.25))
    table = Table.of(lambda x: -2 * wide.log_prob(x) + 3 * narrow.log_prob(x), reach=3.0, cells=240)
    variance = (table.p.sum(1) * table.side**2).sum() + table.cell**2 / 12
    assert variance.item() == pytest.approx(0.1, rel=1e-3)
    assert math.isclose(table.p.sum().item(), 1, rel_tol=1e-12)
