"""Evaluation of a detector: COCO's box AP, computed by pycocotools."""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from fbnetv3.detection.batches import evaluation_loader
from fbnetv3.detection.datasets import Record, check_class_count, dataset_of, load_records
from fbnetv3.detection.images import ImageMapper
from fbnetv3.detection.on_gpu import gpu_settings, send_images
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder
from fbnetv3.progress import Report

Metrics = dict[str, float]
FILES = ("coco_instances_results.json", "instances_predictions.pth")  # what detectron2 writes into a folder


def evaluate(
    cfg: CfgNode,
    model: nn.Module,
    out: Path | None = None,
    progress: Report | None = None,
    records: Sequence[Record] | None = None,
) -> Metrics:
    """Return COCO's box AP of a detector on `DATASETS.TEST` in percent, computed by pycocotools.

    An image that cannot be read counts as an image without detections, with a warning. Several processes divide the images
    among them. The first process returns the result, the others return an empty one.

    Args:
        out: folder for the detections (`coco_instances_results.json`).
        records: what `load_records` returned for the data set, so that its file is not parsed again.

    Raises:
        InputError: data that cannot be used, or data with other classes than the model.
    """
    name = dataset_of(cfg, "TEST")
    if records is None:
        records = load_records(name)
    check_class_count(cfg, name)
    loader = evaluation_loader(records, ImageMapper(cfg, False), cfg.DATALOADER.NUM_WORKERS)
    evaluator = _evaluator(name, records, None if out is None else str(make_folder(out)))
    device, was_training, done = torch.device(cfg.MODEL.DEVICE), model.training, 0

    def detect(batch: list[Record]) -> Any:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(loader), "images")
        return model(send_images(batch, device)) if batch else []

    model.eval()
    # pycocotools prints to stdout.
    with contextlib.redirect_stdout(StringIO()), gpu_settings(device, "lower INPUT.MIN_SIZE_TEST"):
        found = inference_on_dataset(detect, loader, evaluator)
    model.train(was_training)
    if comm.is_main_process() and "bbox" not in found:
        raise InputError(f"no image of {name} could be read; give the folder of the images that the file lists")
    # Without any detection detectron2 reports NaN for every metric, where COCO's AP is 0. The AP of one class ("AP-CLASS")
    # stays NaN, because a class without boxes has no AP in COCO either; nor has a set of crowds alone.
    box = found.get("bbox", {})
    boxes = any(not row.get("iscrowd", 0) for record in records for row in record["annotations"])
    nothing = boxes and all(math.isnan(value) for value in box.values())
    return {key: 0.0 if nothing and "-" not in key else float(value) for key, value in box.items()}


def _evaluator(name: str, records: Sequence[Record], out: str | None) -> COCOEvaluator:
    """Return detectron2's evaluator with the annotations of `records`.

    pycocotools marks a detection that matches nothing with 0 in the place of an annotation's id. An annotation whose id is 0
    would count as missed, so the annotations get new ids here.
    """
    # The fast implementation needs detectron2's compiled part, which may be missing; the results are the same.
    make = functools.partial(COCOEvaluator, tasks=("bbox",), output_dir=out, use_fast_impl=False)
    known = MetadataCatalog.get(name)
    if known.get("json_file") is None:  # a data set in another format, which detectron2 converts, with ids from 1
        return make(name)
    # The evaluator reads a file when it is made. It gets an empty one, since the annotations have been read.
    metadata = MetadataCatalog.get(f"{name}, evaluated")
    numbers = known.thing_dataset_id_to_contiguous_id
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.json").write_text('{"annotations": []}')
        metadata.set(json_file=f"{folder}/empty.json", thing_classes=known.thing_classes)
        metadata.thing_dataset_id_to_contiguous_id = numbers
        evaluator = make(metadata.name)
    MetadataCatalog.pop(metadata.name)  # the next evaluation has a file of its own, which the catalogue would refuse
    evaluator._coco_api.dataset = _ground_truth(records, {number: id for id, number in numbers.items()})
    with contextlib.redirect_stdout(StringIO()):  # pycocotools prints to stdout
        evaluator._coco_api.createIndex()
    return evaluator


def _ground_truth(records: Sequence[Record], category_ids: Mapping[int, Any]) -> dict[str, Any]:
    """Return the images and boxes of records in COCO's format.

    Args:
        category_ids: the id of a category by the model's class.
    """
    boxes = ((record["image_id"], row) for record in records for row in record["annotations"])
    return {
        "images": [{"id": record["image_id"]} for record in records],
        "categories": [{"id": id} for id in category_ids.values()],
        "annotations": [
            {key: row[key] for key in ("bbox", "area", "iscrowd")}
            | {"id": number, "image_id": image_id, "category_id": category_ids[row["category_id"]]}
            for number, (image_id, row) in enumerate(boxes, 1)
        ],
    }
