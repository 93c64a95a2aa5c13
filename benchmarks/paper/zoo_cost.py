"""FLOPs and parameters of the released networks A..G, by fvcore on the built models and in closed form.

    fbnetv3 benchmark zoo-cost

writes `results/zoo_cost.json` in some seconds; the counts do not depend on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fbnetv3.arch import find_arch
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, versions, write_result
from fbnetv3.complexity import CONVENTIONS, cost
from fbnetv3.model import build_model, list_models

NAME = "zoo_cost"
METHOD = (
    "fvcore.nn.FlopCountAnalysis of the built network in eval mode on one image of its own resolution; one "
    "multiply-add = 1. `fvcore` is what it counts, by operator, and the parameters: all, and the weights of "
    "convolutions and linear layers alone. `published` is the paper's convention from these counts: conv + linear + "
    "adaptive_avg_pool2d, without batch_norm, plus `noop_pool`, in closed form, for the released head's second pool, "
    "which is not built; its params are those weights. `closed_form` is fbnetv3.complexity.cost in both conventions."
)
OPERATORS = ("conv", "linear", "adaptive_avg_pool2d", "batch_norm")


def measure_network(name: str) -> dict[str, Any]:
    """Counts of one released network as `METHOD` says (a few seconds)."""
    arch, model = find_arch(name), build_model(name).eval()
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, arch.resolution, arch.resolution))
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    if unknown := sorted(set(counted) - set(OPERATORS)):
        raise RuntimeError(f"{name}: fvcore counts operators that no convention here names: {', '.join(unknown)}")
    operators = {operator: int(counted[operator]) for operator in OPERATORS}
    weights = count_weights(model)
    closed = cost(arch)
    total = sum(operators.values())
    return {
        "resolution": arch.resolution,
        "fvcore": {
            **operators,
            "total": total,
            "params": sum(p.numel() for p in model.parameters()),
            "weights": weights,
        },
        "noop_pool": closed.noop_pool,
        "published": {"flops": total - operators["batch_norm"] + closed.noop_pool, "params": weights},
        "closed_form": {c: {"flops": closed.flops(c), "params": closed.params(c)} for c in CONVENTIONS},
    }


def count_weights(model: nn.Module) -> int:
    """Weights of convolutions and linear layers: the parameters of the paper's convention."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def measure(folder: Path = RESULTS) -> Result:
    """Count all released networks and write `<folder>/zoo_cost.json`."""
    result = Result.now(
        command=command_of(NAME),
        method=METHOD,
        versions=versions(["torch", "fvcore"]),
        values={name: measure_network(name) for name in list_models()},
    )
    write_result(NAME, result, folder)
    return result


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    argparse.ArgumentParser(prog=command_of(NAME), description=__doc__).parse_args(argv)
    return measure()


if __name__ == "__main__":
    main()
