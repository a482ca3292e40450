"""The Langevin explorer without a browser: its dice, its walk, what it says, what it sends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from aigc_lessons.widgets import langevin
from aigc_lessons.widgets.langevin import Setting


def says(setting, steps, settings=None):
    return langevin.verdict(langevin.walk(settings or [setting] * steps), setting)


def test_the_small_generator_is_mulberry32():
    """The first numbers of the seed, one at a time, as the generator is usually written."""

    def mulberry32(a):
        while True:
            a = (a + 0x6D2B79F5) & 0xFFFFFFFF
            t = ((a ^ (a >> 15)) * (a | 1)) & 0xFFFFFFFF
            t = ((t + ((t ^ (t >> 7)) * (t | 61))) ^ t) & 0xFFFFFFFF
            yield (t ^ (t >> 14)) / 2**32

    stream = mulberry32(langevin.SEED)
    u = np.array([next(stream) for _ in range(4 * langevin.WALKERS)]).reshape(2, langevin.WALKERS, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[..., 0])), 2 * np.pi * u[..., 1]
    for draw in (0, 1):
        expected = np.stack([radius[draw] * np.cos(angle[draw]), radius[draw] * np.sin(angle[draw])], 1)
        assert langevin.normals(draw) == pytest.approx(expected)


def test_its_numbers_are_normal_and_independent():
    """40 draws, 40,000 numbers: Kolmogorov's test at 1 in 1000, and no correlation from step to step."""
    z = np.stack([langevin.normals(k) for k in range(40)])
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    r = np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]
    assert abs(r) < 4 / z[1:].size ** 0.5
    assert not np.array_equal(langevin.normals(0, seed=1), langevin.normals(0, seed=2))


def test_a_step_is_langevins():
    setting = Setting(size=0.3, log_snr=1.0)
    abar, variance = langevin.noise(1.0)
    h = 0.3 * variance
    x, z = torch.from_numpy(langevin.normals(0)), torch.from_numpy(langevin.normals(1))
    expected = x + h * langevin.hills().score(x, abar) + (2 * h) ** 0.5 * z
    assert langevin.walk([setting]).x == pytest.approx(expected.numpy())


def test_levels_fall_to_the_chosen_one():
    setting = Setting(log_snr=5.0, anneal=True)
    assert [setting.level(k) for k in (0, 100, 200, 900)] == [-5.0, 0.0, 5.0, 5.0]
    assert Setting(log_snr=2.0).level(0) == 2.0


def test_the_true_share_is_what_draws_have(generator):
    """n = 100,000; 4 standard errors."""
    x0 = langevin.hills().draw(100_000, generator)[0].double()
    for log_snr in (5.0, 0.0, -3.0):
        abar, _ = langevin.noise(log_snr)
        x = abar**0.5 * x0 + (1 - abar) ** 0.5 * torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        truth = langevin.true_share(log_snr)
        assert abs((x[:, 0] < 0).double().mean() - truth) < 4 * (truth * (1 - truth) / 100_000) ** 0.5


def test_the_verdict_names_what_is_wrong():
    assert says(Setting(), 0).startswith("Not a step yet")
    assert says(Setting(), 200).startswith("Wrong weights")
    assert says(Setting(size=2.1), 100).startswith("It flew apart")
    assert says(Setting(log_snr=-3.0), 100).startswith("One hill")
    assert says(Setting(anneal=True), 60).startswith("Annealing")
    annealed = Setting(anneal=True, size=0.2)
    assert says(annealed, 300).startswith("Right")
    assert says(Setting(anneal=True, size=0.8), 300).startswith("Too wide")
    assert says(Setting(anneal=True, size=0.01), 300).startswith("Wrong weights")
    noisier = Setting(size=0.01, log_snr=2.0)
    assert says(noisier, 0, [annealed] * 300 + [noisier] * 3).startswith("Not there yet")
    assert "Left of the middle: 100.0 %, the truth is 80.0 %" in says(Setting(start="left"), 50)


def test_annealing_by_hand_mends_the_weights():
    levels = [Setting(size=0.2, log_snr=-2.0)] * 60
    levels += [Setting(size=0.2, log_snr=float(level)) for level in np.repeat(np.arange(-2, 5.5, 0.5), 20)]
    mended = langevin.walk(levels)
    assert abs(mended.shares[-1] - 0.8) < 0.08
    assert mended.steps == len(levels) == len(mended.shares) - 1
    assert mended.crossings > 500
    plain = langevin.walk([Setting(size=0.2)] * len(levels))
    assert abs(plain.shares[-1] - 0.8) > 0.2


def test_the_explorer_holds_a_setting():
    explorer = langevin.LangevinExplorer(Setting(size=0.5, log_snr=-1.0, anneal=True, start="left"))
    assert explorer.setting == Setting(0.5, -1.0, True, "left")
    assert replace(explorer.setting, size=0.1).size == 0.1
    assert explorer.given["walkers"] == len(langevin.normals(0))
    assert "needs a running kernel" in repr(explorer)
    with pytest.raises(ValueError, match=r"size must be one of 0\.01, .*, got 0\.4"):
        explorer.size = 0.4
    with pytest.raises(ValueError, match=r"log_snr must lie in -6\.\.6, got 7"):
        explorer.log_snr = 7.0
    with pytest.raises(ValueError, match="start must be one of noise, left, middle, got 'right'"):
        explorer.start = "right"
