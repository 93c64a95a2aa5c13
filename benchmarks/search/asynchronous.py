"""What an asynchronous search gains over one in batches when trainings have unequal lengths, on a simulated clock.

The accuracies are those of a public table of real trainings (`fbnetv3 search table`). A search sees one training of a candidate
and is judged by the others. A second call continues what was stopped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.clock import Clock
from fbnetv3.benchmarks.search.comparison.cases import table_config
from fbnetv3.benchmarks.search.on_tables import kept_answer, search
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Format, Table, difference
from fbnetv3.files import lock_folder
from fbnetv3.progress import count_steps
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.pretrain import pretrained_predictor
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.training.engine import cpu_threads

METHOD = (
    "Searches of {trainings} trainings on {workers} workers: {first} in a random first batch and {finalists} finalists, in all "
    "searches alike, and the others in batches of {workers}, one by one when one ends (`asynchronous`), or with one worker "
    "(`alone`). `time` is the end of the last training on a simulated clock, in mean lengths of a training. Lengths are "
    "log-normal with a standard deviation of {spread} of their logarithm, and do not depend on the candidate. Proposals take "
    "no time. `regret` is what the best candidate has more than the answer, in points of the mean accuracy of the trainings "
    "that the search did not see; means over {seeds} seeds. `gain`: batches minus the other, paired by seed, with the 95% "
    "interval of Student's t. The searches of a seed share one predictor that was pretrained for {pretraining} epochs."
)
WORKERS = 4
SPREAD = 0.5  # two of three trainings take between 0.6 and 1.6 times the median
PRETRAINING = 20  # epochs; fewer than the default, since the pretraining is not what is compared
# Trainings at a time after the first batch, and workers; 0: in batches.
WAYS = {"batches": (0, WORKERS), "asynchronous": (WORKERS, WORKERS), "alone": (1, 1)}


def measure(
    table: Annotated[Path, typer.Option(metavar="FILE", help="A table (`fbnetv3 search table convert`).")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the answers. A second call continues what was stopped.")
    ],
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 12,
) -> Measured:
    """Search the table in all ways with every seed."""
    config, found = config_of(table), []
    with lock_folder(out, "benchmark"), cpu_threads(1), count_steps(seeds) as step:
        for seed in range(seeds):
            step(f"seed {seed}")
            found.append(answers(config.replace(seed=seed), out / f"{seed}.json"))
    values = {"table": config.name, "trainings": config.trainings, "seeds": seeds, "workers": WORKERS, "spread": SPREAD}
    words = {"first": config.batches[0], "finalists": config.finalists, "pretraining": PRETRAINING}
    return Measured(values | {"ways": summary(found)}, words=values | words)


def config_of(table: Path) -> SearchConfig:
    """Return the configuration of the searches in batches.

    Raises:
        InputError: the file is no table.
    """
    config = table_config(table, None).replace(batch=WORKERS)
    return config.replace(predictor=dataclasses.replace(config.predictor, pretrain_epochs=PRETRAINING))


def answers(config: SearchConfig, file: Path) -> dict[str, dict[str, float]]:
    """Return time and regret of a search in every way. What the file has already is only read.

    Raises:
        InputError: the file is of another configuration.
    """

    def measured() -> Values:
        context = Context.of(config)
        predictor = pretrained_predictor(context)
        return {"ways": {name: answer(context, predictor, *way) for name, way in WAYS.items()}}

    ways: dict[str, dict[str, float]] = kept_answer(file, config.fingerprint, ("ways",), measured)["ways"]
    return ways


def answer(context: Context, predictor: AccuracyPredictor, at_once: int, workers: int) -> dict[str, float]:
    """Return time and regret of one search, with a predictor that is pretrained already."""
    context = dataclasses.replace(context, config=context.config.replace(asynchronous=at_once))
    clock = Clock(context.evaluator(), workers, length)
    proposal, trials = search(context, predictor, clock)
    judge = context.space.judge([(trial.candidate, trial.seed) for trial in trials])
    best = float(context.space.accuracy(context.space.known()).max())
    return {"time": clock.now, "regret": best - float(judge(np.array([proposal.candidate]))[0])}


def length(job: Job) -> float:
    """Return how long a training takes. The mean of all trainings is 1."""
    return float(np.exp(SPREAD * np.random.default_rng(job.seed).standard_normal() - 0.5 * SPREAD**2))


def summary(found: list[dict[str, dict[str, float]]]) -> Values:
    """Return means over seeds of time and regret for every way, and what it gains over batches."""
    values: Values = {}
    for way in WAYS:
        values[way] = {}
        for what in ("time", "regret"):
            series, batches = ([answers[name][what] for answers in found] for name in (way, "batches"))
            values[way][what] = {
                "mean": round(float(np.mean(series)), 3),
                "by_seed": np.round(series, 3).tolist(),
            } | ({} if way == "batches" else {"gain": paired_difference(batches, series).rounded(3)})
    return values


def targets(values: Values) -> dict[str, Target]:
    """Return the targets: an asynchronous search is faster, and its answer is not worse."""
    gains = {what: values["ways"]["asynchronous"][what]["gain"] for what in ("time", "regret")}
    return {
        "time_gain_low": Target(gains["time"]["low"], "above", 0.0),
        "regret_gain_high": Target(gains["regret"]["high"], "at_least", 0.0),
    }


COLUMNS: dict[str, Format] = {
    "stage 2": "`{way}`",
    "time": lambda row: f"{row['time']['mean']:.1f}",
    "less than batches": lambda row: difference(row["time"]["gain"]) if "gain" in row["time"] else "-",
    "regret": lambda row: f"{row['regret']['mean']:.2f}",
    "lower than batches": lambda row: difference(row["regret"]["gain"]) if "gain" in row["regret"] else "-",
}


def result_tables(result: Result) -> dict[str, Table]:
    """Return time and regret, a row for every way."""
    return {"time and regret": Table.of(COLUMNS, [{"way": way} | row for way, row in result.values["ways"].items()])}


BENCHMARK = Benchmark(
    "asynchronous",
    METHOD,
    ("torch", "numpy", "scipy"),
    measure,
    targets=targets,
    tables=result_tables,
    quick={"seeds": 2},
    depends_on_machine=False,
)
