"""Searches on several processes: mistakes and deaths."""

import dataclasses
import os
import signal

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.compare import plan_tasks
from fbnetv3.benchmarks.search.comparison.methods import Comparison
from fbnetv3.benchmarks.search.comparison.processes import run_on_processes
from fbnetv3.search.execution.settings import ExecutorSettings


@dataclasses.dataclass(frozen=True)
class Dies:
    """A search whose process is killed."""

    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_one_line():
    with pytest.raises(InputError, match=r"a process of the comparison died, .* the same command continues"):
        dict(run_on_processes({("case", "random", 0): Dies()}, 2))


@pytest.mark.slow
def test_a_mistake_in_a_process_is_passed_on(table, small, tmp_path):
    tasks = plan_tasks(Comparison(small(table), ["random"], [0, 1]), tmp_path, ExecutorSettings(workers=1))
    answers = dict(run_on_processes(tasks, 2))
    assert set(answers) == set(tasks)
    changed = {key: dataclasses.replace(task, config=task.config.replace(seed=9)) for key, task in tasks.items()}
    with pytest.raises(InputError, match="holds a search of another configuration; give another --out"):
        dict(run_on_processes(changed, 2))
