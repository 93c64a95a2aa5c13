"""Jobs in this process: each runs once on one thread, and a failure is an outcome."""

import dataclasses
import itertools
import json
import math
import pickle
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import ERROR_LENGTH, InProcess, Job, checked, evaluate
from fbnetv3.search.execution.memory import GPU_FULL, RAM_FULL, BrokenDeviceError
from fbnetv3.search.trial import Outcome, fault_of, until_stopped
from fbnetv3.training.engine import cpu_threads
from tests.search.execution.contract import (
    check_every_job_runs_once_and_exceptions_are_outcomes,
    check_jobs_are_taken_one_by_one_as_outcomes_are_yielded,
)
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


def test_a_job_is_taken_when_the_outcome_before_was_yielded(tmp_path):
    with InProcess(Acts(str(tmp_path))) as executor:
        check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(executor, tmp_path, 1, 5, 3, 4)


def test_an_evaluator_gets_candidate_epochs_and_seed():
    found = []
    evaluate(lambda *arguments: found.append(arguments), Job("candidate", 7, 3))
    assert found == [("candidate", 7, 3)]


def below_40(acc1):
    """A rule that ends a training whose last accuracy is low."""
    return acc1[-1] < 40


def test_an_evaluator_that_takes_a_rule_may_answer_with_the_epochs_that_it_allows():
    def stoppable(candidate, epochs, seed, *, stop=None):
        return Outcome(until_stopped([50.0, 30.0, 60.0], stop), "ok", 1.0)

    assert evaluate(stoppable, Job(None, 3, 0)).acc1 == (50.0, 30.0, 60.0)
    assert evaluate(stoppable, Job(None, 3, 0, below_40)).acc1 == (50.0, 30.0)


def test_an_evaluator_that_knows_no_rule_trains_all_epochs():
    assert evaluate(answering(Outcome((30.0, 60.0), "ok", 1.0)), Job(None, 2, 0, below_40)).acc1 == (30.0, 60.0)


@pytest.mark.parametrize("acc1", [(50.0,), (), (30.0, 30.0, 30.0)])
def test_a_rule_excuses_no_other_number_of_epochs(acc1):
    outcome = evaluate(answering(Outcome(acc1, "ok", 1.0)), Job(None, 2, 0, below_40))
    assert outcome.status == "failed"
    assert f"there are {len(acc1)} accuracies for 2 epochs" in outcome.error


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


def answering(answer):
    """An evaluator that gives one answer."""
    return lambda candidate, epochs, seed: answer


@pytest.mark.parametrize(
    "acc1",
    [(50.0, 60.0), [50, 60], np.array([50.0, 60.0], np.float32), torch.tensor([50.0, 60.0]).tolist(), map(float, "56")],
    ids=["tuple", "list of whole numbers", "array", "from a tensor", "iterator"],
)
def test_accuracies_become_floats(acc1):
    outcome = evaluate(answering(Outcome(acc1, "ok", 1)), Job(None, 2, 0))
    assert (outcome.status, len(outcome.acc1), outcome.seconds) == ("ok", 2, 1.0)
    assert {type(value) for value in (*outcome.acc1, outcome.seconds)} == {float}


def test_any_object_with_the_attributes_of_an_outcome_will_do():
    answer = SimpleNamespace(acc1=(50.0,), status="ok", seconds=2.0)
    assert evaluate(answering(answer), Job(None, 1, 0)) == Outcome((50.0,), "ok", 2.0)


def test_accuracies_of_a_training_that_diverged_or_failed_are_dropped():
    for status in ("diverged", "failed"):
        found = evaluate(answering(Outcome((50.0, math.nan), status, 2.0, "a\n  b")), Job(None, 5, 0))
        assert found == Outcome((), status, 2.0, "a b")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "the evaluator answered with None; it must return an Outcome"),
        (61.5, "the evaluator answered with 61.5; it must return an Outcome"),
        (((50.0,), "ok", 0.0), "the evaluator answered with ((50.0,), 'ok', 0.0); it must return an Outcome"),
        (
            Outcome((math.nan,), "ok", 0.0),
            "Outcome(acc1=(nan,), status='ok', seconds=0.0, error=''): the accuracy after epoch 1",
        ),
        (Outcome((1.0, 2.0), "ok", 0.0), "there are 2 accuracies for 1 epochs"),
        (Outcome(itertools.repeat(1.0), "ok", 0.0), "there are 2 accuracies for 1 epochs"),
        (Outcome((), "ok", 0.0), "there are 0 accuracies for 1 epochs"),
        (Outcome((1.0,), "great", 0.0), "the status is 'great'"),
        (Outcome((1.0,), "ok", None), "the seconds are None"),
        (Outcome(50.0, "ok", 0.0), "the accuracies are 50.0"),
        (Outcome(np.array(5.0), "ok", 0.0), "TypeError: "),
        (Outcome((torch.tensor(50.0),), "ok", 0.0), "the accuracy after epoch 1 is tensor(50.)"),
    ],
    ids=str,
)
def test_an_answer_that_is_no_outcome_is_a_failed_training_that_quotes_it(answer, words):
    outcome = evaluate(answering(answer), Job(None, 1, 0))
    assert (outcome.status, outcome.acc1) == ("failed", ())
    assert words in outcome.error


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)


@settings(deadline=None)
@given(
    NUMBERS
    | st.builds(
        Outcome,
        NUMBERS | st.lists(NUMBERS, max_size=4) | st.lists(st.floats(0, 100), min_size=2, max_size=2),
        st.sampled_from(["ok", "diverged", "failed", "", None, 3]),
        NUMBERS,
        NUMBERS,
    )
)
def test_whatever_an_evaluator_answers_becomes_an_outcome_that_can_be_recorded(answer):
    outcome = checked(answer, 2)
    assert fault_of(outcome.status, outcome.acc1, outcome.seconds, 2) == ""
    assert isinstance(outcome.error, str)
    json.dumps(dataclasses.asdict(outcome), allow_nan=False)


def test_a_long_answer_is_quoted_in_short():
    assert len(evaluate(answering("x" * 10**6), Job(None, 1, 0)).error) < 200


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), f"{RAM_FULL} (MemoryError)"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            f"{RAM_FULL} (RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes)",
        ),
        (RuntimeError("CUDA error: out of memory"), f"{GPU_FULL} (RuntimeError: CUDA error: out of memory)"),
        (ValueError("out of memory"), "ValueError: out of memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), f"{GPU_FULL} (OutOfMemoryError: CUDA out of memory.)"),
        (SystemExit("wrong option"), "SystemExit: wrong option"),
        (SystemExit(2), "SystemExit: 2"),
        (SystemExit(255), "SystemExit: 255"),
        (SystemExit(None), "SystemExit: None"),
    ],
    ids=repr,
)
def test_a_training_without_memory_or_that_exits_has_failed(error, words):
    outcome = evaluate(raising(error), Job(None, 1, 0))
    assert (outcome.status, outcome.error) == ("failed", words)


def test_the_advice_is_not_cut_off_by_a_long_error():
    error = evaluate(raising(torch.cuda.OutOfMemoryError("CUDA out of memory. " * 99)), Job(None, 1, 0)).error
    assert (error.startswith(GPU_FULL), len(error)) == (True, ERROR_LENGTH)


def test_the_tensors_of_a_failed_training_are_free_when_its_outcome_is_there():
    """The exception and its frames refer to each other, and to the tensors."""
    tensors = []

    def evaluator(candidate, epochs, seed):
        weights = torch.zeros(9)
        weights.circle = [weights]
        tensors.append(weakref.ref(weights))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    assert evaluate(evaluator, Job(None, 1, 0)).status == "failed"
    assert tensors[0]() is None


def test_the_memory_of_a_gpu_is_free_after_every_training(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    evaluate(answering(OK), Job(None, 1, 0))
    evaluate(raising(ValueError("no luck")), Job(None, 1, 0))
    assert emptied == [1, 1]


ASSERT = RuntimeError(
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call"
)


def test_an_error_that_breaks_the_gpu_has_the_outcome_of_its_training():
    with pytest.raises(BrokenDeviceError) as caught:
        evaluate(raising(ASSERT), Job(None, 1, 0))
    again = pickle.loads(pickle.dumps(caught.value)).outcome
    assert again.status == "failed"
    assert again.error.startswith("RuntimeError: CUDA error: device-side assert triggered CUDA kernel errors")


def test_a_gpu_that_does_not_answer_after_a_failure_is_broken(monkeypatch):
    def refuses():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", refuses)
    with pytest.raises(BrokenDeviceError):
        evaluate(raising(ValueError("no luck")), Job(None, 1, 0))
    assert evaluate(answering(OK), Job(None, 1, 0)) == OK


def test_a_broken_gpu_ends_a_search_in_one_process_after_its_outcome_is_recorded():
    run = InProcess(raising(ASSERT)).run(jobs(CALL + 1, CALL + 2))
    assert next(run)[1].status == "failed"
    with pytest.raises(
        InputError, match=r"left the GPU unusable .*device-side assert.*resume the search without --workers 1"
    ):
        next(run)


def test_a_training_that_a_signal_stopped_ends_the_process():
    with pytest.raises(SystemExit):
        evaluate(raising(SystemExit(143)), Job(None, 1, 0))


def test_a_failure_is_logged_with_its_traceback(caplog):
    outcome = evaluate(raising(RuntimeError("no memory")), Job(None, 1, 0))
    assert (outcome.status, outcome.acc1, outcome.error) == ("failed", (), "RuntimeError: no memory")
    assert outcome.seconds >= 0
    (record,) = caplog.records
    assert record.getMessage().startswith("a training failed\nTraceback (most recent call last):\n")
    assert record.getMessage().endswith("RuntimeError: no memory\n")
    assert record.exc_info is None  # it would keep the tensors of the training
