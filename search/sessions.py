"""A search in one call: what `fbnetv3 search run` and `resume` do, from Python."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from fbnetv3.progress import Report, silent
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, load_preset
from fbnetv3.search.nars.custom import with_evaluator
from fbnetv3.search.report.page import write_report
from fbnetv3.search.runs import run
from fbnetv3.search.runs.clock import timed
from fbnetv3.search.runs.folder import CONFIG, LEDGER, SearchResult
from fbnetv3.search.trial import Evaluator, read_ledger
from fbnetv3.training.callbacks import Callback

RENEW = 120.0  # seconds between two reports of a search that runs, at least
SHARE = 20  # so many times as long as a report took, so that reports take a twentieth of the time at most

logger = logging.getLogger(__name__)


def run_search(
    config: SearchConfig | str,
    out: str | Path,
    *,
    evaluator: Evaluator | str | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
    progress: Report = silent,
    warm_start: Sequence[str | Path] | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Search an architecture-recipe pair, train it, and write a report; everything is in the folder `out`.

    If the process dies, `resume_search` continues.

    Args:
        config: settings, or the name of a preset.
        out: a new folder, or with `resume` also that of a search with these settings.
        evaluator: trains the candidates, a function or its name MODULE:FUNCTION; by default they are trained on the images that
            the settings name. Several workers need one that can be pickled, such as a function at the top of a module. If the
            settings ask for a final training, that is on their images or, if they name none, the evaluator's too.
        warm_start: folders of earlier searches that have ended, from whose trainings the predictor starts; by default those of
            the settings. Budget, data and the values of the space may be others; names and kinds of the coordinates may not.
        resume: continue the search in `out`, if there is one.
        callbacks: are told of every training when it is in the ledger; see `fbnetv3.training.Callback`.

    Returns:
        What NARS found and then, if it ran, random search.

    Raises:
        InputError: the folder already holds a search (with `resume`: one with other settings) or cannot be written, or the
            settings cannot be met. Then nothing was written.
    """
    settings = load_preset(config) if isinstance(config, str) else config
    if warm_start is not None:
        settings = settings.replace(warm_start=tuple(map(str, warm_start)))
    if isinstance(evaluator, str):
        settings, evaluator = settings.replace(evaluator=evaluator), None
    settings, evaluator = with_evaluator(settings, evaluator)
    progress = _watched(progress, Path(out))
    if resume and (Path(out) / CONFIG).exists():
        run.check_same(settings, out, executor)
        results = run.resume(out, progress, executor, evaluator, callbacks=callbacks)
    else:
        results = run.start(settings, out, progress, executor, evaluator, callbacks)
    write_report(out)
    return results


def resume_search(
    folder: str | Path,
    *,
    evaluator: Evaluator | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
    progress: Report = silent,
    data: str | None = None,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Continue a search that was stopped or killed. The result is the same as that of an uninterrupted search.

    That of an asynchronous search is the same if its trainings end in the same order.

    Args:
        evaluator: the one that the search was started with; by default it is imported by the name that was recorded.
        data: where the images of the search are now, if they were moved.
        device: what it continues on; by default the device that it began with. On another kind of device, the result is not
            that of an uninterrupted search, because trainings there are not equal to the last bit.
        callbacks: as in `run_search`. `on_search` gets the trainings of the ledger, and `on_trial` the new ones.

    Raises:
        InputError: no search there, or a configuration, an input or a ledger that was changed or damaged, `data` with other
            images, or a device that cannot be used.
    """
    results = run.resume(folder, _watched(progress, Path(folder)), executor, evaluator, data, device, callbacks)
    write_report(folder)
    return results


def extend_search(
    folder: str | Path,
    *,
    rounds: int | None = None,
    trainings: int | None = None,
    evaluator: Evaluator | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
    progress: Report = silent,
    data: str | None = None,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[SearchResult]:
    """Go on with a search that has ended: more batches, more finalists, and the best answer of all trainings.

    If the process dies, `resume_search` continues. An answer that is replaced is kept in `earlier/` in the folder.

    Args:
        rounds: number of batches to add; the finalists after them are added too. Either this or `trainings`.
        trainings: number of trainings to add, the finalists among them.
        evaluator, data, device, callbacks: as in `resume_search`.

    Raises:
        InputError: no search there, one that has not ended or is asynchronous, both numbers or none, fewer candidates left in
            the pool, or what `resume_search` raises. Then the search is as it was.
    """
    watched = _watched(progress, Path(folder))
    results = run.extend(folder, watched, rounds, trainings, executor, evaluator, data, device, callbacks)
    write_report(folder)
    return results


def _watched(progress: Report, folder: Path) -> Report:
    """Return a function that reports the same, and keeps what others look at up to date: the clock, and every while the page.

    It is called between two trainings, while the workers go on. A page that cannot be written stops no search.
    """
    note, renew, failed = timed(progress, folder), time.monotonic() + RENEW, False

    def report(done: int, total: int, text: str) -> None:
        nonlocal renew, failed
        note(done, total, text)
        began = time.monotonic()
        if failed or began < renew:
            return
        try:
            if any(t.status == "ok" for t in read_ledger(folder / LEDGER)):
                write_report(folder)
        except Exception as error:  # whatever it is, hours of trainings are worth more
            failed = True
            logger.warning("the search goes on, but its report is not renewed while it runs: %s", error)
        now = time.monotonic()
        renew = now + max(RENEW, SHARE * (now - began))

    return report
