import pytest
import torch

from aigc_lessons.diffusion.guidance import away_from, classifier, classifier_free, drop_labels, within
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.diffusion.score import score_of
from aigc_lessons.diffusion.tilted import three_classes

NULL = 3


def denoise(x_t, t, labels):
    """Each label pulls to its own number; the null label to 0."""
    pull = torch.where(labels == NULL, 0.0, labels + 1.0)
    return pull[:, None] + 0 * x_t + t[:, None] / 1000


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5, 4.0])
def test_guidance_is_linear_between_null_and_label(scale):
    labels, x, t = torch.tensor([0, 1, 2]), torch.zeros(3, 2), torch.tensor([500, 500, 500])
    guided = classifier_free(denoise, labels, NULL, scale)(x, t)
    assert torch.allclose(guided, scale * (labels + 1.0)[:, None] + 0.5 + torch.zeros(3, 2))


def test_guidance_counts_rows():
    with pytest.raises(ValueError, match=r"3 labels .* 2 rows"):
        classifier_free(denoise, torch.tensor([0, 1, 2]), NULL, 2.0)(torch.zeros(2, 2), torch.tensor([1, 1]))


def test_labels_are_dropped_at_the_stated_rate(generator):
    """10,000 labels, p = 0.3: within 4 standard errors."""
    seen = []

    def loss_fn(network, batch, generator):
        seen.append(batch[1])
        return torch.tensor(0.0)

    labels = torch.randint(3, (10_000,), generator=generator)
    drop_labels(loss_fn, NULL, 0.3)(torch.nn.Identity(), (torch.zeros(10_000, 1), labels), generator)
    share = (seen[0] == NULL).double().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 10_000) ** 0.5
    assert torch.equal(seen[0][seen[0] != NULL], labels[seen[0] != NULL])


def test_p_is_a_probability():
    with pytest.raises(ValueError, match=r"0\.\.1, got 2"):
        drop_labels(lambda *_: None, NULL, 2)


SCHEDULE = cosine_schedule(200)
DATA = three_classes()
EXACT = DATA.denoiser(SCHEDULE)


def points(generator, n=300):
    return 1.5 * torch.randn(n, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
@pytest.mark.parametrize("t", [3, 60, 150])
def test_the_guided_score_is_the_closed_form(generator, scale, t):
    """Both ways to guide, in the plane: the gradient of log( p_t(x)^(1-w) p_t(x | y)^w ), by autograd from densities."""
    x, abar, times = points(generator).requires_grad_(), SCHEDULE.alpha_bars[t], torch.full((300,), t)
    p, p_label = DATA.mixture.log_prob(x, abar), DATA.given(1).log_prob(x, abar)
    (expected,) = torch.autograd.grad(((1 - scale) * p + scale * p_label).sum(), x)
    x, labels = x.detach(), torch.full((300,), 1)
    free = classifier_free(EXACT, labels, DATA.any, scale)
    pushed = classifier(
        DATA.mixture.denoiser(SCHEDULE), lambda x, t: DATA.log_label(x, 1, SCHEDULE.alpha_bar(t)), SCHEDULE, scale
    )
    for guided in (free, pushed):
        score = score_of(guided(x, times), x, abar)
        assert (score - expected).abs().max() < 1e-9 * expected.abs().max()
    off_by_one = classifier_free(EXACT, labels, DATA.any, scale + 1)(x, times)  # a planted mistake: the paper's other w
    assert (score_of(off_by_one, x, abar) - expected).abs().max() > 0.05 * expected.abs().max()


def test_the_classifier_is_differentiated_inside_no_grad(generator):
    plain = DATA.mixture.denoiser(SCHEDULE)
    guided = classifier(plain, lambda x, t: DATA.log_label(x, 0, SCHEDULE.alpha_bar(t)), SCHEDULE, 2.0)
    x, t = points(generator).float(), torch.full((300,), 60)
    with torch.no_grad():
        pushed = guided(x, t)
    assert pushed.dtype == torch.float32
    assert not pushed.requires_grad
    assert (pushed - plain(x, t)).abs().max() > 0.1


def test_a_classifier_must_say_one_number_a_row(generator):
    guided = classifier(DATA.mixture.denoiser(SCHEDULE), lambda x, t: x, SCHEDULE, 1.0)
    with pytest.raises(ValueError, match=r"shape \(300, 2\), one number a row is \(300,\)"):
        guided(points(generator), torch.full((300,), 60))


def test_a_negative_label_is_left(generator):
    x, t = points(generator), torch.full((300,), 60)
    labels, negatives = torch.arange(300) % 3, torch.arange(300) % 2
    guided = away_from(EXACT, labels, negatives, 2.5)(x, t)
    a, b = EXACT(x, t, labels), EXACT(x, t, negatives)
    assert torch.allclose(guided, b + 2.5 * (a - b))
    same = labels == negatives
    assert torch.allclose(guided[same], a[same])
    everything = torch.full_like(labels, DATA.any)
    free = classifier_free(EXACT, labels, DATA.any, 2.5)
    assert torch.allclose(away_from(EXACT, labels, everything, 2.5)(x, t), free(x, t)), "against any: guidance as usual"


def test_negatives_are_counted(generator):
    with pytest.raises(ValueError, match="got 3 and 2"):
        away_from(EXACT, torch.tensor([0, 1, 2]), torch.tensor([0, 1]), 2.0)
    with pytest.raises(ValueError, match=r"3 labels .* 300 rows"):
        away_from(EXACT, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), 2.0)(points(generator), torch.full((300,), 9))


def test_an_interval_guides_inside_and_not_outside():
    def says(number):
        return lambda x, t: torch.full_like(x, number)

    chosen = within(says(2.0), says(1.0), 50, 100)
    x = torch.zeros(4, 1, 2, 2)
    for t, expected in [(49, 1.0), (50, 2.0), (100, 2.0), (101, 1.0)]:
        assert (chosen(x, torch.full((4,), t)) == expected).all()
    mixed = chosen(x, torch.tensor([0, 60, 101, 99]))
    assert mixed[:, 0, 0, 0].tolist() == [1.0, 2.0, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"got 100\.\.50"):
        within(says(2.0), says(1.0), 100, 50)
