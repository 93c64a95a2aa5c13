"""A candidate that several processes train together."""

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.execution.torchrun import TorchrunEvaluator
from fbnetv3.search.trial import Candidate, Outcome
from fbnetv3.training.distributed import current_process
from tests.training.test_loop import ARCH, RECIPE


class Trains:
    """A real training on few images; says besides who trained, and fails as told."""

    def __init__(self, act="train"):
        self.act = act

    def __call__(self, candidate, epochs, seed):
        from fbnetv3 import build_model
        from fbnetv3.training.engine import seeded
        from fbnetv3.training.loop import fit
        from tests.training.test_loop import DATA

        process = current_process()
        if self.act == "mistake":
            raise InputError("no such data; give other data")
        if self.act == "diverge" and process.rank == 1:
            return Outcome((), "diverged", 0.0)
        if self.act == "raise" and process.rank == 1:
            raise ValueError("no luck")
        if self.act == "disagree":
            return Outcome((float(process.rank),), "ok", 0.0)
        model = seeded(lambda: build_model(candidate.arch, 10, 1), seed)
        acc1 = fit(model, candidate.recipe, DATA, seed=seed, epochs=epochs).acc1
        return Outcome((*acc1, float(process.world_size)), "ok", 0.0)


JOB = (Candidate(ARCH, RECIPE), 1, 3)


def outcome(act, processes=2):
    with InProcess(TorchrunEvaluator(Trains(act), processes)) as executor:
        return next(executor.run({0: JOB}))[1]


@pytest.mark.slow
def test_two_processes_train_one_candidate():
    first = outcome("train")
    assert first.status == "ok", first.error
    assert first.acc1[-1] == 2.0
    assert len(first.acc1) == 2
    assert outcome("train") == first


@pytest.mark.slow
def test_one_process_that_diverges_or_raises_ends_all():
    """The other waits in a sum that never comes."""
    assert (outcome("diverge").status, outcome("diverge").acc1) == ("diverged", ())
    assert (outcome("raise").status, outcome("raise").error) == ("failed", "ValueError: no luck")


@pytest.mark.slow
def test_mistakes_and_disagreement():
    with pytest.raises(InputError, match="no such data"):
        outcome("mistake")
    assert "the processes disagree" in outcome("disagree").error


def test_execution_wraps_the_evaluator():
    executor = ExecutorSettings().start(Trains(), 2)
    assert executor.evaluator.processes == 2
