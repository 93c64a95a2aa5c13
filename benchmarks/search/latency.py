"""The latency table against whole networks: how well the sum over measured blocks predicts the time of an architecture.

    fbnetv3 benchmark latency

takes a minute or two, wants a machine that does nothing else, and writes `results/latency.json`. `--quick` is a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.search.space.constraints import Floats, random_rows
from fbnetv3.search.space.costs import cost
from fbnetv3.search.space.latency import covering, distinct_pieces
from fbnetv3.search.space.measure_latency import ROUNDS, machine, measure_networks, measure_table
from fbnetv3.search.space.space import load_space

NAME = "latency"
SEED = 0
METHOD = (
    "For each space, pieces (stem, inverted residuals, pooling head, classifier) are timed alone on one thread, batch 1, "
    "batch norms folded and activations fused (median of `rounds` interleaved calls), and then whole random architectures "
    "in the same way, by the thread's processor time; both `repeats` times in turn, of which the medians count. `micro`: "
    "every piece of the space; `released`: the pieces of the architectures drawn, and how many the whole space has. "
    "Prediction: the sum over an architecture's pieces. `rank_correlation` (Spearman) of predicted and measured time, and "
    "of FLOPs and measured time; `bias` is the mean of predicted over measured, `error` the mean absolute relative error, "
    "`error_scaled` the same after dividing all predictions by the bias; `milliseconds` are predicted and measured, by "
    "architecture; `hours_for_all` is what the table of the whole space would take at the pace seen here."
)


@dataclass(frozen=True)
class Plan:
    """Architectures by space, and rounds of timing."""

    networks: tuple[tuple[str, int], ...] = (("micro", 40), ("released", 6))
    rounds: int = ROUNDS
    repeats: int = 9  # of the table and the networks, in turn


QUICK = Plan((("micro", 5),), 1, 1)


def agreement(predicted: Floats, measured: Floats, flops: Floats) -> dict[str, float]:
    """How well predictions rank and estimate what was measured."""
    ratio = predicted / measured
    bias = float(ratio.mean())
    return {
        "rank_correlation": round(float(stats.spearmanr(predicted, measured)[0]), 4),
        "rank_correlation_flops": round(float(stats.spearmanr(flops, measured)[0]), 4),
        "bias": round(bias, 4),
        "error": round(float(np.abs(ratio - 1.0).mean()), 4),
        "error_scaled": round(float(np.abs(ratio / bias - 1.0).mean()), 4),
    }


def measure_space(name: str, networks: int, plan: Plan) -> dict[str, Any]:
    """The table of one space, and how it predicts random architectures."""
    space = load_space(name)
    rows, everything = (
        random_rows(space, networks, np.random.default_rng(SEED)),
        distinct_pieces(space, covering(space)),
    )
    wanted = everything if name == "micro" else distinct_pieces(space, rows)
    archs = [space.arch(row, name) for row in rows.tolist()]
    tables, wholes, seconds = [], [], 0.0
    for _ in range(plan.repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.thread_time()
            table = measure_table(space, wanted, Path(folder) / "table.json", lambda *_: None, plan.rounds)
            seconds += (time.thread_time() - start) / plan.repeats
        tables.append(table.latency(space, rows))
        wholes.append(measure_networks(archs, space, plan.rounds))
    predicted, measured = np.median(tables, axis=0), np.median(wholes, axis=0)
    return {
        "networks": networks,
        "rounds": plan.rounds,
        "repeats": plan.repeats,
        "pieces_measured": len(wanted),
        "pieces_of_the_space": len(everything),
        "seconds": round(seconds, 1),
        "hours_for_all": round(seconds / len(wanted) * len(everything) / 3600, 2),
        **agreement(predicted, measured, cost(space, rows).flops()),
        "milliseconds": {"predicted": predicted.round(4).tolist(), "measured": measured.round(4).tolist()},
    }


def measure(plan: Plan) -> dict[str, Any]:
    """All spaces."""
    return {"machine": machine()} | {name: measure_space(name, n, plan) for name, n in plan.networks}


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rehearse; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    result = Result.now(
        command=f"{command_of(NAME)}" + " --quick" * options.quick,
        method=METHOD,
        versions=versions(["torch", "numpy", "scipy"]) | host(),
        values=measure(QUICK if options.quick else Plan()),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
