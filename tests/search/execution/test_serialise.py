"""Evaluators on their way to other processes."""

import pickle

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.serialise import evaluate_pickled, pickled
from fbnetv3.search.trial import Outcome
from tests.search.execution.jobs import Unreadable

READ = []  # the instances of `Counted` that were read


class Counted:
    """Notes that it was read."""

    def __init__(self, name):
        self.name = name

    def __setstate__(self, state):
        self.__dict__ |= state
        READ.append(self.name)

    def __call__(self, candidate, epochs, seed):
        return Outcome((float(seed),), "ok", 0.0)


class Unsendable:
    """Its state cannot be read."""

    def __getstate__(self):
        raise OSError("open file")


def test_an_evaluator_survives_its_bytes():
    assert evaluate_pickled(pickled(Counted("a")), Job(None, 1, 5)) == Outcome((5.0,), "ok", 0.0)


def test_an_evaluator_is_read_once_for_many_jobs():
    READ.clear()
    content = pickled(Counted("many"))
    for seed in range(3):
        evaluate_pickled(content, Job(None, 1, seed))
    assert READ == ["many"]


def test_another_evaluator_replaces_the_first():
    READ.clear()
    for name in ("x", "y", "x"):
        evaluate_pickled(pickled(Counted(name)), Job(None, 1, 0))
    assert READ == ["x", "y", "x"]  # only one is kept


@pytest.mark.parametrize(
    ("evaluator", "words"),
    [(lambda candidate, epochs, seed: None, "lambda"), (Unsendable(), "open file")],
    ids=["lambda", "state"],
)
def test_an_evaluator_that_cannot_be_sent_is_refused(evaluator, words):
    with pytest.raises(
        InputError, match=f"cannot be sent to another process: .*{words}.*; define it at the top of a module"
    ):
        pickled(evaluator)


def test_the_caller_may_choose_how_to_write():
    assert pickled(Counted("a"), lambda evaluator: evaluator.name.encode()) == b"a"


@pytest.mark.parametrize("content", [pickle.dumps(Unreadable()), b"no pickle"], ids=["state", "damaged"])
def test_an_evaluator_that_cannot_be_read_is_a_mistake_of_the_user(content):
    with pytest.raises(
        InputError, match=r"another process cannot read the evaluator: \w+Error: .*; define it at the top"
    ):
        evaluate_pickled(content, Job(None, 1, 0))
