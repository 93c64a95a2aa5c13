"""The cost columns of Table 5: parameters and FLOPs of the four detectors, by fvcore on the built detectron2 models.

    fbnetv3 benchmark detection-cost

writes `results/detection_cost.json` in some seconds; the counts do not depend on the machine. `fbnetv3 reproduce table5` shows
them beside the paper's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import TABLE5
from fbnetv3.benchmarks.paper.zoo_cost import count_weights
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, versions, write_result
from fbnetv3.detection import need_detectron2

NAME = "detection_cost"
SIDES = (432, 560)  # INFERRED, as the config says: height and width of the image whose FLOPs are counted
METHOD = (
    "fvcore's count (detectron2.utils.analysis.FlopCountAnalysis) of the built detectron2 models of the configs "
    "faster_rcnn_table5_*_c4_3x in eval mode on one image of {height} x {width} pixels, with {proposals} proposals: the RPN's "
    "logits are set to zero and its suppression off, so that there are exactly as many, which is checked. One multiply-add "
    "= 1. As in Table 4's convention, `flops` are those of convolutions, linear layers and average pools, `params` the weights "
    "of convolutions and linear layers; `operators` is all that fvcore counts. The size of the image, the meaning of the "
    "paper's '75', the pooler's 6 x 6 and the 15 anchors a place are inferred: with them all figures come out, but the paper "
    "does not give them."
)
COUNTED = ("conv", "linear", "adaptive_avg_pool2d")


def measure_detector(name: str) -> dict[str, Any]:
    """Counts of the detector of one network of Table 5, as `METHOD` says."""
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.modeling import build_detector

    changes = ["MODEL.DEVICE", "cpu", "MODEL.RPN.NMS_THRESH", "1.0"]
    cfg = load_config(f"faster_rcnn_{name}_c4_3x", changes)
    model = build_detector(cfg).eval()
    operators = count_operators(model, SIDES, cfg.MODEL.RPN.POST_NMS_TOPK_TEST)
    return {
        "params": count_weights(model),
        "flops": sum(operators[operator] for operator in COUNTED),
        "operators": operators,
        "proposals": cfg.MODEL.RPN.POST_NMS_TOPK_TEST,
    }


def count_operators(model: Any, sides: tuple[int, int], proposals: int) -> dict[str, int]:
    """Multiply-adds by operator of one image through a detector with an RPN that keeps exactly so many proposals.

    Raises:
        RuntimeError: it keeps another number, which would falsify the count.
    """
    from detectron2.utils.analysis import FlopCountAnalysis

    for part in (model.proposal_generator.rpn_head.objectness, model.proposal_generator.rpn_head.boxes):
        nn.init.zeros_(part.weight)
    seen: list[int] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(len(inputs[0]))

    hook = model.roi_heads.box_head.register_forward_pre_hook(note)
    analysis = FlopCountAnalysis(model, [{"image": torch.zeros(3, *sides)}])
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    hook.remove()
    if set(seen) != {proposals}:
        raise RuntimeError(
            f"the RPN kept {seen} proposals, not {proposals}: the count of FLOPs would be of another model"
        )
    return {operator: int(count) for operator, count in sorted(counted.items())}


def reductions(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Percent less of parameters and FLOPs."""
    return {key: 100 * (1 - ours[key] / theirs[key]) for key in ("params", "flops")}


def measure(folder: Path = RESULTS) -> Result:
    """Count all four detectors and write `<folder>/detection_cost.json`."""
    need_detectron2()
    values: dict[str, Any] = {name.removeprefix("table5_"): measure_detector(name) for name in TABLE5}
    # "up to", section 4.3: the larger of the two reductions, which both are FBNetV3-A's against EfficientNetB0.
    values["reduction"] = reductions(values["fbnetv3_a"], values["efficientnet_b0"])
    values["reduction_e"] = reductions(values["fbnetv3_e"], values["efficientnet_b1"])
    proposals = values["fbnetv3_a"]["proposals"]
    result = Result.now(
        command=command_of(NAME),
        method=METHOD.format(height=SIDES[0], width=SIDES[1], proposals=proposals),
        versions=versions(["torch", "fvcore", "sal-detectron2", "detectron2"]),
        values=values,
    )
    write_result(NAME, result, folder)
    return result


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    argparse.ArgumentParser(prog=command_of(NAME), description=__doc__).parse_args(argv)
    return measure()


if __name__ == "__main__":
    main()
