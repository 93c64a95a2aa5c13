"""Many budgets from one predictor (section 3.4): a pair for each, from the folder of a search that has ended.

fbnetv3 search budgets DIR --max-flops "450M 550M 650M 750M"

fits the predictor to the folder's ledger once, and evolves for each budget. Nothing is trained unless asked for. It leaves
a pair file for each budget, and `front.json`, in DIR/budgets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.progress import Report
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.nars.algorithm import fit_trials
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.early_stopping import trial_epochs
from fbnetv3.search.nars.evolve import cautious_score, evolve
from fbnetv3.search.nars.pretrain import pretrained_predictor
from fbnetv3.search.nars.rounds import finalist_rounds, parts
from fbnetv3.search.runs.devices import machine_of
from fbnetv3.search.runs.earlier import set_aside
from fbnetv3.search.runs.final import final_candidate, final_job, make_final, make_pair, train_side_by_side
from fbnetv3.search.runs.folder import accuracies, load_search
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import Floats, IntMatrix, IntVector
from fbnetv3.search.trial import REPEATS, Trial, evaluated
from fbnetv3.training.engine import cpu_threads

FOLDER, FRONT = "budgets", "front"
HANDED_ON = 20  # best candidates of a budget with which the next larger one starts


@dataclass(frozen=True, eq=False)
class BudgetAnswer:
    """What a predictor proposes within one budget: the candidates of the last generation, best first.

    Attributes:
        index: index rows [n, d].
        mean, std: predicted accuracy in percent [n].
        flops, params: costs in the constraint's convention [n].
        epochs: the predictions are for the accuracy after so many epochs.
    """

    constraint: Constraint
    index: IntMatrix
    mean: Floats
    std: Floats
    flops: IntVector
    params: IntVector
    epochs: int


def answer_budgets(context: Context, trials: Sequence[Trial], constraints: Sequence[Constraint]) -> list[BudgetAnswer]:
    """Evolve within each constraint, in ascending order, with one predictor that learns from the trials of a ledger.

    A larger budget starts with the best candidates of the smaller ones, so that its best score is never lower.

    Raises:
        InputError: no trials, or a constraint that cannot be met.
    """
    config, space = context.config, context.space
    if not trials:
        raise InputError("the ledger holds no trials to learn from; finish the search first")
    epochs = trial_epochs(trials, config, context.base.epochs)
    if short := [t for t in evaluated(trials) if t.epochs < epochs]:
        raise InputError(
            f"trial {short[0].index} of round {short[0].round} has {short[0].epochs} of {epochs} epochs, so it is none of this "
            "search; restore the ledger"
        )
    predictor = pretrained_predictor(context)
    best = fit_trials(context, predictor, trials, epochs)
    score = cautious_score(space, predictor, config.evolution.caution)
    answers = []
    for constraint in sorted(constraints, key=lambda c: c.max):
        inside = dataclasses.replace(context.constraints, constraints=(constraint, *config.also))
        found = evolve(inside, score, best, config.evolution, config.seed).index
        (mean, std), costs = predictor.predict(encode(space, found)), space.cost(found)
        counts = (costs.flops(constraint.convention), costs.params(constraint.convention))
        answers.append(BudgetAnswer(constraint, found, mean, std, *counts, epochs))
        best = np.concatenate([found[:HANDED_ON], best])[: config.evolution.parents + HANDED_ON]
    return answers


def budget_pairs(
    folder: str | Path,
    maxima: Sequence[float],
    progress: Report,
    metric: Literal["flops", "params"] | None = None,
    train: bool = False,
    data: str | None = None,
    device: str | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
) -> list[tuple[BudgetAnswer, Pair]]:
    """Answer budgets for the folder of a search that has ended, and write pair files and `front.json` there.

    Args:
        maxima: budgets of the metric.
        metric: by default the metric of the search's constraint.
        data: where the images of the search are now, if they were moved.
        train: also give every pair the final training, resumed if it was begun, and measure its test accuracy.
        device: of the final trainings; by default the device that the search began with.
        executor: how many of them run at the same time on GPUs.

    Raises:
        InputError: no search there that has ended, or a budget that cannot be met.
    """
    search = load_search(folder)
    config, out = search.config, search.path / FOLDER
    if train:
        device = machine_of(config, device or config.device, executor).device
    context, trials = search.context_with(data, device), search.trials()
    others = {REPEATS, *finalist_rounds(config)}
    done, wanted = sum(t.round not in others for t in trials), sum(sum(part.batches) for part in parts(config))
    if done < wanted:
        raise InputError(
            f"the search in {folder} has made {done} of the {wanted} trainings of stage 2; continue it with "
            f"`fbnetv3 search resume {folder}`"
        )
    own = config.constraint
    constraints = [Constraint(metric or own.metric, top, 0.0, own.convention) for top in dict.fromkeys(maxima)]
    pairs = []
    # Not the folder of the search: its final training may go on meanwhile.
    with lock_folder(out, "search budgets"), cpu_threads(1):
        progress(0, len(constraints), "fitting the predictor to the ledger, and evolving")
        answers = {budget_name(answer.constraint): answer for answer in answer_budgets(context, trials, constraints)}
        finals = {
            name: final_candidate(context, answer.index[0].tolist(), f"_{name}") for name, answer in answers.items()
        }
        for name, final in finals.items():
            set_aside(search, out / f"{name}.yaml", final, [out / name])
        jobs = {out / name: final_job(context, final) for name, final in finals.items()}
        evaluator = context.evaluator() if train and context.own_final else None
        if train and evaluator is None:
            train_side_by_side(context, jobs, executor, progress)
        for name, answer in answers.items():
            final = finals[name]
            measured: dict[str, Any] = {}
            if train:
                measured = make_final(context, jobs[out / name], out / name, progress, executor, evaluator)[1]
            predicted = (float(answer.mean[0]), float(answer.std[0]))
            pair = make_pair(context, final, answer.constraint, predicted, answer.epochs, "nars budgets", measured)
            save_pair(pair, out / f"{name}.yaml")
            pairs.append((answer, pair))
        _write_front(pairs, out)
    return pairs


def budget_name(constraint: Constraint) -> str:
    """Return a short name of a budget, such as flops_450M or params_21.5K."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if constraint.max >= factor:
            return f"{constraint.metric}_{constraint.max / factor:g}{unit}"
    return f"{constraint.metric}_{constraint.max:g}"


def table_rows(pairs: Sequence[tuple[BudgetAnswer, Pair]]) -> list[dict[str, Any]]:
    """Return one row for each budget."""
    return [
        {
            "budget": budget_name(answer.constraint).replace("_", " "),
            "flops": int(answer.flops[0]),
            "params": int(answer.params[0]),
            "predicted": pair.predicted["mean"],
            "std": pair.predicted["std"],
            **accuracies(pair),
            "pair": f"{FOLDER}/{budget_name(answer.constraint)}.yaml",
        }
        for answer, pair in pairs
    ]


def pareto_front(cost: Floats, value: Floats) -> IntVector:
    """Return the positions of the points on the Pareto front, cheapest first.

    A point is on the front if its value is higher than those of all points that cost as much or less.
    """
    order = np.lexsort((-value, cost))
    highest = np.maximum.accumulate(np.concatenate([[-np.inf], value[order]]))[:-1]
    return order[value[order] > highest]


def _write_front(pairs: Sequence[tuple[BudgetAnswer, Pair]], folder: Path) -> None:
    """Write the table of budgets, and the Pareto front of the candidates of all last generations."""
    answers = [answer for answer, _ in pairs]
    metric = answers[0].constraint.metric
    costs = np.concatenate([getattr(answer, metric) for answer in answers])
    mean = np.concatenate([answer.mean for answer in answers])
    points = [{metric: int(costs[i]), "predicted": round(float(mean[i]), 4)} for i in pareto_front(costs, mean)]
    data = {"budgets": table_rows(pairs), "front": points}
    write_atomically(folder / f"{FRONT}.json", json.dumps(data, indent=1) + "\n")
