"""03.5, the density to beat; and what the checkers of lesson 03 accept and refuse in form."""

import math

import pytest
import torch

from aigc_lessons.exercises import check, lesson_03


def kernels(width, norm=1.0):
    def fit(points):
        def log_prob(x):
            square = torch.cdist(x.double(), points.double()) ** 2
            return (-square / (2 * width**2)).logsumexp(1) - math.log(norm * len(points) * 2 * math.pi * width**2)

        return log_prob

    return fit


def test_kernels_of_a_good_width_pass():
    result = check("03.5", kernels(0.09))
    assert result.passed, result.message
    assert "expected above" in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lesson_03.lesson_density, "lesson's histogram itself"),
        (lambda points: lesson_03.lesson_density(points, 30), "small Gaussian on every point"),
        (kernels(0.5), "small Gaussian on every point"),
        (kernels(0.09, norm=0.5), "adds up to 2.00"),
        (lambda points: lambda x: torch.zeros(len(x)), "no density may hold more than 1"),
    ],
)
def test_densities_that_do_not_are_told_why(answer, says):
    result = check("03.5", answer)
    assert not result.passed
    assert says in result.hint
    assert "got " in result.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda points: lambda x: torch.full((len(x),), -torch.inf), "density of 0"),
        (lambda points: lambda x: torch.zeros(3), "gave shape (3,)"),
        (lambda points: 3.0, "return a function log_prob"),
        (lambda: None, "keep the parameters"),
        (torch.zeros(2), "expected a function"),
    ],
)
def test_unusable_densities_get_a_verdict(answer, says):
    result = check("03.5", answer)
    assert not result.passed
    assert says in result.message


def test_other_ways_to_write_the_same_pass():
    def by_distribution(y, net):
        d = y.shape[1] // 2
        s, m = net(y[:, :d])
        normal = torch.distributions.Normal(0.0, 1.0)
        x_b = (y[:, d:] - m) / s.exp()
        return normal.log_prob(y[:, :d]).sum(1) + (normal.log_prob(x_b) - s).sum(1)

    def by_histogram(x, probabilities, low, high):
        total = 0.0
        for value in x.tolist():
            k = min(int((value - low) / (high - low) * len(probabilities) + 1e-12), len(probabilities) - 1)
            total += math.log(probabilities[k].item() * len(probabilities) / (high - low))
        return total / len(x)

    def by_edges(x, probabilities, low, high):
        edges = torch.linspace(low, high, len(probabilities) + 1, dtype=x.dtype)
        k = torch.bucketize(x, edges) - 1
        return (probabilities[k] / edges.diff()[k]).log().mean()

    def by_library(x, eps, encode, decode):
        a, log_b = encode(x)
        q = torch.distributions.Normal(a, (log_b / 2).exp())
        m, log_v = decode(q.loc + q.scale * eps)
        p = torch.distributions.Normal(m, (log_v / 2).exp())
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(a), torch.ones_like(a)))
        return p.log_prob(x).sum(1) - kl.sum(1)

    def by_moments(weights, means, variances):
        mean = weights @ means
        return torch.stack([mean, weights @ (variances + means.square()) - mean.square()])

    answers = [("03.1", by_histogram), ("03.1", by_edges), ("03.2", by_moments)]
    answers += [("03.3", by_library), ("03.4", by_distribution)]
    for name, answer in answers:
        result = check(name, answer)
        assert result.passed, result
