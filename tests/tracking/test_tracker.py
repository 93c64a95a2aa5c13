"""What a tracker logs of what it is told."""

import logging

import pytest

from fbnetv3 import InputError
from fbnetv3.tracking.tracker import Tracker, numbers
from fbnetv3.training.callbacks import StepMetrics, TrialMetrics
from fbnetv3.training.checkpoint import EpochMetrics


class Listed:
    """A log that is a list, and may fail."""

    def __init__(self, fails=""):
        self.calls, self.fails = [], fails

    def note(self, name, *call):
        if name == self.fails:
            raise OSError("no space left")
        self.calls.append((name, *call))

    def begin(self, table, done):
        self.note("begin", table, done)

    def write(self, table, number, row):
        self.note("write", table, number, dict(row))

    def close(self):
        self.note("close")


def epoch(number):
    return EpochMetrics(number, 0.1, 2.0, 50.0, None, 90.0, None)


def step(number):
    return StepMetrics(number, 100, 1, 0.1, 2.5, 2.4, 1000.0)


def trial(number, **changes):
    settings = {
        "method": "nars",
        "number": number,
        "round": 1,
        "index": 3,
        "values": {"arch.width": 8, "act": "relu"},
        "flops": 1000,
        "params": 100,
        "predicted": (90.0, 0.5),
        "status": "ok",
        "acc1": (80.0, 91.0),
        "seconds": 1.5,
        "best": 92.0,
    }
    return TrialMetrics(**settings | changes)


@pytest.fixture
def log():
    return Listed()


@pytest.fixture
def tracker(log):
    return Tracker("listed", lambda: log)


def test_a_training(tracker, log):
    tracker.on_training(0, ())
    for number in range(1, 21):
        tracker.on_step(step(number))
    tracker.on_epoch(epoch(1))
    tracker.close()
    tracker.close()
    assert log.calls[:2] == [("begin", "steps", 0), ("begin", "epochs", 0)]
    row = {"epoch": 1, "lr": 0.1, "loss": 2.5, "images_per_second": 1000.0}
    assert log.calls[2:4] == [("write", "steps", 10, row), ("write", "steps", 20, row)]
    name, table, number, values = log.calls[4]
    assert (name, table, number) == ("write", "epochs", 1)
    assert values == {
        "lr": 0.1,
        "train_loss": 2.0,
        "raw_acc1": 50.0,
        "ema_acc1": None,
        "raw_acc5": 90.0,
        "ema_acc5": None,
    }
    assert log.calls[5:] == [("close",)]


def test_a_resumed_training_has_all_epochs_and_no_step_twice(tracker, log):
    tracker.on_training(25, (epoch(1), epoch(2)))
    assert log.calls[:2] == [("begin", "steps", 25), ("begin", "epochs", 0)]
    assert [call[1:3] for call in log.calls[2:]] == [("epochs", 1), ("epochs", 2)]


def test_a_search(tracker, log):
    tracker.on_search("nars", (trial(1),))
    tracker.on_trial(trial(2, status="failed", acc1=()))
    tracker.on_trial(trial(3, status="diverged", acc1=(), predicted=None))
    assert log.calls[0] == ("begin", "nars", 0)
    assert [call[1:3] for call in log.calls[1:]] == [("nars", 1), ("nars", 3)]
    assert log.calls[1][3] == {
        "accuracy": 91.0,
        "best": 92.0,
        "predicted": 90.0,
        "deviation": 0.5,
        "epochs": 2,
        "flops": 1000,
        "params": 100,
        "seconds": 1.5,
        "status": "ok",
        "round": 1,
        "index": 3,
        "value.arch.width": 8,
        "value.act": "relu",
    }
    diverged = log.calls[2][3]
    assert (diverged["accuracy"], diverged["predicted"], diverged["deviation"]) == (None, None, None)
    assert list(diverged) == list(log.calls[1][3])  # the columns of a table


def test_a_log_that_fails_later_is_left_out_with_one_warning(caplog):
    log = Listed(fails="write")
    tracker = Tracker("listed", lambda: log)
    with caplog.at_level(logging.WARNING):
        tracker.on_training(0, ())
        tracker.on_epoch(epoch(1))
        tracker.on_epoch(epoch(2))
        tracker.on_training(0, ())
        tracker.close()
    assert caplog.messages == ["the work goes on, but listed logs nothing more: no space left"]
    assert [name for name, *_ in log.calls] == ["begin", "begin"]


def test_a_log_that_cannot_be_opened_is_told_at_once():
    with pytest.raises(InputError, match="listed cannot log: no space left; remove the cause, or log without listed"):
        Tracker("listed", lambda: Listed(fails="begin")).on_training(0, ())


def test_numbers_of_a_row():
    assert numbers({"a": 1, "b": 0.5, "c": "text", "d": None}) == {"a": 1.0, "b": 0.5}
