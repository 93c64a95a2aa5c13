"""Batches of detectors: they depend on (seed, step) alone, processes share them, damaged images are left out."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError
from fbnetv3.detection.batches import TrainingBatches, epoch_batches, evaluation_loader, iterate_batches
from fbnetv3.detection.datasets import load_records
from fbnetv3.detection.images import ImageMapper
from fbnetv3.training.process_rank import ProcessRank
from tests.detection import coco_data

ALONE = ProcessRank()


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 99))
def test_a_pass_has_every_image_at_most_once_and_mixes_only_what_is_left(landscape, batch, seed):
    shape = np.array(landscape)
    batches = epoch_batches(shape, batch, np.random.default_rng(seed))
    assert len(batches) == len(shape) // batch
    assert all(len(one) == batch for one in batches)
    seen = [int(i) for one in batches for i in one]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(len(shape)))
    mixed = sum(0 < shape[one].sum() < batch for one in batches)
    wide = int(shape.sum())
    assert mixed <= (wide % batch + (len(shape) - wide) % batch) // batch <= 1


def test_passes_differ_and_leave_no_image_out_for_ever():
    passes = [epoch_batches(np.arange(7) % 2 == 0, 3, np.random.default_rng([0, epoch])) for epoch in range(20)]
    assert len({str(batches) for batches in passes}) == 20
    assert {int(i) for batches in passes for one in batches for i in one} == set(range(7))


def batches_of(folder, pair, process=ALONE, seed=0, batch=2, count=8):
    mapper = ImageMapper(coco_data.config(folder, pair), True)
    return TrainingBatches(load_records(coco_data.data_of(folder)), mapper, batch, seed, count, process)


def same(a, b):
    """The same images, pixels and boxes."""
    return len(a) == len(b) and all(
        x["file_name"] == y["file_name"]
        and torch.equal(x["image"], y["image"])
        and torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor)
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_a_function_of_seed_and_step(shared_data, pair):
    every = list(iterate_batches(batches_of(shared_data, pair), 0, 0))
    assert len(every) == 8
    later = list(iterate_batches(batches_of(shared_data, pair), 5, 0))
    assert all(same(a, b) for a, b in zip(every[5:], later, strict=True))
    fresh = batches_of(shared_data, pair)
    assert all(same(fresh[i], every[i]) for i in (7, 0, 3))
    others = batches_of(shared_data, pair, seed=1)
    assert not all(same(others[i], every[i]) for i in range(8))
    # Three batches are a pass over the six images. The next pass crops and mirrors an image in another way.
    for turn in range(2):
        assert len({r["file_name"] for batch in every[3 * turn : 3 * turn + 3] for r in batch}) == 6
    by_name = {r["file_name"]: r["image"] for batch in every[:3] for r in batch}
    assert any(not torch.equal(r["image"], by_name[r["file_name"]]) for batch in every[3:6] for r in batch)


def test_workers_change_nothing(shared_data, pair):
    alone, two = (list(iterate_batches(batches_of(shared_data, pair, count=4), 1, workers)) for workers in (0, 2))
    assert len(alone) == len(two) == 3
    assert all(same(a, b) for a, b in zip(alone, two, strict=True))


def test_batches_can_be_sent_to_a_worker_process(shared_data, pair):
    batches = batches_of(shared_data, pair)
    first = batches[0]
    assert same(pickle.loads(pickle.dumps(batches))[0], first)


def test_processes_share_the_batch(shared_data, pair):
    alone = batches_of(shared_data, pair, batch=4)
    parts = [batches_of(shared_data, pair, ProcessRank(rank, 2), batch=4) for rank in range(2)]
    for step in range(3):
        found = [part[step] for part in parts]
        assert [len(batch) for batch in found] == [2, 2]
        assert same(alone[step], [record for records in zip(*found, strict=True) for record in records])
    with pytest.raises(InputError, match="a batch of 3 cannot be divided evenly among 2"):
        batches_of(shared_data, pair, ProcessRank(0, 2), batch=3)


def test_a_batch_larger_than_the_data_is_refused(shared_data, pair):
    with pytest.raises(InputError, match=r"6 images are fewer than a batch of 7: lower SOLVER\.IMS_PER_BATCH"):
        batches_of(shared_data, pair, batch=7)


def test_augmentation_leaves_numpys_generator_alone(shared_data, pair):
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    first = batches_of(shared_data, pair)[0]
    assert np.array_equal(np.random.rand(3), expected)
    np.random.seed(99)
    assert same(first, batches_of(shared_data, pair)[0])


def test_a_damaged_image_is_named_and_missing_from_its_batch(data, pair, caplog):
    coco_data.truncate(data, 2)
    found = list(iterate_batches(batches_of(data, pair, count=3), 0, 0))
    assert sorted(len(batch) for batch in found) == [1, 2, 2]
    (warning,) = caplog.messages
    assert "images/p2.png is left out: it cannot be read" in warning
    assert "\n" not in warning


def test_another_image_replaces_a_batch_of_damaged_images(data, pair):
    coco_data.truncate(data, 0, 1, 2, 3, 5)
    found = list(iterate_batches(batches_of(data, pair, batch=1, count=6), 0, 0))
    assert [[record["file_name"][-6:] for record in batch] for batch in found] == [["p4.png"]] * 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_without_any_readable_image_ends_in_one_line(data, pair, workers):
    coco_data.truncate(data, *range(6))
    with pytest.raises(InputError, match="the images to train on cannot be read") as error:
        list(iterate_batches(batches_of(data, pair), 0, workers))
    assert "\n" not in str(error.value)


def test_an_evaluation_sees_every_image_once_and_a_damaged_one_as_an_empty_list(data, pair):
    coco_data.truncate(data, 4)
    mapper = ImageMapper(coco_data.config(data, pair), False)
    found = list(evaluation_loader(load_records(coco_data.data_of(data)), mapper, 0))
    assert [[record["image_id"] for record in batch] for batch in found] == [[10], [11], [12], [13], [], [15]]
