"""Images a second of a detectron2 C4 detector on FBNetV3-B, against the same detector on timm's trunk.

    fbnetv3 benchmark detection-speed

writes `results/detection_speed.json` in some minutes.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fbnetv3.benchmarks.ratio import speed_ratio
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.benchmarks.speed.inference_paths import check_same, same_networks
from fbnetv3.detection import need_detectron2
from fbnetv3.inference.fusion import fold_batch_norms
from fbnetv3.inference.optimize import time_calls
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.loop import cpu_threads

NAME = "detection_speed"
MODEL = "fbnetv3_b_same_padding"  # what timm calls fbnetv3_b
SIDES = (432, 576)  # a 3:4 picture at the config's size
ROUNDS = 40
STEPS = 5  # timed training steps
TABLE5 = "faster_rcnn_table5_fbnetv3_a_c4_3x"
METHOD = (
    "One image of {height} x {width} pixels through detectron2's Faster R-CNN C4 in eval mode, one thread, 75 proposals; the "
    "same weights, heads and image, the trunk ours (fbnetv3_b with padding k // 2) or timm's fbnetv3_b, which were "
    "shown to give equal maps; {rounds} rounds, interleaved. `ratio`: median time on timm's trunk over that of the path "
    "(above 1: faster), with its 95% bootstrap interval. `folded` is what `fbnetv3 detect` runs: batch norms folded into "
    "convolutions, in trunk and heads. `full_run`: training images a second, the median of {steps} steps of one such image "
    "and 512 regions on one thread, and the days that Table 5's schedule of one network would take at that rate: an estimate."
)


class TimmTrunk(nn.Module):
    """timm's network down to stride 16, as detectron2 wants a backbone."""

    size_divisibility = 0
    padding_constraints: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            network.conv_stem, network.bn1, *network.blocks[:5]
        )  # of seven; features_only runs all

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images to the c4 map."""
        return {"c4": self.layers(x)}


def detectors() -> dict[str, nn.Module]:
    """The paths: equal functions."""
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.modeling import build_detector

    ours, theirs = same_networks(MODEL, 128)
    changes = ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", MODEL]
    model: Any = build_detector(load_config("faster_rcnn_fbnetv3_a_c4_3x", changes)).eval()
    model.backbone.load_state_dict({key: ours.state_dict()[key] for key in model.backbone.state_dict()})
    on_timm = copy.deepcopy(model)
    on_timm.backbone = TimmTrunk(theirs).eval()
    x = torch.randn(1, 3, *SIDES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        check_same(on_timm.backbone(x)["c4"], model.backbone(x)["c4"], "the trunk")
    folded = copy.deepcopy(model)
    fold_batch_norms(folded)
    return {"timm": on_timm, "eager": model, "folded": folded}


def full_run() -> dict[str, float]:
    """Training images a second of one thread, and the days of the schedule at that rate."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.modeling import build_detector

    cfg = load_config(TABLE5, ["MODEL.DEVICE", "cpu"])
    model = build_detector(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    boxes = torch.tensor([[40.0, 40.0, 200.0, 300.0], [250.0, 90.0, 500.0, 400.0]])
    objects = Instances(SIDES, gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 1]))
    seconds = []
    with EventStorage():
        for _ in range(1 + STEPS):
            start = time.perf_counter()
            losses = model([{"image": torch.zeros(3, *SIDES), "instances": objects}])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
    speed = 1 / statistics.median(seconds[1:])
    images = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.MAX_ITER
    return {"images_per_s": round(speed, 3), "images": images, "days": round(images / speed / 86400, 1)}


def measure(rounds: int) -> Result:
    """Time all paths, interleaved."""
    image = torch.randint(0, 256, (3, *SIDES), generator=torch.Generator().manual_seed(1)).float()
    runs: dict[str, Callable[[], object]] = {
        name: functools.partial(model, [{"image": image}]) for name, model in detectors().items()
    }
    with cpu_threads(1), torch.no_grad():
        times = time_calls(runs, rounds)
    paths: dict[str, Any] = {
        name: {"images_per_s": round(1 / float(np.median(series)), 3)}
        | dataclasses.asdict(speed_ratio(times["timm"], series))
        for name, series in times.items()
    }
    with cpu_threads(1):
        values = {"paths": paths, "full_run": full_run()}
    return Result.now(
        command=f"{command_of(NAME)} --rounds {rounds}",
        method=METHOD.format(height=SIDES[0], width=SIDES[1], rounds=rounds, steps=STEPS),
        versions=versions(["torch", "timm", "sal-detectron2", "detectron2"]) | host() | {"cpu": cpu_model()},
        values=values,
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json")
    given = parser.parse_args(arguments)
    need_detectron2()
    result = measure(given.rounds)
    write_result(given.out.stem, result, given.out.parent)
    for name, row in result.values["paths"].items():
        print(f"{name}: {row['images_per_s']} images/s, {row['ratio']} [{row['low']}, {row['high']}]")
    print(result.values["full_run"])


if __name__ == "__main__":
    main()
