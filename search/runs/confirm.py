"""How sure the answer of a search is: final trainings with more seeds, and what it is better than.

fbnetv3 search confirm DIR --seeds 5

The answers of all methods of the search, and the network of NARS's answer with the base recipe, are trained with the same
seeds. `confirmed.json` has their accuracies. Every training has a folder in `confirm/`; one that has ended is not made again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.progress import Report, part_of
from fbnetv3.schema import load_json
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.devices import machine_of
from fbnetv3.search.runs.final import final_candidate, final_job, make_final, train_side_by_side
from fbnetv3.search.runs.folder import METHODS, SearchFolder, SearchResult, load_search
from fbnetv3.search.trial import Candidate, Evaluator
from fbnetv3.training.engine import cpu_threads
from fbnetv3.training.trainer import DivergedError

FOLDER, CONFIRMED, MEASURED = "confirm", "confirmed.json", "measured.json"
BASE = "base_recipe"
NAMES = METHODS | {BASE: "the same network with the base recipe"}
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, in percent or in points; without an interval where one training stands alone."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Confirmation:
    """Accuracies of final trainings, the same seeds for every answer.

    Attributes:
        split: the images of the accuracies: `test`, or `val` where the data has no test images.
        epochs: of every training.
        accuracies: top-1 in percent by answer (`nars`, `random`, `base_recipe`) and seed; None for a training that diverged.
    """

    split: str
    epochs: int
    accuracies: Mapping[str, Sequence[float | None]]

    @property
    def seeds(self) -> int:
        """Number of trainings of an answer."""
        return len(self.accuracies["nars"])

    def ended(self, answer: str) -> list[float]:
        """Return the accuracies of the trainings that did not diverge."""
        return [value for value in self.accuracies[answer] if value is not None]

    def estimate(self, answer: str) -> Estimate | None:
        """Return the mean accuracy of an answer; None if all of its trainings diverged."""
        values = self.ended(answer)
        return self._interval(float(np.mean(values)), 1 / len(values)) if values else None

    def gain(self, over: str) -> Estimate | None:
        """Return how many points NARS's answer is better than another; None if all trainings of one of them diverged."""
        ours, theirs = self.ended("nars"), self.ended(over)
        if not ours or not theirs:
            return None
        return self._interval(float(np.mean(ours) - np.mean(theirs)), 1 / len(ours) + 1 / len(theirs))

    def _interval(self, mean: float, share: float) -> Estimate:
        """Return a mean with its interval of Student's t.

        All answers are taken to vary equally with the seed, because each of them has few trainings.
        """
        groups = [np.array(self.ended(answer)) for answer in self.accuracies]
        freedom = sum(max(len(group) - 1, 0) for group in groups)
        if not freedom:
            return Estimate(mean, None, None)
        variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups if len(group)) / freedom
        half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * (variance * share) ** 0.5
        return Estimate(mean, mean - half, mean + half)


def confirm(
    folder: str | Path,
    seeds: int,
    progress: Report,
    data: str | None = None,
    device: str | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
) -> Confirmation:
    """Confirm the answer in the folder of a search that has ended, and write `confirmed.json` there.

    Args:
        seeds: trainings of every answer, the final training among them. If there are more already, they stay.
        data: where the images of the search are now, if they were moved.
        device: by default the device that the search began with.

    Raises:
        InputError: no search there that has ended with a final training, or a training failed. Those that ended are kept.
    """
    search = load_search(folder)
    results = search.results()
    if not results[0].pair.measured:
        raise InputError(
            f"the search in {folder} made no final training, which could be repeated; its configuration says so"
        )
    machine = machine_of(search.config, device or search.config.device, executor)
    return confirm_results(search.context_with(data, machine.device), search, results, seeds, progress, executor)


def confirm_results(
    context: Context,
    search: SearchFolder,
    results: Sequence[SearchResult],
    seeds: int,
    progress: Report,
    executor: ExecutorSettings,
    evaluator: Evaluator | None = None,
) -> Confirmation:
    """Do the same for results that were read already.

    Args:
        evaluator: a custom one of the search; by default the one that its configuration names.
    """
    out = search.path / FOLDER
    with lock_folder(out, "search confirm"), cpu_threads(1):
        before = load_confirmation(search)
        seeds = max(seeds, before.seeds if before else 1)
        answers = _answers(context, results)
        jobs = {
            out / name / f"seed{i}": _job(context, name, answers[name], i) for name in answers for i in range(seeds)
        }
        # The final trainings of the search have the first seed.
        known = {out / r.method / "seed0": r.pair.measured["acc1"] for r in results}
        wanted = {path: job for path, job in jobs.items() if path not in known and not (path / MEASURED).is_file()}
        own = (evaluator or context.evaluator()) if wanted and context.own_final else None
        diverged = train_side_by_side(context, wanted, executor, progress) if own is None else []
        for i, (path, job) in enumerate(wanted.items()):
            report = part_of(progress, i, 1, len(wanted))
            acc1 = None if path in diverged else _accuracy(context, job, path, report, own, executor)
            write_atomically(path / MEASURED, json.dumps({"acc1": acc1}) + "\n")
        found = {
            path: known[path] if path in known else load_json(path / MEASURED, "training", ("acc1",))["acc1"]
            for path in jobs
        }
        accuracies = {name: [found[out / name / f"seed{i}"] for i in range(seeds)] for name in answers}
        first = results[0].pair.measured
        confirmation = Confirmation(first["split"], first["epochs"], accuracies)
        write_atomically(search.path / CONFIRMED, json.dumps(dataclasses.asdict(confirmation), indent=1) + "\n")
        return confirmation


def load_confirmation(search: SearchFolder) -> Confirmation | None:
    """Return what `confirm` found for a search; None if it was not asked for.

    Raises:
        InputError: the file is damaged.
    """
    path = search.path / CONFIRMED
    if not path.is_file():
        return None
    data = load_json(path, "confirmation", ("split", "epochs", "accuracies"))
    return Confirmation(**{key: data[key] for key in ("split", "epochs", "accuracies")})


def table_rows(confirmation: Confirmation) -> list[dict[str, object]]:
    """Return one row for each answer."""
    rows: list[dict[str, object]] = []
    for name in confirmation.accuracies:
        mean, gain = confirmation.estimate(name), None if name == "nars" else confirmation.gain(name)
        rows.append(
            {
                "answer": NAMES[name],
                f"{confirmation.split}_acc1": mean and round(mean.mean, 2),
                "interval": _span(mean),
                "nars_is_better_by": gain and round(gain.mean, 2),
                "interval_of_that": _span(gain),
                "trainings": len(confirmation.ended(name)),
            }
        )
    return rows


def _span(estimate: Estimate | None) -> list[float] | None:
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return [round(estimate.low, 2), round(estimate.high, 2)]


def _answers(context: Context, results: Sequence[SearchResult]) -> dict[str, Candidate]:
    """Return the answer of each method, and the network of NARS's with the base recipe, all with the final schedule."""
    answers = {result.method: final_candidate(context, result.proposal.candidate) for result in results}
    base = answers["nars"]._replace(recipe=context.base.stretched(context.config.final_stretch))
    # A search of architectures alone has the base recipe.
    return answers if base == answers["nars"] else answers | {BASE: base}


def _job(context: Context, name: str, answer: Candidate, i: int) -> Job:
    """Return the training of an answer with seed number `i`, and with a name of its own."""
    arch = dataclasses.replace(answer.arch, name=f"{answer.arch.name}_{name}_seed{i}")
    return final_job(context, answer._replace(arch=arch), i)


def _accuracy(
    context: Context, job: Job, folder: Path, progress: Report, own: Evaluator | None, executor: ExecutorSettings
) -> float | None:
    """Return the accuracy of a final training, which a custom evaluator makes if there is one; None if it diverged."""
    try:
        acc1: float = make_final(context, job, folder, progress, executor, own)[1]["acc1"]
    except DivergedError:
        return None
    return acc1
