"""Speed of inference: this package, its exports and its int8 networks against timm's network of the same function.

All paths run in turns in one process. The benchmark takes about twenty minutes, nearly all of it for compiling. The
targets: the best path is at least 2.3 times as fast as timm in eager mode and nearly as fast as timm in the fastest
runtime, and int8 is faster still.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import timm
import torch
import typer

from fbnetv3.arch import Arch, Block, find_arch
from fbnetv3.benchmarks.command import Rounds, one_of
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.speed.inference_paths import (
    FP32,
    MATRIX,
    PEERS,
    build_paths,
    matrix_products,
    same_networks,
    without_gradients,
)
from fbnetv3.benchmarks.statistics import fastest, speed_ratio
from fbnetv3.benchmarks.tables import Table, ratio
from fbnetv3.complexity import cost
from fbnetv3.inference.optimize import time_calls
from fbnetv3.inference.quantization import quantize
from fbnetv3.inference.runtimes import Run
from fbnetv3.model import build_model
from fbnetv3.progress import count_steps
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.data.memory import normalise
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.engine import cpu_threads, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe

PATHS = (*PEERS, *FP32, "int8")
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
MICRO = Arch(  # for 28 x 28 grey images: small enough to be trained within the benchmark
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
RECIPE = Recipe(  # trains MICRO in about a minute, to an accuracy that int8 could lose
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
QUICK = {  # few paths on small images, and none that compiles for minutes
    "resolution": 96,
    "threads": (1,),
    "batches": (1,),
    "rounds": 3,
    "paths": ("timm_openvino", "eager", "fused", "openvino", "int8"),
    "heavy": "fbnetv3_d",
    "starts": 1,
    "seeds": (0,),
    "epochs": 1,
}


def measure(
    model: Annotated[str, typer.Option(help="Network to run: fbnetv3_d or fbnetv3_g.")] = "fbnetv3_d",
    resolution: Annotated[int, typer.Option(min=1, help="Side of the images in pixels.")] = 224,
    rounds: Rounds = 40,
    threads: Annotated[tuple[int, ...], typer.Option(metavar="N ...", min=1, help="Numbers of threads.")] = (1, 2),
    batches: Annotated[tuple[int, ...], typer.Option(metavar="N ...", min=1, help="Numbers of images at once.")] = (
        1,
        8,
    ),
    paths: Annotated[
        tuple[str, ...],
        typer.Option(metavar="PATH ...", parser=one_of(*PATHS), help=f"Paths besides timm_eager: {', '.join(PATHS)}."),
    ] = PATHS,
    heavy: str = "fbnetv3_g",
    starts: int = 8,
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = RECIPE.epochs,
) -> Measured:
    """Time all paths, the start of the package, and compare the accuracy of int8 networks.

    Args:
        heavy: the network whose building is timed.
        starts: rounds of imports and buildings.
        seeds: seeds of the networks that are trained and quantised to int8.
        epochs: epochs of these trainings.
    """
    values: Values = {"model": model, "resolution": resolution, "rounds": rounds}
    # One pair of networks for all paths and numbers of threads: exports are written only once.
    ours, theirs = same_networks(model, resolution)
    macs = cost(find_arch(model), resolution=resolution).conv  # of one image
    with tempfile.TemporaryDirectory() as files, count_steps(len(threads) * len(batches) + 1 + len(seeds)) as step:
        for count in threads:
            values[f"threads_{count}"] = {}
            for batch in batches:
                step(f"{count} threads, batch {batch}")
                # Noise: the time of a path does not depend on the image.
                size = (batch, 3, resolution, resolution)
                example = torch.randn(size, generator=torch.Generator().manual_seed(1))
                with cpu_threads(count):
                    torch._dynamo.reset()  # compiled code keeps the number of threads that it was compiled for
                    runs = build_paths(paths, ours, theirs, example, Path(files))
                    values[f"threads_{count}"][f"batch_{batch}"] = time_paths(runs, example, rounds, batch * macs)
        step("imports and building")
        values["start"] = measure_start(heavy, starts)
        # On one thread the trainings end with the same weights on every run.
        with cpu_threads(1):
            values["int8_accuracy"] = int8_accuracy(seeds, epochs, step)
    return Measured(values, facts={"cpu": cpu_model()})


def time_paths(runs: Mapping[str, Run], example: torch.Tensor, rounds: int, macs: float) -> Values:
    """Return times, ratios and the share of the processor's peak for one batch.

    Args:
        runs: the paths by name.
        example: the batch.
        rounds: number of interleaved rounds.
        macs: multiply-adds of convolutions and linear layers of the batch.
    """
    calls: dict[str, Callable[[], object]] = {name: functools.partial(run, example) for name, run in runs.items()}
    times = time_calls(calls | matrix_products(), rounds)
    values: Values = {
        name: {"ms": _milliseconds(series, 3)} | speed_ratio(times["timm_eager"], series).as_dict()
        for name, series in times.items()
    }
    # int8 computes another function, so it is never the best path. It is compared with the best one below.
    best = fastest(times, [name for name in FP32 if name in runs])
    peer = fastest(times, [name for name in ("timm_eager", *PEERS) if name in runs])
    product = fastest(times, [name for name in times if name.startswith("matmul_")])
    values |= {
        "best": {"path": best, "peer": peer, "product": product}
        | {"over_peer": speed_ratio(times[peer], times[best]).as_dict()},
        # A product of matrices has MATRIX**3 multiply-adds, all in one call: more per second is not to be had here.
        "peak_share": round(macs / MATRIX**3 * float(np.median(times[product]) / np.median(times[best])), 4),
    }
    if "int8" in runs:
        values["best"]["int8_over_best"] = speed_ratio(times[best], times["int8"]).as_dict()
    return values


def measure_start(heavy: str, rounds: int) -> Values:
    """Time the import of this package against torch's, in fresh processes, and the building of a network against timm's."""
    # A fresh process finds the package that runs here, also in a checkout that is not installed.
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    # torch is the least that the import can cost, because the package imports it.
    run = functools.partial(subprocess.run, check=True, env=environment)
    imports = time_calls(
        {name: functools.partial(run, [sys.executable, "-c", f"import {name}"]) for name in ("torch", "fbnetv3")},
        rounds,
    )
    builds = time_calls(
        {"timm": functools.partial(timm.create_model, heavy), "ours": functools.partial(build_model, heavy)}, rounds
    )
    # Here the ratio is that of times: above 1 this package takes longer.
    return {
        "import_over_torch": speed_ratio(imports["fbnetv3"], imports["torch"]).as_dict(),
        "build_over_timm": speed_ratio(builds["ours"], builds["timm"]).as_dict(),
        "import_ms": {name: _milliseconds(series, 1) for name, series in imports.items()},
        "build_ms": {name: _milliseconds(series, 1) for name, series in builds.items()},
    }


def int8_accuracy(seeds: Sequence[int], epochs: int, step: Callable[[str], None]) -> Values:
    """Train networks on Fashion-MNIST and return their top-1 on all test images, in percent, in float32 and in int8."""
    # Random weights would say nothing about int8: rounding matters where a network has learnt something.
    data = fashion_mnist()
    # Calibration sees training images alone, as it would before a network is used.
    calibration = [normalise(part, data.mean, data.std) for part in data.train.images[:512].split(64)]
    batches = [normalise(part, data.mean, data.std) for part in data.test.images.split(500)]
    rows = {}
    for seed in seeds:
        step(f"accuracy of int8, seed {seed}")
        network = seeded(functools.partial(build_model, MICRO, len(data.classes), data.in_chans), seed)
        trained = fit(network, RECIPE, data, seed=seed, epochs=epochs).model
        runs: dict[str, Run] = {"fp32": without_gradients(trained), "int8": quantize(trained, calibration)}
        answers = {name: torch.cat([run(batch).argmax(1) for batch in batches]) for name, run in runs.items()}
        rows[str(seed)] = {name: _percent(answer == data.test.labels) for name, answer in answers.items()} | {
            "agreement": _percent(answers["fp32"] == answers["int8"])
        }
    mean = {key: round(float(np.mean([row[key] for row in rows.values()])), 2) for key in ("fp32", "int8", "agreement")}
    return {"images": len(data.test), "seeds": rows, "mean": mean}


def _milliseconds(seconds: Sequence[float], digits: int) -> float:
    """Return the median in milliseconds."""
    return round(1e3 * float(np.median(seconds)), digits)


def _percent(hits: torch.Tensor) -> float:
    """Return the share of hits in percent."""
    return round(100 * float(hits.float().mean()), 2)


def targets(values: Values) -> dict[str, Target]:
    """Return the targets: ratios of medians on one thread, for the paths that were run."""
    start = values["start"]
    found = {
        "import_over_torch": Target(start["import_over_torch"]["ratio"], "below", 1.15),
        "build_over_timm": Target(start["build_over_timm"]["ratio"], "at_most", 1.0),
    }
    # One thread alone: with more, a path can be slower because the machine has fewer free processors.
    for batch, row in values.get("threads_1", {}).items():
        best = row["best"]
        found[f"best_{batch}"] = Target(row[best["path"]]["ratio"], "at_least", 2.3)
        found[f"best_over_peer_{batch}"] = Target(best["over_peer"]["ratio"], "at_least", 0.97)
        if "eager" in row:
            found[f"eager_{batch}"] = Target(row["eager"]["ratio"], "at_least", 1.0)
        if "int8" in row:
            found[f"int8_over_best_{batch}"] = Target(best["int8_over_best"]["ratio"], "above", 1.0)
    return found


def tables(result: Result) -> dict[str, Table]:
    """Return the speed of every path by threads and batch, and what else was measured."""
    values, found = result.values, {}
    for key in (key for key in values if key.startswith("threads_")):
        batches = values[key]
        for title, cell in (("times as fast as timm eager", ratio), ("milliseconds", lambda row: f"{row['ms']:.2f}")):
            columns = {"path": "{path}", **{batch.replace("_", " "): f"{{{batch}}}" for batch in batches}}
            found[f"{key.replace('_', ' ')}: {title}"] = Table.of(
                columns,
                (
                    {"path": path, **{batch: cell(rows[path]) for batch, rows in batches.items()}}
                    for path in path_names(next(iter(batches.values())))
                ),
            )
    best = ({"batch": batch.replace("_", " "), **rows} for batch, rows in values.get("threads_1", {}).items())
    columns = {"1 thread": "{batch}", "best float32 path": "{best[path]}", "timm's best": "{best[peer]}"}
    found["best paths"] = Table.of(columns | {"share of the multiply-add peak": "{peak_share:.2f}"}, best)
    start, mean = values["start"], values["int8_accuracy"]["mean"]
    rows = {
        "import, times torch's": ratio(start["import_over_torch"]),
        "building, times timm's": ratio(start["build_over_timm"]),
        "top-1 in float32 (%)": f"{mean['fp32']:.2f}",
        "top-1 in int8 (%)": f"{mean['int8']:.2f}",
    }
    found["start, and accuracy of int8"] = Table(("what", "measured"), tuple(rows.items()))
    return found


def path_names(rows: Mapping[str, Any]) -> list[str]:
    """Return the names of the paths in the values of one batch, without the matrix products."""
    return [name for name, row in rows.items() if isinstance(row, dict) and "ms" in row and "matmul" not in name]


BENCHMARK = Benchmark(
    "inference",
    METHOD,
    ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "executorch", "numpy"),
    measure,
    targets,
    tables=tables,
    quick=QUICK,
)
