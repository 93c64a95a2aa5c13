"""What each augmentation does to images whose every pixel is known, and that old results can be had again."""

import hashlib

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as TF

from fbnetv3 import InputError
from fbnetv3.training.data.augment import KINDS, augment, draw, draw_boxes, mixup_weight
from fbnetv3.training.data.packaged import fashion_mnist
from tests.training.data.examples import noise


def digest(images):
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("kind", "grey", "colour"),
    [
        ("none", "2f7d7af802eb8c70", "20f78c048f00b648"),
        ("flip", "e99437bc2803b6ce", "99e99fa7ed855ff3"),
        ("crop_flip", "3d3f18e2e5dc8ebf", "2cbc763c44ef77e8"),
    ],
)
def test_searches_of_earlier_versions_saw_the_same_pixels(kind, grey, colour):
    assert digest(augment(fashion_mnist().train.images, kind, np.random.default_rng(7))) == grey
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (500, 3, 32, 32), dtype=np.uint8))
    assert digest(augment(images, kind, np.random.default_rng(7))) == colour


def test_flip_mirrors_about_half_and_changes_nothing_else():
    images = fashion_mnist().train.images[:400]
    out = augment(images, "flip", np.random.default_rng(0))
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250
    assert augment(images, "none", np.random.default_rng(0)) is images


def test_crop_flip_shifts_by_at_most_two_pixels():
    image = torch.zeros(200, 1, 9, 9, dtype=torch.uint8)
    image[:, 0, 4, 4] = 1
    where = augment(image, "crop_flip", np.random.default_rng(0)).nonzero()[:, 2:]
    assert len(where) == 200
    assert where.min() == 2
    assert where.max() == 6
    assert len({tuple(row) for row in where.tolist()}) == 25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 32), (1, 28)])
def test_an_image_does_not_depend_on_those_changed_with_it(kind, shape):
    images = noise(300, *shape)
    change = draw(kind, 300, images.shape[2:], np.random.default_rng(3))
    whole = change(images, torch.arange(300))
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    assert torch.equal(images, noise(300, *shape)), "the images themselves were changed"
    some = torch.tensor([299, 0, 17])
    assert torch.equal(change(images[some], some), whole[some])
    assert torch.equal(torch.cat([change(images[i : i + 1], torch.tensor([i])) for i in range(60)]), whole[:60])
    again = draw(kind, 300, images.shape[2:], np.random.default_rng(3))(images, torch.arange(300))
    assert torch.equal(again, whole)


def test_resized_crops_are_those_of_torchvision():
    images = noise(200)
    rng = np.random.default_rng(5)
    boxes = draw_boxes(200, 32, 32, np.random.default_rng(5))
    flipped, errors = [], []
    out = augment(images, "resized_crop_flip", rng)
    for image, got, box in zip(images, out, boxes.tolist(), strict=True):
        want = TF.resized_crop(image, *box, [32, 32], antialias=True).int()
        differences = [got.int() - want, got.int() - want.flip(2)]
        largest = [int(difference.abs().max()) for difference in differences]
        assert min(largest) <= 1  # its arithmetic is in whole numbers
        flipped.append(largest[1] < largest[0])
        errors.append(differences[flipped[-1]].float().mean().item())
    assert np.mean(errors) == pytest.approx(0, abs=0.1)
    assert 70 < sum(flipped) < 130


def test_crop_boxes_are_distributed_as_torchvisions():
    boxes = draw_boxes(4000, 60, 80, np.random.default_rng(0))
    area = boxes[:, 2] * boxes[:, 3] / (60 * 80)
    ratio = boxes[:, 3] / boxes[:, 2]
    assert (boxes[:, :2] >= 0).all()
    assert ((boxes[:, :2] + boxes[:, 2:]) <= (60, 80)).all()
    assert 0.07 < area.min() < 0.09
    assert 0.9 < area.max() <= 1
    assert 0.7 < ratio.min() < 0.8
    assert 1.3 < ratio.max() < 1.4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.zeros(3, 60, 80)
        want = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)])
    assert boxes.mean(0) == pytest.approx(want.mean(0), rel=0.06)
    assert boxes.std(0) == pytest.approx(want.std(0), rel=0.08)


def test_a_strip_in_which_no_crop_fits_gives_its_middle():
    assert draw_boxes(50, 4, 400, np.random.default_rng(0))[:, 2:].max() <= 5
    boxes = draw_boxes(20, 2, 2000, np.random.default_rng(0))
    assert (boxes == [0, 998, 2, 3]).all(1).sum() >= 15
    assert (draw_boxes(20, 2000, 2, np.random.default_rng(0)) == [998, 0, 3, 2]).all(1).sum() >= 15


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="unknown augmentation 'cutout'; available: none, flip, crop_flip, resized"):
        augment(noise(2), "cutout", np.random.default_rng(0))


def test_mixup_weight():
    rng = np.random.default_rng(0)
    assert mixup_weight(0.0, rng) == 1.0
    draws = [mixup_weight(0.4, rng) for _ in range(2000)]
    assert 0 <= min(draws) < 0.01
    assert np.mean(draws) == pytest.approx(0.5, abs=0.03)
