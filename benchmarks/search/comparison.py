"""The methods that a comparison runs, and one search of one method in its folder."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.harness import Values
from fbnetv3.benchmarks.search.comparison_cases import with_predictor, without_finalists
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.errors import InputError, available
from fbnetv3.files import write_atomically
from fbnetv3.progress import Report
from fbnetv3.schema import load_json, load_yaml
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars import baselines
from fbnetv3.search.nars.algorithm import nars
from fbnetv3.search.nars.batches import BatchRunner, foreign_trial
from fbnetv3.search.nars.config import SearchConfig, save_config
from fbnetv3.search.nars.context import Context, image_id
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.runs.final import final_candidate, train_final
from fbnetv3.search.runs.inputs import INPUTS, check_costs, input_paths, locate_inputs, take_inputs, with_paths
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import Floats, IntMatrix
from fbnetv3.search.trial import Candidate, Evaluator, Ledger, Outcome, Trial, evaluated
from fbnetv3.training.engine import cpu_threads

CONFIG, ANSWER, LEDGER = "config.yaml", "answer.json", "ledger.jsonl"  # files of a search's folder
NOISE = 0.5  # std of a made-up training, in points
Search = Callable[[Context, BatchRunner], Proposal]
Truth = Callable[[IntMatrix], Floats]
"""The true accuracies [n] of index rows [n, d]."""


def stage_two_alone(context: Context, runner: BatchRunner) -> Proposal:
    """Run NARS, and answer with the best trial of stage 2 (Table 7 asks what stage 3 adds)."""
    nars(context, runner)
    trials = runner.ledger.trials
    # The first batch trained longer than the trials that stopped early. Only accuracies after equally many epochs compare.
    epoch = min(t.epochs for t in trials)
    best = max(evaluated(trials), key=lambda t: (context.label(t, epoch), -t.round, -t.index))
    return Proposal(tuple(best.candidate), None, best.epochs)


@dataclass(frozen=True)
class Method:
    """A search, what it changes in the configuration, and whose rounds its ledger has (see `foreign_trial`)."""

    search: Search
    change: Callable[[SearchConfig], SearchConfig] = lambda config: config
    rounds: str = "nars"


# The order is that of the tables and the plot. `_sequential` baselines see every result before they propose again, which needs
# a run without parallel workers: they show what batches cost a baseline. The last three are ablations of NARS.
METHODS = {
    "nars": Method(nars),
    "random": Method(baselines.random_search, rounds="random"),
    "tpe": Method(baselines.tpe, rounds="other"),
    "evolution": Method(baselines.regularised_evolution, rounds="other"),
    "tpe_sequential": Method(partial(baselines.tpe, settings=baselines.TpeSettings(batch=1)), rounds="other"),
    "evolution_sequential": Method(
        partial(baselines.regularised_evolution, settings=baselines.RegularisedEvolutionSettings(batch=1)),
        rounds="other",
    ),
    "nars_scratch": Method(nars, partial(with_predictor, pretrain=False)),
    "nars_paper_labels": Method(nars, partial(with_predictor, rich_labels=False)),
    "nars_no_stage3": Method(stage_two_alone, without_finalists),
}


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        cases: configurations by name.
        methods: names of `METHODS`.
        seeds: seeds of every method.
        invented: whether the accuracies are made up.

    Raises:
        InputError: a method is unknown, or there is none.
    """

    cases: Mapping[str, SearchConfig]
    methods: Sequence[str]
    seeds: Sequence[int]
    invented: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(
                f"methods: unknown {', '.join(unknown) or 'none'}; {available(''.join(unknown[:1]), METHODS)}"
            )

    @cached_property
    def kind(self) -> str:
        """Where the accuracies come from: `table`, `table, held out` (see `TableSpace.held_out`), `invented` or `real`."""
        space = load_space(next(iter(self.cases.values())).space)
        if not space.trainable:
            return "table, held out" if space.held_out else "table"
        return "invented" if self.invented else "real"


@dataclass(frozen=True)
class InventedEvaluator:
    """A training whose accuracy is that of the landscape with noise. Earlier epochs are lower, but rank candidates alike."""

    oracle: Oracle

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """Return a curve that ends near the true accuracy after the last epoch of the recipe."""
        space = self.oracle.space
        top = float(self.oracle(np.array([space.find(candidate.values)]))[0])
        top += NOISE * float(np.random.default_rng(seed).normal())
        last = candidate.recipe.epochs
        # All curves have the same shape, so every epoch ranks the candidates alike: early stopping loses nothing here.
        return Outcome(tuple(top - 10.0 * (last - epoch) / last for epoch in range(1, epochs + 1)), "ok", 0.0)


def keep_inputs(comparison: Comparison, out: Path) -> SearchConfig:
    """Write copies of the files that all searches are made from into `out`; return a configuration that names them.

    Raises:
        InputError: `out` has the copies of another comparison.
    """
    context = Context.of(next(iter(comparison.cases.values())))
    kept, files = take_inputs(context, image_id(context) if comparison.kind == "real" else None)
    for path in (out / INPUTS).rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_file() and path.read_bytes() != files.pop(name, None):
            raise InputError(f"{out} holds a comparison with another {name}; give another --out")
    for name, content in files.items():
        write_atomically(out / name, content)
    return locate_inputs(kept, out)


def run_one(
    method: Method,
    config: SearchConfig,
    invented: bool,
    folder: Path,
    settings: ExecutorSettings,
    report: Report,
    kept: SearchConfig | None = None,
) -> Values:
    """Run one search in its folder, or continue it, and return its answer. A finished search is only read.

    Args:
        kept: what `keep_inputs` returned. Without it, the search depends on the files that the configuration names.

    Raises:
        InputError: the folder holds a search of another configuration.
    """
    config = method.change(config)
    # Earlier versions made no copies. Their searches are continued as they were begun.
    if kept is not None and not _without_copies(folder):
        config = dataclasses.replace(config, data=kept.data, contents=kept.contents)
    if (folder / ANSWER).is_file():
        answer: Values = load_json(folder / ANSWER, "answer of a search", ("config",))
        if answer["config"] != config.fingerprint:
            raise InputError(f"{folder} holds a search of another configuration; give another --out")
        return answer
    context, evaluator, truth = make_context(config, invented)
    # The configuration is kept for a reader of the folder. `fingerprint` in the answer is what is compared.
    save_config(_with_copies(config, kept, folder), folder / CONFIG)
    foreign = foreign_trial(config, context.space, method.rounds)
    with (
        cpu_threads(1),
        Ledger.open(folder / LEDGER, config.fingerprint, foreign) as ledger,
        settings.start(evaluator, config.processes) as executor,
    ):
        check_costs(context, ledger.trials, ledger.path)
        proposal = method.search(context, BatchRunner(context, ledger, executor, report))
        # The ledger is in the order in which trainings ended, which depends on the workers.
        trials = sorted(ledger.trials, key=lambda t: (t.round, t.index))
    if not (invented or context.space.trainable):
        truth = context.space.judge([(t.candidate, t.seed) for t in trials])
    # One thread here too: with another number of threads, the final training would have another accuracy.
    with cpu_threads(1):
        measured = true_accuracy(context, truth, proposal, folder, report)
    acc1 = measured["acc1"]
    answer = {
        "config": config.fingerprint,
        "candidate": list(proposal.candidate),
        **measured,
        "trainings": len(trials),
        "epochs": sum(t.epochs for t in trials),  # of all trainings before the final one
        "seconds": round(sum(t.seconds for t in trials), 1),
        "curve": [round(value, 4) for value in curve(context, truth, trials, acc1)],
    }
    # The answer is written last: a folder without it is a search that was stopped.
    write_atomically(folder / ANSWER, json.dumps(answer) + "\n")
    return answer


def make_context(config: SearchConfig, invented: bool) -> tuple[Context, Evaluator, Truth | None]:
    """Return the context of a search, its evaluator, and the true accuracies where they are known."""
    context = Context.of(config)
    if not context.space.trainable:
        return context, context.evaluator(), context.space.accuracy
    if invented:
        oracle = Oracle(context.space)
        return context, InventedEvaluator(oracle), oracle
    return context, context.evaluator(), None


def true_accuracy(
    context: Context, truth: Truth | None, proposal: Proposal, folder: Path, report: Report
) -> dict[str, Any]:
    """Return the accuracy of the answer: the known one, or what the final training measured, on which split, after how long."""
    if truth is not None:
        return {"acc1": float(truth(np.array([proposal.candidate]))[0])}
    measured = train_final(context, final_candidate(context, proposal.candidate), folder, report)[1]
    return {"acc1": measured["acc1"], "split": measured["split"], "final_epochs": measured["epochs"]}


def _without_copies(folder: Path) -> bool:
    """Whether an earlier version began the search in a folder."""
    path = folder / CONFIG
    return path.is_file() and load_yaml(path, "search configuration").get("contents") is None


def _with_copies(config: SearchConfig, kept: SearchConfig | None, folder: Path) -> SearchConfig:
    """Return the configuration that a folder keeps: it names the copies by their paths from there."""
    if kept is None or config.contents is None:
        return config
    return with_paths(config, {key: os.path.relpath(path, folder) for key, path in input_paths(kept).items()})


def curve(context: Context, truth: Truth | None, trials: Sequence[Trial], acc1: float) -> list[float]:
    """Return the accuracy of the best measured candidate so far, after every training.

    Where the truth is known, it is the true accuracy of that candidate, and the last point is that of the answer.

    Args:
        acc1: true accuracy of the answer.
    """
    # Trials of NARS may stop early. All of them have the epochs of the shortest one, so these can be compared.
    epoch = min(t.epochs for t in trials)
    measured = np.array([context.label(t, t.epochs if truth is None else epoch) for t in trials])
    best = [int(measured[: i + 1].argmax()) for i in range(len(trials))]
    if truth is None:
        return [float(value) for value in measured[best]]
    found = truth(np.array([trials[i].candidate for i in best]))
    # The answer need not be the best measured trial: NARS may answer with a finalist. The curve ends where the table does.
    return [*map(float, found[:-1]), acc1]
