"""Images and class names in, probabilities out."""

import pytest
import torch
from PIL import Image

from fbnetv3 import InputError, build_model
from fbnetv3.networks.classifier import Classifier, class_names
from fbnetv3.networks.weight_file import IMAGENET, WeightFile
from fbnetv3.transforms import Transforms
from tests.test_arch import TINY
from tests.training.data.pretended import Fetches

CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = build_model(TINY, 3)
    return Classifier.from_weight_file(WeightFile.of(model, CLASSES, Transforms(20, 16, (0.5,) * 3, (0.25,) * 3)))


def test_classes_come_with_their_probabilities_the_most_probable_first(classifier):
    x = torch.randn(3, 16, 16)
    ranked = classifier.rank(x)
    assert sorted(name for name, _ in ranked) == list(CLASSES)
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)
    assert sum(p for _, p in ranked) == pytest.approx(1.0)
    logits = classifier.model(x[None])[0]
    assert ranked[0][0] == CLASSES[logits.argmax()]
    assert not classifier.model.training


def test_the_answer_of_a_device_is_fetched_once(classifier, monkeypatch):
    """On a GPU every number that is looked at would be waited for."""
    fetched, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: fetched.append(tensor.shape) or cpu(tensor))
    with Fetches() as fetches:
        classifier.rank(torch.randn(3, 16, 16))
    assert fetched == [(1, 3)]
    assert fetches.count == 1  # whether all logits are finite


def test_an_image_file_is_prepared_first(classifier, tmp_path):
    image = Image.effect_noise((40, 30), 60)
    image.save(tmp_path / "noise.png")
    assert classifier.predict(tmp_path / "noise.png") == classifier.rank(classifier.transforms(image))
    with pytest.raises(InputError, match="no image at"):
        classifier.predict(tmp_path / "absent.png")


def test_logits_that_are_not_finite_are_no_answer(classifier, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    for parameter in classifier.model.parameters():
        parameter.data *= 1e30
    with pytest.raises(InputError, match=r"red.png: the network's logits are not finite; .* give other weights"):
        classifier.predict(tmp_path / "red.png")


def test_imagenets_names_are_torchvisions():
    names = class_names(IMAGENET)
    assert len(names) == 1000
    assert (names[0], names[281]) == ("tench", "tabby")
    assert class_names(["a", "b"]) == ("a", "b")
