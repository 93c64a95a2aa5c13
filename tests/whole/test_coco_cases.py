"""Annotation files with the oddities that people report: each is evaluated and trained on right, or refused in one line."""

import contextlib
import logging
import math
import runpy
import sys

import pytest

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError
from fbnetv3.detection.batches import read_record
from fbnetv3.detection.datasets import dataset_name, keep_annotated, load_records
from fbnetv3.detection.evaluation import evaluate
from fbnetv3.detection.images import ImageMapper
from tests.detection import coco_data
from tests.detection.test_evaluation import Oracle
from tests.places import SHARED

SCRIPT = SHARED / "cases" / "coco.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason=f"no generator of annotation files at {SCRIPT}")

# Six images, each with one box of the first of two classes. If one box is missed, the recall is 5/6, and up to there the
# precision is 1. COCO's AP is the mean precision at the recalls 0, 0.01, ..., 1.
FIVE_OF_SIX = 100 * 84 / 101
# By kind: AP of a detector that knows the boxes, number of images that are trained on, and words of the warnings.
GOOD = {
    "plain": (100, 6, ""),
    "noinfo": (100, 6, ""),
    "id0": (100, 6, ""),
    "cat0": (100, 6, ""),
    "nocrowd": (100, 6, ""),
    "noarea": (100, 6, ""),
    "onlybbox": (100, 6, ""),
    "empty": (100, 5, "1 of 6 images have no box"),
    "outside": (100, 6, "1 boxes are outside of their images, the first is that of annotation 3"),
    "gray": (100, 6, ""),
    "cmyk": (100, 6, ""),
    "exif": (100, 6, ""),
    "exifall": (100, 6, ""),
    "trunc": (FIVE_OF_SIX, 5, "0.jpg is left out: it cannot be read"),
    "missing": (FIVE_OF_SIX, 5, "0.jpg is left out: it cannot be read"),
    "samename": (100, 6, ""),
    "crowd": (100, 5, "1 of 6 images have no box"),
    "segpoly1": (100, 6, "6 segmentations or keypoints are malformed"),
    "segnull": (100, 6, ""),
    "strid": (100, 6, ""),
    "floatcat": (100, 6, ""),
    "wrongwh": (FIVE_OF_SIX, 5, "0.jpg is left out: it cannot be read (Mismatched image shape"),
    "keypoints": (100, 6, ""),
    "abspath": (100, 6, ""),
    "bom": (100, 6, ""),
}


def make(monkeypatch, folder, kind):
    """Run the generator, and return the name of the data set."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder), kind])
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return dataset_name(folder / "a.json", folder / "img")


def config(name, pair):
    name = repr((name,))
    return coco_data.config(pair.parent, pair, DATASETS__TRAIN=name, DATASETS__TEST=name)


@pytest.fixture
def pair(tmp_path):
    return coco_data.pair_file(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_that_is_used(monkeypatch, tmp_path, pair, kind, caplog):
    caplog.set_level(logging.WARNING, "fbnetv3")
    ap, trained, words = GOOD[kind]
    name = make(monkeypatch, tmp_path / "set", kind)
    cfg, records = config(name, pair), load_records(name)
    found = evaluate(cfg, Oracle(records))
    assert found["AP"] == found["AP-red"] == pytest.approx(ap)
    assert math.isnan(found["AP-blue"])
    kept = [read_record(record, ImageMapper(cfg, True)) for record in keep_annotated(records, name)]
    assert sum(record is not None for record in kept) == trained
    messages = " ".join(message for source, _, message in caplog.record_tuples if source.startswith("fbnetv3"))
    assert words in messages
    assert bool(words) == bool(messages)


@pytest.mark.parametrize("kind", ["exif", "exifall"])
def test_a_box_is_where_its_object_is(monkeypatch, tmp_path, pair, kind):
    name = make(monkeypatch, tmp_path / "set", kind)
    for record in load_records(name):
        prepared = ImageMapper(config(name, pair), False)(record)["image"]
        x, y, w, h = (round(v * prepared.shape[2] / 128) for v in record["annotations"][0]["bbox"])
        red = prepared[:, y + 3 : y + h - 3, x + 3 : x + w - 3].float().mean((1, 2))
        assert red.tolist() == pytest.approx([240, 40, 40], abs=12)


def test_a_file_of_crowds_alone_has_no_ap_and_trains_nothing(monkeypatch, tmp_path, pair):
    name = make(monkeypatch, tmp_path / "set", "allcrowd")
    records = load_records(name)
    assert math.isnan(evaluate(config(name, pair), Oracle(records))["AP"])
    with pytest.raises(
        InputError, match=r"a.json has no image with a box that does not mark a crowd; give annotations"
    ):
        keep_annotated(records, name)


def test_a_width_that_is_a_text_is_refused(monkeypatch, tmp_path):
    name = make(monkeypatch, tmp_path / "set", "strwh")
    with pytest.raises(InputError, match=r"a.json: width of image 1 is '128'; allowed: a number"):
        load_records(name)


def test_every_kind_of_the_generator_is_tried():
    text = SCRIPT.read_text()
    kinds = {part.partition('"')[0] for part in text.split('kind == "')[1:]}
    assert kinds == GOOD.keys() - {"plain"} | {"allcrowd", "strwh"}
