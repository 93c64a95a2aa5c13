"""From an image to the input of a network, compared with torchvision."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from fbnetv3 import InputError
from fbnetv3.transforms import Transforms, open_upright

PLAIN = Transforms(28, 24, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))


def photo(size=(50, 40), mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_is_prepared_as_torchvision_does_it(interpolation):
    ours = Transforms(28, 24, PLAIN.mean, PLAIN.std, interpolation)
    mode = v2.InterpolationMode(interpolation)
    theirs = v2.Compose(
        [
            v2.Resize(28, interpolation=mode),
            v2.CenterCrop(24),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(ours.mean, ours.std),
        ]
    )
    torch.testing.assert_close(ours(photo()), theirs(photo()), rtol=1e-5, atol=1e-5)


def test_normalising_by_hand():
    grey = Transforms(2, 2, (0.5,), (0.25,))
    assert grey.normalise(torch.tensor([[[0, 255]]], dtype=torch.uint8)).tolist() == [[[-2.0, 2.0]]]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_any_kind_have_the_channels_of_the_network(mode):
    assert PLAIN.pixels(photo(mode=mode)).shape == (3, 24, 24)
    assert Transforms(28, 24, (0.5,), (0.5,)).pixels(photo(mode=mode)).shape == (1, 24, 24)
    with pytest.raises(InputError, match="an image has 1 or 3 channels, but the network takes 2"):
        Transforms(28, 24, (0.5,) * 2, (0.5,) * 2).pixels(photo(mode=mode))


def test_json_and_back():
    assert Transforms.from_dict(json.loads(json.dumps(PLAIN.to_dict()))) == PLAIN
    assert PLAIN.in_chans == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 0}, "crop is 0; allowed: whole numbers from 1"),
        ({"resize": True}, "resize is True; allowed"),
        ({"mean": []}, r"mean is \(\); allowed: one number for every channel"),
        ({"std": [0.1, 0.2, "a"]}, "std is .*; allowed: one number for every channel"),
        ({"std": [0.1, 0.2, 0.0]}, "allowed: as many positive numbers as mean has"),
        ({"std": [0.1]}, "allowed: as many positive numbers as mean has"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; allowed: bilinear, bicubic"),
        ({"gamma": 1}, "here: unknown key 'gamma'"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(InputError, match=message):
        Transforms.from_dict(PLAIN.to_dict() | change, "here")


def test_a_file_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the file holds the image a quarter counterclockwise
    photo().rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.array(open_upright(tmp_path / "turned.png")), np.array(photo()))
    assert torch.equal(PLAIN.open(tmp_path / "turned.png"), PLAIN(photo()))


def test_a_file_is_opened_in_a_mode(tmp_path):
    photo(mode="L").save(tmp_path / "grey.png")
    assert open_upright(tmp_path / "grey.png").mode == "L"
    assert open_upright(str(tmp_path / "grey.png"), "RGB").mode == "RGB"


def test_files_that_are_no_images(tmp_path):
    photo().save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-60])
    (tmp_path / "text.png").write_text("no image")
    for path in (tmp_path / "cut.png", tmp_path / "text.png", tmp_path):
        with pytest.raises(InputError, match=rf"^{path} is no image that can be read \(.*\); give a PNG, a JPEG or"):
            open_upright(path)
    with pytest.raises(InputError, match=r"no image at .*absent.png; give the path of an image file"):
        PLAIN.open(tmp_path / "absent.png")
