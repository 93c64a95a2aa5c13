"""Speed of the closed-form costs, of sampling a pool, and of screening ten million candidates, on one core.

The costs of an architecture are compared with building its network and counting it with fvcore, and must be equal. It takes
about five minutes. The targets: a million architectures per second, 200,000 times as fast as fvcore, a pool of 20,000
candidates in 0.2 seconds, and ten million candidates in a minute without more memory than a million need.

Run it with OMP_NUM_THREADS=1: NumPy's matrix products read this variable when NumPy is loaded.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import nn

from fbnetv3.benchmarks.command import Rounds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import speed_ratio
from fbnetv3.benchmarks.tables import Format, Table, duration
from fbnetv3.inference.optimize import time_calls
from fbnetv3.model import build_model
from fbnetv3.search.space.constraints import Constraint, sample
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.network_space import NetworkSpace, as_networks
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.screen import screen
from fbnetv3.search.space.space import IntMatrix, Score, SearchSpace
from fbnetv3.training.engine import cpu_threads, seeded

SPACE = "released"
WINDOW = Constraint("flops", 800e6, 400e6)  # published convention; section 4.2
STREAMS = 3  # runs of the screening: the target is about their median
ROWS, POOL, DRAWS, KEEP = 2**17, 20_000, 10**7, 100_000
MEMBERS, WIDTH = 8, 128  # networks of the ensemble that scores candidates, and width of their hidden layers
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
COLUMNS: dict[str, Format] = {
    "what": "{what}",
    "median": lambda row: duration(row["median"]),
    "shortest": lambda row: duration(row["low"]),
    "longest": lambda row: duration(row["high"]),
    "n": "{n}",
}


def measure(
    rounds: Rounds = 15,
    draws: Annotated[int, typer.Option(min=10, help="Number of candidates that are screened.")] = DRAWS,
    streams: int = STREAMS,
    rows: int = ROWS,
    pool: int = POOL,
    keep: int = KEEP,
) -> Measured:
    """Time everything.

    Args:
        streams: runs of the screening.
        rows: architectures whose costs are computed in one call.
        pool: candidates of a pool.
        keep: candidates that the screening keeps.
    """
    space = as_networks(load_space(SPACE))
    with cpu_threads(1):
        start = time.perf_counter()
        # The first call in a process makes the look-up tables.
        space.cost(np.zeros((1, len(space.sizes)), np.int64))
        tables_seconds = time.perf_counter() - start
        # The screening comes first, while nothing else has raised the peak of the memory.
        memory = {"before": _peak_mib()}
        run_screening(space, draws // 10, keep, 0)
        memory["tenth"] = _peak_mib()
        runs = [run_screening(space, draws, keep, seed) for seed in range(1, streams + 1)]
        memory["whole"] = _peak_mib()
        # One call for many rows, as a search makes it. The times of a row are those of the call divided by the rows.
        times = time_calls(_calls(space, sample(space, rows, WINDOW, seed=0), pool), rounds)
    labels = {name: [seconds / rows for seconds in times[name]] for name in ("statistics", "cost")}
    return Measured(
        {
            "labels": {
                "architectures_per_second": {name: round(1 / float(np.median(s))) for name, s in labels.items()},
                "seconds_per_architecture": {name: _summary(s) for name, s in labels.items()},
                "tables_seconds": _digits(tables_seconds),
            },
            "fvcore": {"seconds_per_architecture": _summary(times["fvcore"])},
            "fvcore_over_statistics": speed_ratio(times["fvcore"], labels["statistics"]).as_dict(),
            "pool": {"rows": pool, "seconds": _summary(times["pool"])},
            "stream": {
                "draws": draws,
                "inside": runs[0].feasible,
                "kept": runs[0].kept,
                "seconds": _summary([run.seconds for run in runs]),
                "cpu_seconds": _summary([run.cpu_seconds for run in runs]),
                "peak_mib": memory,
            },
        }
    )


def _calls(space: NetworkSpace, index: IntMatrix, pool: int) -> dict[str, Callable[[], object]]:
    """Return the calls that are timed in turns, by name."""
    # fvcore takes long, so it counts one network per call, the next row each time. A pool is another one in every call: the
    # same rows would be found in caches.
    turns, seeds = itertools.cycle(range(len(index))), itertools.count(1)

    def sample_pool() -> None:
        drawn = sample(space, pool, WINDOW, seed=next(seeds))
        space.statistics(drawn)
        encode(space, drawn)

    return {
        "statistics": lambda: space.statistics(index),
        "cost": lambda: space.cost(index),
        "fvcore": lambda: count_built(space, index[next(turns)]),
        "pool": sample_pool,
    }


def count_built(space: NetworkSpace, row: Sequence[int]) -> int:
    """Build the network of an index row, and return its FLOPs as fvcore counts them.

    Raises:
        RuntimeError: FLOPs or parameters differ from the closed form.
    """
    # Imported here, so that its memory is not in the peak of the screening, which runs first.
    from fvcore.nn import FlopCountAnalysis

    arch = space.arch(row, "counted")
    model = build_model(arch, space.num_classes, space.in_chans).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, space.in_chans, arch.resolution, arch.resolution))
    total = int(counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    # A closed form that is fast and wrong would win the comparison.
    closed = space.cost(np.array([row]))
    built = total, sum(p.numel() for p in model.parameters())
    if built != (closed.flops("fvcore")[0], closed.params("fvcore")[0]):
        raise RuntimeError(f"{list(row)}: built {built}, closed form {closed}")
    return total


class Screening(NamedTuple):
    """One run of the screening: its times, the number of feasible candidates, and how many of them it kept."""

    seconds: float
    cpu_seconds: float
    feasible: int
    kept: int


def run_screening(space: SearchSpace, draws: int, keep: int, seed: int) -> Screening:
    """Screen `draws` candidates with one network, score the best with an ensemble, and time both together."""
    # Both start from seed 0, so the screening network is a member of the ensemble, as in a search.
    cheap, score = _score(space, 1), _score(space, MEMBERS)
    start, cpu = time.perf_counter(), time.process_time()
    found = screen(space, WINDOW, draws, seed, cheap, score, keep)
    return Screening(time.perf_counter() - start, time.process_time() - cpu, found.feasible, len(found.index))


def _score(space: SearchSpace, members: int) -> Score:
    """Return the mean of so many random networks of three hidden layers. Only their size matters for the time."""
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


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, shortest and longest time, and the number of times."""
    middle = float(np.median(seconds))
    return {"median": _digits(middle), "low": _digits(min(seconds)), "high": _digits(max(seconds)), "n": len(seconds)}


def _digits(value: float) -> float:
    """Return a value with four significant digits: fixed decimals would round the seconds of a look-up to zero."""
    return float(f"{value:.4g}")


def _peak_mib() -> int:
    """Return the largest memory that this process has used so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def targets(values: Values) -> dict[str, Target]:
    """Return the targets, which are about medians."""
    stream = values["stream"]
    # Memory that grows with the draws would be ten times as large after the complete run.
    memory = round(stream["peak_mib"]["whole"] / stream["peak_mib"]["tenth"], 3)
    return {
        "architectures_per_second": Target(
            values["labels"]["architectures_per_second"]["statistics"], "at_least", 1_000_000
        ),
        "times_fvcore": Target(values["fvcore_over_statistics"]["ratio"], "at_least", 200_000),
        "pool_seconds": Target(values["pool"]["seconds"]["median"], "at_most", 0.2),
        "stream_seconds": Target(stream["seconds"]["median"], "at_most", 60),
        "memory_whole_over_tenth": Target(memory, "at_most", 1.25),
    }


def tables(result: Result) -> dict[str, Table]:
    """Return the times of everything that was measured."""
    values, stream = result.values, result.values["stream"]
    labels = values["labels"]["seconds_per_architecture"]
    rows = {
        "one architecture: build it and count it with fvcore": values["fvcore"]["seconds_per_architecture"],
        "one architecture: all statistics by look-up": labels["statistics"],
        "one architecture: FLOPs and parameters by look-up": labels["cost"],
        f"a pool of {values['pool']['rows']:,} candidates: sample, statistics, encode": values["pool"]["seconds"],
        f"{stream['draws']:,} candidates: screen, and score the best {stream['kept']:,}": stream["seconds"],
    }
    return {"times on one core": Table.of(COLUMNS, ({"what": what, **row} for what, row in rows.items()))}


BENCHMARK = Benchmark(
    "cost_speed",
    METHOD,
    ("torch", "fvcore", "numpy", "scipy"),
    measure,
    targets,
    tables=tables,
    environment={"OMP_NUM_THREADS": "1"},
)
