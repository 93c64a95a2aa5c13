"""A search in a folder: configuration, ledger, the final training of the pair, and its report; resumed at any moment.

fbnetv3 search run --preset quickstart --out DIR
fbnetv3 search resume DIR
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fbnetv3
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.schema import load_yaml
from fbnetv3.search.execution.executor import THIS_MACHINE, Execution
from fbnetv3.search.nars.algorithm import Context, Progress, Proposal, image_evaluator, kept, nars, random_search
from fbnetv3.search.nars.config import SearchConfig, read_config, save_config
from fbnetv3.search.report.page import write_report
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.space import Candidate
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.trial import Ledger, Trial
from fbnetv3.training.accuracy import final_split, measure
from fbnetv3.training.loop import Trained, cpu_threads
from fbnetv3.weight_file import WeightFile, write_weight_file

logger = logging.getLogger(__name__)

CONFIG, ENVIRONMENT, RESULT, REPORT = "config.yaml", "environment.json", "result.json", "report.html"
LEDGERS = {"nars": "ledger.jsonl", "random": "baseline/ledger.jsonl"}
PAIRS = {"nars": "pair.yaml", "random": "baseline/pair.yaml"}
SEARCHES = {"nars": nars, "random": random_search}


@dataclass(frozen=True)
class Found:
    """What one search method answered with, and what the final training measured."""

    method: str  # nars | random
    pair: Pair
    proposal: Proposal
    trials: tuple[Trial, ...]
    curve: tuple[float, ...]  # validation accuracy after every epoch of the final training; empty without one
    flops: int
    params: int


def start(
    config: SearchConfig, out: str | Path, workers: int | None, progress: Progress, execution: Execution = THIS_MACHINE
) -> list[Found]:
    """Begin a search in a new folder and see it to the end.

    Args:
        workers: trainings at a time; by default one a processor. It does not change what is found.
        execution: where they run; neither does this.

    Raises:
        InputError: the folder holds a search already or cannot be written, or the configuration cannot be met.
    """
    out = Path(out)
    if (out / CONFIG).exists():
        raise InputError(
            f"{out} already holds a search; go on with `fbnetv3 search resume {out}`, or give another folder"
        )
    # Names that do not exist and budgets that cannot be met fail before anything is written.
    context = Context.of(config)
    if isinstance(context.space, TableSpace):
        raise InputError(
            f"{config.space} is a table: its pairs are no networks that the final training could train; "
            f"search it with `fbnetv3 search compare --table {config.space}`"
        )
    context.limits.sample(config.pool, config.seed)
    _ = context.evaluator
    save_config(config, out / CONFIG)
    write_atomically(out / ENVIRONMENT, json.dumps(environment(), indent=1) + "\n")
    return _run(config, out, workers, progress, execution)


def resume(
    out: str | Path, workers: int | None, progress: Progress, execution: Execution = THIS_MACHINE
) -> list[Found]:
    """Go on with the search in a folder; one that has ended is only reported again.

    Raises:
        InputError: no search in the folder, or a configuration or ledger that was changed or damaged.
    """
    out = Path(out)
    if not (out / CONFIG).is_file():
        raise InputError(f"no search in {out}: {CONFIG} is missing; begin one with `fbnetv3 search run --out {out}`")
    if (out / ENVIRONMENT).is_file():
        before = load_yaml(out / ENVIRONMENT, "record of versions")  # JSON is YAML
        changed = [key for key, value in environment().items() if before.get(key) != value]
        if changed:
            logger.warning("this search began with other versions of %s: its end may differ", ", ".join(changed))
    config = read_config(load_yaml(out / CONFIG, "search configuration"), str(out / CONFIG))
    return _run(config, out, workers, progress, execution)


def environment() -> dict[str, Any]:
    """The versions that a run's numbers depend on."""
    return {
        "fbnetv3": fbnetv3.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads_per_trial": 1,
    }


def _run(config: SearchConfig, out: Path, workers: int | None, progress: Progress, execution: Execution) -> list[Found]:
    context = Context.of(config)
    methods = ["nars", "random"] if config.baseline else ["nars"]
    found = []
    # One thread in this process too: the predictor's numbers depend on it, and the workers need the processors.
    with cpu_threads(1):
        for method in methods:
            with Ledger.open(out / LEDGERS[method], config.fingerprint) as ledger:
                with execution.executor(context.evaluator, workers, config.processes) as executor:
                    proposal = SEARCHES[method](context, ledger, executor, progress)
                found.append(_train_pair(context, method, proposal, tuple(ledger.trials), out, progress))
        write_result(found, out)
        write_report(config, context.space, found, out / REPORT)
    return found


def _train_pair(
    context: Context, method: str, proposal: Proposal, trials: tuple[Trial, ...], out: Path, progress: Progress
) -> Found:
    """The final training, its test accuracy, and the pair and weight files."""
    config = context.config
    costs = cost(context.space, np.array([proposal.candidate]))
    final = final_candidate(context, proposal.candidate)
    curve: tuple[float, ...] = ()
    measured: dict[str, Any] = {}
    if config.final_training:
        trained, measured = train_final(context, final, out / Path(PAIRS[method]).parent, progress)
        curve = trained.acc1
    pair = find_pair(context, method, proposal, trials, measured)
    save_pair(pair, out / PAIRS[method])
    return Found(
        method,
        pair,
        proposal,
        trials,
        curve,
        int(costs.flops(config.constraint.convention)[0]),
        int(costs.params(config.constraint.convention)[0]),
    )


def find_pair(
    context: Context, method: str, proposal: Proposal, trials: Sequence[Trial], measured: dict[str, Any]
) -> Pair:
    """The pair that a proposal names; `measured` is what its final training gave."""
    final = final_candidate(context, proposal.candidate)
    predicted = proposal.predicted or (max(context.label(t, t.epochs) for t in kept(trials)), 0.0)
    return make_pair(context, final, context.config.constraint, predicted, proposal.epochs, method, measured)


def final_candidate(context: Context, row: Sequence[int], suffix: str = "") -> Candidate:
    """The pair of an index row with the schedule of the final training, the slower decay of section 4.1."""
    config, space = context.config, context.space
    pair = space.candidate(row, context.base, f"{space.name}_{config.name}_{config.seed}{suffix}")
    return pair._replace(recipe=pair.recipe.stretched(config.final_stretch))


def train_final(context: Context, final: Candidate, folder: Path, progress: Progress) -> tuple[Trained, dict[str, Any]]:
    """Train a pair, resuming in `folder/final`, write `folder/weights.pt`, and classify the test images once.

    Returns:
        The training, and what a pair file says of it: its accuracy on the test images, or on `val` where there are none.
    """
    evaluator = image_evaluator(context.config, context.space)
    data = evaluator.images(final.arch.resolution)

    def report(done: int, total: int, text: str) -> None:
        progress(done, total, f"training the chosen pair: {text}")

    trained = evaluator.train(
        final, final.recipe.epochs, context.trial_seed(0, 0), folder / "final", resume=True, progress=report
    )
    write_weight_file(folder / "weights.pt", WeightFile.of(trained.model, data.classes, data.transforms))
    split = final_split(data)
    acc1 = measure(trained.model, data, split, device=torch.device(context.config.device)).acc1
    return trained, {"split": split, "epochs": final.recipe.epochs, "acc1": acc1}


def make_pair(
    context: Context,
    final: Candidate,
    constraint: Constraint,
    predicted: tuple[float, float],
    epochs: int,
    method: str,
    measured: dict[str, Any],
) -> Pair:
    """The pair file's content; `epochs` are those that the prediction is for, `measured` empty without a final training."""
    config = context.config
    limit = {"metric": constraint.metric, "convention": constraint.convention, "max": constraint.max}
    return Pair(
        arch=final.arch,
        recipe=final.recipe,
        space=config.space,
        seed=config.seed,
        constraint=limit | further_limits(config),
        predicted={"mean": round(predicted[0], 4), "std": round(predicted[1], 4)},
        measured=measured,
        provenance={
            "data": config.data,
            "num_classes": context.space.num_classes,
            "in_chans": context.space.in_chans,
            "search": method,
            "config": config.fingerprint,
            "predicted_after_epochs": epochs,
            "training_seed": context.trial_seed(0, 0),
            **environment(),
        },
    )


def further_limits(config: SearchConfig) -> dict[str, Any]:
    """What a pair file says of constraints beside the first."""
    also = [{"metric": c.metric, "convention": c.convention, "max": c.max} for c in config.also]
    latency = None if config.latency is None else dataclasses.asdict(config.latency)
    return ({"also": also} if also else {}) | ({"latency_ms": latency} if latency else {})


def write_result(found: list[Found], out: Path) -> None:
    """`result.json`: what each method found, for other programs."""
    rows = {
        f.method: {
            "test_acc1": f.pair.measured.get("acc1"),
            "val_acc1": f.curve[-1] if f.curve else None,
            "flops": f.flops,
            "params": f.params,
            "trainings": len(f.trials),
            "training_seconds": round(sum(t.seconds for t in f.trials), 1),
            "predicted": f.proposal.predicted,
            "epochs_of_a_trial": f.proposal.epochs,
            "generations": len(f.proposal.history),
            "finalists": [dataclasses.asdict(finalist) for finalist in f.proposal.finalists],
        }
        for f in found
    }
    write_atomically(out / RESULT, json.dumps(rows, indent=1) + "\n")
