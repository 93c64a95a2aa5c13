"""The card of a collection: what its trainings say about the space, and about how noisy a training is.

It reads a table that `fbnetv3 search collect` made, and trains nothing. There is no rival and no target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.errors import InputError
from fbnetv3.search.collect.surrogate import BEST, cross_check, rank
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.report.variance import PARTS, decompose
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_file import read_table
from fbnetv3.search.trial import Trial
from fbnetv3.training.engine import cpu_threads

METHOD = (
    "A table of real trainings, made by `fbnetv3 search collect`. `judged`: accuracies in percent that searches on it are "
    "judged by, of the test images if it has them. `noise`: standard deviation of a training of one pair in points, pooled "
    "over the pairs with several trainings. `ceiling`: Spearman's correlation of two trainings of the same pair, and "
    "`of_best` that of the best quarter of the pairs. `surrogate`: error and Spearman's correlation of predictions of a fifth "
    "of the pairs by a predictor that is fitted to the others. `validation`: Spearman's correlation of validation and judged "
    "accuracy of one training. `variance`: shares of the variance over all pairs inside the budget, as the predictor believes "
    "them after it has learnt the table: the median of draws. `better_half`: the same where a pair below the median counts as "
    "the median. `hours`: of all trainings, one thread each."
)
CARD = (
    ("trainings", "{trainings:,} of {pairs:,} pairs, {several:,} of them several times"),
    ("epochs of a training", "{epochs}"),
    ("mean accuracy of the pairs (%)", "{judged[mean]:.2f}"),
    ("their standard deviation (points)", "{judged[std]:.2f}"),
    ("best pair with several trainings (%)", "{judged[best]:.2f}"),
    ("standard deviation of a training (points)", "{noise:.2f}"),
    ("the same of the best quarter", "{noise_of_best:.2f}"),
    ("rank correlation of two trainings of a pair", "{ceiling:.2f}"),
    ("the same of the best quarter", "{ceiling_of_best:.2f}"),
    ("rank correlation of validation and judged accuracy", "{validation:.2f}"),
    ("the same of the best quarter", "{validation_of_best:.2f}"),
    ("rank correlation of the surrogate with pairs that it was not fitted to", "{surrogate[rank]:.2f}"),
    ("the same of the best quarter", "{surrogate[rank_of_best]:.2f}"),
    ("hours of training on one core", "{hours:.1f}"),
)


def measure(
    table: Annotated[Path, typer.Option(help="Table of a collection (.npz); by default the package's.")] = Path(
        "fashion_mnist"
    ),
    preset: Annotated[str, typer.Option(help="Preset of the collection: its space and its budget.")] = "quickstart",
) -> Measured:
    """Read the table and compute its card."""
    found, context = read_table(table), Context.of(load_preset(preset))
    with cpu_threads(1):
        return Measured(card(context, found))


def card(context: Context, table: TableSpace) -> Values:
    """Return the values of the result file.

    Raises:
        InputError: the table is of another space, or has no pair with several trainings.
    """
    check = cross_check(context.space, table)
    if check.noise is None:
        raise InputError(
            f"table {table.name} has no pair with several trainings, so it does not say how noisy a training is"
        )
    mean, several = table.accuracy(table.table), table.trainings > 1
    best = mean >= np.quantile(mean, 1 - BEST)
    parts = decompose(Posterior.of(context, trials_of(context.space, table), table.acc1.shape[2]))
    values: Values = {
        "pairs": len(table.table),
        "trainings": int(table.trainings.sum()),
        "several": int(several.sum()),
        "epochs": table.acc1.shape[2],
        "judged": {"mean": mean.mean(), "std": mean.std(ddof=1), "best": mean[several].max()},
        "noise": check.noise,
        "noise_of_best": table.noise(best),
        "ceiling": check.ceiling,
        "ceiling_of_best": check.ceiling_of_best,
        "validation": rank(table.final[:, 0], table.judged[:, 0]),
        "validation_of_best": rank(table.final[best, 0], table.judged[best, 0]),
        "surrogate": {"error": check.error, "rank": check.rank, "rank_of_best": check.rank_of_best},
        "variance": dict(zip(PARTS, np.median(parts.whole, axis=0), strict=True)),
        "better_half": dict(zip(PARTS, np.median(parts.better, axis=0), strict=False)),
        "hours": 0.0 if table.seconds is None else np.nansum(table.seconds) / 3600,
    }
    return rounded(values)


def trials_of(space: SearchSpace, table: TableSpace) -> list[Trial]:
    """Return all trainings of a table as the trials of a search, with the accuracies that searches are judged by."""
    curves = table.acc1 if table.test_acc1 is None else table.test_acc1
    costs = space.cost(table.table)
    flops, params = costs.flops(), costs.params()
    return [
        Trial(
            round=1,
            index=0,
            candidate=table.table[i].tolist(),
            seed=j,
            epochs=curves.shape[2],
            flops=int(flops[i]),
            params=int(params[i]),
            predicted=None,
            acc1=[] if (diverged := bool(np.isnan(curves[i, j]).any())) else curves[i, j].tolist(),
            status="diverged" if diverged else "ok",
            seconds=0.0,
        )
        for i in range(len(table.table))
        for j in range(table.trainings[i])
    ]


def rounded(values: Values) -> Values:
    """Return the values with four decimals."""
    return {
        key: rounded(value)
        if isinstance(value, dict)
        else round(float(value), 4)
        if isinstance(value, float)
        else value
        for key, value in values.items()
    }


def tables(result: Result) -> dict[str, Table]:
    """Return the card, and the parts of the variance."""
    values = result.values
    rows = tuple((text, form.format_map(values)) for text, form in CARD)
    shares = tuple(
        (
            part,
            f"{values['variance'][part]:.0%}",
            f"{values['better_half'][part]:.0%}" if part in values["better_half"] else "-",
        )
        for part in PARTS
    )
    return {
        "the table": Table(("what", "value"), rows),
        "variance of accuracy, over all pairs inside the budget": Table(("part", "all", "better half"), shares),
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


BENCHMARK = Benchmark("collection", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables)
