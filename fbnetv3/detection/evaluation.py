"""COCO's box AP of a detector, by pycocotools."""

from __future__ import annotations

import contextlib
import math
from io import StringIO
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from fbnetv3.detection.data import check_classes, load_records, test_loader
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder
from fbnetv3.training.loop import Progress

Metrics = dict[str, float]


def evaluate(cfg: CfgNode, model: nn.Module, out: Path | None = None, progress: Progress | None = None) -> Metrics:
    """COCO's box AP, in percent, on `DATASETS.TEST`, by pycocotools.

    A picture that cannot be read is a warning and counts as one without detections. Processes share the pictures; the
    first has the result, the others an empty one.

    Args:
        out: folder that gets the detections (`coco_instances_results.json`).

    Raises:
        InputError: data that cannot be used, or of other classes than the model's.
    """
    name = only_set(cfg, "TEST")
    records = load_records(name)
    check_classes(cfg, name)
    loader = test_loader(records, DatasetMapper(cfg, False), cfg.DATALOADER.NUM_WORKERS)
    evaluator = COCOEvaluator(
        name, ("bbox",), True, None if out is None else str(make_folder(out)), use_fast_impl=False
    )
    for row in evaluator._coco_api.anns.values():  # pycocotools needs both, which data of others often lacks
        row.setdefault("iscrowd", 0)
        row.setdefault("area", row["bbox"][2] * row["bbox"][3])
    was_training, done = model.training, 0

    def detect(batch: list[dict[str, Any]]) -> Any:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(loader), "pictures")
        return model(batch) if batch else []

    model.eval()
    with contextlib.redirect_stdout(StringIO()):  # pycocotools prints
        found = inference_on_dataset(detect, loader, evaluator)
    model.train(was_training)
    if comm.is_main_process() and "bbox" not in found:
        raise InputError(f"no picture of {name} could be read; give the folder that the file names lie in")
    # Where nothing was detected detectron2 has no number; COCO's is 0. A class without boxes has none (NaN).
    box = found.get("bbox", {})
    nothing = all(math.isnan(value) for value in box.values()) and any(row["annotations"] for row in records)
    return {key: 0.0 if nothing and "-" not in key else float(value) for key, value in box.items()}


def only_set(cfg: CfgNode, split: str) -> str:
    """The name of `DATASETS.TRAIN` or `TEST`.

    Raises:
        InputError: none, or several.
    """
    names = cfg.DATASETS[split]
    if len(names) != 1:
        raise InputError(f"DATASETS.{split} is {names}; give exactly one data set")
    return str(names[0])
