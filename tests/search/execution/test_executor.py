"""Jobs in this process: each runs once on one thread, and a failure is an outcome."""

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import ERROR_LENGTH, InProcess, Job, evaluate
from fbnetv3.search.trial import Outcome
from fbnetv3.training.engine import cpu_threads
from tests.search.execution.contract import check_every_job_runs_once_and_exceptions_are_outcomes
from tests.search.execution.jobs import CALL, MISTAKE, Acts, calls, jobs

OK = Outcome((50.0,), "ok", 0.0)


def raising(error):
    """An evaluator that raises."""

    def evaluator(candidate, epochs, seed):
        raise error

    return evaluator


def test_every_job_runs_once_on_one_thread_and_exceptions_are_outcomes(tmp_path):
    with cpu_threads(2), InProcess(Acts(str(tmp_path))) as executor:
        check_every_job_runs_once_and_exceptions_are_outcomes(executor, tmp_path)


def test_jobs_run_in_their_order():
    with InProcess(lambda candidate, epochs, seed: OK) as executor:
        assert [key for key, _ in executor.run(jobs(5, 3, 4))] == ["job 5", "job 3", "job 4"]


def test_an_evaluator_gets_candidate_epochs_and_seed():
    found = []
    evaluate(lambda *arguments: found.append(arguments), Job("candidate", 7, 3))
    assert found == [("candidate", 7, 3)]


def test_the_threads_of_the_caller_come_back():
    with cpu_threads(2):
        evaluate(lambda candidate, epochs, seed: OK, Job(None, 1, 0))
        assert torch.get_num_threads() == 2


def test_a_mistake_of_the_user_ends_the_search(tmp_path):
    with (
        pytest.raises(InputError, match=r"^no such data; give other data$"),
        InProcess(Acts(str(tmp_path))) as executor,
    ):
        list(executor.run(jobs(CALL + 1, MISTAKE + 2, CALL + 3)))
    assert (calls(tmp_path, CALL + 1), calls(tmp_path, CALL + 3)) == (1, 0)


def test_ctrl_c_is_no_outcome():
    with pytest.raises(KeyboardInterrupt):
        evaluate(raising(KeyboardInterrupt()), Job(None, 1, 0))


def test_an_error_text_is_one_line_of_limited_length():
    outcome = evaluate(raising(ValueError("a\n  b" + 1000 * "c")), Job(None, 1, 0))
    assert outcome.error.startswith("ValueError: a bccc")
    assert len(outcome.error) == ERROR_LENGTH


def test_a_failure_is_logged_with_its_traceback(caplog):
    outcome = evaluate(raising(RuntimeError("no memory")), Job(None, 1, 0))
    assert (outcome.status, outcome.acc1, outcome.error) == ("failed", (), "RuntimeError: no memory")
    assert outcome.seconds >= 0
    (record,) = caplog.records
    assert record.getMessage() == "a training failed"
    assert record.exc_info[0] is RuntimeError
