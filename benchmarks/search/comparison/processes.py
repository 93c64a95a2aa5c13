"""The searches of a comparison, one after the other or on several processes of this machine.

Searches on tables depend on nothing but their configuration, so their number and order change no result.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from fbnetv3.benchmarks.harness import Values
from fbnetv3.benchmarks.search.comparison.methods import METHODS
from fbnetv3.benchmarks.search.comparison.run import run_one
from fbnetv3.errors import InputError
from fbnetv3.progress import Report, silent
from fbnetv3.search.execution.cards import environment
from fbnetv3.search.execution.processes import start_worker
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig

Key = tuple[str, str, int]
"""Case, method and seed of a search."""

# The libraries of linear algebra read these when they are loaded. More threads than processors would slow all of them.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Task:
    """One search of a comparison: what `run_one` is called with, as data that another process can get."""

    method: str
    config: SearchConfig
    known: str
    folder: Path
    settings: ExecutorSettings
    kept: SearchConfig

    def run(self, report: Report = silent) -> Values:
        """Run the search, or continue it, and return its answer."""
        method = METHODS[self.method]
        return run_one(method, self.config, self.known, self.folder, self.settings, report, self.kept)


def run_on_processes(tasks: Mapping[Key, Task], processes: int) -> Iterator[tuple[Key, Values]]:
    """Yield the answer of every search, in the order in which they end. An exception here stops all of them at once.

    Raises:
        InputError: a search raised it, or a process died.
    """
    foreign = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch's threads may hang
    with ProcessPoolExecutor(processes, context, start_worker) as pool:
        try:
            with environment(ONE_THREAD):
                futures = {pool.submit(task.run): key for key, task in tasks.items()}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise InputError(
                "a process of the comparison died, perhaps because the memory was too small; the same command continues, "
                "with fewer --processes if need be"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in foreign:
                    process.terminate()
            raise
