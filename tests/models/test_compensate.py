"""Rounding with feedback: against the same thing done by least squares, and against rounding without it."""

import pytest
import torch

from aigc_lessons.models import compensate
from aigc_lessons.models.compensate import compensated, compensated_state, input_moments
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.quantize import find_scales, nearest, quantize


def setting(generator, columns=12, rows=3):
    x = torch.randn(200, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), x.T @ x


def by_least_squares(weight, H, bits, group):
    """Round one column; then choose all later columns anew so that (w - q) H (w - q)^T is least, by solving for them."""
    H = H.double() + compensate.DAMPING * H.double().diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    original, now, C = weight.double(), weight.double().clone(), weight.shape[1]
    q = torch.zeros_like(now)
    for j in range(C):
        if j % group == 0:
            s = find_scales(now[:, j : j + group].float(), bits, search=True)
        q[:, j] = (s * nearest(now[:, j : j + 1].float(), s, bits))[:, 0].double()
        if j + 1 < C:  # errors e of the columns 0..j are fixed: the best later ones are  e_later = -e_fixed H_fl H_ll^-1
            fixed = original[:, : j + 1] - q[:, : j + 1]
            later = -torch.linalg.solve(H[j + 1 :, j + 1 :], (fixed @ H[: j + 1, j + 1 :]).T).T
            now[:, j + 1 :] = original[:, j + 1 :] - later
    return q


@pytest.mark.parametrize(("bits", "group"), [(4, 4), (3, 12), (4, 5)])
def test_it_is_what_least_squares_gives(bits, group, generator):
    weight, H = setting(generator)
    torch.testing.assert_close(
        compensated(weight, H, bits, group).dequantize().double(),
        by_least_squares(weight, H, bits, group),
        atol=1e-5,
        rtol=0,
    )


def test_the_answers_change_less_than_without(generator):
    weight, H = setting(generator, 64, 20)
    for bits in (2, 3, 4):
        change = [
            torch.einsum("ri,ij,rj", weight - q, H, weight - q)
            for q in (compensated(weight, H, bits).dequantize(), quantize(weight, bits, search=True).dequantize())
        ]
        assert change[0] < 0.7 * change[1]


def test_without_correlation_it_is_the_plain_search(generator):
    weight, _ = setting(generator, 40)
    assert torch.equal(compensated(weight, torch.eye(40), 4).dequantize(), quantize(weight, 4, search=True).dequantize())


def test_an_input_that_never_moves_is_no_obstacle(generator):
    weight, H = setting(generator)
    H[3], H[:, 3] = 0, 0
    assert compensated(weight, H).dequantize().isfinite().all()
    assert compensated(weight, torch.zeros(12, 12)).dequantize().isfinite().all()
    with pytest.raises(ValueError, match="12 by 12"):
        compensated(weight, H[:5, :5])


def test_moments_are_those_of_the_inputs(generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(7, 6, 1, 2, 8)).eval()
    ids = torch.randint(7, (4, 6), generator=generator)
    moments = input_moments(model, [ids[:2], ids[2:]])
    x = torch.nn.functional.rms_norm(torch.nn.functional.rms_norm(model.embed(ids), (8,)), (8,)).flatten(0, 1)
    torch.testing.assert_close(moments["blocks.0.attention.qkv.weight"], x.T @ x)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    state = compensated_state(model, moments, 4)
    assert set(state) == {name for name, w in model.state_dict().items() if w.ndim == 2}


@pytest.mark.parametrize("wrong", ["lower", "no feedback"])
def test_planted_mistakes_are_caught(wrong, monkeypatch, generator):
    cholesky = torch.linalg.cholesky
    if wrong == "lower":
        monkeypatch.setattr(torch.linalg, "cholesky", lambda A, upper: cholesky(A))
    else:
        monkeypatch.setattr(torch.linalg, "cholesky", lambda A, upper: torch.eye(len(A), dtype=A.dtype))
    with pytest.raises(AssertionError):
        test_it_is_what_least_squares_gives(4, 4, generator)
