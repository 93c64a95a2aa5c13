"""What callbacks are told of a search."""

import pytest

from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.folder import FOLDERS, LEDGER
from fbnetv3.search.runs.told import trial_metrics
from fbnetv3.search.sessions import resume_search, run_search
from fbnetv3.search.trial import REPEATS, comparable, read_ledger
from fbnetv3.training.callbacks import Callback
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)


class Noted(Callback):
    """Notes what it is told, and ends the search at a training."""

    def __init__(self, last=None):
        self.searches, self.trials, self.last = [], [], last

    def on_search(self, method, trials):
        self.searches.append((method, list(trials)))

    def on_trial(self, metrics):
        self.trials.append(metrics)
        if len(self.trials) == self.last:
            raise KeyboardInterrupt


def numbers(trials):
    return [trial.number for trial in trials]


@pytest.fixture
def whole(tmp_path):
    """A search with the random search beside it, and what was told of it."""
    noted = Noted()
    cfg = config(tmp_path, final_training=False, baseline=True, repeats=1)
    run_search(cfg, tmp_path / "whole", evaluator=Scripted(), executor=ONE, callbacks=[noted])
    return cfg, noted, tmp_path / "whole"


def test_all_trainings_are_told_in_the_order_of_the_ledger(whole):
    cfg, noted, folder = whole
    assert noted.searches == [("nars", []), ("random", [])]
    ledgers = read_ledger(folder / LEDGER), read_ledger(folder / FOLDERS["random"] / LEDGER)
    told = [[m for m in noted.trials if m.method == method] for method in ("nars", "random")]
    for metrics, trials in zip(told, ledgers, strict=True):
        assert [(m.round, m.index, m.acc1) for m in metrics] == [(t.round, t.index, tuple(t.acc1)) for t in trials]
        assert numbers(metrics) == list(range(1, len(trials) + 1))
    assert sum(m.round == REPEATS for m in noted.trials) == 1
    accuracies = [m.acc1[-1] for m in told[0] if m.acc1]
    assert told[0][-1].best == max(accuracies)
    one = told[0][0]
    assert one.values == Context.of(cfg).space.values(ledgers[0][0].candidate)
    assert (one.predicted, told[0][-1].predicted) == (None, tuple(ledgers[0][-1].predicted))


@pytest.mark.parametrize("settings", [{}, {"asynchronous": 1, "stopping": "model"}])
def test_a_resumed_search_tells_every_training_once_and_ends_the_same(tmp_path, settings):
    cfg = config(tmp_path, final_training=False, **settings)
    plain, killed, resumed = tmp_path / "plain", Noted(last=4), Noted()
    run_search(cfg, plain, evaluator=Scripted(), executor=ONE)
    with pytest.raises(KeyboardInterrupt):
        run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, callbacks=[killed])
    resume_search(tmp_path / "run", evaluator=Scripted(), executor=ONE, callbacks=[resumed])
    [(method, before)] = resumed.searches
    assert (method, before) == ("nars", killed.trials)
    assert numbers(resumed.trials) == list(range(5, cfg.trainings + 1))
    assert comparable(read_ledger(tmp_path / "run" / LEDGER)) == comparable(read_ledger(plain / LEDGER))


def test_failed_and_stopped_trainings_are_not_the_best(whole):
    cfg, _, folder = whole
    trials = read_ledger(folder / LEDGER)[:3]
    object.__setattr__(trials[0], "status", "failed")
    object.__setattr__(trials[0], "acc1", [])
    object.__setattr__(trials[1], "stopped", True)
    found = trial_metrics(Context.of(cfg), "nars", trials)
    assert [m.best for m in found] == [None, None, found[2].acc1[-1]]
    assert numbers(found) == [1, 2, 3]
