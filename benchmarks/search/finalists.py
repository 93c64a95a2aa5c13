"""What the training of finalists gains: does stage 3 find better pairs, or only where the predictor is wrong?

All accuracies are known: the table of NAS-Bench-Macro (Apache-2.0) has 6,561 networks, each trained on CIFAR-10 three
times. It is not in this repository; get it from github.com/xiusu/NAS-Bench-Macro. The rivals are stage 2 alone, stage 3
without trained finalists, and random search. It takes about ten minutes. There is no target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Format, Table, difference
from fbnetv3.progress import count_steps
from fbnetv3.search.nars.acquisition import first_batch, promising_batch
from fbnetv3.search.nars.algorithm import choose_finalists
from fbnetv3.search.nars.evolve import EvolutionSettings, cautious_score, evolve
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import Floats, IntMatrix
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_file import read_table
from fbnetv3.training.engine import cpu_threads

FINALISTS = 5
# `lone` differs from the default in one thing, so that it shows what the ensemble adds.
PREDICTORS = {
    "ensemble": PredictorSettings(),
    "lone": dataclasses.replace(PredictorSettings(), members=1),
    "paper": PredictorSettings.preset("paper"),
}
SEARCH = (
    "guard"  # the key of the answer that a search gives: the best of trained finalists and of the best trial of stage 2
)
ANSWERS = ("stage2", "paper", "lone", "ensemble", "finalists", SEARCH, "random")
Answers = dict[str, dict[str, float]]
"""Regret and optimism in points, by the name of the answer."""
METHOD = (
    "Networks of NAS-Bench-Macro under a FLOPs budget that a share of them keeps (`budget_0.5`: half). Per seed, stages 1 "
    "and 2 as in nars.py with the default predictor, pretrained on FLOPs and params of 2,048 rows, and the whole table as "
    "pool: `batches` of `batch` networks, labelled with the table's first training. `regret` is the mean accuracy (three "
    "trainings) of the best network in the budget less that of the answer, in points; `optimism` what the score's predictor "
    "expected of the answer less its mean accuracy. Answers: `stage2`, the best labelled network in the budget, after one "
    "more batch of `finalists`; `paper` and `lone`, the highest mean by evolution of the predictor's preset `paper` (one "
    "network) and of the default one with a single member; `ensemble`, the highest mean less one deviation of the default "
    "ensemble; `finalists`, of its `finalists` highest the best in the table's second training; `guard`, the same with the "
    "best labelled network in place of the last of them, as nars.py does; `random`, the best labelled of as many random "
    "networks in the budget. The predictors of stage 3 learn from the same trials. `gain_over_*`: regret of that answer "
    "less that of `guard`, by seed, mean and 95% interval of Student's t."
)


@dataclass(frozen=True)
class Trainings:
    """How many networks are trained, and with how many seeds the benchmark is repeated."""

    batches: int
    batch: int
    seeds: int


TRAININGS = {"trials_240": Trainings(5, 48, 10), "trials_36": Trainings(4, 9, 12)}
QUICK = {"trainings": {"trials_12": Trainings(2, 6, 2)}}
SHARES = (0.5, 1.0)  # share of the networks that satisfy the budget
COLUMNS: dict[str, Format] = {
    "trainings, budget": "{case}",
    "stage 2 alone": "{stage2[regret]:.2f}",
    "one network (`paper`)": "{paper[regret]:.2f}",
    "default, one member": "{lone[regret]:.2f}",
    "ensemble": "{ensemble[regret]:.2f}",
    "trained finalists": f"{{{SEARCH}[regret]:.2f}}",
    "random search": "{random[regret]:.2f}",
    "optimism, ensemble": "{ensemble[optimism]:.2f}",
    "optimism, trained finalists": f"{{{SEARCH}[optimism]:.2f}}",
    "gain of trained finalists over stage 2 alone (95% interval)": lambda row: difference(row["gain_over_stage2"]),
}


def measure(
    table: Annotated[Path, typer.Option(metavar="FILE", help="The table nas-bench-macro_cifar10.json.")],
    trainings: Mapping[str, Trainings] = TRAININGS,
    pretraining: int = 2048,
) -> Measured:
    """Let every method answer, for all numbers of trainings, budgets and seeds.

    Args:
        table: the known trainings.
        trainings: numbers of trainings, by name.
        pretraining: number of random networks whose statistics the predictors are pretrained on.
    """
    space = read_table(table)
    values: Values = {"finalists": FINALISTS, "predictor": dataclasses.asdict(PredictorSettings())}
    with cpu_threads(1), count_steps(sum(entry.seeds for entry in trainings.values())) as step:
        for name, entry in trainings.items():
            rows = []
            for seed in range(entry.seeds):
                step(f"{name}, seed {seed}")
                rows.append(answer_all(space, entry, seed, pretraining))
            values[name] = dataclasses.asdict(entry) | summary(rows)
    return Measured(values)


def answer_all(space: TableSpace, trainings: Trainings, seed: int, pretraining: int) -> dict[str, Answers]:
    """Return regret and optimism of every answer, by budget."""
    # The table has several trainings of each network. The first one is the label of a trial, the second one the training as a
    # finalist, and the mean of all is the true accuracy: so no noise is used twice.
    first, second = space.acc1[:, 0, 0], space.acc1[:, 1, 0]
    predictors = {name: pretrained(space, settings, seed, pretraining) for name, settings in PREDICTORS.items()}
    trials, more = stage_two(predictors["ensemble"], space, first, trainings, seed)
    labels = first[space.position(trials)]
    # All predictors learn from the trials of the default one: so they differ in stage 3 alone.
    for name in ("lone", "paper"):
        predictors[name].fit(encode(space, trials), labels)
    rng, result = np.random.default_rng([seed, 1]), {}  # of random search; `seed` alone drew the first batch
    for share in SHARES:
        budget = Constraint("flops", max=float(np.quantile(space.labels["flops"], share)))
        constraints = ConstraintSet(space, (budget,))
        feasible = space.table[constraints.satisfied(space.table)]
        ordered = trials[np.argsort(-labels, kind="stable")]  # best first
        chosen, evolved = {}, {}
        for name, predictor in predictors.items():
            # A single network has no std that it could be cautious by.
            caution = EvolutionSettings().caution if name == "ensemble" else 0.0
            score = cautious_score(space, predictor, caution)
            evolved[name] = evolve(constraints, score, ordered, EvolutionSettings(caution=caution), seed).index
            chosen[name] = evolved[name][:1]
        chosen["finalists"] = best_of(constraints, evolved["ensemble"][:FINALISTS], second, space)
        best_trials = ordered[constraints.satisfied(ordered)]
        finalists = choose_finalists(evolved["ensemble"], best_trials, FINALISTS)
        chosen[SEARCH] = best_of(constraints, finalists, second, space)
        # Finalists were chosen by the ensemble, so its prediction is the one that may be too optimistic.
        expected = {
            name: float(predictors.get(name, predictors["ensemble"]).predict(encode(space, row))[0][0])
            for name, row in chosen.items()
        }
        # Rivals that train no finalists make as many trainings more in another way.
        chosen["stage2"] = best_of(constraints, np.concatenate([trials, more]), first, space)
        drawn = feasible[rng.choice(len(feasible), len(trials) + FINALISTS, replace=False)]
        chosen["random"] = best_of(constraints, drawn, first, space)
        best, truth = space.accuracy(feasible).max(), {k: space.accuracy(row)[0] for k, row in chosen.items()}
        result[f"budget_{share:g}"] = {
            name: {"regret": float(best - truth[name])}
            | ({"optimism": expected[name] - float(truth[name])} if name in expected else {})
            for name in ANSWERS
        }
    return result


def pretrained(space: TableSpace, settings: PredictorSettings, seed: int, count: int) -> AccuracyPredictor:
    """Return a predictor that is pretrained on the statistics of `count` random rows of the table."""
    rows = space.table[np.random.default_rng(seed).choice(len(space.table), count, replace=False)]
    predictor = AccuracyPredictor(arch_mask(space), seed=seed, settings=settings)
    predictor.pretrain(encode(space, rows), space.statistics(rows)[1])
    return predictor


def stage_two(
    predictor: AccuracyPredictor, space: TableSpace, label: Floats, trainings: Trainings, seed: int
) -> tuple[IntMatrix, IntMatrix]:
    """Run stage 2 on the table, and fit the predictor to all of its trials.

    Args:
        label: accuracy of every row of the table.

    Returns:
        The trials in order, and the next batch that would be trained, of `FINALISTS` rows.
    """
    pool = space.table
    encoded, tried = encode(space, pool), np.zeros(len(pool), bool)
    # All trials count here, also those outside of the budget: one search serves several budgets.
    rows = first_batch(len(pool), trainings.batch, seed)
    for _ in range(trainings.batches):
        tried[rows] = True
        predictor.fit(encoded[rows], label[rows])
        members = predictor.predict_members(encoded)
        # After the last batch the predictor is only fitted.
        if len(rows) < trainings.batches * trainings.batch:
            rows = np.concatenate([rows, promising_batch(members, tried, trainings.batch)])
    return pool[rows], pool[promising_batch(members, tried, FINALISTS)]


def best_of(constraints: ConstraintSet, rows: IntMatrix, accuracy: Floats, space: TableSpace) -> IntMatrix:
    """Return the most accurate one of the feasible rows, as a matrix [1, d]."""
    feasible = rows[constraints.satisfied(rows)]
    return feasible[[accuracy[space.position(feasible)].argmax()]]


def summary(rows: Sequence[Mapping[str, Answers]]) -> Values:
    """Return the means and stds of every answer over seeds, and what trained finalists gain, by budget."""
    values: Values = {}
    for budget in rows[0]:
        values[budget] = {}
        for name in ANSWERS:
            values[budget][name] = {}
            for key in rows[0][budget][name]:
                series = np.array([row[budget][name][key] for row in rows])
                values[budget][name] |= {
                    key: round(float(series.mean()), 3),
                    f"{key}_std": round(float(series.std()), 3),
                }
        # Regret is better when it is smaller, so the rival comes first in the difference: a gain is positive.
        for rival in ("stage2", "paper", "lone"):
            regrets = [[row[budget][name]["regret"] for row in rows] for name in (rival, SEARCH)]
            values[budget][f"gain_over_{rival}"] = paired_difference(*regrets).rounded(3)
    return values


def cases(values: Mapping[str, Values]) -> dict[str, Values]:
    """Return the values of every number of trainings and budget, by a description of both."""
    found = {}
    for trainings in (row for name, row in values.items() if name.startswith("trials_")):
        for budget in (name for name in trainings if name.startswith("budget_")):
            share = float(budget.removeprefix("budget_"))
            networks = "all networks" if share == 1.0 else f"{share:.0%} of the networks"
            count = trainings["batches"] * trainings["batch"]
            found[f"{count} ({trainings['seeds']} seeds), {networks}"] = trainings[budget]
    return found


def tables(result: Result) -> dict[str, Table]:
    """Return mean regret and optimism in points, a row per number of trainings and budget."""
    rows = ({"case": case, **row} for case, row in cases(result.values).items())
    return {"regret and optimism": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark("finalists", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables, quick=QUICK)
