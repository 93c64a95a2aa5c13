"""Speed of labels in closed form, of drawing a pool, and of screening ten million candidates, on one core.

    OMP_NUM_THREADS=1 fbnetv3 benchmark cost-speed

takes some five minutes, wants a machine that does nothing else, and writes `results/cost_speed.json`. `--rounds 2 --draws
20000` is a rehearsal; give it another `--out`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fbnetv3.benchmarks.ratio import speed_ratio
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.errors import InputError
from fbnetv3.inference.optimize import time_calls
from fbnetv3.model import build_model
from fbnetv3.search.space.costs import Constraint, cost, statistics
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.screen import Score, best
from fbnetv3.search.space.sobol import sample
from fbnetv3.search.space.space import IntMatrix, SearchSpace, load_space
from fbnetv3.training.loop import cpu_threads, seeded

NAME, SPACE = "cost_speed", "released"
WINDOW = Constraint("flops", 800e6, 400e6)  # published convention; section 4.2
ROUNDS, STREAMS, ROWS, POOL, DRAWS, KEEP = 15, 3, 2**17, 20_000, 10**7, 100_000
MEMBERS, WIDTH = 8, 128
METHOD = (
    f"One thread, space `{SPACE}`, window 400 to 800M FLOPs in the published convention. `labels`: seconds for each of "
    f"{ROWS:,} index rows, drawn beforehand, of all figures of `statistics` (FLOPs, params, activations, depth, those of "
    "every stage) and of `cost` (counts by operator); the look-up tables, made once in a process, are timed apart. "
    "`fvcore`: building a network of the same rows and counting it with FlopCountAnalysis, one network a call; its total "
    "and its parameters must equal the labels. `pool`: a Sobol sequence of another seed each time, filtered by the window "
    f"until {POOL:,} different rows are there, with `statistics` and `encode`. These calls are interleaved, each once "
    "unmeasured and once measured in every round. `fvcore_over_statistics` is the ratio of medians, with the 95% bootstrap "
    f"interval over rounds. `stream`: `stream.best` of {DRAWS:,} draws, {STREAMS} runs before all else; random networks in "
    f"the place of trained ones, of three hidden layers of {WIDTH} as the predictor's encoder: one screens all rows in the "
    f"window, an ensemble of {MEMBERS}, that one among them, scores the best {KEEP:,}. `cpu_seconds` is the time of one "
    "core that a run used, `seconds` what passed. `peak_mib`: the largest memory of the process so far, before, after a run "
    "of a tenth of the draws, and after all runs."
)


def measure(rounds: int = ROUNDS, streams: int = STREAMS, draws: int = DRAWS, rows: int = ROWS) -> dict[str, Any]:
    """Seconds of everything, the ratio, and which targets are met."""
    space = load_space(SPACE)
    with cpu_threads(1):
        start = time.perf_counter()
        cost(space, np.zeros((1, len(space.sizes)), np.int64))
        tables = time.perf_counter() - start
        memory = {"before": _peak_mib()}
        _stream(space, draws // 10, 0)
        memory["tenth"] = _peak_mib()
        runs = [_stream(space, draws, seed) for seed in range(1, streams + 1)]
        memory["whole"] = _peak_mib()
        index = sample(space, rows, WINDOW, seed=0)
        times = time_calls(_calls(space, index), rounds)
        labels = {name: [seconds / rows for seconds in times[name]] for name in ("statistics", "cost")}
    ratio = speed_ratio(times["fvcore"], labels["statistics"])
    values: dict[str, Any] = {
        "labels": {
            "architectures_per_second": {name: round(1 / float(np.median(s))) for name, s in labels.items()},
            "seconds_per_architecture": {name: _spread(s) for name, s in labels.items()},
            "tables_seconds": _digits(tables),
        },
        "fvcore": {"seconds_per_architecture": _spread(times["fvcore"])},
        "fvcore_over_statistics": dataclasses.asdict(ratio),
        "pool": {"rows": POOL, "seconds": _spread(times["pool"])},
        "stream": {
            "draws": draws,
            "inside": runs[0].inside,
            "kept": runs[0].kept,
            "seconds": _spread([run.seconds for run in runs]),
            "cpu_seconds": _spread([run.cpu_seconds for run in runs]),
            "peak_mib": memory,
        },
    }
    return values | {"targets": targets(values)}


def targets(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets, medians, and whether they are met."""
    found = {
        "architectures_per_second": (values["labels"]["architectures_per_second"]["statistics"], "at_least", 1_000_000),
        "times_fvcore": (values["fvcore_over_statistics"]["ratio"], "at_least", 200_000),
        "pool_seconds": (values["pool"]["seconds"]["median"], "at_most", 0.2),
        "stream_seconds": (values["stream"]["seconds"]["median"], "at_most", 60),
        "memory_whole_over_tenth": (
            round(values["stream"]["peak_mib"]["whole"] / values["stream"]["peak_mib"]["tenth"], 3),
            "at_most",
            1.25,
        ),
    }
    return {
        name: {"value": value, kind: limit, "met": bool(value >= limit if kind == "at_least" else value <= limit)}
        for name, (value, kind, limit) in found.items()
    }


def _calls(space: SearchSpace, index: IntMatrix) -> dict[str, Callable[[], object]]:
    turns, seeds = itertools.cycle(range(len(index))), itertools.count(1)

    def pool() -> None:
        drawn = sample(space, POOL, WINDOW, seed=next(seeds))
        statistics(space, drawn)
        encode(space, drawn)

    return {
        "statistics": lambda: statistics(space, index),
        "cost": lambda: cost(space, index),
        "fvcore": lambda: count_built(space, index[next(turns)]),
        "pool": pool,
    }


def count_built(space: SearchSpace, row: Sequence[int]) -> int:
    """fvcore's FLOPs of the network of an index row, built anew.

    Raises:
        RuntimeError: they, or the parameters, are not those of the closed form.
    """
    from fvcore.nn import FlopCountAnalysis

    arch = space.arch(row, "counted")
    model = build_model(arch, space.num_classes, space.in_chans).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, space.in_chans, arch.resolution, arch.resolution))
    total = int(counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    closed = cost(space, np.array([row]))
    built = total, sum(p.numel() for p in model.parameters())
    if built != (closed.flops("fvcore")[0], closed.params("fvcore")[0]):
        raise RuntimeError(f"{list(row)}: built {built}, closed form {closed}")
    return total


class Streamed(NamedTuple):
    """What a run took, rows inside the window, and rows kept."""

    seconds: float
    cpu_seconds: float
    inside: int
    kept: int


def _stream(space: SearchSpace, draws: int, seed: int) -> Streamed:
    screen, score = _score(space, 1), _score(space, MEMBERS)
    start, cpu = time.perf_counter(), time.process_time()
    found = best(space, WINDOW, draws, seed, screen, score, KEEP)
    return Streamed(time.perf_counter() - start, time.process_time() - cpu, found.inside, len(found.index))


def _score(space: SearchSpace, members: int) -> Score:
    """The mean of so many random networks of three hidden layers."""
    columns = len(arch_mask(space))

    def network() -> nn.Module:
        sizes = [columns, WIDTH, WIDTH, WIDTH]
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        return nn.Sequential(*layers, nn.Linear(WIDTH, 1)).eval()

    networks = [seeded(network, seed) for seed in range(members)]

    @torch.no_grad()
    def score(index: IntMatrix) -> Any:
        x = torch.from_numpy(encode(space, index))
        return torch.stack([net(x)[:, 0] for net in networks]).mean(dim=0).numpy()

    return score


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "median": _digits(float(np.median(seconds))),
        "low": _digits(min(seconds)),
        "high": _digits(max(seconds)),
        "n": len(seconds),
    }


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _peak_mib() -> int:
    """The most memory that this process has held."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"interleaved rounds (default {ROUNDS})")
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"candidates that are streamed (default {DRAWS:,})")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    if os.environ.get("OMP_NUM_THREADS") != "1":  # NumPy's matrix products read it when they are loaded
        raise InputError(f"{NAME} measures one core; run it as OMP_NUM_THREADS=1 {command_of(NAME)}")
    given = "".join(
        f" --{name} {value}"
        for name, value, usual in (("rounds", options.rounds, ROUNDS), ("draws", options.draws, DRAWS))
        if value != usual
    )
    result = Result.now(
        command=f"OMP_NUM_THREADS=1 {command_of(NAME)}{given}",
        method=METHOD,
        versions=versions(["torch", "fvcore", "numpy", "scipy"]) | host(),
        values=measure(options.rounds, draws=options.draws),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
