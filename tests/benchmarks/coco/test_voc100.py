"""The real run: its split and summary by hand, its result file, and a detector that learns real photos by heart."""

import json

import pytest

from fbnetv3.benchmarks.coco.voc100 import METHOD, describe, split, summary, tables
from fbnetv3.benchmarks.result import load_result
from tests.places import SHARED

PHOTOS = SHARED / "data" / "voc100_coco"


@pytest.fixture
def detectron2():
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")


def folder_of(path, count):
    (path / "images").mkdir(parents=True)
    (path / "images" / "1.jpg").touch()
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 10, "height": 8} for i in reversed(range(1, count + 1))],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 7, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
            for i in range(1, count + 1)
        ],
        "categories": [{"id": 7, "name": "thing"}],
    }
    (path / "instances.json").write_text(json.dumps(data))
    return path


@pytest.mark.usefixtures("detectron2")
def test_every_fifth_photo_by_id_is_held_out(tmp_path):
    names = split(folder_of(tmp_path / "photos", 12), tmp_path / "out")
    found = {}
    for part, name in zip(("train", "test"), names, strict=True):
        data = json.loads((tmp_path / "out" / f"{part}.json").read_text())
        found[part] = [row["id"] for row in data["images"]]
        assert sorted(row["image_id"] for row in data["annotations"]) == found[part]
        assert name == f"coco:{tmp_path}/out/{part}.json:{tmp_path}/photos/images"
    assert found == {"train": [1, 2, 3, 4, 6, 7, 8, 9, 11, 12], "test": [5, 10]}


def test_a_summary_by_hand():
    rows = {
        str(seed): {"untrained": {"AP": 0.0, "AP50": 0.0}, "ema": {"AP": ap, "AP50": 2 * ap}}
        for seed, ap in enumerate((1.0, 2.0, 6.0))
    }
    found = summary(rows)
    assert (found["n"], found["least"]) == (3, 1.0)
    assert found["mean"] == {"untrained": {"AP": 0.0, "AP50": 0.0}, "ema": {"AP": 3.0, "AP50": 6.0}}


@pytest.mark.usefixtures("detectron2")
def test_the_method_gets_its_numbers_from_the_files(tmp_path):
    split(folder_of(tmp_path / "photos", 12), tmp_path / "out")
    words = describe(tmp_path / "out")
    assert words == {
        "train": 10,
        "test": 2,
        "train_boxes": 10,
        "test_boxes": 2,
        "classes": 1,
        "steps": 600,
        "batch": 4,
    }
    assert "600 steps of 4 photos" in METHOD.format(**words)


def test_the_table_has_the_means_of_both_starts():
    result = load_result("detection_voc100")
    (table,) = tables(result).values()
    mean = result.values["starts"]["cifar10"]["mean"]
    assert table.rows[0][:2] == ("cifar10", "3")
    assert table.rows[0][4:6] == (f"{mean['ema']['AP']:.1f}", f"{mean['ema']['AP50']:.1f}")
    assert table.columns[-1] == "least averaged AP"


def test_the_result_says_that_the_trained_detectors_beat_the_untrained():
    values = load_result("detection_voc100").values
    assert values["photos"] == {"train": 80, "test": 20}
    rows = values["starts"]["cifar10"]["seeds"].values()
    assert len(rows) >= 3
    assert all(row["ema"]["AP"] > 10 * max(row["untrained"]["AP"], 0.01) for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos at {PHOTOS}")
@pytest.mark.usefixtures("detectron2")
def test_a_detector_learns_four_photos_by_heart(tmp_path):
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.datasets import dataset_name
    from fbnetv3.detection.detector_weights import load_detector
    from fbnetv3.detection.evaluation import evaluate
    from fbnetv3.detection.training import train
    from fbnetv3.training.engine import cpu_threads

    data = json.loads((PHOTOS / "instances.json").read_text())
    data["images"] = data["images"][:4]
    ids = {row["id"] for row in data["images"]}
    data["annotations"] = [row for row in data["annotations"] if row["image_id"] in ids]
    (tmp_path / "four.json").write_text(json.dumps(data))
    name = repr((dataset_name(tmp_path / "four.json", PHOTOS / "images"),))
    changes = [
        "MODEL.DEVICE",
        "cpu",
        "DATASETS.TRAIN",
        name,
        "DATASETS.TEST",
        name,
        "OUTPUT_DIR",
        str(tmp_path / "out"),
    ]
    changes += ["INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MIN_SIZE_TEST", "160", "SOLVER.MAX_ITER", "120"]
    changes += ["SOLVER.WARMUP_ITERS", "10", "MODEL_EMA.DECAY", "0.9"]
    with cpu_threads(1):
        cfg = load_config("faster_rcnn_voc100", changes)
        model, _ = load_detector(cfg)
        before = evaluate(cfg, model)
        after = train(cfg, model)
    assert before["AP50"] < 1
    assert after["ema/AP50"] > 50
