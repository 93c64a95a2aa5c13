"""AutoAugment's operations and draws, compared with torchvision's."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as TF

from fbnetv3.training.data import autoaugment
from fbnetv3.training.data.augment import augment
from tests.training.data.examples import noise


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
@pytest.mark.parametrize("size", [(32, 32), (57, 40)])
def test_autoaugment_makes_the_images_of_torchvision(policy, size, monkeypatch):
    """Both get the same draws; every sub-policy, sign and combination of operations comes up."""
    theirs, ours = AutoAugment(AutoAugmentPolicy(policy)), autoaugment._tables(policy)
    monkeypatch.setattr(AutoAugment, "get_params", staticmethod(lambda _: drawn))
    rows = noise(4, side=64)
    for i in range(25):
        for variant in range(4):
            image = TF.to_pil_image(rows[variant]).resize(size)
            sign = torch.tensor([variant % 2, variant // 2])
            drawn = (i, torch.zeros(2), sign)
            ours_now = image
            for place in (0, 1):
                code = ours[1][i, place, int(sign[place])]
                ours_now = autoaugment.operate(ours_now, ours[0][code])
            assert np.array_equal(np.array(ours_now), np.array(theirs(image))), theirs.policies[i]


def test_operations_are_made_with_their_probabilities():
    codes = autoaugment.draw_codes("cifar10", 60_000, np.random.default_rng(0))
    operations = autoaugment._tables("cifar10")[0]
    found = {name: 0.0 for name, _ in operations}
    for column in codes.T:
        for code, count in enumerate(np.bincount(column, minlength=len(operations))):
            found[operations[code][0]] += count / 60_000
    expected = {"": 2.0}
    for row in AutoAugment(AutoAugmentPolicy.CIFAR10).policies:
        for name, probability, _ in row:
            expected[name] = expected.get(name, 0.0) + probability / 25
            expected[""] -= probability / 25
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.01), name
    rotations = [code for code, (name, _) in enumerate(operations) if name == "Rotate"]
    plus, minus = (np.count_nonzero(codes == code) for code in rotations)
    assert plus / minus == pytest.approx(1, abs=0.1)


def test_autoaugment_of_tensors_is_crop_flip_and_then_the_codes():
    images = noise(400)
    out = augment(images, "autoaugment", np.random.default_rng(1))
    rng = np.random.default_rng(1)
    moved = augment(images, "crop_flip", rng)
    before = moved.clone()
    codes = autoaugment.draw_codes("cifar10", 400, rng)
    assert torch.equal(autoaugment.apply_codes(moved, torch.from_numpy(codes), "cifar10"), out)
    assert torch.equal(moved, before)
    untouched = torch.from_numpy((codes == 0).all(1))
    assert 40 < int(untouched.sum()) < 200
    assert torch.equal(out[untouched], moved[untouched])
    changed = ~(out == moved).flatten(1).all(1)
    assert int(changed.sum()) > 200
    operations = autoaugment._tables("cifar10")[0]
    for i in range(100):
        want = moved[i]
        for code in codes[i]:
            want = autoaugment.operate(want, operations[code]) if code else want
        assert torch.equal(out[i], want)


def test_a_image_changes_by_its_generator_alone():
    image = Image.fromarray(noise(1)[0].permute(1, 2, 0).numpy())
    state = torch.get_rng_state()
    first = [np.array(autoaugment.change_image(image, "imagenet", np.random.default_rng(i))) for i in range(8)]
    again = [np.array(autoaugment.change_image(image, "imagenet", np.random.default_rng(i))) for i in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({a.tobytes() for a in first}) > 3
    assert torch.equal(torch.get_rng_state(), state)
