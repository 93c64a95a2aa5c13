"""The accuracy predictor against its rivals, on real and invented tables of accuracies, and Figure 4 of the paper.

The rivals are:

`paper`: the paper's predictor, `PredictorSettings.preset("paper")`;

`scratch`: the default predictor without pretraining;

`scratch_network`: the paper's network without pretraining, with the best settings of a grid on invented tables;

`statistics`: the default predictor without pretraining, with the exact statistics as plain min-max inputs.

The benchmark measures how many samples each needs for the error of the default. The targets: a fit from scratch needs eight
times as many, statistics as inputs 1.3 times as many, and pretraining never hurts. Every table is measured once, into a
file of the folder --out. With --plot alone it draws Figure 4 from the result that exists.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.predictor_figure import draw_figure4
from fbnetv3.benchmarks.search.predictor_tables import (
    AccuracyTable,
    Floats,
    fashion_mnist,
    invented,
    nas_bench_macro,
    useless,
)
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.files import write_atomically
from fbnetv3.progress import count_steps
from fbnetv3.schema import load_json
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.constraints import Constraint, sample
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.reader import load_space
from fbnetv3.training.engine import cpu_threads

SIZES = (24, 48, 96, 192, 384, 768)
SEEDS = tuple(range(5))
TEST_ROWS = 1500  # more would hardly change the errors
DEVELOPMENT = (0, 1, 2, 3)  # draws of invented tables on which settings, priors and grids were chosen
HELD_OUT = (100,)  # draws on which nothing was chosen
GRID: dict[str, tuple[Any, ...]] = {"lr": (1e-2, 3e-3), "width": (64, 128), "weight_decay": (1e-2, 1.0)}
# Slow. They are skipped on tables that differ from another table in the statistics alone.
NETWORKS = ("paper", "scratch_network")
LARGEST = {"default": 192, "paper": 192}  # the others get more samples: they may need more for the same error
SKIPPED = {"scratch_network": (384,)}  # slow; the size after it says whether 8 times the samples are enough
RIVALS = ("scratch", "scratch_network", "statistics", "paper")
SAMPLES = 96  # the size that the targets are about
Methods = Mapping[str, tuple[AccuracyPredictor, AccuracyTable]]
"""A predictor, and the table as the predictor sees it, by the name of the method."""
Errors = dict[str, dict[str, dict[str, float]]]
"""Errors and rank correlations by method and number of samples."""
METHOD = (
    "For every table, size and seed, a random sample is fitted and at most 1,500 other rows are predicted: mean squared "
    "error (points squared), Kendall's tau and Spearman's rank correlation, means over seeds. Pretraining sees 80% of the "
    "architectures of a table, never an accuracy. `factor` is how many times the samples of the default a rival needs for "
    "the default's error, by interpolation of the logarithms; `>` in `factor_is_bound` when it never gets there. Settings "
    f"and priors were chosen on the invented draws {DEVELOPMENT} and looked at on NAS-Bench-Macro; the invented draws "
    f"here, {HELD_OUT}, are others; invented tables are code, not networks that anybody trained. The scratch network is the "
    "best of a grid on the development draws."
)
COLUMNS: dict[str, Format] = {
    "table": "`{name}`",
    **{f"`{rival}`": f"{{{rival}}}" for rival in RIVALS},
    "smallest ratio of errors": "{smallest:.2f}",
}


def measure(
    macro: Annotated[Path, typer.Option(metavar="FILE", help="The table nas-bench-macro_cifar10.json.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the measured tables. A table that is there is not measured again."),
    ],
    workers: Annotated[int, typer.Option(min=1, help="Number of tables that are measured at the same time.")] = 1,
) -> Measured:
    """Measure all methods on all tables."""
    names = list(tables_by_name(macro))
    with count_steps(2 + len(names)) as step:
        step("tuning the network from scratch")
        # Errors change in the last digits with the number of threads.
        with cpu_threads(1):
            network = tuned_network()
            step("proxy head")
            proxy_values = proxy()
        # Every table is measured by one thread of a process, so its numbers do not depend on `workers`.
        with ProcessPoolExecutor(workers) as pool:
            job = partial(measure_table, macro=macro, out=out, network=network)
            for name, _ in zip(names, pool.map(job, names), strict=True):
                step(f"measured {name}")
    measured = {name: load_json(out / f"{name}.json", "result") for name in names}
    # The points of Figure 4 are many. They get a place of their own at the end of the result file.
    shown = measured["nas_bench_macro"].pop("figure4")
    return Measured(
        {
            "proxy": proxy_values,
            "scratch_network": dataclasses.asdict(network),
            "tables": measured,
            "figure4": shown,
        }
    )


def tables_by_name(macro: Path) -> dict[str, Callable[[], AccuracyTable]]:
    """Return functions that make the tables, by name. A table is made in the process that measures it."""
    found: dict[str, Callable[[], AccuracyTable]] = {
        "nas_bench_macro": partial(nas_bench_macro, macro),
        "fashion_mnist": fashion_mnist,
        "useless": lambda: useless(nas_bench_macro(macro)),
    }
    for geometry, draw, rich in itertools.product(("mnasnet", "fbnet"), HELD_OUT, (False, True)):
        name = f"{geometry}_{draw}" + ("_rich" if rich else "")
        found[name] = partial(invented, geometry, draw, rich=rich)
    return found


def measure_table(name: str, macro: Path, out: Path, network: PredictorSettings) -> None:
    """Measure one table into `<out>/<name>.json`, unless the file exists."""
    path = out / f"{name}.json"
    if path.exists():
        return
    with cpu_threads(1):
        table = tables_by_name(macro)[name]()
        sizes = tuple(n for n in SIZES if n <= 0.7 * len(table.x))  # the rest is needed to test on
        skipped = NETWORKS if name.endswith(("_rich", "useless")) else ()
        methods = {key: value for key, value in predictors(table, network).items() if key not in skipped}
        values: Values = {"methods": fit_all(table, methods, sizes, SEEDS)}
        values["against"] = factors(values["methods"])
        if name == "nas_bench_macro":
            values["figure4"] = figure4(table, network)
    write_atomically(path, json.dumps(values))


def predictors(table: AccuracyTable, network: PredictorSettings) -> dict[str, tuple[AccuracyPredictor, AccuracyTable]]:
    """Return every method with the table as it sees it.

    Args:
        network: settings of the network from scratch.
    """
    # A fifth of the architectures is kept from pretraining, to test the proxy head. A small table is too small for that.
    rows = len(table.x) if len(table.x) < 1000 else len(table.x) * 4 // 5
    stated = with_statistics(table)
    return {
        "default": (pretrained(table, PredictorSettings(), rows), table),
        "scratch": (AccuracyPredictor(table.arch_columns, seed=0), table),
        "statistics": (AccuracyPredictor(stated.arch_columns, seed=0), stated),
        "paper": (pretrained(table, PredictorSettings.preset("paper"), rows), table),
        "scratch_network": (AccuracyPredictor(table.arch_columns, seed=0, settings=network), table),
    }


def pretrained(table: AccuracyTable, settings: PredictorSettings, rows: int) -> AccuracyPredictor:
    """Return a predictor that is pretrained on the statistics of the first `rows` architectures."""
    predictor = AccuracyPredictor(table.arch_columns, seed=0, settings=settings)
    labels = table.labels if settings.rich_labels else table.labels[:, :2]
    predictor.pretrain(table.x[:rows, table.arch_columns], labels[:rows])
    return predictor


def with_statistics(table: AccuracyTable) -> AccuracyTable:
    """Return the table with its exact statistics as more columns."""
    # Scaled to 0 to 1 like the other columns. A statistic that is constant would divide by zero.
    low, high = table.labels.min(0), table.labels.max(0)
    inputs = (table.labels - low) / np.maximum(high - low, 1e-9)
    columns = np.concatenate([table.arch_columns, np.ones(inputs.shape[1], bool)])
    return dataclasses.replace(
        table, x=np.concatenate([table.x, inputs], axis=1).astype(np.float32), arch_columns=columns
    )


def split(table: AccuracyTable, n: int, seed: int) -> tuple[Any, Any]:
    """Return `n` random rows to fit, and the rows to predict."""
    # The size is part of the seed, so that the samples of two sizes are drawn independently.
    order = np.random.default_rng([seed, n]).permutation(len(table.x))
    return order[:n], order[n:][-TEST_ROWS:]


def fit_all(table: AccuracyTable, methods: Methods, sizes: Sequence[int], seeds: Sequence[int]) -> Errors:
    """Return the means over seeds of errors, rank correlations and processor seconds of a fit, by method and size."""
    found: Errors = {}
    for (name, (predictor, seen)), n in itertools.product(methods.items(), sizes):
        if n > LARGEST.get(name, n) or n in SKIPPED.get(name, ()):
            continue
        rows = []
        for seed in seeds:
            fitted, tested = split(table, n, seed)
            start = time.process_time()  # not the clock: other tables are measured at the same time
            predictor.fit(seen.x[fitted], seen.y[fitted])
            seconds = time.process_time() - start
            rows.append(errors(predictor.predict(seen.x[tested])[0], seen.y[tested]) | {"fit_seconds": seconds})
        found.setdefault(name, {})[str(n)] = {
            key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]
        }
    return found


def errors(predicted: Floats, y: Floats) -> dict[str, float]:
    """Return the mean squared error and two rank correlations."""
    return {
        "mse": float(((predicted - y) ** 2).mean()),
        "tau": float(stats.kendalltau(predicted, y)[0]),
        "spearman": float(stats.spearmanr(predicted, y)[0]),
    }


def tuned_network(
    draws: tuple[int, ...] = DEVELOPMENT[:2], seeds: tuple[int, ...] = (0,), n: int = SAMPLES
) -> PredictorSettings:
    """Return the network from scratch with the smallest mean logarithmic error on invented tables for development."""
    # Tuned on invented tables alone: the comparison on real tables must not favour the rival that saw them.
    tables = [invented(geometry, draw, rich=False) for geometry in ("mnasnet", "fbnet") for draw in draws]
    grid = [
        PredictorSettings(head="network", members=1, **dict(zip(GRID, values, strict=True)))
        for values in itertools.product(*GRID.values())
    ]

    def error(settings: PredictorSettings) -> float:
        found = [
            fit_all(t, {"network": (AccuracyPredictor(t.arch_columns, seed=0, settings=settings), t)}, (n,), seeds)
            for t in tables
        ]
        # Logarithms, so that every table counts the same, however large its errors are.
        return float(np.mean([np.log(row["network"][str(n)]["mse"]) for row in found]))

    return min(grid, key=error)


def samples_needed(curve: Mapping[str, Mapping[str, float]], mse: float) -> tuple[float, bool]:
    """Return the number of samples at which a curve of errors comes down to `mse`.

    Args:
        curve: errors by number of samples.
        mse: the mean squared error to reach.

    Returns:
        The samples, and whether they are only a lower bound, because the curve ends above `mse`.
    """
    sizes = np.array([int(n) for n in curve])
    # More samples sometimes give a larger error, by chance. The best error so far is what a user can have.
    smallest = np.minimum.accumulate([curve[n]["mse"] for n in curve])
    if mse < smallest[-1]:
        return float(sizes[-1]), True
    if mse >= smallest[0]:
        return float(sizes[0]), False
    # Errors fall about as a power of the samples: between two sizes, a line through the logarithms.
    i = int(np.argmax(smallest <= mse))
    share = np.log(smallest[i - 1] / mse) / np.log(smallest[i - 1] / smallest[i])
    return float(np.exp(np.log(sizes[i - 1]) + share * np.log(sizes[i] / sizes[i - 1]))), False


def factors(found: Mapping[str, Any]) -> dict[str, dict[str, Values]]:
    """Return how many times the default's samples a rival needs, and the ratio of errors at equal samples."""
    against: dict[str, dict[str, Values]] = {}
    for rival in found:
        if rival == "default":
            continue
        against[rival] = {}
        for n in found["default"]:
            if n not in found[rival]:
                continue
            mse = found["default"][n]["mse"]
            needed, bound = samples_needed(found[rival], mse)
            against[rival][n] = {
                "factor": round(needed / int(n), 3),
                "factor_is_bound": bound,
                "mse_ratio": round(found[rival][n]["mse"] / mse, 3),
            }
    return against


def proxy(space_name: str = "released", pool: int = 20_000) -> Values:
    """Return how well the proxy head predicts FLOPs and params of held-out architectures of a space, and its seconds."""
    space = load_space(space_name)
    index = sample(space, pool, Constraint("flops", max=800e6, min=400e6), 0)
    mask, labels = arch_mask(space), space.statistics(index)[1].astype(float)
    x, rows = encode(space, index)[:, mask], pool * 4 // 5
    found: Values = {"space": space_name, "pool": pool}
    for name, kept in (("flops_params", labels[:, :2]), ("rich", labels)):
        predictor = AccuracyPredictor(mask[mask], seed=0)  # all columns are the architecture's here
        start, wall = time.process_time(), time.perf_counter()
        predictor.pretrain(x[:rows], kept[:rows])
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        predicted = predictor.predict_labels(x[rows:])
        r2 = 1.0 - ((predicted - kept[rows:]) ** 2).mean(0) / kept[rows:].var(0)
        found[name] = {
            "r2_flops": round(float(r2[0]), 5),
            "r2_params": round(float(r2[1]), 5),
            "cpu_seconds": round(seconds, 2),
            "wall_seconds": round(wall, 2),
        }
    return found


def figure4(table: AccuracyTable, network: PredictorSettings, n: int = SAMPLES, points: int = 300) -> Values:
    """Return the points of panels a to d: predicted and true statistics, and accuracies without and with pretraining."""
    methods = predictors(table, network)
    rows = len(table.x) * 4 // 5
    labels = methods["default"][0].predict_labels(table.x[rows:][:points, table.arch_columns])
    # With several seeds, the panels would show rows of the table several times.
    fitted, tested = split(table, n, 0)
    found: Values = {"table": table.name, "samples": n}
    for i, name in enumerate(("flops", "params")):
        true = table.labels[rows:][:points, i]
        found[name] = {"true": true.round(4).tolist(), "predicted": labels[:, i].round(4).tolist()}
    for name in ("scratch", "default"):
        predictor, seen = methods[name]
        predictor.fit(seen.x[fitted], seen.y[fitted])
        predicted = predictor.predict(seen.x[tested[:points]])[0]
        found[name] = {"true": table.y[tested[:points]].round(3).tolist(), "predicted": predicted.round(3).tolist()}
    return found


def targets(values: Values) -> dict[str, Target]:
    """Return the targets: factors of samples at 96, the smallest ratio of errors, and how well the proxy head predicts."""
    measured, r2 = values["tables"], values["proxy"]["flops_params"]

    def factor(rival: str, names: Sequence[str]) -> float:
        rows = [measured[name]["against"][rival][str(SAMPLES)]["factor"] for name in names]
        return round(float(np.exp(np.mean(np.log(rows)))), 3)  # geometric: it is a mean of ratios

    family = [name for name in measured if name.startswith(("mnasnet", "fbnet")) and not name.endswith("_rich")]
    rich = [name for name in measured if name.endswith("_rich")]
    worst = min(row["mse_ratio"] for table in measured.values() for row in table["against"]["scratch"].values())
    found = {
        "scratch_network_samples_at_96": (8.0, factor("scratch_network", family)),
        "scratch_samples_at_96": (8.0, factor("scratch", family)),
        "scratch_network_samples_at_96_macro": (5.0, factor("scratch_network", ["nas_bench_macro"])),
        "statistics_samples_at_96": (1.3, factor("statistics", family)),
        "statistics_samples_at_96_rich": (1.3, factor("statistics", rich)),
        "statistics_samples_at_96_macro": (1.3, factor("statistics", ["nas_bench_macro"])),
        "never_hurts_worst_mse_ratio": (0.95, round(worst, 3)),
        "proxy_r2_flops": (0.998, r2["r2_flops"]),
        "proxy_r2_params": (0.999, r2["r2_params"]),
    }
    return {name: Target(value, "at_least", limit) for name, (limit, value) in found.items()}


def record_targets(found: Mapping[str, Target]) -> Values:
    """Return the targets as this result file holds them: their keys are older than those of the other benchmarks."""
    rows = {name: {"target": row.limit, "measured": row.value, "met": row.met} for name, row in found.items()}
    return {"targets": rows}


def tables(result: Result) -> dict[str, Table]:
    """Return how many times the default's samples every rival needs, a row per table of accuracies."""
    rows = []
    for name, table in result.values["tables"].items():
        against = table["against"]
        smallest = min(row["mse_ratio"] for row in against["scratch"].values())
        rows.append({"name": name, "smallest": smallest, **{rival: _factor(against, rival) for rival in RIVALS}})
    return {f"times the samples that the rivals need for the error of {SAMPLES} samples": Table.of(COLUMNS, rows)}


def _factor(against: Mapping[str, Any], rival: str) -> str:
    """Return the factor of a rival as the table prints it: a dash where it was not measured, and `>` before a lower bound."""
    row = against.get(rival, {}).get(str(SAMPLES))
    return "-" if row is None else f"{'> ' * row['factor_is_bound']}{row['factor']:.1f}"


BENCHMARK = Benchmark(
    "predictor",
    METHOD,
    ("torch", "numpy", "scipy"),
    measure,
    targets,
    record=record_targets,
    tables=tables,
    plot=draw_figure4,
)
