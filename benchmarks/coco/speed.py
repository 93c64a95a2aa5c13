"""Images per second of detectron2's Faster R-CNN C4 on FBNetV3-B, against the same detector on timm's FBNetV3-B.

All detectors hold the same weights and run in turns on one thread, which takes some minutes. The benchmark also estimates how
long a whole training of Table 5 takes on that thread. It has no target.
"""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fbnetv3.benchmarks.command import Rounds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.speed.inference_paths import check_same, same_networks
from fbnetv3.benchmarks.statistics import speed_ratio
from fbnetv3.benchmarks.tables import Format, Table, ratio
from fbnetv3.detection import need_detectron2
from fbnetv3.inference.fusion import fold_batch_norms
from fbnetv3.inference.optimize import time_calls
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.engine import cpu_threads

MODEL = "fbnetv3_b_same_padding"  # what timm calls fbnetv3_b
SIDES = (432, 576)  # a photo of 3:4 at the size of the config
STEPS = 5  # training steps that are timed
TRAINED = "faster_rcnn_table5_fbnetv3_a_c4_3x"
METHOD = (
    "One image of {height} x {width} pixels through detectron2's Faster R-CNN C4 in eval mode, one thread, 75 proposals; the "
    "same weights, heads and image, the trunk ours (fbnetv3_b with padding k // 2) or timm's fbnetv3_b, which were "
    "shown to give equal maps; {rounds} rounds, interleaved. `ratio`: median time on timm's trunk over that of the path "
    "(above 1: faster), with its 95% bootstrap interval. `folded` is what `fbnetv3 detect` runs: batch norms folded into "
    "convolutions, in trunk and heads. `full_run`: training images a second, the median of {steps} steps of one such image "
    "and 512 regions on one thread, and the days that Table 5's schedule of one network would take at that rate: an estimate."
)
COLUMNS: dict[str, Format] = {
    "path": "`{path}`",
    "images/s": "{images_per_s:.2f}",
    "times as fast as on timm's backbone": ratio,
}
TRAINING_COLUMNS = {"images of the schedule": "{images:,}", "images/s": "{images_per_s:.2f}", "days": "{days:.0f}"}


def measure(rounds: Rounds = 40) -> Measured:
    """Time all detectors, and some training steps."""
    need_detectron2()
    # Noise is enough: the time depends on the size of the image and on the number of proposals, which is fixed.
    image = torch.randint(0, 256, (3, *SIDES), generator=torch.Generator().manual_seed(1)).float()
    runs: dict[str, Callable[[], object]] = {
        name: functools.partial(model, [{"image": image}]) for name, model in detectors().items()
    }
    with cpu_threads(1):
        with torch.no_grad():
            times = time_calls(runs, rounds)
        trained = time_training()
    paths = {
        name: {"images_per_s": round(1 / float(np.median(series)), 3)} | speed_ratio(times["timm"], series).as_dict()
        for name, series in times.items()
    }
    words = {"height": SIDES[0], "width": SIDES[1], "rounds": rounds, "steps": STEPS}
    return Measured({"paths": paths, "full_run": trained}, words, {"cpu": cpu_model()})


class TimmBackbone(nn.Module):
    """timm's network down to stride 16, with the attributes that detectron2 expects of a backbone."""

    size_divisibility = 0
    padding_constraints: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, network: Any) -> None:
        super().__init__()
        # The first five of seven stages. timm's own `features_only` would run all of them.
        self.layers = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[:5])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature map c4 of images [N, 3, H, W]."""
        return {"c4": self.layers(x)}


def detectors(side: int = 128) -> dict[str, nn.Module]:
    """Return the detectors that are compared, which all compute the same.

    Args:
        side: side in pixels of the random images that give the batch norms their statistics.

    Raises:
        RuntimeError: the two backbones give different feature maps.
    """
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detectron2_model import build_detector

    ours, theirs = same_networks(MODEL, side)
    changes = ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", MODEL]
    model: Any = build_detector(load_config("faster_rcnn_fbnetv3_a_c4_3x", changes)).eval()
    weights = ours.state_dict()
    model.backbone.load_state_dict({key: weights[key] for key in model.backbone.state_dict()})
    # Heads with the same weights, so that the detectors propose equal regions and their heads do equal work.
    on_timm = copy.deepcopy(model)
    on_timm.backbone = TimmBackbone(theirs).eval()
    x = torch.randn(1, 3, *SIDES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        check_same(on_timm.backbone(x)["c4"], model.backbone(x)["c4"], "the backbone")
    folded = copy.deepcopy(model)
    fold_batch_norms(folded)
    return {"timm": on_timm, "eager": model, "folded": folded}


def time_training() -> Values:
    """Return the training images per second, and the days that the schedule of `TRAINED` takes at that rate."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detectron2_model import build_detector

    cfg = load_config(TRAINED, ["MODEL.DEVICE", "cpu"])
    model = build_detector(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    # Two objects, as on a simple photo. Their number hardly matters: the heads always sample 512 regions.
    boxes = torch.tensor([[40.0, 40.0, 200.0, 300.0], [250.0, 90.0, 500.0, 400.0]])
    objects = Instances(SIDES, gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 1]))
    seconds = []
    with EventStorage():  # detectron2's heads log into it and fail without one
        for _ in range(1 + STEPS):
            start = time.perf_counter()
            losses = model([{"image": torch.zeros(3, *SIDES), "instances": objects}])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
    speed = 1 / statistics.median(seconds[1:])  # the first step allocates
    images = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.MAX_ITER
    return {"images_per_s": round(speed, 3), "images": images, "days": round(images / speed / 86400, 1)}


def tables(result: Result) -> dict[str, Table]:
    """Return the speed of every detector, and the estimate of a whole training."""
    paths = ({"path": path, **row} for path, row in result.values["paths"].items())
    return {
        "detectors": Table.of(COLUMNS, paths),
        "a whole training on one thread (estimate)": Table.of(TRAINING_COLUMNS, [result.values["full_run"]]),
    }


BENCHMARK = Benchmark(
    "detection_speed", METHOD, ("torch", "timm", "sal-detectron2", "detectron2"), measure, tables=tables
)
