"""A small table of real trainings: random pairs of the quickstart's space and window, as the search trains them.

    fbnetv3 benchmark micro-trainings --n 61

trains them one after the other on one thread (seconds each) and writes `results/micro_trainings.json`: index rows and
validation accuracy after the last epoch, chance for a training that diverged.
"""

from __future__ import annotations

import argparse

import numpy as np

from fbnetv3.benchmarks.result import Result, command_of, versions, write_result
from fbnetv3.search.nars.algorithm import Context
from fbnetv3.search.nars.config import load_preset

NAME = "micro_trainings"
SEED = 1234
FIRST_SEED = 10_000  # of the trainings, in order
METHOD = (
    "Index rows of the micro space from a Sobol pool of 2,000 inside the quickstart's FLOPs window, in random order; each "
    "trained for the recipe's 3 epochs with a seed of its own; top-1 in percent on the validation images."
)


def main(argv: list[str] | None = None) -> None:
    """Train and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=61)
    arguments = parser.parse_args(argv)
    context = Context.of(load_preset("quickstart"))
    pool = context.limits.sample(2000, SEED)
    rows = pool[np.random.default_rng(SEED).permutation(len(pool))[: arguments.n]].tolist()
    accuracies = []
    for i, row in enumerate(rows):
        candidate = context.space.candidate(row, context.base, f"candidate {i}")
        outcome = context.evaluator(candidate, context.base.epochs, FIRST_SEED + i)
        accuracies.append(outcome.acc1[-1] if outcome.acc1 else 100.0 / context.space.num_classes)
        print(i, accuracies[-1], flush=True)
    result = Result.now(
        command=f"{command_of(NAME)} --n {arguments.n}",
        method=METHOD,
        versions=versions(["torch", "numpy", "scipy"]),
        values={"candidates": rows, "acc1": accuracies},
    )
    write_result(NAME, result)


if __name__ == "__main__":
    main()
