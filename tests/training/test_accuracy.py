"""Hits by hand, and the split that a finished training is measured on."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from fbnetv3 import InputError
from fbnetv3.device import tf32_units
from fbnetv3.layers import use_channels_last
from fbnetv3.training.accuracy import Accuracy, final_split, image_interval, measure, top_hits
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import Split
from tests.training.data.examples import make_folder
from tests.training.data.pretended import CUDA, Fetches, pretended_cuda
from tests.training.examples import FULL, RECIPE, first, new_model


class Constant(torch.nn.Module):
    """Says class 3, whatever it sees; classes 0 to 4 are the first five."""

    def forward(self, x):
        return F.one_hot(torch.full((len(x),), 3), 10).float() - torch.arange(10) / 100


def with_val(labels):
    return dataclasses.replace(FULL, val=Split(FULL.val.images[: len(labels)], torch.tensor(labels)))


def test_the_first_and_the_first_five_by_hand():
    logits = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert top_hits(logits, torch.tensor([0, 0])).tolist() == [1, 1]
    assert top_hits(logits, torch.tensor([4, 1])).tolist() == [0, 2]
    assert top_hits(logits[:, :2], torch.tensor([1, 1])).tolist() == [1, 2]  # fewer than five classes


def test_accuracy_counts_hits():
    assert measure(Constant(), FULL, "val") == Accuracy(10.0, 50.0, 4000)
    accuracy = measure(Constant(), with_val([3, 1, 3]), "val")
    assert math.isclose(accuracy.acc1, 200 / 3)
    assert measure(Constant(), with_val([3, 9]), "val") == Accuracy(50.0, 50.0, 2)


class Pixels(torch.nn.Module):
    """The first pixels of an image as logits; counts the batches."""

    batches = 0

    def forward(self, x):
        self.batches += 1
        # Small differences, so that no two logits are equal: devices need not agree on which of them comes first.
        return x.flatten(1)[:, 300:310] + torch.arange(10, device=x.device) / 1000


def test_nothing_is_fetched_from_a_device_before_the_last_batch(monkeypatch):
    model = Pixels()
    with Fetches() as fetches:
        measure(model, FULL, "val")
    assert (model.batches, fetches.count) == (8, 0)
    for device in ("meta", "cuda"):
        model = Pixels()
        with pretended_cuda(monkeypatch), pytest.raises((RuntimeError, NotImplementedError)):
            measure(model, FULL, "val", device=torch.device(device))
        assert model.batches == 8, device


def test_a_network_is_measured_in_full_float32(monkeypatch):
    class Watched(Constant):
        def forward(self, x):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            return super().forward(x)

    with tf32_units(used=True):
        measure(Watched(), with_val([3]), "val")
        assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_accuracy_on_a_gpu_is_that_of_the_cpu(split):
    assert measure(Pixels(), FULL, split, device=CUDA) == measure(Pixels(), FULL, split)
    model = new_model(RECIPE)
    here = measure(model, FULL, split)
    there = measure(use_channels_last(model.to(CUDA)), FULL, split, device=CUDA)
    assert there.images == here.images
    assert there.acc1 == pytest.approx(here.acc1, abs=0.5)  # an untrained network says many classes almost equally


def test_images_that_cannot_be_read_are_not_counted(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 1), ("val", 3), ("test", 1)))
    damaged = [*sorted((root / "val").rglob("*.png"))[3:5], *sorted((root / "test").rglob("*.png"))]
    for path in damaged:
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"bee/0000\.png is no image that can be read"):
        measure(Constant(), load_data(str(root), resolution=8), "val")
    data = load_data(str(root), resolution=8, on_bad_image="skip")
    assert measure(Constant(), data, "val") == Accuracy(0.0, 100.0, 7)
    assert sorted(data.bad.met["val"]) == [3, 4]
    with pytest.raises(InputError, match="no image of test can be read"):
        measure(Constant(), data, "test")


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_in_eval_mode_meanwhile(training):
    class Watched(Constant):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x)

    model = Watched().train(training)
    measure(model, with_val([3]), "val")
    assert model.training == training


def test_a_finished_training_is_measured_on_test_or_else_on_val():
    assert final_split(FULL) == "test"
    assert final_split(dataclasses.replace(FULL, test=first(FULL.test, 0))) == "val"


def test_an_interval_of_images_stays_between_0_and_100():
    assert image_interval(50.0, 100) == pytest.approx((40.38, 59.62), abs=0.01)
    assert image_interval(100.0, 10) == pytest.approx((72.25, 100.0), abs=0.01)
    assert image_interval(0.0, 10) == pytest.approx((0.0, 27.75), abs=0.01)
