"""Does stage 3 find better pairs, or only where the predictor is wrong? On accuracies that are real, all of them known.

    fbnetv3 benchmark finalists --table nas-bench-macro_cifar10.json

takes some ten minutes and writes `results/finalists.json`. The table is NAS-Bench-Macro's (Apache-2.0): 6,561 networks, each
trained on CIFAR-10 three times. It is not in this repository; get it from github.com/xiusu/NAS-Bench-Macro.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.benchmarks.seeds import paired_difference
from fbnetv3.search.nars.algorithm import cautious_score, choose_finalists
from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.nars.select import first_batch, promising_batch
from fbnetv3.search.predictor.model import AccuracyPredictor, PredictorSettings
from fbnetv3.search.space.constraints import Floats, Limits
from fbnetv3.search.space.costs import Constraint, statistics
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.space.table import TableSpace, read_table
from fbnetv3.training.loop import cpu_threads

NAME = "finalists"
FINALISTS = 5
PRETRAINING = 2048
PREDICTORS = {
    "ensemble": PredictorSettings(),
    "lone": dataclasses.replace(PredictorSettings(), members=1),
    "paper": PredictorSettings.preset("paper"),
}
ANSWERS = ("stage2", "paper", "lone", "ensemble", "finalists", "guard", "random")
METHOD = (
    "Networks of NAS-Bench-Macro under a FLOPs budget that a share of them keeps (`budget_0.5`: half). Per seed, stages 1 "
    "and 2 as in nars.py with the default predictor, pretrained on FLOPs and params of 2,048 rows, and the whole table as "
    "pool: `batches` of `batch` networks, labelled with the table's first training. `regret` is the mean accuracy (three "
    "trainings) of the best network in the budget less that of the answer, in points; `optimism` what the score's predictor "
    "expected of the answer less its mean accuracy. Answers: `stage2`, the best labelled network in the budget, after one "
    "more batch of `finalists`; `paper` and `lone`, the highest mean by evolution of the predictor's preset `paper` (one "
    "network) and of the default one with a single member; `ensemble`, the highest mean less one deviation of the default "
    "ensemble; `finalists`, of its `finalists` highest the best in the table's second training; `guard`, the same with the "
    "best labelled network in the place of the last of them, as nars.py does; `random`, the best labelled of as many random "
    "networks in the budget. The predictors of stage 3 learn from the same trials. `gain_over_*`: regret of that answer "
    "less that of `guard`, by seed, mean and 95% interval of Student's t."
)


@dataclass(frozen=True)
class Plan:
    """How much is trained, and how often."""

    batches: int
    batch: int
    seeds: int


PLANS = {"trials_240": Plan(5, 48, 10), "trials_36": Plan(4, 9, 12)}
SHARES = (0.5, 1.0)  # of the networks that keep the budget


def pretrained(space: TableSpace, settings: PredictorSettings, seed: int) -> AccuracyPredictor:
    """A predictor that knows the statistics of random rows of the table."""
    rows = space.table[np.random.default_rng(seed).choice(len(space.table), PRETRAINING, replace=False)]
    predictor = AccuracyPredictor(arch_mask(space), seed=seed, settings=settings)
    predictor.pretrain(encode(space, rows), statistics(space, rows)[1])
    return predictor


def stage_two(
    predictor: AccuracyPredictor, space: TableSpace, label: Floats, plan: Plan, seed: int
) -> tuple[IntMatrix, IntMatrix]:
    """Trials in order, to all of which the predictor is then fitted, and the next batch that it would train."""
    pool = space.table
    encoded, tried = encode(space, pool), np.zeros(len(pool), bool)
    rows = first_batch(len(pool), plan.batch, seed)
    for _ in range(plan.batches):
        tried[rows] = True
        predictor.fit(encoded[rows], label[rows])
        members = predictor.predict_members(encoded)
        if len(rows) < plan.batches * plan.batch:
            rows = np.concatenate([rows, promising_batch(members, tried, plan.batch)])
    return pool[rows], pool[promising_batch(members, tried, FINALISTS)]


def best_of(limits: Limits, rows: IntMatrix, accuracy: Floats, space: TableSpace) -> IntMatrix:
    """Of the rows inside the limits the most accurate one, [1, d]."""
    kept = rows[limits.allows(rows)]
    return kept[[accuracy[space.position(kept)].argmax()]]


def answers(space: TableSpace, plan: Plan, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Regret and optimism of every answer, by budget."""
    first, second = space.acc1[:, 0, 0], space.acc1[:, 1, 0]
    predictors = {name: pretrained(space, settings, seed) for name, settings in PREDICTORS.items()}
    trials, more = stage_two(predictors["ensemble"], space, first, plan, seed)
    labels = first[space.position(trials)]
    for name in ("lone", "paper"):
        predictors[name].fit(encode(space, trials), labels)
    rng, result = np.random.default_rng([seed, 1]), {}
    for share in SHARES:
        limits = Limits(space, (Constraint("flops", max=float(np.quantile(space.labels["flops"], share))),))
        inside = space.table[limits.allows(space.table)]

        ordered = trials[np.argsort(-labels, kind="stable")]
        chosen, found = {}, {}
        for name, predictor in predictors.items():
            caution = EvolutionSettings().caution if name == "ensemble" else 0.0
            score = cautious_score(space, predictor, caution)
            found[name] = evolve(space, score, ordered, limits, EvolutionSettings(caution=caution), seed).index
            chosen[name] = found[name][:1]
        chosen["finalists"] = best_of(limits, found["ensemble"][:FINALISTS], second, space)
        kept = ordered[limits.allows(ordered)]
        chosen["guard"] = best_of(limits, choose_finalists(found["ensemble"], kept, FINALISTS), second, space)
        expected = {
            name: float(predictors.get(name, predictors["ensemble"]).predict(encode(space, row))[0][0])
            for name, row in chosen.items()
        }
        chosen["stage2"] = best_of(limits, np.concatenate([trials, more]), first, space)
        drawn = inside[rng.choice(len(inside), len(trials) + FINALISTS, replace=False)]
        chosen["random"] = best_of(limits, drawn, first, space)
        best, truth = space.accuracy(inside).max(), {k: space.accuracy(row)[0] for k, row in chosen.items()}
        result[f"budget_{share:g}"] = {
            name: {"regret": float(best - truth[name])}
            | ({"optimism": expected[name] - float(truth[name])} if name in expected else {})
            for name in ANSWERS
        }
    return result


def summary(rows: list[dict[str, dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Over seeds, by budget: means and deviations of every answer, and what the guard gains."""
    values: dict[str, Any] = {}
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
        for rival in ("stage2", "paper", "lone"):
            regrets = [[row[budget][name]["regret"] for row in rows] for name in (rival, "guard")]
            gain = dataclasses.asdict(paired_difference(*regrets))
            values[budget][f"gain_over_{rival}"] = {key: round(value, 3) for key, value in gain.items()}
    return values


def measure(space: TableSpace, plans: dict[str, Plan]) -> dict[str, Any]:
    """All plans."""
    values: dict[str, Any] = {"finalists": FINALISTS, "predictor": dataclasses.asdict(PredictorSettings())}
    with cpu_threads(1):
        for name, plan in plans.items():
            rows = []
            for seed in range(plan.seeds):
                rows.append(answers(space, plan, seed))
                print(name, seed, {k: round(v["regret"], 2) for k, v in rows[-1]["budget_0.5"].items()}, flush=True)
            values[name] = dataclasses.asdict(plan) | summary(rows)
    return values


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="nas-bench-macro_cifar10.json")
    parser.add_argument("--quick", action="store_true", help="rehearse; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    plans = {"trials_12": Plan(2, 6, 2)} if options.quick else PLANS
    result = Result.now(
        command=f"{command_of(NAME)} --table {options.table.name}" + " --quick" * options.quick,
        method=METHOD,
        versions=versions(["torch", "numpy", "scipy"]) | host(),
        values=measure(read_table(options.table), plans),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
