"""How many epochs a search needs to find a good candidate, with and without early stopping, and with that of Optuna.

The trainings are real ones: the curves of 684 ResNets on TinyImageNet (`fbnetv3 search table convert`), of which a search sees
as many epochs as it pays for. A second call continues what was stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.budgeted import Ended, OptunaSearch, Search, nars_search
from fbnetv3.benchmarks.search.comparison.cases import table_config
from fbnetv3.benchmarks.search.on_tables import kept_answer
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Format, Table, difference
from fbnetv3.files import lock_folder
from fbnetv3.pages.plots import plot_axes, png_of
from fbnetv3.progress import count_steps
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.report.plots import COLORS
from fbnetv3.training.engine import cpu_threads

METHOD = (
    "Every search may train for as many epochs as {trainings} complete trainings have. Its answer at any time is the candidate "
    "with the highest accuracy so far among the trainings that were not stopped. `regret` is what the best candidate of the "
    "table has more, in points of the mean accuracy of the trainings that the search did not see, where there are any; mean "
    "over {seeds} seeds. NARS runs without finalists, in batches of {batch} after {first} random trainings; Optuna's "
    "samplers see every result before the next proposal. The paper's rule (section 3.3) has its threshold of {threshold}. All "
    "settings were chosen on other seeds; those of the pruners: min_resource and reduction_factor {settings}. `time`: "
    "epochs until the mean regret stays at or below a level, in complete trainings. `difference`: mean regret over time, from "
    "{beginning} trainings on, of the method minus that of NARS with the model, paired by seed, with the interval of Student's "
    "t; all hold together with 95%."
)
FIRST_SEED = 1000  # settings were chosen on others
TRAININGS = 40  # complete trainings whose epochs a search may use
THRESHOLD = 0.92  # section 3.3
PRETRAINING = 20  # epochs; fewer than the default, since ways of stopping are compared and not the pretraining
ROUNDS = 150  # of NARS: more than the epochs suffice for
LEVELS = (1.0, 0.5, 0.25)  # regrets in points whose time is measured
LEVEL = 0.5  # that of the targets
LOWEST = 0.03  # regret that is drawn: a logarithm has no zero
BEGINNING = 10  # trainings; all methods begin with random ones, and the first accuracies are luck
OURS, WITHOUT = "nars_model", "nars"
PRUNING = {"min_resource": 14, "reduction_factor": 3}
HYPERBAND = PRUNING | {"max_resource": 140}


@dataclass(frozen=True)
class Method:
    """A search, what it changes in NARS's configuration, and its name in words."""

    words: str
    search: Search
    change: Mapping[str, Any] = field(default_factory=dict)


METHODS = {
    "nars_model": Method("NARS, stopped by the model", nars_search, {"stopping": "model"}),
    "nars_rule": Method("NARS, the paper's rule", nars_search, {"early_stopping": THRESHOLD}),
    "nars": Method("NARS, never stopped", nars_search, {"early_stopping": 1.0}),  # no ranking is so sure
    "tpe": Method("TPE", OptunaSearch(True)),
    "tpe_asha": Method("TPE with ASHA", OptunaSearch(True, "SuccessiveHalvingPruner", PRUNING)),
    "tpe_hyperband": Method("TPE with Hyperband", OptunaSearch(True, "HyperbandPruner", HYPERBAND)),
    "random": Method("random search", OptunaSearch(False)),
    "random_asha": Method("random with ASHA", OptunaSearch(False, "SuccessiveHalvingPruner", PRUNING)),
    "random_hyperband": Method("random with Hyperband", OptunaSearch(False, "HyperbandPruner", HYPERBAND)),
}


def measure(
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="The table of TinyImageNet (`fbnetv3 search table convert`).")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the answers. A second call continues what was stopped.")
    ],
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 16,
    trainings: Annotated[
        int, typer.Option(min=10, help="Complete trainings whose epochs a search may use.")
    ] = TRAININGS,
) -> Measured:
    """Search with all methods and seeds."""
    config = base_config(table)
    length = Context.of(config).base.epochs
    found: dict[str, list[Values]] = {name: [] for name in METHODS}
    with lock_folder(out, "benchmark"), cpu_threads(1), count_steps(seeds * len(METHODS)) as step:
        # Methods are in the inner loop, so that a stopped run has all of them for the seeds that it finished.
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            for name, method in METHODS.items():
                step(f"{name}, seed {seed}")
                file = out / f"{name}_{seed}.json"
                found[name].append(searched(method, config.replace(seed=seed, **method.change), trainings, file))
    values = {"seeds": seeds, "trainings": trainings, "length": length, "methods": summary(found)}
    words = {
        "beginning": BEGINNING,
        "trainings": trainings,
        "seeds": seeds,
        "batch": config.batch,
        "first": config.first,
        "threshold": THRESHOLD,
    }
    return Measured(values, words | {"settings": f"{PRUNING['min_resource']} and {PRUNING['reduction_factor']}"})


def base_config(table: Path) -> SearchConfig:
    """Return the configuration of NARS on a table, without finalists, for as many rounds as the epochs suffice."""
    config = table_config(table, None)
    predictor = dataclasses.replace(config.predictor, pretrain_epochs=PRETRAINING)
    rounds = min(ROUNDS, (config.pool - config.batches[0]) // config.batch)
    return config.replace(finalists=0, rounds=rounds, predictor=predictor)


def searched(method: Method, config: SearchConfig, trainings: int, file: Path) -> Values:
    """Return the curve of one search, and how many trainings it made. What a file has already is only read.

    Raises:
        InputError: the file is of another configuration.
    """

    def measured() -> Values:
        context = Context.of(config)
        length = context.base.epochs
        ended = method.search(context, trainings * length)
        return {
            "curve": [round(regret, 4) for regret in regrets(context, ended, trainings)],
            "begun": len(ended),
            "completed": sum(training.epochs == length for training in ended),
        }

    return kept_answer(file, f"{config.fingerprint} {trainings}", ("curve", "begun", "completed"), measured)


def regrets(context: Context, ended: Sequence[Ended], trainings: int) -> list[float]:
    """Return the regret after the epochs of 1, 2, .. complete trainings, in points; before the first answer that of chance."""
    space: Any = context.space
    judge = space.judge([(training.candidate, training.seed) for training in ended])
    best = float(space.accuracy(space.known()).max())
    curve, spent, highest = np.full(trainings, best - context.chance), 0, -np.inf
    for training in ended:
        spent += training.epochs
        if training.accuracy is not None and training.accuracy > highest:
            highest = training.accuracy
            # What ends within the epochs of a training counts at its end.
            curve[-(-spent // context.base.epochs) - 1 :] = best - float(judge(np.array([training.candidate]))[0])
    return [float(regret) for regret in curve]


def summary(found: Mapping[str, Sequence[Values]]) -> Values:
    """Return what the searches of every method say together: mean curve, times, and the difference to NARS with the model."""
    ours = [_over_time(row) for row in found[OURS]]
    values: Values = {}
    for name, rows in found.items():
        curve = np.mean([row["curve"] for row in rows], axis=0)
        over_time = [_over_time(row) for row in rows]
        values[name] = {
            "regret": round(float(curve[-1]), 3),
            "over_time": round(float(np.mean(over_time)), 3),
            "by_seed": np.round(over_time, 3).tolist(),
            "curve": curve.round(3).tolist(),
            "time": {f"{level:g}": reached(curve, level) for level in LEVELS},
            "begun": round(float(np.mean([row["begun"] for row in rows])), 1),
            "completed": round(float(np.mean([row["completed"] for row in rows])), 1),
        }
        if name != OURS:
            interval = paired_difference(over_time, ours, comparisons=len(found) - 1)
            values[name]["difference"] = interval.rounded(3)
    return values


def _over_time(row: Values) -> float:
    """Return the mean regret of a search after its beginning."""
    return float(np.mean(row["curve"][BEGINNING - 1 :]))


def reached(curve: Sequence[float] | np.ndarray[Any, Any], level: float) -> int | None:
    """Return from which place of a curve on, counted from 1, it stays at or below a level; None if its end is above."""
    above = np.flatnonzero(np.asarray(curve) > level)
    first = int(above[-1]) + 2 if len(above) else 1
    return first if first <= len(curve) else None


def targets(values: Values) -> dict[str, Target]:
    """Return the targets: nothing is surely better than the model, and it needs less time to the regret `LEVEL` than others.

    A time share is the model's time divided by that of the fastest other method. Who does not get there has one more than all.
    """
    methods = values["methods"]

    def time(name: str) -> int:
        return int(methods[name]["time"][f"{LEVEL:g}"] or values["trainings"] + 1)

    rival = min(time(name) for name in methods if not name.startswith("nars"))
    worse = sum(row["difference"]["high"] < 0 for name, row in methods.items() if name != OURS)
    return {
        "surely_better_than_the_model": Target(worse, "at_most", 0),
        "time_share_of_best_rival": Target(round(time(OURS) / rival, 3), "at_most", 0.5),
        "time_share_of_never_stopped": Target(round(time(OURS) / time(WITHOUT), 3), "below", 1.0),
    }


def _time(level: float) -> Format:
    return lambda row: str(row["time"][f"{level:g}"] or "not reached")


COLUMNS: dict[str, Format] = {
    "method": "{words}",
    "begun": "{begun:.0f}",
    "complete": "{completed:.0f}",
    "regret at the end": "{regret:.2f}",
    **{f"time to {level:g}": _time(level) for level in LEVELS},
    "regret over time": "{over_time:.2f}",
    "difference (95% interval)": lambda row: difference(row["difference"]) if "difference" in row else "-",
}


def result_tables(result: Result) -> dict[str, Table]:
    """Return a row for every method."""
    rows = [{"words": METHODS[name].words, **row} for name, row in result.values["methods"].items()]
    return {"time to a regret": Table.of(COLUMNS, rows)}


def draw(curves: Mapping[str, Sequence[float]]) -> Any:
    """Return axes with the mean regret of every method by time, NARS in colour and Optuna's searches in grey."""
    axes = plot_axes("epochs, in complete trainings", "points below the best candidate")
    for i, (name, curve) in enumerate(curves.items()):
        ours = name.startswith("nars")
        dash = ("-", "--", ":")[i % 3]
        color = COLORS["nars"] if ours else "#4d4d4d" if name.startswith("tpe") else "#a0a0a0"
        width = 2.4 if name == OURS else 1.2
        axes.step(
            range(1, len(curve) + 1), curve, dash, where="post", color=color, linewidth=width, label=METHODS[name].words
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(1, max(map(len, curves.values())))
    axes.set_ylim(LOWEST, 20 * max(map(max, curves.values())))  # room for the legend
    axes.legend(fontsize=7.5, loc="upper right", ncols=2)
    return axes


def curves_of(values: Values) -> dict[str, list[float]]:
    """Return what `draw` shows."""
    return {name: row["curve"] for name, row in values["methods"].items()}


BENCHMARK = Benchmark(
    "early_stopping",
    METHOD,
    ("torch", "numpy", "scipy", "optuna"),
    measure,
    targets=targets,
    tables=result_tables,
    quick={"seeds": 2, "trainings": 12},
    plot=lambda result: png_of(draw(curves_of(result.values)).figure),
    depends_on_machine=False,
)
