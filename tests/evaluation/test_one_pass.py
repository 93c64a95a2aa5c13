"""One pass: the worst mistakes with their names and pixels, and networks that do not fit."""

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.evaluation import one_pass
from fbnetv3.evaluation.one_pass import evaluate
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from tests.evaluation.known import CLASSES, ROWS, Says, found, images
from tests.training.data.examples import make_folder
from tests.training.examples import DATA, new_model


def test_the_worst_mistakes_are_the_most_confident_ones():
    mistakes = found().mistakes
    names = [("image 3", "bee", "ant"), ("image 2", "ant", "bee"), ("image 5", "bee", "ant")]
    assert [(m.image, m.label, m.predicted) for m in mistakes] == names
    assert [m.confidence for m in mistakes] == pytest.approx([0.9, 0.7, 0.55])
    assert [m.of_true for m in mistakes] == pytest.approx([0.05, 0.2, 0.4])
    assert np.array_equal(mistakes[0].pixels, np.full((1, 2, 2), 3, np.uint8))


def test_the_worst_of_several_batches_are_kept_and_of_equal_ones_the_first(monkeypatch):
    monkeypatch.setattr(one_pass, "MISTAKES", 2)
    monkeypatch.setattr("fbnetv3.training.data.memory.EVAL_BATCH", 2)
    assert [m.image for m in found().mistakes] == ["image 3", "image 2"]
    assert [m.image for m in found([(1, (0.6, 0.4))] * 5, ("a", "b")).mistakes] == ["image 0", "image 1"]


def test_the_accuracies_are_those_of_a_training():
    model = new_model().train()
    result, same = evaluate(model, DATA, "val"), measure(model, DATA, "val")
    assert (result.acc1, result.acc5, result.images) == (same.acc1, same.acc5, same.images)
    assert model.training


def test_the_classes_of_the_data_may_be_some_of_the_network_in_any_order():
    """The data knows bee and ant, in this order."""
    rows = ROWS[:5]  # of ant two images of three are right, of bee one of two
    data = images([1 - label for label, _ in rows], ("bee", "ant"))
    result = evaluate(Says(rows), data, "test", classes=CLASSES, labels=(1, 0))
    assert dict(result.confusion) == {(0, 0): 2, (0, 1): 1, (1, 0): 1, (1, 1): 1}
    assert result.classes == CLASSES


def test_mistakes_have_the_names_of_their_images_also_beside_damaged_ones(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 1), ("val", 2)))
    (root / "val" / "ant" / "0001.png").write_bytes(b"damaged")
    data = load_data(str(root), resolution=8, on_bad_image="skip")

    class Ant(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[5.0, 0.0, 0.0]]).repeat(len(x), 1)

    result = evaluate(Ant(), data, "val")
    assert result.images == 5
    assert [m.image for m in result.mistakes] == ["bee/0000.png", "bee/0001.png", "cow/0000.png", "cow/0001.png"]
    image = data.images("val").read(2)  # bee/0000.png
    assert np.array_equal(result.mistakes[0].pixels, data.transforms.pixels(image).numpy())


def test_networks_that_do_not_fit():
    with pytest.raises(InputError, match=r"returns \[6, 3\] for 6 images of 2 classes"):
        evaluate(Says(), images([label for label, _ in ROWS], ("ant", "bee")), "test")
    with pytest.raises(InputError, match="logits are not finite"):
        found([(0, (float("nan"), 0.5))], ("a", "b"))


def test_progress_is_reported_after_every_batch():
    seen = []
    evaluate(Says(), images([0, 0]), "test", report=lambda *row: seen.append(row))
    assert seen == [(2, 2, "measuring on the images of test")]
