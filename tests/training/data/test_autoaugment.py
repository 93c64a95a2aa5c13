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
from tests.training.data.pretended import CUDA, pretended_cuda


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


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
@pytest.mark.parametrize("size", [(3, 32, 32), (1, 28, 28), (3, 7, 40), (3, 2, 2), (1, 1, 3)])
def test_many_images_in_one_call_are_what_torchvision_makes_of_each(policy, size):
    operations = autoaugment._tables(policy)[0]
    codes = torch.arange(len(operations)).repeat(3)
    images = torch.randint(0, 256, (len(codes), *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changed = autoaugment.apply_codes(images, torch.stack([codes, codes.flip(0)], dim=1), policy)
    for image, got, pair in zip(images, changed, zip(codes.tolist(), codes.flip(0).tolist(), strict=True), strict=True):
        for code in pair:
            image = autoaugment.operate(image[None], operations[code])[0] if code else image
        assert torch.equal(got, image), [operations[code] for code in pair]


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
def test_every_operation_stays_on_the_device_of_the_images(policy, monkeypatch):
    operations = autoaugment._tables(policy)[0][1:]
    for operation in operations:
        if operation[0] in autoaugment.GEOMETRIC:
            autoaugment._sources(operation, 32, 32)  # made on the host, with real numbers
    with pretended_cuda(monkeypatch):
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8, device=CUDA)
        for operation in operations:
            changed = autoaugment._operate(images, operation)
            assert (changed.device, changed.dtype, changed.shape) == (CUDA, torch.uint8, images.shape)
