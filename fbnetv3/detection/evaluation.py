"""Evaluation of a detector: COCO's box AP, computed by pycocotools."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from fbnetv3.detection.batches import evaluation_loader
from fbnetv3.detection.datasets import Record, check_class_count, dataset_of, load_records
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder
from fbnetv3.progress import Report

Metrics = dict[str, float]


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
    loader = evaluation_loader(records, DatasetMapper(cfg, False), cfg.DATALOADER.NUM_WORKERS)
    # The fast implementation needs detectron2's compiled part, which may be missing; the results are the same.
    evaluator = COCOEvaluator(
        name, ("bbox",), True, None if out is None else str(make_folder(out)), use_fast_impl=False
    )
    for annotation in evaluator._coco_api.anns.values():  # pycocotools needs both keys, data sets often lack them
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    was_training, done = model.training, 0

    def detect(batch: list[Record]) -> Any:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(loader), "images")
        return model(batch) if batch else []

    model.eval()
    with contextlib.redirect_stdout(StringIO()):  # pycocotools prints to stdout
        found = inference_on_dataset(detect, loader, evaluator)
    model.train(was_training)
    if comm.is_main_process() and "bbox" not in found:
        raise InputError(f"no image of {name} could be read; give the folder of the images that the file lists")
    # Without any detection detectron2 reports NaN for every metric, where COCO's AP is 0. The AP of one class ("AP-CLASS")
    # stays NaN, because a class without boxes has no AP in COCO either.
    box = found.get("bbox", {})
    nothing = all(math.isnan(value) for value in box.values()) and any(record["annotations"] for record in records)
    return {key: 0.0 if nothing and "-" not in key else float(value) for key, value in box.items()}
