"""The cost columns of Table 5: parameters and FLOPs of the four detectors, counted by fvcore on the built detectron2 models.

The counts do not depend on the machine and take some seconds. `fbnetv3 reproduce table5` compares them with the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import TABLE5
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.benchmarks.paper.zoo_cost import count_weights
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.detection import need_detectron2

SIDES = (432, 560)  # height and width of the image whose FLOPs are counted; INFERRED, as the config says
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
COLUMNS = {
    "network": "`{network}`",
    "params, paper": "{paper_params}M",
    "params, counted": "{params:.3f}M",
    "FLOPs, paper": "{paper_flops}G",
    "FLOPs, counted": "{flops:.3f}G",
}
REDUCTION_COLUMNS = {
    "FBNetV3-A against EfficientNetB0": "{what}",
    "paper": "{paper}% fewer",
    "counted": "{counted:.1f}% fewer",
}


def measure() -> Measured:
    """Count all four detectors."""
    need_detectron2()  # before the functions below import it: the error says how to install it
    values: Values = {_short(name): measure_detector(name) for name in TABLE5}
    # Section 4.3 says "up to": the larger one of two reductions. Both of its numbers are FBNetV3-A's against EfficientNetB0.
    values["reduction"] = reductions(values["fbnetv3_a"], values["efficientnet_b0"])
    values["reduction_e"] = reductions(values["fbnetv3_e"], values["efficientnet_b1"])
    proposals = values["fbnetv3_a"]["proposals"]
    return Measured(values, words={"height": SIDES[0], "width": SIDES[1], "proposals": proposals})


def measure_detector(name: str) -> Values:
    """Return the counts of the detector of one network of Table 5, as `METHOD` says."""
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detectron2_model import build_detector

    # Suppression would drop some of the boxes: with a threshold of 1 it drops none.
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
    """Return the multiply-adds by operator of one image through a detector.

    Args:
        model: a detector with an RPN. Its weights are changed.
        sides: height and width of the image.
        proposals: the number of proposals that the RPN must keep.

    Raises:
        RuntimeError: the RPN kept another number, which would falsify the count.
    """
    from detectron2.utils.analysis import FlopCountAnalysis

    # Random weights would keep a random number of proposals. With zeros all scores are equal and no box leaves its anchor, so
    # that the RPN always keeps as many as it may.
    for part in (model.proposal_generator.rpn_head.objectness, model.proposal_generator.rpn_head.boxes):
        nn.init.zeros_(part.weight)
    seen: list[int] = []

    # The box head gets one row per proposal, so its input tells how many there were.
    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(len(inputs[0]))

    hook = model.roi_heads.box_head.register_forward_pre_hook(note)
    analysis = FlopCountAnalysis(model, [{"image": torch.zeros(3, *sides)}])
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    hook.remove()
    if set(seen) != {proposals}:
        raise RuntimeError(
            f"the RPN kept {seen} proposals, not {proposals}: the count of FLOPs would be that of another model"
        )
    return {operator: int(count) for operator, count in sorted(counted.items())}


def reductions(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Return by how many percent our parameters and FLOPs are fewer than theirs."""
    return {key: 100 * (1 - ours[key] / theirs[key]) for key in ("params", "flops")}


def tables(result: Result) -> dict[str, Table]:
    """Return the costs beside those that the paper prints, and the reduction of both."""
    quoted = {number.id: number.value for item in load_paper() if item.id == "table5" for number in item.numbers}
    rows = [
        {
            "network": name,
            "params": result.number(f"{_short(name)}.params") / 1e6,
            "flops": result.number(f"{_short(name)}.flops") / 1e9,
            "paper_params": quoted[f"{_short(name)}.params"],
            "paper_flops": quoted[f"{_short(name)}.flops"],
        }
        for name in TABLE5
    ]
    reduced = [
        {"what": what, "paper": quoted[f"reduction.{key}"], "counted": result.number(f"reduction.{key}")}
        for key, what in (("params", "params"), ("flops", "FLOPs"))
    ]
    return {"costs": Table.of(COLUMNS, rows), "reduction": Table.of(REDUCTION_COLUMNS, reduced)}


def _short(name: str) -> str:
    """Return the name that the paper's table and the result file have for a network."""
    return name.removeprefix("table5_")


BENCHMARK = Benchmark(
    "detection_cost",
    METHOD,
    ("torch", "fvcore", "sal-detectron2", "detectron2"),
    measure,
    tables=tables,
    depends_on_machine=False,
)
