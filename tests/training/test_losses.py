"""The loss by hand: mixed and smoothed labels, and distillation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fbnetv3.training.losses import Target, balanced_weights, loss, mixup
from tests.training.examples import RECIPE

LABELS = torch.tensor([1, 2, 3, 4])
PLAIN = RECIPE.replace(label_smoothing=0.0)


@pytest.fixture
def logits():
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(0))


def test_without_anything_it_is_the_cross_entropy(logits):
    expected = -logits.log_softmax(1)[torch.arange(4), LABELS].mean()
    torch.testing.assert_close(loss(logits, Target(LABELS, LABELS, 1.0), PLAIN), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_and_smoothed_labels_by_hand(logits, smoothing):
    other = LABELS.flip(0)
    mixed = 0.7 * F.one_hot(LABELS, 10) + 0.3 * F.one_hot(other, 10)
    smooth = (1 - smoothing) * mixed + smoothing / 10
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    found = loss(logits, Target(LABELS, other, 0.7), PLAIN.replace(label_smoothing=smoothing))
    torch.testing.assert_close(found, expected)


def test_distillation_by_hand(logits):
    recipe = PLAIN.replace(distillation=0.8, distillation_temperature=2.0)
    teacher = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))
    p, q = (teacher / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    expected = 0.2 * F.cross_entropy(logits, LABELS) + 0.8 * 4 * divergence
    torch.testing.assert_close(loss(logits, Target(LABELS, LABELS, 1.0, teacher), recipe), expected)
    same_logits = loss(logits, Target(LABELS, LABELS, 1.0, logits), recipe)
    torch.testing.assert_close(same_logits, 0.2 * F.cross_entropy(logits, LABELS))


def test_parts_of_a_target_have_its_rows(logits):
    target = Target(LABELS, LABELS.flip(0), 0.7, logits)
    part = target.part(slice(1, 3))
    assert (part.labels.tolist(), part.other.tolist(), part.weight) == ([2, 3], [3, 2], 0.7)
    assert torch.equal(part.teacher, logits[1:3])
    assert Target(LABELS, LABELS, 1.0).part(slice(2)).teacher is None
    halves = [loss(logits[rows], target.part(rows), PLAIN) for rows in (slice(2), slice(2, 4))]
    torch.testing.assert_close(sum(halves) / 2, loss(logits, target, PLAIN))


def test_mixup_by_hand():
    x = torch.arange(4.0)[:, None, None, None]
    rng, twin = np.random.default_rng(0), np.random.default_rng(0)
    weight = twin.beta(0.3, 0.3)
    mixed, target = mixup(x, LABELS, PLAIN.replace(mixup=0.3), rng)
    torch.testing.assert_close(
        mixed.flatten(), torch.tensor([3.0, 2.0, 1.0, 0.0]) * (1 - weight) + torch.arange(4.0) * weight
    )
    assert (target.labels.tolist(), target.other.tolist(), target.weight) == ([1, 2, 3, 4], [4, 3, 2, 1], weight)
    same, target = mixup(x, LABELS, PLAIN.replace(mixup=0.0), rng)
    assert same is x
    assert (target.labels is LABELS, target.other) == (True, None)
    assert rng.random() == twin.random()  # without mixup nothing is drawn


def test_balanced_weights_by_hand():
    # 8 images in the 2 classes that have some: 8 / (2 x 6) and 8 / (2 x 2). The mean over the images is 1.
    weights = balanced_weights([6, 0, 2])
    assert weights.tolist() == pytest.approx([2 / 3, 0.0, 2.0])
    assert (6 * weights[0] + 2 * weights[2]).item() == pytest.approx(8)
    assert balanced_weights([5, 5]).tolist() == [1.0, 1.0]


def test_classes_are_weighted_in_the_cross_entropy_alone_and_in_parts_of_a_batch_alike(logits):
    weights, each = torch.arange(10.0), F.cross_entropy(logits, LABELS, reduction="none")
    expected = sum(k * value for k, value in zip((1, 2, 3, 4), each, strict=True)) / 4
    target = Target(LABELS)
    torch.testing.assert_close(loss(logits, target, PLAIN, weights), expected)
    halves = [loss(logits[rows], target.part(rows), PLAIN, weights) for rows in (slice(2), slice(2, 4))]
    torch.testing.assert_close(sum(halves) / 2, expected)
    mixed = loss(logits, Target(LABELS, LABELS.flip(0), 0.7), PLAIN, weights)
    torch.testing.assert_close(mixed, 0.7 * expected + 0.3 * loss(logits, Target(LABELS.flip(0)), PLAIN, weights))
    ones = torch.ones(10)
    torch.testing.assert_close(loss(logits, target, RECIPE, ones), loss(logits, target, RECIPE))
    taught = PLAIN.replace(distillation=0.8)
    parts = [loss(logits, Target(LABELS, teacher=logits.flip(0)), taught, w) for w in (weights, None)]
    torch.testing.assert_close(parts[0] - parts[1], 0.2 * (expected - each.mean()))
