import pytest
import torch

from aigc_lessons.data import digits
from aigc_lessons.data.batches import epochs
from aigc_lessons.data.wheels import DataError


@pytest.fixture(scope="module")
def real():
    return digits.load()


def test_real_digits_are_what_they_should_be(real):
    train, held_out = real
    assert (len(train), len(held_out)) == (4000, 1000)
    assert train.labels.bincount().tolist() == [400] * 10
    assert held_out.labels.bincount().tolist() == [100] * 10
    for part in real:
        assert part.images.shape[1:] == (1, 28, 28)
        assert (part.images.min(), part.images.max()) == (-1, 1)
    assert train.images.mean().item() == pytest.approx(-0.74, abs=0.01)


def test_no_image_is_in_both_sets(real):
    train, held_out = real
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in held_out.images)


def test_grey_values_survive_the_round_trip(real):
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(digits.to_uint8(digits.from_uint8(pixels)), pixels)
    assert digits.to_uint8(torch.tensor([[[[-3.0, 3.0]]]])).tolist() == [[[0, 255]]]


def test_without_data_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    with pytest.raises(DataError, match="aigc-lessons fetch"):
        digits.load()


def test_the_stand_in_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    train, held_out = digits.load(stand_in=True)
    assert capsys.readouterr().out.startswith("STAND-IN DATA")
    assert train.images.shape[1:] == (1, 28, 28)
    assert len(train) + len(held_out) == 1797
    assert train.images.min() == -1
    assert train.images.max() <= 1


def test_jitter_moves_and_keeps_the_digit(real):
    train, _ = real
    batches = digits.jittered(epochs((train.images, train.labels), 64), seed=3)
    images, labels = batches(5)
    plain, plain_labels = epochs((train.images, train.labels), 64)(5)
    assert torch.equal(labels, plain_labels)
    assert torch.equal(images, batches(5)[0])
    assert not torch.equal(images, plain)
    ink, plain_ink = (images + 1).sum((1, 2, 3)), (plain + 1).sum((1, 2, 3))
    assert (ink / plain_ink).median().item() == pytest.approx(1, abs=0.15)
    assert images.min() >= -1 - 1e-6
