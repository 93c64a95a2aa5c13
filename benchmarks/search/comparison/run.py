"""One search of one method in its folder: what it is made from, its answer, and how good the answer truly is."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.harness import Values
from fbnetv3.benchmarks.search.comparison.landscape import INVENTED, Truth, landscape
from fbnetv3.benchmarks.search.comparison.methods import Comparison, Method
from fbnetv3.benchmarks.search.comparison.search import Found, Place, find
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.progress import Report
from fbnetv3.schema import load_json, load_yaml
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, save_config
from fbnetv3.search.nars.context import Context, image_id
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.report.analysis import predictions
from fbnetv3.search.runs.final import final_candidate, final_job, make_final
from fbnetv3.search.runs.inputs import INPUTS, input_paths, locate_inputs, take_inputs, with_paths
from fbnetv3.search.space.reader import load_space, space_path
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.trial import Evaluator, Trial
from fbnetv3.training.engine import cpu_threads

CONFIG, ANSWER = "config.yaml", "answer.json"  # files of a search's folder, besides its ledger


def keep_inputs(comparison: Comparison, out: Path) -> dict[str, SearchConfig]:
    """Write copies of the files that all searches are made from into `out`.

    Returns:
        For every space of the comparison a configuration that names the copies.

    Raises:
        InputError: `out` has the copies of another comparison.
    """
    kept: dict[str, SearchConfig] = {}
    files: dict[str, bytes] = {}
    for config in comparison.cases.values():
        if config.space not in kept:
            context = _context(config)
            opened = comparison.kind == "real" and not context.own_final
            kept[config.space], new = take_inputs(context, image_id(context) if opened else None)
            files |= new
    if comparison.known not in ("", INVENTED):
        # The searches read the original. With the copy, a second call with a changed one is refused.
        files[f"{INPUTS}/surrogate/{Path(comparison.known).name}"] = Path(comparison.known).read_bytes()
    for path in (out / INPUTS).rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_file() and path.read_bytes() != files.pop(name, None):
            raise InputError(f"{out} holds a comparison with another {name}; give another --out")
    for name, content in files.items():
        write_atomically(out / name, content)
    return {space: locate_inputs(config, out) for space, config in kept.items()}


def run_one(
    method: Method,
    config: SearchConfig,
    known: str,
    folder: Path,
    settings: ExecutorSettings,
    report: Report,
    kept: SearchConfig | None = None,
) -> Values:
    """Run one search in its folder, or continue it, and return its answer. A finished search is only read.

    Args:
        known: see `Comparison.known`.
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
    context, evaluator, truth = make_context(config, known)
    # The configuration is kept for a reader of the folder. `fingerprint` in the answer is what is compared.
    save_config(_with_copies(config, kept, folder), folder / CONFIG)
    with cpu_threads(1), settings.start(evaluator, config.processes) as executor:
        found = find(method, context, Place(folder, executor, report))
    if not (known or context.space.trainable):
        truth = context.space.judge([(t.candidate, t.seed) for t in (*found.before, *found.trials)])
    # One thread here too: with another number of threads, the final training would have another accuracy.
    with cpu_threads(1):
        own = evaluator if context.own_final else None
        measured = true_accuracy(context, truth, found.proposal, folder, report, settings, own)
    answer = {"config": config.fingerprint, "candidate": list(found.proposal.candidate), **measured}
    answer |= _of_trainings(context, truth, found, measured["acc1"])
    # The answer is written last: a folder without it is a search that was stopped.
    write_atomically(folder / ANSWER, json.dumps(answer) + "\n")
    return answer


def _of_trainings(context: Context, truth: Truth | None, found: Found, acc1: float) -> Values:
    """Return what an answer says of the trainings and of the time between them."""
    values = [round(value, 4) for value in curve(context, truth, found.trials, acc1)]
    first, *later = found.seconds
    return {
        "trainings": len(found.trials),
        "epochs": sum(t.trained for t in found.trials),  # of all trainings before the final one
        "seconds": round(sum(t.seconds for t in found.trials), 1),
        # A part of a table may have fewer candidates than the search has trainings: then its answer stays.
        "curve": values + values[-1:] * (context.config.trainings - len(values)),
        # Predicted mean and std, and the measured accuracy, of the trainings that a predictor chose.
        "predicted": predictions(found.trials, min(t.epochs for t in found.trials)).round(4).tolist(),
        # They differ from run to run, and nothing depends on them.
        "proposal_seconds": {"first": round(first, 3), "round": round(float(np.mean(later)), 3)},
    }


def _context(config: SearchConfig) -> Context:
    """Return the context of a search. A table is read once, and not once for each of hundreds of searches."""
    path = space_path(config.space)
    return Context.of(config, space=_read(config.space, path.stat().st_mtime_ns) if path.is_file() else None)


@functools.lru_cache(maxsize=2)
def _read(space: str, modified: int) -> SearchSpace:
    return load_space(space)


def make_context(config: SearchConfig, known: str) -> tuple[Context, Evaluator, Truth | None]:
    """Return the context of a search, its evaluator, and the true accuracies where they are known.

    Args:
        known: see `Comparison.known`.
    """
    context = _context(config)
    if not context.space.trainable:
        return context, context.evaluator(), context.space.accuracy
    if known:
        trainings = landscape(known, config.space, context.space)
        return context, trainings, trainings.truth
    return context, context.evaluator(), None


def true_accuracy(
    context: Context,
    truth: Truth | None,
    proposal: Proposal,
    folder: Path,
    report: Report,
    settings: ExecutorSettings,
    own: Evaluator | None,
) -> dict[str, Any]:
    """Return the accuracy of the answer: the known one, or what the final training measured, on which split, after how long.

    Args:
        own: custom evaluator that makes the final training, if there is one.
    """
    if truth is not None:
        return {"acc1": float(truth(np.array([proposal.candidate]))[0])}
    job = final_job(context, final_candidate(context, proposal.candidate))
    measured = make_final(context, job, folder, report, settings, own)[1]
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
    # Trials of NARS may be shorter. All of them have the epochs of the shortest one, so these can be compared. One that was
    # stopped because it was hopeless is never the best.
    epoch = min(t.epochs for t in trials)
    measured = np.array(
        [-np.inf if t.stopped else context.label(t, t.epochs if truth is None else epoch) for t in trials]
    )
    best = [int(measured[: i + 1].argmax()) for i in range(len(trials))]
    if truth is None:
        return [float(value) for value in measured[best]]
    found = truth(np.array([trials[i].candidate for i in best]))
    # The answer need not be the best measured trial: NARS may answer with a finalist. The curve ends where the table does.
    return [*map(float, found[:-1]), acc1]
