"""The page holds everything in one file, escapes every name, and says what it shows."""

import io
import re

import numpy as np
from PIL import Image

from fbnetv3.evaluation.page import CSS, evaluation_page, picture
from fbnetv3.evaluation.speed import BatchTime, Speed
from fbnetv3.pages.plots import Plot
from tests.evaluation.known import found

FACTS = {"network": "small", "weights": "<w>.pt", "data": "pets & co", "split": "test", "device": "cpu"}
PLOTS = {name: Plot(name, name, "caption", b"a PNG") for name in ("confusion", "reliability")}


def page(result, speed=None, **facts):
    return evaluation_page(result, speed, PLOTS, FACTS | facts)


def test_the_numbers_are_on_the_page():
    text = page(found(), Speed("cpu, 1 thread", 8, 7, (BatchTime(1, 2.0, 1.5, 9.0),)), left_out=2)
    assert "<b>50.00%</b> of 6 images correctly" in text
    assert "Left out: 2 images that cannot be read." in text
    assert "on the test images of pets" in text
    assert text.count('class="card"') == 3
    assert "<td>bee</td><td>ant</td><td>2</td><td>66.7%</td>" in text
    assert "<td>cow</td>" not in text
    assert "Not shown: 1 of 3 classes, which have neither images nor predictions." in text
    assert "<td>500.0</td>" in text  # images a second
    assert text.index("<td>bee</td><td>3</td>") < text.index("<td>ant</td><td>3</td>")  # F1 of 40 before 57


def test_nothing_is_loaded_and_every_name_is_escaped():
    text = page(found(classes=("<script>", "b&b", "cow")))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "pets &amp; co" in text
    assert "default-src 'none'" in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert "$" not in text.replace(CSS, "")


def test_without_mistakes_the_page_says_so():
    text = page(found([(0, (0.9, 0.1))], ("a", "b")))
    assert "There is no mistake." in text
    assert "most frequent mistakes" not in text
    assert "<h2>Speed</h2>" not in text


def test_small_pictures_keep_their_pixels_and_large_ones_are_small_files():
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    kind, content = picture(grey)
    with Image.open(io.BytesIO(content)) as image:
        assert (kind, image.mode) == ("png", "L")
        assert np.array_equal(np.asarray(image), grey[0])
    kind, content = picture(np.zeros((3, 300, 300), np.uint8))
    with Image.open(io.BytesIO(content)) as image:
        assert (kind, image.mode, image.size) == ("jpeg", "RGB", (224, 224))
