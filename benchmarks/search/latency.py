"""Latencies from the latency table against those of whole networks: how well the sum over measured blocks predicts a time.

The rival is the count of FLOPs, which costs nothing: how well does it rank the same networks? It takes a minute or two and
needs a machine that does nothing else. There is no target.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.progress import count_steps, silent
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import covering, distinct_parts
from fbnetv3.search.space.measure_latency import ROUNDS, machine, measure_networks, measure_table
from fbnetv3.search.space.network_space import as_networks
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import Floats, IntVector

SEED = 0  # of the random architectures
METHOD = (
    "For each space, pieces (stem, inverted residuals, pooling head, classifier) are timed alone on one thread, batch 1, "
    "batch norms folded and activations fused (median of `rounds` interleaved calls), and then whole random architectures "
    "in the same way, by the thread's processor time; both `repeats` times in turn, and the medians count. `micro`: "
    "every piece of the space; `released`: the pieces of the architectures drawn, and how many the whole space has. "
    "Prediction: the sum over an architecture's pieces. `rank_correlation` (Spearman) of predicted and measured time, and "
    "of FLOPs and measured time; `bias` is the mean of predicted over measured, `error` the mean absolute relative error, "
    "`error_scaled` the same after dividing all predictions by the bias; `milliseconds` are predicted and measured, by "
    "architecture; `hours_for_all` is what the table of the whole space would take at the pace seen here."
)
QUICK = {"networks": (("micro", 5),), "rounds": 1, "repeats": 1}
COLUMNS: dict[str, Format] = {
    "random networks": "{networks} of `{name}`",
    "rank correlation with measured time": "{rank_correlation:.2f}",
    "the same of FLOPs": "{rank_correlation_flops:.2f}",
    "predicted over measured": "{bias:.2f}",
    "mean error after dividing by that": "{error_scaled:.0%}",
    "blocks of the space": "{pieces_of_the_space:,}",
    "time for all of them": lambda row: f"{row['seconds'] / row['pieces_measured'] * row['pieces_of_the_space']:.0f} s",
}


def measure(
    networks: tuple[tuple[str, int], ...] = (("micro", 40), ("released", 6)), rounds: int = ROUNDS, repeats: int = 9
) -> Measured:
    """Time the blocks and whole networks of every space.

    Args:
        networks: spaces, and the number of random architectures of each.
        rounds: interleaved calls; a time is their median.
        repeats: how often the table and the networks are timed, in turn.
    """
    values: Values = {"machine": machine()}
    for name, count in networks:
        values[name] = measure_space(name, count, rounds, repeats)
    return Measured(values)


def measure_space(name: str, networks: int, rounds: int, repeats: int) -> Values:
    """Return how the table of one space predicts the times of random architectures."""
    space = as_networks(load_space(name))
    # Not from a constraint's window: the table has to hold for all architectures of the space.
    rows = random_rows(space, networks, np.random.default_rng(SEED))
    everything = distinct_parts(space, covering(space))
    # The larger space has thousands of blocks: there only those of the random architectures are measured.
    wanted = everything if name == "micro" else distinct_parts(space, rows)
    archs = [space.arch(row, name) for row in rows.tolist()]
    tables, wholes, seconds = [], [], 0.0
    with count_steps(repeats) as step:
        for repeat in range(repeats):
            step(f"space {name}, repeat {repeat + 1}")
            # A new folder each time: a table that exists is not measured again.
            with tempfile.TemporaryDirectory() as folder:
                start = time.thread_time()  # as the measurements themselves, which run on this thread
                table = measure_table(space, wanted, Path(folder) / "table.json", silent, rounds)
                seconds += (time.thread_time() - start) / repeats
            tables.append(table.latency(space, rows))
            wholes.append(measure_networks(archs, space, rounds))
    # A slow minute of the machine changes one repeat. The median over repeats does not follow it.
    predicted, measured = np.median(tables, axis=0), np.median(wholes, axis=0)
    return {
        "networks": networks,
        "rounds": rounds,
        "repeats": repeats,
        "pieces_measured": len(wanted),
        "pieces_of_the_space": len(everything),
        "seconds": round(seconds, 1),
        "hours_for_all": round(seconds / len(wanted) * len(everything) / 3600, 2),
        **agreement(predicted, measured, space.cost(rows).flops()),
        "milliseconds": {"predicted": predicted.round(4).tolist(), "measured": measured.round(4).tolist()},
    }


def agreement(predicted: Floats, measured: Floats, flops: IntVector) -> dict[str, float]:
    """Return how well predicted times and FLOPs rank the measured times, and how far the predictions are off."""
    ratio = predicted / measured
    # All sums may be too small by one factor, which no ranking and no choice of a network depends on.
    bias = float(ratio.mean())
    return {
        "rank_correlation": round(float(stats.spearmanr(predicted, measured)[0]), 4),
        "rank_correlation_flops": round(float(stats.spearmanr(flops, measured)[0]), 4),
        "bias": round(bias, 4),
        "error": round(float(np.abs(ratio - 1.0).mean()), 4),
        "error_scaled": round(float(np.abs(ratio / bias - 1.0).mean()), 4),
    }


def tables(result: Result) -> dict[str, Table]:
    """Return the agreement of predicted and measured times, a row per space."""
    rows = ({"name": name, **row} for name, row in result.values.items() if name != "machine")
    return {"predicted and measured latency": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark("latency", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables, quick=QUICK)
