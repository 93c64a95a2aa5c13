"""The committed file is of this benchmark; the two sides that it compares do the same to the same images."""

import numpy as np
import pytest
import torch

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import data as benchmark
from fbnetv3.training.data.augment import PADDING


def test_the_committed_file_is_of_this_benchmark_and_meets_the_target():
    result = load_result("data_speed")
    assert result.command == "fbnetv3 benchmark data-speed"
    assert result.method == benchmark.METHOD
    for kind in ("crop_flip", "autoaugment"):
        row = result.values[kind]
        speeds = row["images_per_second"]
        pillow = {name: speed for name, speed in speeds.items() if name.startswith("pil_")}
        assert len(pillow) == 4
        assert row["best_pil"] == max(pillow, key=pillow.get)
        ratio = row["memory_over_best_pil"]
        assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
        assert ratio["ratio"] == pytest.approx(speeds["memory"] / pillow[row["best_pil"]], rel=0.01)
    (target,) = benchmark.targets(result.values).values()
    assert target.as_dict() == {"value": target.value, "at_least": 5.0, "met": True}
    assert result.values["target"] == {"crop_flip": target.value, "at_least": 5.0, "met": True}
    assert result.values["crop_flip"]["memory_over_best_pil"]["low"] >= 5.0


def test_images_are_coloured_and_of_the_right_size():
    images = benchmark.coloured(20)
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    assert not np.array_equal(images[..., 0], images[..., 1])
    assert images.max() > 100


def test_the_pillow_side_shifts_as_far_and_mirrors():
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[10, 12] = 255
    arrays = benchmark.Arrays(image[None], [7], benchmark.pillow_transform("crop_flip"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        places = {tuple((arrays[0][0][0] > 0).nonzero()[0].tolist()) for _ in range(600)}
    near = range(-PADDING, PADDING + 1)
    assert places == {(10 + y, x) for y in near for x in (*(12 + d for d in near), *(19 + d for d in near))}
    assert arrays[0][1] == 7
    assert arrays[0][0].unique().tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("kind", ["crop_flip", "autoaugment"])
def test_every_path_sees_every_batch(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(benchmark, "WORKERS", (0,))
    images = benchmark.coloured(300)
    benchmark.write_files(images, tmp_path)
    runs = benchmark.passes(kind, images, tmp_path)
    assert set(runs) == {"memory", "pil_arrays_0", "pil_files_0", *(["reader_0"] if kind == "crop_flip" else [])}
    assert {name: run() for name, run in runs.items()} == dict.fromkeys(runs, 256)


def test_the_table_has_a_dash_where_a_path_does_not_augment():
    (table,) = benchmark.tables(load_result("data_speed")).values()
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["`reader_0`"][1] == "-"
    assert rows["`memory`"][0].isdecimal()


@pytest.mark.slow
def test_a_rehearsal_writes_a_complete_result(tmp_path):
    result = benchmark.BENCHMARK.run(write_to=tmp_path / "speed.json", rounds=2, images=400)
    assert load_result("speed", tmp_path) == result
    assert result.command == "fbnetv3 benchmark data-speed --rounds 2"
    assert result.values["crop_flip"]["memory_over_best_pil"]["ratio"] > 1
