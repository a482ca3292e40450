"""Digits in one evaluation, and the pairs that reflow learns from."""

import pytest
import torch

from aigc_lessons.data import digits
from aigc_lessons.diffusion.flow import flow_matching_loss, flow_times, integrate, velocity_of
from aigc_lessons.diffusion.objective import denoiser
from aigc_lessons.diffusion.samplers import final
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.studio.digits import draw_digits, flash_digits, noise_and_digits, walk_digits
from aigc_lessons.studio.reflow import ENDS, reflow_loss, spread_digits
from aigc_lessons.training.checkpoints import card, pretrained


def test_the_reflowed_digits_are_as_good_as_their_card_says():
    """The headline, measured again: 1,000 digits in one evaluation each, and the bars that lesson 17 states."""
    labels, (_, held_out) = torch.arange(10).repeat_interleave(100), digits.load()
    stated = card("digits_reflow")["metrics"]
    measured = spread_digits(flash_digits(labels), labels, held_out)
    for name in ("accuracy", "coverage"):
        assert measured[name] == pytest.approx(stated[name], abs=0.01)
    assert measured["accuracy"] >= 0.95
    assert measured["coverage"] >= 0.8 * stated["coverage_teacher"]


def test_the_measure_sees_what_a_single_step_of_the_teacher_lacks():
    """Ten average digits: readable, and almost nothing of the data's variety."""
    labels, (_, held_out) = torch.arange(10).repeat_interleave(20), digits.load()
    measured = spread_digits(flash_digits(labels, network=pretrained("digits")), labels, held_out)
    assert measured["accuracy"] > 0.9
    assert measured["coverage"] < 0.1


def test_one_evaluation_is_one_step_of_the_flow():
    labels, schedule = torch.arange(4), cosine_schedule()
    student = pretrained("digits_reflow")
    velocity = velocity_of(denoiser(student, schedule, "v"), schedule)
    x_1 = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    ends = final(integrate(lambda x, t: velocity(x, t, labels), x_1, times=[flow_times(schedule)[-1].item(), 0.0]))
    assert torch.allclose(ends.clamp(-1, 1), flash_digits(labels, seed=5), atol=2e-3)


def test_equal_seeds_ask_for_the_same_digits():
    labels = torch.arange(10)
    flash, drawn, other = flash_digits(labels, seed=3), draw_digits(labels, seed=3), draw_digits(labels, seed=4)
    away = lambda a: (flash - a).flatten(1).norm(dim=1).mean()  # noqa: E731
    assert away(drawn) < 0.7 * away(other)


def test_pairs_are_noise_and_where_it_leads_and_a_stopped_run_goes_on(tmp_path):
    noise, made, labels = noise_and_digits(100, tmp_path, first_seed=7)
    x_T, steps = walk_digits(labels, seed=7)
    assert torch.equal(noise, x_T)
    assert torch.equal(made, steps[-1].x)
    assert torch.bincount(labels).tolist() == [10] * 10
    written = (tmp_path / "7.safetensors").stat().st_mtime_ns
    again = noise_and_digits(100, tmp_path, first_seed=7)
    assert torch.equal(again[1], made)
    assert (tmp_path / "7.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="hundreds, got n = 150"):
        noise_and_digits(150, tmp_path)


def test_the_recipe_s_loss_is_flow_matching_with_most_rows_at_the_end(generator):
    """With every row at t = 1 it is the square of one step's error; with none it is the package's flow matching loss."""
    network, schedule = pretrained("digits"), cosine_schedule()
    x0, eps = (torch.randn(10, 1, 28, 28, generator=generator) for _ in range(2))
    labels, asked = torch.arange(10), []

    class Spy(torch.nn.Module):
        def forward(self, x, t, y):
            asked.append(t)
            return network(x, t, y)

    loss = reflow_loss()(Spy(), (x0, eps, labels), torch.Generator().manual_seed(1))
    assert (asked[0] == 1000).sum() >= ENDS * 10
    velocity = velocity_of(denoiser(network, schedule, "v"), schedule)
    errors = []

    def recorded(x_t, t, y):
        t = torch.where(torch.arange(10) < round(ENDS * 10), 1.0, t.double()).float()
        x_t = (1 - t)[:, None, None, None] * x0 + t[:, None, None, None] * eps
        errors.append((velocity(x_t, t, y) - (eps - x0)).square().mean())
        return torch.zeros_like(x_t)

    flow_matching_loss("given")(recorded, (x0, eps, labels), torch.Generator().manual_seed(1))
    assert torch.isclose(loss, errors[0], rtol=1e-4)
