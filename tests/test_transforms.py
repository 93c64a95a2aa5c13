"""From an image to the input of a network, compared with torchvision."""

import io
import json
import struct
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from fbnetv3 import InputError
from fbnetv3.transforms import LONGEST, Transforms, decode_image, eight_bit, open_upright

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


def test_an_image_is_read_on_the_cpu_whatever_the_default_device_is():
    expected = PLAIN(photo())
    with torch.device("meta"):
        found = PLAIN(photo())
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_any_kind_have_the_channels_of_the_network(mode):
    assert PLAIN.pixels(photo(mode=mode)).shape == (3, 24, 24)
    assert Transforms(28, 24, (0.5,), (0.5,)).pixels(photo(mode=mode)).shape == (1, 24, 24)
    with pytest.raises(InputError, match="an image has 1 or 3 channels, but the network takes 2"):
        Transforms(28, 24, (0.5,) * 2, (0.5,) * 2).pixels(photo(mode=mode))


def test_another_side_keeps_the_proportion():
    assert Transforms(256, 224, (0.5,), (0.2,)).at(112) == Transforms(128, 112, (0.5,), (0.2,))


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


def test_grey_of_16_bits_is_scaled_and_not_cut_off(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name in ("grey.png", "grey.tif", "grey.pgm"):
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / name)
        found = open_upright(tmp_path / name)
        assert found.mode == "L"
        assert np.array_equal(np.array(found), grey), name
    assert np.array_equal(np.array(open_upright(tmp_path / "grey.png", "RGB")), np.stack([grey] * 3, -1))
    # Pillow's images that a caller opened are scaled too.
    opened = Image.open(tmp_path / "grey.png")
    assert torch.equal(PLAIN.pixels(opened), PLAIN.pixels(Image.fromarray(grey)))
    # 128.5 and 127.4 of 255: rounded to the nearest, not down.
    middle = Image.fromarray(np.array([[33024, 32742]], dtype=np.uint16))
    assert np.array(eight_bit(middle)).tolist() == [[128, 127]]


@pytest.mark.parametrize(
    ("bits", "white", "content", "values", "grey"),
    [
        (12, 1, b"\xff\xf0\x00\0", [4095, 0], [255, 0]),  # two values in three bytes
        (16, 1, b"\xff\xff\x01\x01", [65535, 257], [255, 1]),
        (16, 0, b"\xff\xff\x01\x01", [65535, 257], [0, 254]),  # a file whose 0 is white
    ],
)
def test_grey_of_tiff_files(tmp_path, bits, white, content, values, grey):
    # Two pixels beside one another, with the tags of a TIFF file by hand.
    tags = [
        (256, 4, 2),
        (257, 4, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, white),
        (273, 4, 8),
        (278, 4, 1),
        (279, 4, 4),
    ]
    content = b"II*\0" + struct.pack("<I", 12) + content + struct.pack("<H", len(tags))
    content += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags) + b"\0" * 4
    (tmp_path / "grey.tif").write_bytes(content)
    assert np.array(Image.open(tmp_path / "grey.tif")).tolist() == [values]
    assert np.array(open_upright(tmp_path / "grey.tif")).tolist() == [grey]


def test_turned_16_bit_grey_keeps_its_scale(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[65535, 0]], dtype=np.uint16)).save(tmp_path / "turned.png", exif=exif)
    assert np.array(open_upright(tmp_path / "turned.png")).tolist() == [[255], [0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_pixels_are_white(tmp_path, mode):
    pixels = np.full((2, 3, 4), 255, dtype=np.uint8)
    pixels[0] = (200, 200, 200, 0)  # stored under transparency
    pixels[1] = (40, 40, 40, 255)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("RGB").quantize(4)
        image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
        image = open_upright(tmp_path / "a.png")
    else:
        image = eight_bit(image.convert(mode))
    for target in ("RGB", "L"):
        found = np.array(image.convert(target))
        assert (found[0] == 255).all()
        assert (found[1] == 40).all()


def test_half_transparent_pixels_are_mixed_with_white():
    assert eight_bit(Image.new("RGBA", (1, 1), (0, 100, 200, 51))).getpixel((0, 0)) == (204, 224, 244)


def test_the_transparent_value_of_a_grey_image_is_white(tmp_path):
    for dtype, key in ((np.uint8, 7), (np.uint16, 7 * 257)):
        grey = Image.fromarray(np.array([[key, key * 2]], dtype=dtype))
        grey.save(tmp_path / "grey.png", transparency=key)
        found = open_upright(tmp_path / "grey.png")
        assert found.mode == "L"
        assert np.array(found).tolist() == [[255, 14]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_opaque_images_are_not_changed(mode):
    image = photo(mode=mode)
    assert eight_bit(image) is image


def test_lab_is_made_rgb(tmp_path):
    image = photo()
    try:
        image.convert("LAB").save(tmp_path / "lab.tif")
        np.testing.assert_allclose(np.array(open_upright(tmp_path / "lab.tif")), np.array(image), atol=40)
    except (ValueError, InputError):
        pytest.skip("this version of Pillow does not know LAB")
    assert PLAIN(Image.open(tmp_path / "lab.tif")).shape == (3, 24, 24)
    assert Transforms(28, 24, (0.5,), (0.5,)).open(tmp_path / "lab.tif").shape == (1, 24, 24)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_an_agreed_meaning_are_refused(tmp_path, mode):
    image = Image.new(mode, (3, 2))
    image.save(tmp_path / "odd.tif")
    for call in (lambda: eight_bit(image), lambda: PLAIN(image), lambda: open_upright(tmp_path / "odd.tif")):
        with pytest.raises(InputError, match=f"mode {mode}, for which it is not agreed .*; save it as 8-bit RGB or"):
            call()
    with pytest.raises(InputError, match=f"^{tmp_path}/odd.tif: the image has"):
        open_upright(tmp_path / "odd.tif")


def test_exif_data_that_cannot_be_read_does_not_matter(tmp_path):
    photo().save(tmp_path / "a.png", exif=b"no EXIF data")
    assert np.array_equal(np.array(open_upright(tmp_path / "a.png")), np.array(photo()))


def test_long_strips_are_cut_before_they_are_resized():
    x = np.linspace(0, 255, 9001).astype(np.uint8)
    for strip in (Image.fromarray(x[None]), Image.fromarray(x[:, None])):
        found = PLAIN.pixels(strip.convert("RGB")).float()
        assert found.shape == (3, 24, 24)
        assert found.min() >= 127
        assert found.max() <= 128
    # One pixel is enough, and so is a strip that is just short enough to be resized as a whole.
    assert PLAIN.pixels(Image.new("RGB", (1, 1), (9, 9, 9))).unique().tolist() == [9]
    whole = Image.fromarray(x[None, : LONGEST * 1])
    assert PLAIN.pixels(whole).shape == (3, 24, 24)


def test_what_the_callers_file_is_called():
    with pytest.raises(InputError, match=r"^shard:3 is no image that can be read \(KeyError: 'x'\); remove it$"):
        decode_image(lambda: {}["x"], "shard:3", "remove it")


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    photo((20, 11)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb.png has more than 200 pixels, too many to be read; make it smaller"):
        open_upright(tmp_path / "bomb.png")


def test_files_that_are_no_images(tmp_path):
    photo().save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-60])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for path in (tmp_path / "cut.png", tmp_path / "text.png", tmp_path / "empty.jpg", tmp_path):
        with pytest.raises(InputError, match=rf"^{path} is no image that can be read \(.*\); give a PNG, a JPEG or"):
            open_upright(path)
    with pytest.raises(InputError, match=r"no image at .*absent.png; give the path of an image file"):
        PLAIN.open(tmp_path / "absent.png")
    with pytest.raises(InputError, match="no image at"):
        open_upright(tmp_path / ("x" * 300))


def files_of_all_formats():
    """The content of small images in many formats and modes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("TIFF", mode) for mode in ("L", "RGB", "CMYK", "I;16", "F")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("GIF", "P"), ("WEBP", "RGBA"), ("BMP", "RGB"), ("PPM", "L"), ("TGA", "RGBA"), ("ICO", "RGBA")),
    ]
    found = []
    for format, mode in kinds:
        buffer = io.BytesIO()
        Image.new(mode, (9, 7), 1 if mode in ("1", "L", "P", "I;16", "F") else None).save(buffer, format, exif=exif)
        found.append(buffer.getvalue())
    return found


FILES = files_of_all_formats()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(FILES),
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
)
def test_no_content_of_a_file_gives_anything_but_an_image_or_one_line(tmp_path, file, cut, changes):
    content = bytearray(file[:cut] if cut < 300 else file)
    for place, value in changes:
        if place < len(content):
            content[place] = value
    (tmp_path / "a.png").write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata
            assert PLAIN.open(tmp_path / "a.png").shape == (3, 24, 24)
        return
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{tmp_path}/a.png")
    assert "\n" not in message
    assert len(message) < 500
