"""Parallel efficiency by hand, jobs that only keep a processor busy, and the committed file."""

import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed.executors import (
    METHOD,
    BusyJob,
    EitherJob,
    case_values,
    efficiencies,
    tables,
    targets,
    time_jobs,
)
from fbnetv3.search.execution.executor import InProcess, Job


def test_efficiency_is_the_time_of_one_worker_over_that_of_two():
    rows = efficiencies({"here": [8.0, 8.0, 9.0], "pool": [4.0, 5.0, 4.5], "ray": [8.0, 8.0, 9.0]})
    assert rows["seconds"] == {"here": 8.0, "pool": 4.5, "ray": 8.0}
    assert rows["pool"] == {"efficiency": 1.0, "low": 0.8, "high": 1.0}
    assert rows["ray"]["efficiency"] == 0.5
    found = targets({"cpu": rows, "rounds": 3})
    assert found["cpu_pool"].met
    assert found["cpu_ray"].as_dict() == {"value": 0.5, "at_least": 0.9, "met": False}


@pytest.mark.parametrize("kind", ["cpu", "sleep"])
def test_a_job_takes_time_and_no_data(kind):
    outcome = BusyJob(kind)(None, 20, 0)
    assert (outcome.status, outcome.acc1) == ("diverged", ())
    assert outcome.seconds > 0


def test_odd_seeds_sleep(monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    for seed in (2, 3):
        EitherJob()(None, 500, seed)
    assert slept == [0.5]


def test_all_jobs_are_run_and_a_lost_one_is_noticed():
    with InProcess(BusyJob("sleep")) as executor:
        assert time_jobs(executor, {i: Job(None, 2, 1) for i in range(2)}) >= 0.004

    class Lossy:
        def run(self, jobs):
            yield from ()

    with pytest.raises(RuntimeError, match="0 of 1 jobs ended"):
        time_jobs(Lossy(), {0: Job(None, 1, 1)})
    with InProcess(lambda *_: None) as executor, pytest.raises(RuntimeError, match="0 of 1 jobs ended"):
        time_jobs(executor, {0: Job(None, 1, 1)})


def test_the_committed_result_has_four_kinds_of_jobs():
    result = load_result("parallel")
    assert result.method == METHOD
    assert list(case_values(result.values)) == ["cpu_0.5s", "sleep_0.5s", "cpu_2s", "sleep_2s"]
    (table,) = tables(result).values()
    row = result.values["cpu_2s"]["pool"]
    assert table.rows[2][:2] == ("cpu, 2s", f"{row['efficiency']:.1%} [{row['low']:.1%}, {row['high']:.1%}]")
