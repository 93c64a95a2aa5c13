"""A small table of real trainings: random candidates from the space and the window of the quickstart, trained as a search does.

The benchmark `predictor` learns from it. The trainings run one after the other on one thread and take seconds each. There is no
rival and no target.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.progress import count_steps
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context

SEED = 1234  # of the candidates
FIRST_SEED = 10_000  # of the first training; every later one has the next seed
METHOD = (
    "Index rows of the micro space from a Sobol pool of 2,000 inside the quickstart's FLOPs window, in random order; each "
    "trained for the recipe's 3 epochs with a seed of its own; top-1 in percent on the validation images."
)
COLUMNS = {
    "trainings": "{n}",
    "mean top-1 (%)": "{mean:.2f}",
    "std": "{std:.2f}",
    "worst": "{low:.2f}",
    "best": "{high:.2f}",
}


def measure(n: Annotated[int, typer.Option(min=1, help="Number of candidates to train.")] = 61) -> Measured:
    """Train the candidates."""
    context = Context.of(load_preset("quickstart"))
    evaluate = context.evaluator()
    # As in a search, whose first batch is a random part of a Sobol pool inside the window.
    pool = context.constraints.sample(2000, SEED)
    rows = pool[np.random.default_rng(SEED).permutation(len(pool))[:n]].tolist()
    accuracies = []
    with count_steps(len(rows)) as step:
        for i, row in enumerate(rows):
            step(f"candidate {i}")
            candidate = context.space.candidate(row, context.base, f"candidate {i}")
            outcome = evaluate(candidate, context.base.epochs, FIRST_SEED + i)
            # A training that diverged has no accuracy. It counts as chance, as in a search.
            accuracies.append(outcome.acc1[-1] if outcome.acc1 else context.chance)
    return Measured({"candidates": rows, "acc1": accuracies})


def tables(result: Result) -> dict[str, Table]:
    """Return one row that describes the accuracies."""
    acc1 = np.array(result.values["acc1"])
    row = {"n": len(acc1), "mean": acc1.mean(), "std": acc1.std(ddof=1), "low": acc1.min(), "high": acc1.max()}
    return {"validation accuracy": Table.of(COLUMNS, [row])}


BENCHMARK = Benchmark("micro_trainings", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables)
