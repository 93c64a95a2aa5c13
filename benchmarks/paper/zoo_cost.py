"""FLOPs and parameters of the released networks FBNetV3-A to G, counted by fvcore on the built networks and in closed form.

The counts do not depend on the machine and take some seconds. `fbnetv3 reproduce table4` compares them with the paper's.
"""

from __future__ import annotations

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fbnetv3.arch import find_arch
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.complexity import CONVENTIONS, cost
from fbnetv3.hub.registry import read_registry
from fbnetv3.model import build_model, list_models

METHOD = (
    "fvcore.nn.FlopCountAnalysis of the built network in eval mode on one image of its own resolution; one "
    "multiply-add = 1. `fvcore` is what it counts, by operator, and the parameters: all, and the weights of "
    "convolutions and linear layers alone. `published` is the paper's convention from these counts: conv + linear + "
    "adaptive_avg_pool2d, without batch_norm, plus `noop_pool`, in closed form, for the released head's second pool, "
    "which is not built; its params are those weights. `closed_form` is fbnetv3.complexity.cost in both conventions."
)
OPERATORS = ("conv", "linear", "adaptive_avg_pool2d", "batch_norm")
COLUMNS = {
    "model": "`{model}`",
    "image": "{image}",
    "FLOPs": "{flops:.1f}M",
    "params": "{params:.2f}M",
    "top-1, released file": "{released:.2f}",
    "top-1, paper": "{paper}",
}


def measure(models: tuple[str, ...] = ()) -> Measured:
    """Count the given networks; by default all released ones."""
    return Measured({name: measure_network(name) for name in models or list_models()})


def measure_network(name: str) -> Values:
    """Return the counts of one released network, as `METHOD` says.

    Raises:
        RuntimeError: fvcore counts an operator that no convention knows.
    """
    arch, model = find_arch(name), build_model(name).eval()
    # Zeros: the count depends on shapes alone.
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, arch.resolution, arch.resolution))
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    # A new version of fvcore may count more operators. Then a total would mean something else, without any error.
    if unknown := sorted(set(counted) - set(OPERATORS)):
        raise RuntimeError(f"{name}: fvcore counts operators that no convention names: {', '.join(unknown)}")
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
        # The paper counts a second pool that the released head has and this package does not build: it changes nothing.
        "published": {"flops": total - operators["batch_norm"] + closed.noop_pool, "params": weights},
        "closed_form": {c: {"flops": closed.flops(c), "params": closed.params(c)} for c in CONVENTIONS},
    }


def count_weights(model: nn.Module) -> int:
    """Return the number of weights of convolutions and linear layers: the parameters in the paper's convention."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def tables(result: Result) -> dict[str, Table]:
    """Return the costs, which are counted, beside the accuracies, which the registry quotes."""
    registry, rows = read_registry(), []
    for model in result.values:
        row = registry.find(model, "fb")
        paper = row.metric("acc1", "paper")  # of the networks that the paper lists; D and F are only released
        rows.append(
            {
                "model": model,
                "image": row.transforms.crop,
                "flops": result.number(f"{model}.published.flops") / 1e6,
                "params": result.number(f"{model}.published.params") / 1e6,
                "released": row.metric("acc1", "released file"),
                "paper": "not given" if paper is None else f"{paper:.1f}",
            }
        )
    return {"released networks": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark("zoo_cost", METHOD, ("torch", "fvcore"), measure, tables=tables, depends_on_machine=False)
