"""What every executor of other processes must do. The evaluator of each executor is `Acts(folder)`."""

from fbnetv3.search.execution.executor import DIED
from fbnetv3.search.trial import Outcome
from tests.search.execution.jobs import CALL, DIE, DIE_ONCE, RAISE, calls, done, jobs


def check_every_job_runs_once_and_exceptions_are_outcomes(executor, folder):
    seeds = [CALL + 1, CALL + 2, RAISE + 3, *range(CALL + 4, CALL + 20)]
    assert list(executor.run({})) == []
    found = list(executor.run(jobs(*seeds)))
    again = dict(executor.run(jobs(CALL + 50)))
    assert len(found) == len(seeds)
    outcomes = dict(found)
    failed = outcomes.pop("job 103")
    assert (failed.acc1, failed.status, failed.error) == ((), "failed", "ValueError: no luck with 103 at all")
    assert outcomes == {f"job {seed}": done(folder, seed) for seed in seeds if seed != RAISE + 3}
    assert again == {"job 50": done(folder, 50)}


def check_a_death_is_charged_to_the_job_that_ran(executor, folder, retries):
    """A job that always dies is tried again as often as allowed. Other jobs, running and waiting, lose nothing."""
    seeds = [CALL + 61, DIE + 2, DIE_ONCE + 3, *range(CALL + 64, CALL + 74)]
    outcomes = dict(executor.run(jobs(*seeds)))
    died = outcomes.pop("job 302")
    assert (died.acc1, died.status, died.error) == ((), "failed", DIED)
    assert calls(folder, DIE + 2) == 1 + retries
    assert outcomes.pop("job 403") == Outcome((403.0, 1.0), "ok", 0.0)
    assert calls(folder, DIE_ONCE + 3) == 2
    assert outcomes == {f"job {seed}": done(folder, seed) for seed in seeds[3:] + seeds[:1]}
