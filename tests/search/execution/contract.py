"""What every executor of other processes must do. The evaluator of each executor is `Acts(folder)`."""

import threading

from fbnetv3.search.execution.executor import DIED, LATE
from tests.search.execution.jobs import (
    BAD,
    CALL,
    DIE,
    DIE_ONCE,
    HANG,
    RAISE,
    SLEEP,
    answer,
    calls,
    done,
    jobs,
    wait_until_gone,
)


def check_every_job_runs_once_and_exceptions_are_outcomes(executor, folder):
    seeds = [CALL + 1, CALL + 2, RAISE + 3, BAD + 4, *range(CALL + 5, CALL + 20)]
    assert list(executor.run({})) == []
    found = list(executor.run(jobs(*seeds)))
    again = dict(executor.run(jobs(CALL + 50)))
    assert len(found) == len(seeds)
    outcomes = dict(found)
    failed = outcomes.pop("job 103")
    assert (failed.acc1, failed.status, failed.error) == ((), "failed", "ValueError: no luck with 103 at all")
    wrong = outcomes.pop("job 604")
    assert (wrong.acc1, wrong.status) == ((), "failed")
    assert wrong.error == "the evaluator answered with [50.0, 60.0]; it must return an Outcome"
    assert outcomes == {f"job {seed}": done(folder, seed) for seed in seeds if seed < RAISE}
    assert again == {"job 50": done(folder, 50)}


def check_a_death_is_charged_to_the_job_that_ran(executor, folder, retries):
    """A job that always dies is tried again as often as allowed. Other jobs, running and waiting, lose nothing."""
    seeds = [CALL + 61, DIE + 2, DIE_ONCE + 3, *range(CALL + 64, CALL + 74)]
    outcomes = dict(executor.run(jobs(*seeds)))
    died = outcomes.pop("job 302")
    assert (died.acc1, died.status, died.error) == ((), "failed", DIED)
    assert calls(folder, DIE + 2) == 1 + retries
    assert outcomes.pop("job 403") == answer(403)
    assert calls(folder, DIE_ONCE + 3) == 2
    assert outcomes == {f"job {seed}": done(folder, seed) for seed in seeds[3:] + seeds[:1]}


def check_a_training_that_hangs_fails_and_the_next_one_runs(executor, folder, limit):
    """A job that hangs is not repeated. Its process is killed with all that it started, and the others lose nothing."""
    outcomes = dict(executor.run(jobs(HANG + 1, CALL + 2)))
    late = outcomes.pop("job 701")
    assert (late.acc1, late.status, late.error) == ((), "failed", LATE.format(limit))
    assert limit <= late.seconds < limit + 30
    assert outcomes == {"job 2": done(folder, CALL + 2)}
    assert len(list(folder.glob("701.*"))) == 2  # the job and its child
    for path in folder.glob("2.*"):
        path.unlink()  # its process may still live
    wait_until_gone(folder)


def check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(executor, folder, at_once, *seeds):
    """So a job may depend on all outcomes before it. A job that is repeated after a death keeps its place."""
    known, yielded, here = [], {}, threading.current_thread()

    def chosen():
        for key, job in jobs(*seeds).items():
            assert threading.current_thread() is here
            known.append(len(yielded))
            yield key, job

    for key, outcome in executor.run(chosen(), at_once=at_once):
        assert key not in yielded
        yielded[key] = outcome
    assert known == [max(0, i - at_once + 1) for i in range(len(seeds))]
    assert yielded == {f"job {seed}": answer(seed) for seed in seeds}
    assert all(calls(folder, seed) == 1 + (DIE_ONCE <= seed < SLEEP) for seed in seeds)
