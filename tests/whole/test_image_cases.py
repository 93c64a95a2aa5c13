"""Images that trouble people, through `fbnetv3 predict`: each is classified as it should be, or refused in one line."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fbnetv3 import build_model
from fbnetv3.cli import main
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.transforms import Transforms
from tests.detection import coco_data
from tests.places import SHARED
from tests.test_arch import TINY

SCRIPT = SHARED / "cases" / "pictures.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason=f"no generator of images at {SCRIPT}")

# By name: the image whose classes it must have, to how many digits.
ALIKE = {
    "g16.png": ("g8.png", 4),
    "g16.tif": ("g8.png", 4),
    "exif6.png": ("rgb.png", 4),
    "sp ace ü😀.png": ("rgb.png", 4),
    "cmyk.jpg": ("rgb.png", 2),
    "rgb.jpg": ("rgb.png", 2),
    "w.webp": ("rgb.png", 2),
    "p.gif": ("rgb.png", 2),
    "lab.tif": ("rgb.png", 2),
}
ALONE = ("g8.png", "rgb.png", "one.png", "px.png", "strip.png")
REFUSED = {
    "trunc.jpg": "is no image that can be read (OSError: image file is truncated",
    "trunc.png": "is no image that can be read (OSError: image file is truncated",
    "empty.jpg": "is no image that can be read (UnidentifiedImageError",
    "text.jpg": "is no image that can be read (UnidentifiedImageError",
    "dir.png": "is no image that can be read (IsADirectoryError",
    "bomb.png": "has more than 178,956,970 pixels, too many to be read; make it smaller",
    "float01.tif": "pixels of Pillow's mode F, for which it is not agreed",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The folder of the generator's images and weights."""
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path(str(SCRIPT), run_name="__main__")
    # The logits of the generator's untrained networks do not depend on the image. Those of this one do.
    torch.manual_seed(0)
    model = coco_data.randomise_norms(build_model(TINY, 3)).eval()
    transforms = Transforms(72, 64, (0.5,) * 3, (0.5,) * 3)
    model.classifier.weight.data *= 100
    with torch.no_grad():  # so that the probabilities are not 0 and 1
        model.classifier.bias -= model(transforms.open(folder / "pics" / "rgb.png")[None])[0]
    write_weight_file(folder / "pics" / "weights.pt", WeightFile.of(model, ("cat", "dog", "hühn"), transforms))
    return folder / "pics"


@pytest.fixture
def predict(images, capsys, monkeypatch):
    """Call the command: (exit code, rows, lines of errors)."""

    def call(*names, weights="weights.pt"):
        arguments = ["predict", *names, "--weights", weights, "--json"]
        monkeypatch.chdir(images)
        monkeypatch.setattr(sys, "argv", ["fbnetv3", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        rows = json.loads(printed.out, parse_constant=pytest.fail) if printed.out else []
        return stopped.value.code, rows, printed.err.splitlines()

    return call


def test_good_images_are_classified_and_bad_ones_named(predict):
    names = [*ALIKE, *ALONE, *REFUSED]
    code, rows, errors = predict(*names)
    assert code == 2
    assert [row["image"] for row in rows[::3]] == [*ALIKE, *ALONE]  # three classes each
    found = {name: {r["class"]: r["probability"] for r in rows if r["image"] == name} for name in (*ALIKE, *ALONE)}
    for name, (other, digits) in ALIKE.items():
        assert found[name] == pytest.approx(found[other], abs=10**-digits), name
    # The network sees a difference where there is one.
    assert abs(found["g8.png"]["cat"] - found["rgb.png"]["cat"]) > 1e-3
    assert abs(found["px.png"]["cat"] - found["rgb.png"]["cat"]) > 0.05
    assert all(sum(classes.values()) == pytest.approx(1, abs=1e-3) for classes in found.values())
    for line, (name, words) in zip(errors, REFUSED.items(), strict=True):
        assert line.startswith(f"fbnetv3: {name}")
        assert words in line


def test_a_network_of_grey_images_and_one_of_four_channels(predict):
    code, rows, errors = predict("rgb.png", "g16.png", weights="w1.pt")
    assert (code, len(rows), errors) == (0, 6, [])
    code, rows, errors = predict("rgb.png", "g16.png", weights="w4.pt")
    assert (code, rows) == (2, [])
    assert len(errors) == 1
    assert "an image has 1 or 3 channels, but the network takes 4; give the network tensors instead" in errors[0]


def test_the_advice_about_images_works(predict, images):
    numbers = np.asarray(Image.open(images / "float01.tif"))
    Image.fromarray((255 * numbers).round().astype(np.uint8)).save(images / "saved.png")  # as 8-bit grey
    Image.new("1", (200, 200)).save(images / "smaller.png")
    code, rows, errors = predict("saved.png", "smaller.png")
    assert (code, len(rows), errors) == (0, 6, [])
    assert [row["probability"] for row in rows[:3]] == [row["probability"] for row in predict("g8.png")[1]]
    for name in ("saved.png", "smaller.png"):
        (images / name).unlink()


def test_both_formats_of_weights_give_the_same(predict):
    rows = predict("rgb.png", weights="w.pt")[1]
    assert rows == predict("rgb.png", weights="w.safetensors")[1]
    assert {row["class"] for row in rows} == {"cat", "dog", "hühn"}


def test_every_image_of_the_generator_is_tried(images):
    made = {path.name for path in images.iterdir() if not path.name.startswith("w") or path.suffix == ".webp"}
    assert made == {*ALIKE, *ALONE, *REFUSED}
