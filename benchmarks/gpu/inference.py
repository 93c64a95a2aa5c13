"""Speed of inference on a GPU: this package's networks against timm's networks of the same function, and EfficientNets.

Batches of 256 show the throughput, single images the latency. Every time is also compared with the least that the card allows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.gpu import paths
from fbnetv3.benchmarks.gpu.cases import GpuDevice, Seconds, run_cases, summary_tables
from fbnetv3.benchmarks.gpu.floors import COPY, SIDE, Rates, measure_rates, needs
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import speed_ratio
from fbnetv3.benchmarks.tables import Format, Table, amount, ratio
from fbnetv3.device import find_device

RATES = "rates"  # the first case: what the card reaches
METHOD = (
    "Random weights, batch-norm statistics of noise, timm's network with the weights of this package; images of noise, "
    "{buffers} buffers in turns. `ours_folded`: batch norms folded into the convolutions, which nothing does for "
    "the rivals. EfficientNets at their own resolution; their published accuracies are not those of this package's networks "
    "(the paper's Table 4). `ratios`: median time of a rival over that of `ours` or "
    "`ours_folded`. All networks of a case take turns, one call each a round, after a warm-up; a call is timed by a clock that "
    "waits for the card before and after it. The networks of one function have the same logits in float64 (within "
    "{same:g}). `error`: norm of the difference of {checked} images' logits from float64, over the norm; allowed are "
    "{allowed}, or {over_eager:g} times the error of eager mode in the same precision. fp32: float32 with TF32 off, tf32: "
    "with TF32 on, bf16: weights and images in bfloat16. `eager`: channels first, all others channels last; `graph`: replay "
    "of a CUDA graph, with the copies into its input and out of its output; `compiled`: torch.compile in its default mode; "
    "cuDNN tries its algorithms. `floor`: the larger of 2 x multiply-adds over the rate of a product of two {side} x {side} "
    "matrices in the precision, and of the bytes over the rate of a copy of {copy}B (read and written), both measured in "
    "this run. The bytes are those of `least`: images, weights and outputs of convolutions and linear layers, as if all "
    "other operations were done on the way. `numbers`: inputs and outputs of every operation. `share`: the floor over the "
    "median time."
)
# The paper's smallest network, and the smallest that timm has too without another padding.
MAIN = ("fbnetv3_a", "fbnetv3_d")
REST = tuple(name for name in ARCHS if name not in MAIN)


@dataclass(frozen=True)
class Case:
    """A network on one path, in one precision, at one batch size; all its rivals run the same way."""

    network: str
    precision: str
    path: str
    batch: int

    @property
    def name(self) -> str:
        """The name of the case in the result file."""
        return f"{self.network} {self.precision} {self.path} {self.batch}"


def planned(batches: Sequence[int]) -> list[Case]:
    """Return all cases, the most valuable first: the fastest path, the paths before it, then the compiler, which is slow."""

    def over(networks: Iterable[str], ways: Iterable[tuple[str, str]]) -> Iterator[Case]:
        return (Case(net, *way, batch) for net in networks for way in ways for batch in batches)

    steps = [("bf16", "eager"), ("bf16", "channels_last"), ("fp32", "graph"), ("tf32", "graph")]
    compiled = [("bf16", "compiled_graph")]
    # Seconds on an H100, estimated and not measured: the networks of a line are built and checked in 2 s; a case is timed for
    # half a second, but cuDNN first tries its algorithms, for 1 to 3 s in all; compiling takes 20 to 40 s a network. The first
    # two lines then take about 10 s, the third 40 s, and the fourth the rest of 80 s. The compiler needs more time.
    return [
        *over(MAIN[:1], [("bf16", "graph")]),
        *over(MAIN[1:], [("bf16", "graph")]),
        *over(REST, [("bf16", "graph")]),
        *over(MAIN, steps),
        *over(MAIN, compiled),
        *over(MAIN, [("bf16", "compiled")]),
        *over(REST, [("fp32", "graph")]),
    ]


def measure(
    seconds: Seconds = 100,
    device: GpuDevice = "auto",
    batches: tuple[int, ...] = (256, 1),
    resolution: int | None = None,
    networks: tuple[str, ...] = tuple(ARCHS),
    each: float = 0.5,
    sizes: tuple[int, int] = (COPY, SIDE),
    backend: str = "inductor",
) -> Iterator[Measured]:
    """Measure the card, then every case, and yield all values so far after each.

    Args:
        batches: numbers of images of a call.
        resolution: of all images; by default that of each network.
        networks: those that are measured.
        each: seconds that the timed calls of a case take.
        sizes: bytes of the copy, and side of the matrices, whose rates are measured.
        backend: of torch.compile.
    """
    place = torch.device(find_device(device))
    rates = functools.cache(lambda: measure_rates(place, *sizes))
    cases: dict[str, Callable[[], Values]] = {RATES: lambda: {"copy": rates().copy, "products": dict(rates().products)}}
    for case in planned(batches):
        if case.network in networks:
            cases[case.name] = functools.partial(run_case, case, resolution, place, rates, each, backend)
    words = {"buffers": paths.BUFFERS, "checked": paths.CHECKED, "side": sizes[1], "copy": amount(sizes[0])}
    words |= {"same": paths.SAME, "over_eager": paths.OVER_EAGER}
    words["allowed"] = ", ".join(f"{name} {limit:g}" for name, limit in paths.TOLERANCES.items())
    for measured in run_cases(cases, seconds, str(place)):
        yield Measured(measured.values, words, measured.facts)


def run_case(
    case: Case, resolution: int | None, device: torch.device, rates: Callable[[], Rates], each: float, backend: str
) -> Values:
    """Check and time all networks of a case.

    Raises:
        RuntimeError: a network computes wrong logits.
    """
    sides = {side.name: side for side in paths.sides(case.network, resolution, device)}
    if case.path.startswith("compiled"):
        del sides["ours_folded"]  # the compiler fuses batch norms itself, and compiling is slow
    images, runs, errors = {}, {}, {}
    with paths.gpu_settings(case.precision):
        for name, side in sides.items():
            images[name] = paths.inputs(side, case.batch, case.path, case.precision, device)
            runs[name] = paths.build_run(side, case.path, case.precision, images[name][0], backend)
            errors[name] = paths.path_error(side, runs[name], images[name][0], case.precision)
        times = paths.times_in_turns(runs, images, device, each)
    values: Values = {"network": case.network, "precision": case.precision, "path": case.path, "batch": case.batch}
    values["sides"] = {
        name: _row(times[name], case, side, rates()) | {"error": float(f"{errors[name]:.2g}")}
        for name, side in sides.items()
    }
    ours = [name for name in sides if name.startswith("ours")]
    values["best"] = min(ours, key=lambda name: np.median(times[name]))
    # The rivals' batch norms are not folded, so `ours` has the ratio in equal conditions, and `ours_folded` one that is not.
    values["ratios"] = {
        name: {rival: speed_ratio(times[rival], times[name]).as_dict() for rival in sides if rival not in ours}
        for name in ours
    }
    return values


def _row(times: Sequence[float], case: Case, side: paths.Side, rates: Rates) -> Values:
    """Return the values of one network: times, images a second, and the floor."""
    needed = needs(side.network, (case.batch, 3, side.resolution, side.resolution))
    floor = rates.floor(needed, case.precision)
    median = float(np.median(times))
    low, high = np.percentile(times, [10, 90])
    return {
        "resolution": side.resolution,
        "calls": len(times),
        "images_per_second": round(case.batch / median, 1),
        "ms": {key: round(1e3 * float(value), 4) for key, value in (("median", median), ("low", low), ("high", high))},
        "macs": needed.macs,
        "numbers": needed.numbers,
        "least": needed.least,
        "floor_ms": round(1e3 * floor.seconds, 4),
        "bound": floor.bound,
        "share": round(floor.seconds / median, 4),
    }


def tables(result: Result) -> dict[str, Table]:
    """Return the speeds of every batch size, what the card reaches, and what the networks need."""
    done = result.values["cases"]
    cases = [row for name, row in done.items() if name != RATES]
    found = {}
    for batch in dict.fromkeys(row["batch"] for row in cases):
        rows = [row for row in cases if row["batch"] == batch]
        kind = "latency in ms: median [10%, 90%]" if batch == 1 else "images per second"
        title = f"batch {batch}: {kind}"
        found[title] = _speeds(title, rows, _latency if batch == 1 else _throughput)
    if RATES in done:
        rates = done[RATES]
        cells = [("copy, read and written", f"{rates['copy'] / 1e12:.3g} TB/s")]
        cells += [(f"product in {name}", f"{rate / 1e12:.4g} TFLOP/s") for name, rate in rates["products"].items()]
        found["what the card reaches"] = Table(("what the card reaches", "rate"), tuple(cells))
    return found | summary_tables(result)


def _speeds(title: str, rows: Sequence[Values], cell: Callable[[Values], str]) -> Table:
    """Return a table with a line for each case and a column for each kind of network.

    Args:
        title: what the cells are. It heads the first column, because a page shows tables without their titles.
    """

    def of(name: str) -> Callable[[Values], str]:
        return lambda row: cell(row["sides"][name]) if name in row["sides"] else "-"

    def rival(row: Values) -> str:
        name = paths.RIVALS.get(row["network"], "")
        return f"{cell(row['sides'][name])} ({name.removeprefix('tf_')})" if name in row["sides"] else "-"

    columns: dict[str, Format] = {
        title: "`{network}`",
        "path": "{precision} {path}",
        "ours": of("ours"),
        "ours, folded": of("ours_folded"),
        "timm": of("timm"),
        "EfficientNet": rival,
        "ours, times timm": functools.partial(_times_timm, "ours"),
        "folded, times timm": functools.partial(_times_timm, "ours_folded"),
        "share of the floor": lambda row: "{share:.2f}, {bound}".format(**row["sides"][row["best"]]),
    }
    return Table.of(columns, rows)


def _times_timm(name: str, row: Values) -> str:
    found = row["ratios"].get(name, {})
    return ratio(found["timm"]) if "timm" in found else "-"


def _throughput(side: Mapping[str, Any]) -> str:
    return f"{side['images_per_second']:,.0f}"


def _latency(side: Mapping[str, Any]) -> str:
    return "{median:.3f} [{low:.3f}, {high:.3f}]".format(**side["ms"])


BENCHMARK = Benchmark(
    "gpu_inference",
    METHOD,
    ("torch", "timm", "triton", "numpy"),
    measure,
    tables=tables,
    # Small images, and a compiler that changes nothing: the real one takes minutes on a CPU.
    quick={
        "batches": (1,),
        "resolution": 64,
        "networks": ("fbnetv3_a", "fbnetv3_d"),
        "each": 0.0,
        "sizes": (1 << 22, 256),
        "backend": "eager",
    },
)
