import pytest
import torch

from aigc_lessons.diffusion.guidance import classifier_free, drop_labels

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
