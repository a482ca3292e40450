"""The posterior explorer without a browser: one step back in numbers, what is said of it, what is sent."""

import math

import numpy as np
import pytest
import torch

from aigc_lessons.diffusion import bound
from aigc_lessons.widgets import posterior
from aigc_lessons.widgets.posterior import PosteriorExplorer, roads, step_back, verdict


def numbers(*x):
    return torch.tensor([x], dtype=torch.float64)


@pytest.mark.parametrize("road", list(roads()))
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_a_step_is_what_schedule_and_bound_say(road, variance):
    schedule = roads()[road]
    for share in (0.0, 0.3, 1.0):
        t = max(2, round(share * schedule.T))
        seen = step_back(schedule, t, -1.2, 0.7, 0.4, variance)
        at = torch.tensor(t)
        x_t = schedule.add_noise(numbers(-1.2), at, numbers(0.7))
        assert seen.x_t == pytest.approx(x_t.item())
        mean, v = schedule.posterior(numbers(-1.2), x_t, at)
        guess, _ = schedule.posterior(numbers(0.4), x_t, at)
        sigma2 = bound.reverse_variances(schedule, variance)[t - 1]
        assert (seen.posterior.mean, seen.posterior.sd) == pytest.approx((mean.item(), v.item() ** 0.5))
        assert (seen.reverse.mean, seen.reverse.sd) == pytest.approx((guess.item(), sigma2.item() ** 0.5))
        assert seen.nats == pytest.approx(bound.gaussian_kl(mean, v, guess, sigma2).item(), rel=1e-9)
        if (variance, t) == ("beta", 2):  # where the widths differ, so does KL(p || q)
            assert seen.nats != pytest.approx(bound.gaussian_kl(guess, sigma2, mean, v).item(), rel=1e-3)


def test_prior_times_likelihood_is_the_posterior():
    schedule = roads()["10 steps"]
    for t in (2, 5, 9):
        seen = step_back(schedule, t, -1.0, 0.8, 0.0)
        x = torch.linspace(-9, 9, 90_001, dtype=torch.float64)
        bell = lambda n: (-((x - n.mean) ** 2) / (2 * n.sd**2)).exp()  # noqa: B023, E731
        product = bell(seen.prior) * bell(seen.likelihood)
        product = product / product.sum()
        mean = (x * product).sum().item()
        assert mean == pytest.approx(seen.posterior.mean, abs=1e-6)
        assert ((x - mean) ** 2 * product).sum().item() == pytest.approx(seen.posterior.sd**2, rel=1e-4)


def test_the_last_step_has_no_width_and_costs_a_density():
    seen = step_back(roads()["10 steps"], 1, 0.5, -1.0, 0.52)
    assert (seen.prior.sd, seen.posterior.sd) == (0, 0)
    assert seen.posterior.mean == pytest.approx(0.5)
    beta = 1 - roads()["10 steps"].alpha_bars[1].item()
    expected = 0.02**2 / (2 * beta) + math.log(2 * math.pi * beta) / 2
    assert seen.nats == pytest.approx(expected)
    assert verdict(seen, 1, 0.5, -1.0, 0.52).startswith("The last step: x_0 has no width left")
    assert "adds 1.98 of them" in verdict(seen, 1, 0.5, -1.0, 0.52)


def test_the_verdict_names_the_price():
    def says(road, t, guess, variance="posterior", eps=0.5):
        return verdict(step_back(roads()[road], t, -1.0, eps, guess, variance), t, -1.0, eps, guess)

    assert says("linear", 2, 0.0).startswith("Expensive: at this t, an error of 1.00")
    assert says("linear", 1000, 2.0).startswith("Nearly free: at this t, an error of 3.00")
    assert says("linear", 40, -0.9).startswith("An error of 0.10 in the guess has its price.")
    assert says("linear", 40, -1.0).startswith("The guess is right, and so is the width")
    wide = says("10 steps", 2, -1.0, "beta")
    assert wide.startswith("The guess is right, and the step still costs: its width is 2.92 times the posterior's.")
    assert "once in 300 times" in says("linear", 500, 0.0, eps=3.5)
    assert "once in 300 times" not in says("linear", 500, 0.0, eps=3.0)


def test_numbers_are_written_as_a_browser_writes_them():
    written = [posterior._nats(x) for x in (0, 0.63, -3.2, 999.9, 2726.3, 0.0022, -1.9e-5, 4.1e-12)]
    assert written == ["0.00", "0.63", "-3.20", "999.90", "2.7e3", "2.2e-3", "-1.9e-5", "4.1e-12"]


def test_the_explorer_sends_its_roads_and_knows_its_step():
    explorer = PosteriorExplorer()
    sent = {name: np.frombuffer(raw, "<f8") for name, raw in explorer.given["roads"].items()}
    for name, schedule in roads().items():
        assert sent[name].tolist() == schedule.alpha_bars.tolist()
    assert explorer.step == step_back(roads()["10 steps"], 5, -1.0, 0.8, -0.5)
    explorer.road, explorer.t, explorer.variance = "1000 steps", 700, "beta"
    assert explorer.step == step_back(roads()["1000 steps"], 700, -1.0, 0.8, -0.5, "beta")
    explorer.road = "100 steps"
    assert explorer.t == 100, "no step beyond the end of the road"
    assert repr(explorer) == "the posterior explorer, 4 roads (needs a running kernel)"


def test_what_is_out_of_reach_is_refused():
    explorer = PosteriorExplorer()
    with pytest.raises(ValueError, match="road must be one of 10 steps, 100 steps"):
        explorer.road = "12 steps"
    with pytest.raises(ValueError, match="variance must be one of posterior, beta, got 'gamma'"):
        explorer.variance = "gamma"
    with pytest.raises(ValueError, match=r"t must lie in 1\.\.10, got 11"):
        explorer.t = 11
    with pytest.raises(ValueError, match=r"guess must lie in -3\.\.3, got 3\.5"):
        explorer.guess = 3.5
    with pytest.raises(ValueError, match=r"eps must lie in -4\.\.4, got nan"):
        explorer.eps = float("nan")
