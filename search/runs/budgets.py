"""Many budgets from one predictor (section 3.4): a pair for each, from the folder of a search that has ended.

fbnetv3 search budgets DIR --max-flops "450M 550M 650M 750M"

fits the predictor to the folder's ledger once and evolves for each budget; nothing is trained unless asked for. In
DIR/budgets: a pair file for each budget, `front.json` and `front.png`.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.schema import load_yaml
from fbnetv3.search.nars.algorithm import Context, Progress, cautious_score, fit_trials, pretrained_predictor
from fbnetv3.search.nars.config import read_config
from fbnetv3.search.nars.evolve import evolve
from fbnetv3.search.nars.select import early_stopping_epoch
from fbnetv3.search.report.analysis import pareto_front
from fbnetv3.search.report.plots import plot_axes
from fbnetv3.search.runs.run import CONFIG, LEDGERS, final_candidate, make_pair, train_final
from fbnetv3.search.space.constraints import Floats
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.trial import read_ledger
from fbnetv3.training.loop import cpu_threads

FOLDER, FRONT = "budgets", "front"
HANDED_ON = 20  # best pairs of a budget that the next larger one begins with


@dataclass(frozen=True, eq=False)
class Answer:
    """What a predictor proposes within one budget: the last generation's rows, best first, as predicted and counted."""

    constraint: Constraint
    index: IntMatrix
    mean: Floats
    std: Floats
    flops: npt.NDArray[np.int64]
    params: npt.NDArray[np.int64]
    epochs: int  # that the predictions are for


def answer_budgets(context: Context, trials: Sequence[Any], constraints: Sequence[Constraint]) -> list[Answer]:
    """Evolve within each constraint, by ascending budget, with one predictor that learns from the trials of a ledger.

    A larger budget begins with the best of the smaller ones, so that its answer's score is never lower.

    Raises:
        InputError: no trials, or a constraint that cannot be met.
    """
    config, space = context.config, context.space
    if not trials:
        raise InputError("the ledger holds no trials to learn from; finish the search first")
    first = [t.acc1 for t in trials if t.round == 1]
    epochs = early_stopping_epoch(first, config.early_stopping, context.base.epochs)
    predictor = pretrained_predictor(context, context.limits.sample(config.pool, config.seed))
    best = fit_trials(context, predictor, trials, epochs)
    score = cautious_score(space, predictor, config.evolution.caution)
    answers = []
    for constraint in sorted(constraints, key=lambda c: c.max):
        limits = dataclasses.replace(context.limits, constraints=(constraint, *config.also))
        found = evolve(space, score, best, limits, config.evolution, config.seed).index
        (mean, std), costs = predictor.predict(encode(space, found)), cost(space, found)
        counts = (costs.flops(constraint.convention), costs.params(constraint.convention))
        answers.append(Answer(constraint, found, mean, std, *counts, epochs))
        best = np.concatenate([found[:HANDED_ON], best])[: config.evolution.parents + HANDED_ON]
    return answers


def budget_pairs(
    folder: str | Path, maxima: Sequence[float], progress: Progress, metric: str | None = None, train: bool = False
) -> list[tuple[Answer, Pair]]:
    """The same for the folder of a finished search, and what it leaves in `FOLDER` there.

    Args:
        maxima: budgets of the metric (by default that of the search).
        train: also give every pair the final training, resumed if it was begun, with its test accuracy.

    Raises:
        InputError: no finished search there, or a budget that cannot be met.
    """
    folder = Path(folder)
    config = read_config(load_yaml(folder / CONFIG, "search configuration"), str(folder / CONFIG))
    context, trials = Context.of(config), read_ledger(folder / LEDGERS["nars"])
    done, wanted = sum(1 <= t.round <= config.rounds for t in trials), config.batch * config.rounds
    if done < wanted:
        raise InputError(
            f"the search in {folder} has made {done} of the {wanted} trainings of stage 2; go on with "
            f"`fbnetv3 search resume {folder}`"
        )
    own = config.constraint
    constraints = [Constraint(metric or own.metric, top, 0.0, own.convention) for top in dict.fromkeys(maxima)]  # type: ignore[arg-type]
    pairs = []
    with cpu_threads(1):
        progress(0, len(constraints), "fitting the predictor to the ledger, and evolving")
        for answer in answer_budgets(context, trials, constraints):
            name = budget_name(answer.constraint)
            final = final_candidate(context, answer.index[0].tolist(), f"_{name}")
            measured = train_final(context, final, folder / FOLDER / name, progress)[1] if train else {}
            predicted = (float(answer.mean[0]), float(answer.std[0]))
            pair = make_pair(context, final, answer.constraint, predicted, answer.epochs, "nars budgets", measured)
            save_pair(pair, folder / FOLDER / f"{name}.yaml")
            pairs.append((answer, pair))
    _write_front(pairs, folder / FOLDER)
    return pairs


def budget_name(constraint: Constraint) -> str:
    """A short name of a budget: flops_450M, params_21.5K."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if constraint.max >= factor:
            return f"{constraint.metric}_{constraint.max / factor:g}{unit}"
    return f"{constraint.metric}_{constraint.max:g}"


def table_rows(pairs: Sequence[tuple[Answer, Pair]]) -> list[dict[str, Any]]:
    """A row for each budget."""
    return [
        {
            "budget": budget_name(answer.constraint).replace("_", " "),
            "flops": int(answer.flops[0]),
            "params": int(answer.params[0]),
            "predicted": pair.predicted["mean"],
            "std": pair.predicted["std"],
            "test_acc1": pair.measured.get("acc1"),
            "pair": f"{FOLDER}/{budget_name(answer.constraint)}.yaml",
        }
        for answer, pair in pairs
    ]


def _write_front(pairs: Sequence[tuple[Answer, Pair]], folder: Path) -> None:
    """The Pareto front of all last generations, as data and as a picture."""
    answers = [answer for answer, _ in pairs]
    metric = answers[0].constraint.metric
    costs = np.concatenate([getattr(answer, metric) for answer in answers])
    mean = np.concatenate([answer.mean for answer in answers])
    front = pareto_front(costs, mean)
    points = [{metric: int(costs[i]), "predicted": round(float(mean[i]), 4)} for i in front]
    data = {"budgets": table_rows(pairs), "front": points}
    write_atomically(folder / f"{FRONT}.json", json.dumps(data, indent=1) + "\n")
    picture = plot_axes(metric, f"predicted accuracy (%), {answers[0].epochs} epochs")
    picture.scatter(costs, mean, s=10, color="#666666", alpha=0.4, linewidths=0, label="last generations")
    picture.step(costs[front], mean[front], where="post", color="#0072b2", label="Pareto front")
    tops = np.array([(getattr(answer, metric)[0], answer.mean[0]) for answer in answers])
    picture.scatter(*tops.T, s=50, marker="*", color="#d55e00", zorder=3, label="answers")
    picture.legend(fontsize=8)
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(folder / f"{FRONT}.png", buffer.getvalue())
