"""Speed of inference here: this package, its exports and its int8 against timm's network of the same function.

    fbnetv3 benchmark inference --out benchmarks/results/inference.json

takes some twenty minutes, nearly all of it compiling, wants a machine that does nothing else, prints a table and writes the
result file. `--quick` is a minute's rehearsal with a few paths on small images; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fbnetv3.arch import Arch, Block, find_arch
from fbnetv3.benchmarks.ratio import fastest, speed_ratio
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, versions, write_result
from fbnetv3.benchmarks.speed.inference_paths import (
    FP32,
    MATRIX,
    PEERS,
    build_paths,
    matrix_products,
    same_networks,
    without_gradients,
)
from fbnetv3.complexity import cost
from fbnetv3.inference.optimize import time_calls
from fbnetv3.inference.quantize import quantize
from fbnetv3.inference.runtimes import Run
from fbnetv3.model import build_model
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.data.memory import fashion_mnist, normalise
from fbnetv3.training.loop import cpu_threads, fit, seeded
from fbnetv3.training.recipe import Recipe

logger = logging.getLogger("fbnetv3.benchmarks.speed.inference")  # also when run as __main__

NAME = "inference"
METHOD = (
    "All paths hold the same weights (seeded; batch-norm statistics of random images) and must show timm's logits first. In "
    "one process, for each thread count and batch, every path runs in every round, once unmeasured to fill the caches and "
    "once measured; `ms` is the median of the rounds, `ratio` timm eager's median over it, `low` and `high` the 95% "
    "bootstrap interval over rounds. `auto` is what optimize_for_inference chooses; timm_* paths are timm's network in the "
    "same runtimes with the same settings (OpenVINO: compiled for the batch's shape, float32). `matmul_*` are square float32 "
    "matrix products in the same rounds; `peak_share` is the multiply-adds a second of the fastest float32 path (conv and "
    "linear) over those of the fastest product. `int8_accuracy`: a network of the package trained on its Fashion-MNIST "
    "images, on all test images; calibration on training images. `start`: fresh processes that import, and building a "
    "network, both interleaved."
)
MICRO = Arch(
    "micro",
    28,
    Block("conv", 16, k=3, s=2),
    (
        (Block("ir", 16, k=3),),
        (Block("ir", 24, k=5, e=4, n=2, s=2),),
        (Block("ir", 40, k=5, e=4, n=2, s=2, se=True), Block("ir", 56, k=3, e=4, n=2, se=True)),
    ),
    Block("pool", 64, e=2),
)
RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    epochs=8,
    batch_size=64,
    warmup_epochs=0.5,
    lr_decay=0.6,
    weight_decay=1e-4,
    ema=True,
    ema_decay=0.97,
    augmentation="flip",
)


@dataclass(frozen=True)
class Settings:
    """What to measure and how often; `paths` beside timm_eager, `heavy` the network whose building is timed."""

    model: str = "fbnetv3_d"
    resolution: int = 224
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 8)
    rounds: int = 40
    paths: tuple[str, ...] = (*PEERS, *FP32, "int8")
    heavy: str = "fbnetv3_g"
    starts: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = RECIPE.epochs


QUICK = Settings(
    resolution=96,
    threads=(1,),
    batches=(1,),
    rounds=3,
    paths=("timm_openvino", "eager", "fused", "openvino", "int8"),
    heavy="fbnetv3_d",
    starts=1,
    seeds=(0,),
    epochs=1,
)


def measure_paths(settings: Settings, ours: nn.Module, theirs: nn.Module, batch: int, files: Path) -> dict[str, Any]:
    """Times, ratios and the share of the peak for one batch size, with torch's number of threads."""
    torch._dynamo.reset()  # compiled code keeps the number of threads that it was compiled for
    size = (batch, 3, settings.resolution, settings.resolution)
    example = torch.randn(size, generator=torch.Generator().manual_seed(1))
    runs = build_paths(settings.paths, ours, theirs, example, files)
    calls: dict[str, Callable[[], object]] = {name: functools.partial(run, example) for name, run in runs.items()}
    logger.info("threads %d, batch %d: timing", torch.get_num_threads(), batch)
    times = time_calls(calls | matrix_products(), settings.rounds)
    values: dict[str, Any] = {
        name: {"ms": round(1e3 * float(np.median(series)), 3)}
        | dataclasses.asdict(speed_ratio(times["timm_eager"], series))
        for name, series in times.items()
    }
    best = fastest(times, [name for name in FP32 if name in runs])
    peer = fastest(times, [name for name in ("timm_eager", *PEERS) if name in runs])
    product = fastest(times, [name for name in times if name.startswith("matmul_")])
    macs = batch * cost(find_arch(settings.model), resolution=settings.resolution).conv
    values |= {
        "best": {"path": best, "peer": peer, "product": product}
        | {"over_peer": dataclasses.asdict(speed_ratio(times[peer], times[best]))},
        "peak_share": round(macs / MATRIX**3 * float(np.median(times[product]) / np.median(times[best])), 4),
    }
    if "int8" in runs:
        values["best"]["int8_over_best"] = dataclasses.asdict(speed_ratio(times[best], times["int8"]))
    return values


def measure_start(settings: Settings) -> dict[str, Any]:
    """Import of the package against torch's, in fresh processes, and building a network against timm's."""
    logger.info("import and build times")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    run = functools.partial(subprocess.run, check=True, env=environment)
    imports = time_calls(
        {name: functools.partial(run, [sys.executable, "-c", f"import {name}"]) for name in ("torch", "fbnetv3")},
        settings.starts,
    )
    builds = time_calls(
        {
            "timm": functools.partial(timm.create_model, settings.heavy),
            "ours": functools.partial(build_model, settings.heavy),
        },
        settings.starts,
    )
    return {
        "import_over_torch": dataclasses.asdict(speed_ratio(imports["fbnetv3"], imports["torch"])),
        "build_over_timm": dataclasses.asdict(speed_ratio(builds["ours"], builds["timm"])),
        "import_ms": {name: round(1e3 * float(np.median(series)), 1) for name, series in imports.items()},
        "build_ms": {name: round(1e3 * float(np.median(series)), 1) for name, series in builds.items()},
    }


def int8_accuracy(settings: Settings) -> dict[str, Any]:
    """Top-1 on all test images of Fashion-MNIST, in percent, of trained networks in float32 and int8, by seed."""
    data = fashion_mnist()
    calibration = [normalise(part, data.mean, data.std) for part in data.train.images[:512].split(64)]
    batches = [normalise(part, data.mean, data.std) for part in data.test.images.split(500)]
    rows = {}
    for seed in settings.seeds:
        logger.info("int8 accuracy: training with seed %d", seed)
        network = seeded(functools.partial(build_model, MICRO, len(data.classes), data.in_chans), seed)
        trained = fit(network, RECIPE, data, seed=seed, epochs=settings.epochs).model
        runs: dict[str, Run] = {"fp32": without_gradients(trained), "int8": quantize(trained, calibration)}
        answers = {name: torch.cat([run(batch).argmax(1) for batch in batches]) for name, run in runs.items()}
        rows[str(seed)] = {
            name: round(100 * float((answer == data.test.labels).float().mean()), 2) for name, answer in answers.items()
        } | {"agreement": round(100 * float((answers["fp32"] == answers["int8"]).float().mean()), 2)}
    mean = {key: round(float(np.mean([row[key] for row in rows.values()])), 2) for key in ("fp32", "int8", "agreement")}
    return {"images": len(data.test), "seeds": rows, "mean": mean}


def targets(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the package aims at, and whether this run met it: ratios of medians, one thread, paths that were run."""
    start = values["start"]
    rows = {
        "import_over_torch": _target(start["import_over_torch"]["ratio"], "below", 1.15),
        "build_over_timm": _target(start["build_over_timm"]["ratio"], "at_most", 1.0),
    }
    for batch, row in values.get("threads_1", {}).items():
        best = row["best"]
        rows[f"best_{batch}"] = _target(row[best["path"]]["ratio"], "at_least", 2.3)
        rows[f"best_over_peer_{batch}"] = _target(best["over_peer"]["ratio"], "at_least", 0.97)
        if "eager" in row:
            rows[f"eager_{batch}"] = _target(row["eager"]["ratio"], "at_least", 1.0)
        if "int8" in row:
            rows[f"int8_over_best_{batch}"] = _target(best["int8_over_best"]["ratio"], "above", 1.0)
    return rows


def _target(value: float, rule: str, limit: float) -> dict[str, Any]:
    met = {"below": value < limit, "at_most": value <= limit, "at_least": value >= limit, "above": value > limit}[rule]
    return {"value": value, rule: limit, "met": met}


def measure(settings: Settings, command: str) -> Result:
    """Everything, in the order of the result file."""
    values: dict[str, Any] = {"model": settings.model, "resolution": settings.resolution, "rounds": settings.rounds}
    ours, theirs = same_networks(settings.model, settings.resolution)
    with tempfile.TemporaryDirectory() as files:
        for threads in settings.threads:
            with cpu_threads(threads):
                values[f"threads_{threads}"] = {
                    f"batch_{batch}": measure_paths(settings, ours, theirs, batch, Path(files))
                    for batch in settings.batches
                }
    values["start"] = measure_start(settings)
    with cpu_threads(1):
        values["int8_accuracy"] = int8_accuracy(settings)
    values["targets"] = targets(values)
    packages = ["torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "executorch", "numpy"]
    facts = {"cpu": cpu_model(), "cpus": str(os.cpu_count())}
    return Result.now(command, METHOD, versions(packages) | facts, values)


def print_tables(console: Console, values: Mapping[str, Any]) -> None:
    """Paths by thread count and batch, then the targets."""
    for threads, batches in ((key, value) for key, value in values.items() if key.startswith("threads_")):
        for batch, rows in batches.items():
            table = Table("path", "ms", "times as fast as timm eager", title=f"{threads} {batch}".replace("_", " "))
            for name, row in rows.items():
                if "ms" in (row if isinstance(row, dict) else {}):
                    table.add_row(name, f"{row['ms']:.2f}", f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
            console.print(table)
            console.print(f"best {rows['best']}; share of the multiply-add peak {rows['peak_share']:.2f}\n")
    console.print({key: values[key] for key in ("start", "int8_accuracy")})
    table = Table("target", "measured", "asked for", "met")
    for name, row in values["targets"].items():
        value, rule, met = row["value"], next(k for k in row if k not in ("value", "met")), row["met"]
        table.add_row(name, f"{value:.3f}", f"{rule.replace('_', ' ')} {row[rule]}", "yes" if met else "NO")
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json")
    parser.add_argument("--quick", action="store_true", help="rehearse with few paths, rounds and pixels")
    parser.add_argument("--model", help="fbnetv3_d (default) or fbnetv3_g")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--paths", nargs="+", choices=(*PEERS, *FP32, "int8"), help="beside timm_eager")
    given = vars(parser.parse_args(arguments))
    out, quick = given.pop("out"), given.pop("quick")
    changes: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items() if v is not None}
    settings = dataclasses.replace(QUICK if quick else Settings(), **changes)
    options = [f"--{key} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in changes.items()]
    command = " ".join([command_of(NAME), *["--quick"] * quick, *options])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("fbnetv3").setLevel(logging.INFO)
    result = measure(settings, command)
    write_result(out.stem, result, out.parent)
    print_tables(Console(), result.values)


if __name__ == "__main__":
    main()
