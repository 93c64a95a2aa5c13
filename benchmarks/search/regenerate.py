"""A zoo from nothing at the scale of one machine: the networks of `fbnetv3 make-zoo --preset micro`, and their cost.

It takes about five minutes of two cores. The same command continues what was stopped. There is no rival and no target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.progress import show_progress
from fbnetv3.search.runs.resources import Resources
from fbnetv3.search.runs.zoo import load_zoo, make_zoo
from fbnetv3.training.data.packaged import fashion_mnist

ZOO = "micro"
METHOD = (
    "`fbnetv3 make-zoo --preset micro`, one run with seed 0: a quickstart search, pairs for three budgets from its "
    "predictor, the largest scaled up twice, the largest of all trained as teacher, all trained with it and published. "
    "`acc1`: top-1 on the {test} test images, which no step before publishing used. `hours`: of all trainings of a stage, "
    "summed over workers."
)
NETWORKS: dict[str, Format] = {
    "network": "`{model}`",
    "FLOPs": lambda row: f"{row['flops'] / 1e3:.0f}K",
    "params": lambda row: f"{row['params'] / 1e3:.1f}K",
    "top-1": "{acc1:.2f}",
    "made": "{made}",
}
HOURS: dict[str, Format] = {"stage": "{stage}", "hours of training on one core": "{hours:.3f}"}


def measure(
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the zoo and of everything before it. A second call continues."),
    ],
) -> Measured:
    """Make the zoo, with two trainings at the same time."""
    with show_progress() as report:
        account = make_zoo(load_zoo(ZOO), out, None, None, 0, Resources(at_once=2), report)
    # The teacher is the largest network, trained without distillation. Only its accuracy is of interest here.
    teacher = account.pop("teacher")
    values = account | {"teacher": {"acc1": teacher["test_acc1"], "network": account["networks"][-1]["model"]}}
    return Measured(values, {"test": f"{len(fashion_mnist().test):,}"})


def tables(result: Result) -> dict[str, Table]:
    """Return the networks, and the hours of every stage."""
    hours = ({"stage": stage, "hours": value} for stage, value in result.values["hours"].items())
    return {"networks": Table.of(NETWORKS, result.values["networks"]), "hours": Table.of(HOURS, hours)}


BENCHMARK = Benchmark("regenerate", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables)
