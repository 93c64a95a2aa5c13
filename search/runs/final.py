"""The final training of a search's answer, and its pair file."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fbnetv3.device import AUTO, find_device
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.pair_file import Pair
from fbnetv3.progress import Report
from fbnetv3.schema import load_json
from fbnetv3.search.execution.cards import device_of
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.images import ImageEvaluator
from fbnetv3.search.execution.memory import out_of_memory
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context, image_evaluator
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.runs.folder import FINAL, WEIGHTS
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.trial import Candidate, Evaluator, Outcome, Trial, completed
from fbnetv3.training.accuracy import final_split, measure
from fbnetv3.training.loop import Trained
from fbnetv3.training.trainer import DivergedError
from fbnetv3.version import __version__

OUTCOME = "outcome.json"  # of a final training by a custom evaluator
EXTRA = 1000  # place of the seeds of repeated final trainings


def final_candidate(context: Context, row: Sequence[int], suffix: str = "") -> Candidate:
    """Return a candidate with the schedule of the final training, which is longer and decays slower (section 4.1)."""
    config, space = context.config, context.space
    candidate = space.candidate(row, context.base, f"{space.name}_{config.name}_{config.seed}{suffix}")
    return candidate._replace(recipe=candidate.recipe.stretched(config.final_stretch))


def final_job(context: Context, final: Candidate, extra: int = 0) -> Job:
    """Return the final training of a candidate; with `extra` above 0, the same with another seed."""
    return Job(final, final.recipe.epochs, final_seed(context, extra))


def make_final(
    context: Context, job: Job, folder: Path, progress: Report, settings: ExecutorSettings, own: Evaluator | None
) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Make a final training: with a custom evaluator if there is one (`evaluate_final`), or on images (`train_final`).

    Returns:
        The accuracies after every epoch, and what the pair file says of the training.
    """
    if own is not None:
        return evaluate_final(own, job, folder, settings, context.config.processes)
    trained, measured = train_final(context, job, folder, progress)
    return trained.acc1, measured


def train_final(context: Context, job: Job, folder: Path, progress: Report) -> tuple[Trained, dict[str, Any]]:
    """Make a final training in `folder/final`, from its checkpoint if there is one, and write `folder/weights.pt`.

    Returns:
        The training, and what the pair file says of it: the accuracy on the test images, which are classified once; on `val`
        where there are no test images.

    Raises:
        InputError: there is too little memory, or an image cannot be read. If it is a test image, the training is finished and
            kept.
    """
    evaluator = image_evaluator(context)
    data = evaluator.images(job.candidate.arch.resolution)

    def report(done: int, total: int, text: str) -> None:
        progress(done, total, f"training the chosen pair: {text}")

    trained = _train(evaluator, job, folder / FINAL, report)
    write_weight_file(folder / WEIGHTS, WeightFile.of(trained.model, data.classes, data.transforms))
    split = final_split(data)
    try:
        acc1 = measure(trained.model, data, split, device=torch.device(find_device(context.device))).acc1
    except InputError as error:
        raise InputError(
            f"{error}. The final training is finished and its weights are in {folder / WEIGHTS}: remove the cause and resume "
            "the search, which measures them again"
        ) from None
    return trained, {"split": split, "epochs": job.epochs, "acc1": acc1}


def evaluate_final(
    evaluator: Evaluator, job: Job, folder: Path, settings: ExecutorSettings, processes: int = 1
) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Make a final training with a custom evaluator, and write its accuracies to `folder/final/outcome.json`.

    One that was made before is only read. It has no time limit, since it is longer than a trial.

    Returns:
        The accuracies after every epoch, and what the pair file says of the training. They are on the images that the
        evaluator measures every training on.

    Raises:
        InputError: the training failed.
        DivergedError: it diverged.
    """
    path = folder / FINAL / OUTCOME
    asked = {"seed": job.seed, "epochs": job.epochs}
    if not path.is_file():
        with dataclasses.replace(settings, trial_timeout=None).start(evaluator, processes) as executor:
            [(_, outcome)] = executor.run({0: job})
        if outcome.status == "diverged":
            raise DivergedError.at("the evaluator says that the final training diverged", job.candidate.recipe)
        if outcome.status == "failed":
            raise InputError(f"the final training failed: {outcome.error}; fix the cause, and resume")
        write_atomically(path, json.dumps(asked | {"acc1": outcome.acc1, "seconds": outcome.seconds}) + "\n")
    found = load_json(path, "final training", ("seed", "epochs", "acc1"))
    if {key: found[key] for key in asked} != asked:
        raise InputError(f"{path} is of another training; remove it, and resume")
    curve = tuple(found["acc1"])
    return curve, {"split": "val", "epochs": job.epochs, "acc1": curve[-1]}


def _train(evaluator: ImageEvaluator, job: Job, folder: Path, report: Report) -> Trained:
    try:
        return evaluator.train(job.candidate, job.epochs, job.seed, folder, resume=True, progress=report)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
    # After the block, where the exception holds the tensors of the training no more.
    raise InputError(
        f"the final training had too little memory ({said}); everything before it is kept: call again when nothing else uses "
        "that memory, or with a --device that has more"
    )


@dataclass(frozen=True)
class FinalTraining:
    """An evaluator that makes final trainings, each in its folder, where `train_final` finds them.

    Attributes:
        folders: by the names of the architectures.
    """

    evaluator: ImageEvaluator
    folders: Mapping[str, Path]

    @property
    def device(self) -> str:
        """The device of the trainings, by which they are placed."""
        return self.evaluator.device

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """Train a candidate, from its checkpoint if there is one."""
        start = time.monotonic()
        acc1: tuple[float, ...]
        status: Literal["ok", "diverged"]
        try:
            trained = self.evaluator.train(
                candidate, epochs, seed, self.folders[candidate.arch.name] / FINAL, resume=True
            )
            acc1, status = trained.acc1, "ok"
        except DivergedError:
            acc1, status = (), "diverged"
        return Outcome(acc1, status, round(time.monotonic() - start, 3))


def train_side_by_side(
    context: Context, jobs: Mapping[Path, Job], settings: ExecutorSettings, progress: Report
) -> list[Path]:
    """Make final trainings, as many at the same time as the settings say. Nothing is done on a CPU that runs one at a time.

    Args:
        jobs: final trainings by their folders, each of a network with a name of its own. `train_final` completes them: it
            measures them and writes their weights.
        settings: those of the trials. The folders are on this machine, so its processes train even where trials run on Ray,
            and without the time limit of a trial, which is shorter.

    Returns:
        The folders of the trainings that diverged.

    Raises:
        InputError: a training failed. Those that ended are kept.
    """
    names = {job.candidate.arch.name: folder for folder, job in jobs.items()}
    evaluator = FinalTraining(image_evaluator(context), names)
    workers = settings.workers if settings.kind == "processes" else None
    settings = ExecutorSettings(workers=workers, trials_per_gpu=settings.trials_per_gpu)
    if len(jobs) < 2 or (device_of(evaluator) == "cpu" and settings.at_once("cpu") == 1):
        return []
    diverged = []
    with settings.start(evaluator) as executor:
        for done, (folder, outcome) in enumerate(executor.run(jobs), 1):
            name = jobs[folder].candidate.arch.name
            if outcome.status == "failed":
                raise InputError(f"the final training of {name} failed: {outcome.error}; fix the cause, and call again")
            if outcome.status == "diverged":
                diverged.append(folder)
            progress(done, len(jobs), f"trained {name}")
    return diverged


def final_seed(context: Context, extra: int = 0) -> int:
    """Return the seed of the final training, or of one of its repetitions."""
    return context.trial_seed(0, EXTRA + extra if extra else 0)


def pair_of_proposal(
    context: Context, method: str, proposal: Proposal, trials: Sequence[Trial], measured: dict[str, Any]
) -> Pair:
    """Return the pair file's content for a method's answer.

    Args:
        measured: what the final training gave; empty without one.
    """
    # A method without a predictor is certain of what it measured.
    best = max(context.label(t, t.epochs) for t in completed(trials))
    predicted = proposal.predicted or (best, 0.0)
    final = final_candidate(context, proposal.candidate)
    return make_pair(context, final, context.config.constraint, predicted, proposal.epochs, method, measured)


def make_pair(
    context: Context,
    final: Candidate,
    constraint: Constraint,
    predicted: tuple[float, float],
    epochs: int,
    method: str,
    measured: dict[str, Any],
) -> Pair:
    """Return the content of a pair file.

    Args:
        predicted: mean and std of the predicted accuracy in percent.
        epochs: the prediction is for the accuracy after so many epochs.
        measured: what the final training gave; empty without one.
    """
    config = context.config
    limit = {"metric": constraint.metric, "convention": constraint.convention, "max": constraint.max}
    return Pair(
        arch=final.arch,
        recipe=final.recipe,
        # Earlier versions wrote what the configuration called the space, which may be a path.
        space=context.space.name if config.contents else config.space,
        seed=config.seed,
        constraint=limit | _more_constraints(config),
        predicted={"mean": round(predicted[0], 4), "std": round(predicted[1], 4)},
        measured=measured,
        provenance={
            "data": context.data,
            **({"data_content": config.contents.data} if config.contents else {}),
            "num_classes": context.space.num_classes,
            "in_chans": context.space.in_chans,
            "search": method,
            **({"evaluator": config.evaluator} if config.evaluator else {}),
            **_started_from(context, method),
            "config": config.fingerprint,
            **({"extensions": list(config.extensions)} if config.extensions else {}),
            "predicted_after_epochs": epochs,
            "training_seed": final_seed(context),
            **environment(),
            **_trained_on(context),
        },
    )


def environment() -> dict[str, Any]:
    """Return the versions that a run's numbers depend on."""
    return {
        "fbnetv3": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads_per_trial": 1,
    }


def _started_from(context: Context, method: str) -> dict[str, Any]:
    """Return what a pair file says of the earlier searches that a method learnt from."""
    used = method != "random" and context.sources
    return {"started_from": [source.about for source in context.sources]} if used else {}


def _trained_on(context: Context) -> dict[str, Any]:
    """Return what a pair file says of device and precision: nothing for float32 on the CPU."""
    device, precision = context.device, context.config.precision
    plain = device in (AUTO, "cpu") and precision in (AUTO, "fp32")
    return {} if plain else {"device": device, "precision": precision}


def _more_constraints(config: SearchConfig) -> dict[str, Any]:
    """Return what a pair file says of constraints other than the first."""
    also = [{"metric": c.metric, "convention": c.convention, "max": c.max} for c in config.also]
    latency = None if config.latency is None else dataclasses.asdict(config.latency)
    return ({"also": also} if also else {}) | ({"latency_ms": latency} if latency else {})
