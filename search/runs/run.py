"""A search in a folder: trials, the final training of the answer, and its files. It can be stopped and resumed at any moment.

`fbnetv3 search run` and `fbnetv3 search resume` do this and then write the report.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.errors import InputError, Note, quote
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.pair_file import save_pair
from fbnetv3.progress import Report
from fbnetv3.schema import load_yaml
from fbnetv3.search.execution.machine import Machine
from fbnetv3.search.execution.memory import free_memory
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.nars.algorithm import nars
from fbnetv3.search.nars.batches import BatchRunner, foreign_trial
from fbnetv3.search.nars.config import SearchConfig, save_config
from fbnetv3.search.nars.context import Context, image_evaluator, image_id
from fbnetv3.search.nars.custom import evaluator_of, with_evaluator
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.rivals.search import random_search
from fbnetv3.search.runs.bar import SearchBar
from fbnetv3.search.runs.confirm import confirm_results
from fbnetv3.search.runs.devices import announce, choose, machine_of, record, record_change
from fbnetv3.search.runs.earlier import keep_earlier
from fbnetv3.search.runs.final import (
    environment,
    final_candidate,
    final_job,
    make_final,
    pair_of_proposal,
)
from fbnetv3.search.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    LEDGER,
    RESULT,
    SearchFolder,
    SearchResult,
    load_search,
    open_source,
    write_results,
    written_config,
)
from fbnetv3.search.runs.inputs import COPY, check_costs, take_inputs
from fbnetv3.search.runs.told import Told
from fbnetv3.search.trial import Evaluator, Ledger, Trial
from fbnetv3.training.callbacks import Callback
from fbnetv3.training.engine import cpu_threads

logger = logging.getLogger(__name__)

SEARCHES = {"nars": nars, "random": random_search}


def start(
    config: SearchConfig,
    out: str | Path,
    progress: Report,
    executor: ExecutorSettings = THIS_MACHINE,
    evaluator: Evaluator | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Start a search in a new folder and see it to the end.

    Args:
        evaluator: trains the candidates; by default the one that the configuration means. Its name is recorded.
        callbacks: are told of every training of the search.

    Raises:
        InputError: the folder already holds a search or cannot be written, or the configuration cannot be met. Then nothing
            was written.
    """
    out = Path(out)
    with lock_folder(out, "search"):
        if (out / CONFIG).exists():
            raise InputError(
                f"{out} already holds a search; continue it with `fbnetv3 search resume {out}`, or give another folder"
            )
        if (out / LEDGER).exists():
            raise InputError(f"{out} holds trainings of another command, such as `search collect`; give another folder")
        config, evaluator = with_evaluator(config, evaluator)
        config, machine = choose(config, executor)
        kept, files, context = prepare(config, evaluator)
        # Constraints that cannot be met and data that is not there must fail before anything is written.
        context.pool()
        evaluator = _evaluator(context, evaluator)
        # An evaluator that cannot be sent to other processes, or no cluster, too.
        with executor.start(evaluator, config.processes):
            pass
        for path, content in files.items():
            write_atomically(out / path, content)
        record(out, environment(), machine, config)
        announce(config, machine, executor, evaluator)
        if context.shape is not None:
            side, epochs = max(context.space.resolutions), context.base.epochs
            words = f"{context.space.in_chans} channels, {context.space.num_classes} classes, {side} pixels, {epochs} epochs"
            warnings.warn(f"for this data, networks and trainings have {words}", Note, stacklevel=2)
        save_config(kept, out / COPY)
        # The configuration comes last: with it, the folder has a search that can be resumed.
        save_config(kept, out / CONFIG)
        return _run(context, SearchFolder(out, context.config), evaluator, progress, executor, callbacks)


def resume(
    out: str | Path,
    progress: Report,
    executor: ExecutorSettings = THIS_MACHINE,
    evaluator: Evaluator | None = None,
    data: str | None = None,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Continue the search in a folder. One that has ended only gets its result files again.

    Args:
        data: where the images of the search are now, if they were moved.
        device: what it continues on; by default the device that it began with.
        callbacks: are told of every training of the search.

    Raises:
        InputError: no search in the folder, or a configuration, an input or a ledger that was changed or damaged, `data` with
            other images, or a device that cannot be used.
    """
    folder = load_search(out)
    with lock_folder(folder.path, "search"):
        return _go_on(folder, progress, executor, evaluator, data, device, callbacks)


def extend(
    out: str | Path,
    progress: Report,
    rounds: int | None = None,
    trainings: int | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
    evaluator: Evaluator | None = None,
    data: str | None = None,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Go on from the end of a search with more trainings, which its configuration records.

    Args:
        rounds: number of batches to add, besides the finalists after them; or
        trainings: number of trainings to add, the finalists among them.
        data, device, callbacks: as in `resume`.

    Raises:
        InputError: no search in the folder, one that has not ended or is asynchronous, both numbers or none, or what `resume`
            raises. Then the search is as it was.
    """
    folder = load_search(out)
    added = _added(folder.config, rounds, trainings)
    extended = dataclasses.replace(folder, config=folder.config.replace(extensions=(*folder.config.extensions, added)))
    with lock_folder(folder.path, "search"):
        folder.results()
        # Trainings that this version would not propose, or images that are gone, must show before anything is changed.
        _go_on(folder, progress, executor, evaluator, data, device)
        # The search has not ended any more. If the process dies here, `resume` writes the result again.
        (folder.path / RESULT).unlink()
        _rewrite(folder, extensions=extended.config.extensions)
        return _go_on(extended, progress, executor, evaluator, data, device, callbacks)


def _added(config: SearchConfig, rounds: int | None, trainings: int | None) -> int:
    """Return how many trainings an extension has."""
    given = [number for number in (rounds, trainings) if number is not None]
    if len(given) != 1 or type(given[0]) is not int or given[0] < 1:
        raise InputError(
            f"rounds is {quote(rounds)} and trainings is {quote(trainings)}; give one of them, a whole number from 1"
        )
    return given[0] if rounds is None else rounds * config.batch + config.finalists


def _go_on(
    folder: SearchFolder,
    progress: Report,
    executor: ExecutorSettings,
    evaluator: Evaluator | None,
    data: str | None,
    device: str | None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    _warn_of_versions(folder)
    machine = _machine(folder, device, executor)
    context = folder.context_with(data, machine.device)
    evaluator = _evaluator(context, evaluator_of(folder.config, evaluator))
    record_change(folder.path, machine, folder.config)
    announce(folder.config, machine, executor, evaluator)
    if context.data != folder.config.data and folder.config.contents is not None:
        _rewrite(folder, data=context.data)
    return _run(context, folder, evaluator, progress, executor, callbacks)


def _rewrite(folder: SearchFolder, **changes: Any) -> None:
    save_config(dataclasses.replace(written_config(folder.path), **changes), folder.path / CONFIG)


def check_same(config: SearchConfig, out: str | Path, executor: ExecutorSettings) -> None:
    """Check that a configuration is the one that the search in a folder began with. The images are left to `resume`.

    Raises:
        InputError: it is another one. The message names what differs.
    """
    began = written_config(Path(out))
    chosen, _ = choose(config, executor)
    context = Context.of(chosen, [open_source(name) for name in config.warm_start])
    kept, _ = take_inputs(context, began.contents.data if began.contents else None)
    # The number of readers depends on the machine and changes the speed alone. Extensions come later.
    same = dataclasses.replace(kept, readers=began.readers, extensions=began.extensions)
    before, now = began.to_dict(), same.to_dict()
    files, other_files = before.pop("contents") or {}, now.pop("contents")
    names = [key for key in now if before[key] != now[key]]
    names += [f"the content of {key}" for key in other_files if files.get(key) != other_files[key]]
    if names:
        raise InputError(
            f"{out} holds a search that began with other settings: {', '.join(names)}; give those that it began with, continue "
            f"it with `fbnetv3 search resume {out}`, or give another folder"
        )


def prepare(config: SearchConfig, given: Evaluator | None) -> tuple[SearchConfig, dict[str, bytes], Context]:
    """Return the configuration and the files that a new search writes, and its context, which reads the original files.

    Args:
        given: custom evaluator, if there is one.

    Raises:
        InputError: a file or the data is not there or damaged, or the space is a table.
    """
    context = Context.of(config, [open_source(name) for name in config.warm_start])
    if not context.space.trainable:
        raise InputError(
            f"{config.space} is a table: its candidates are no networks that the final training could train; search it with "
            f"`fbnetv3 search compare --table {config.space}`"
        )
    # A custom evaluator may have no images.
    opened = given is None or (config.final_training and not context.own_final)
    kept, files = take_inputs(context, image_id(context) if opened else None)
    began = dataclasses.replace(config, data=kept.data, contents=kept.contents)
    return kept, files, dataclasses.replace(context, config=began, data=kept.data)


def _machine(folder: SearchFolder, device: str | None, executor: ExecutorSettings) -> Machine:
    """Return what a search continues on: the given device, or the one that it began with."""
    config = folder.config
    if device is not None:
        return machine_of(config, device, executor)
    try:
        return machine_of(config, config.device, executor)
    except InputError as error:
        raise InputError(
            f"the search in {folder.path} began on {config.device}: {error}. With --device it continues on another device"
        ) from None


def _warn_of_versions(folder: SearchFolder) -> None:
    if (folder.path / ENVIRONMENT).is_file():
        before = load_yaml(folder.path / ENVIRONMENT, "record of versions")  # JSON is YAML
        changed = [key for key, value in environment().items() if before.get(key) != value]
        if changed:
            logger.warning("this search began with other versions of %s: its result may differ", ", ".join(changed))


def _evaluator(context: Context, given: Evaluator | None) -> Evaluator:
    """Return the evaluator of a run, and make sure that the final training will have its images."""
    if given is None:
        return context.evaluator()
    if context.config.final_training and not context.own_final:
        image_evaluator(context)
    return given


def _run(
    context: Context,
    folder: SearchFolder,
    evaluator: Evaluator,
    progress: Report,
    settings: ExecutorSettings,
    callbacks: Sequence[Callback],
) -> list[SearchResult]:
    config, results = context.config, []
    # One thread in this process too: the predictor's numbers depend on it, and the workers need the processors.
    with cpu_threads(1):
        methods = ["nars", "random"] if config.baseline else ["nars"]
        bar = SearchBar(progress, config, methods)
        for method in methods:
            foreign = foreign_trial(config, context.space, method)
            with Ledger.open(folder.ledger(method), config.fingerprint, foreign) as ledger:
                check_costs(context, [*ledger.trials, *ledger.pending], ledger.path)
                told = Told(context, method, ledger, callbacks)
                told.start()
                with settings.start(evaluator, config.processes) as executor:
                    runner = BatchRunner(context, ledger, executor, bar.trials(method), on_trial=told.trial)
                    proposal = SEARCHES[method](context, runner)
                trials = tuple(ledger.trials)
                results.append(
                    _finish(context, folder, method, proposal, trials, bar.final(method), evaluator, settings)
                )
                free_memory()  # the final training ran in this process, and the trials of the next method need its GPU
        write_results(results, folder.path)
        if config.confirms:
            confirm_results(context, folder, results, config.confirm, bar.confirmations(), settings, evaluator)
    return results


def _finish(
    context: Context,
    folder: SearchFolder,
    method: str,
    proposal: Proposal,
    trials: tuple[Trial, ...],
    progress: Report,
    evaluator: Evaluator,
    settings: ExecutorSettings,
) -> SearchResult:
    """Make the final training, and write the pair file and the weights."""
    config = context.config
    curve: tuple[float, ...] = ()
    measured: dict[str, Any] = {}
    final = final_candidate(context, proposal.candidate)
    keep_earlier(folder, method, final)
    if config.final_training:
        job, place = final_job(context, final), folder.pair(method).parent
        own = evaluator if context.own_final else None
        curve, measured = make_final(context, job, place, progress, settings, own)
    pair = pair_of_proposal(context, method, proposal, trials, measured)
    save_pair(pair, folder.pair(method))
    costs = context.space.cost(np.array([proposal.candidate]))
    convention = config.constraint.convention
    flops, params = int(costs.flops(convention)[0]), int(costs.params(convention)[0])
    return SearchResult(method, pair, proposal, trials, curve, flops, params)
