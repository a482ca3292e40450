"""33.5, the plan to beat; other right answers; and what its checkers say to answers that fall short."""

import pytest
import torch
import torch.nn.functional as F

from aigc_lessons.exercises import check, lesson_33
from aigc_lessons.models.gpt import GPTConfig
from aigc_lessons.training.loop import TrainConfig


def small(V):
    return GPTConfig(V, 64, 1, 1, 16)


def line(N, L):
    from scipy.stats import linregress

    fit = linregress(N.log().numpy(), L.log().numpy())
    return torch.tensor([-fit.slope, fit.stderr])


def polar(G):
    """G (G^T G)^(-1/2), by the eigenvalues of the smaller product."""
    if len(G) < G.shape[1]:
        return polar(G.T).T
    values, vectors = torch.linalg.eigh(G.double().T @ G.double())
    return (G.double() @ vectors * values**-0.5 @ vectors.T).float()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("33.1", lambda logits, ids: F.cross_entropy(logits, ids[1:])),
        ("33.1", lambda logits, ids: F.cross_entropy(logits.double(), ids[1:]).item()),
        ("33.1", lambda logits, ids: (logits.logsumexp(-1) - logits.gather(-1, ids[1:, None])[:, 0]).mean()),
        ("33.2", lambda step, steps, lr, warmup, decay: TrainConfig(steps, lr, warmup, decay).lr_at(step)),
        ("33.3", polar),
        ("33.4", line),
    ],
)
def test_other_ways_to_be_right(name, answer):
    result = check(name, answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("33.1", lambda z, ids: -(z.exp() / z.exp().sum(-1, True))[range(len(z)), ids[1:]].log().mean(), "exp overflowed"),
        ("33.2", lambda s, n, lr, w, d: lr * min(1, (s + 1) / (w + 1), (n - s) / d), "number of steps"),
        ("33.2", lambda s, n, lr, w, d: lr * min(1, (s + 1) / (w + 1), (n - s) / d * n), "in brackets"),
        ("33.2", lambda s, n, lr, w, d: min(lr, (s + 1) / (w + 1), (n - s) / (d * n)), "inside the min"),
        ("33.3", lambda G: lesson_33.nearest_orthogonal(G.T), "transposed"),
    ],
)
def test_errors_that_look_like_others_are_told_apart(name, answer, says):
    names = {"33.1": ("logits", "ids"), "33.2": ("step", "steps", "lr", "warmup", "decay"), "33.3": ("G",)}[name]

    def called_by_name(**given):
        return answer(*(given[key] for key in names))

    result = check(name, called_by_name)
    assert not result.passed
    assert says in result.hint


@pytest.fixture
def judged(monkeypatch):
    """The verdict on a plan that would get so many nats, without the training."""
    monkeypatch.delenv("AIGC_LESSONS_BUDGET", raising=False)

    def verdict(nats, **training):
        monkeypatch.setattr(lesson_33, "outcome", lambda *plan: lesson_33.Outcome(1e11, nats))
        return check("33.5", lambda V: (small(V), TrainConfig(steps=10, **training), 8))

    return verdict


@pytest.mark.parametrize(
    ("nats", "training", "says"),
    [
        (3.6, {"optimizer": "muon", "lr": 9.0}, "Lower the rate"),
        (2.4, {"optimizer": "adamw", "decay": 0.9}, "optimizers"),
        (2.4, {"optimizer": "muon"}, "let it fall"),
        (2.4, {"optimizer": "muon", "decay": 0.9}, "smaller network"),
    ],
)
def test_a_plan_that_falls_short_is_told_what_to_look_at(judged, nats, training, says):
    result = judged(nats, **training)
    assert not result.passed
    assert says in result.hint


def test_a_plan_below_the_limit_passes_and_one_at_it_does_not(judged):
    assert judged(lesson_33.LIMIT - 0.001).passed
    assert not judged(lesson_33.LIMIT).passed


def test_a_plan_beyond_the_budget_is_not_trained():
    result = check("33.5", lambda V: (small(V), TrainConfig(steps=10**9), 8))
    assert not result.passed
    assert "Nothing was trained" in result.hint


@pytest.mark.parametrize("answer", [lambda V: None, lambda V: (1, 2), lambda V: (small(V + 1), TrainConfig(5), 8)])
def test_unusable_plans_get_a_verdict(answer):
    result = check("33.5", answer)
    assert not result.passed
    assert result.message
