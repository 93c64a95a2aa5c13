"""TPE and regularised evolution: on a landscape with known best, inside the constraints, resumed, and fair."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars import baselines
from fbnetv3.search.nars.baselines import (
    RegularisedEvolutionSettings,
    TpeSettings,
    _Tpe,
    random_search,
    regularised_evolution,
    tpe,
)
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger, Outcome, Trial, comparable
from tests.search.space.test_table import whole_grid

pytest.importorskip("optuna")
CONFIG = load_preset("quickstart").replace(pool=128, batch=5, rounds=5, finalists=2)
ORACLE = Oracle(load_space("micro"))


class CrashError(KeyboardInterrupt):
    pass


def run(path, search, config=CONFIG, stop_after=None):
    calls = []

    def evaluate(candidate, epochs, seed):
        if len(calls) == stop_after:
            raise CrashError
        calls.append(seed)
        top = float(ORACLE(np.array([ORACLE.space.find(candidate.values)]))[0])
        return Outcome(tuple(top for _ in range(epochs)), "ok", 0.0)

    context = Context.of(config)
    with Ledger.open(path, config.fingerprint) as ledger, InProcess(evaluate) as executor:
        proposal = search(context, BatchRunner(context, ledger, executor, silent))
        return context, proposal, list(ledger.trials)


@pytest.mark.parametrize("search", [tpe, regularised_evolution])
def test_different_pairs_inside_as_many_as_nars_trains(tmp_path, search):
    context, proposal, trials = run(tmp_path / "l.jsonl", search)
    assert len(trials) == CONFIG.trainings == 27
    rows = np.array([t.candidate for t in trials])
    assert len(np.unique(rows, axis=0)) == 27
    assert context.constraints.satisfied(rows).all()
    assert {t.epochs for t in trials} == {context.base.epochs}
    assert proposal.candidate == tuple(max(trials, key=lambda t: t.acc1[-1]).candidate)


@pytest.mark.parametrize("search", [tpe, regularised_evolution])
@pytest.mark.parametrize("crash", [0, 3, 5, 12, 26])
def test_resumed_after_a_crash_it_ends_the_same(tmp_path, search, crash):
    _, whole, trials = run(tmp_path / "whole.jsonl", search)
    with pytest.raises(CrashError):
        run(tmp_path / "cut.jsonl", search, stop_after=crash)
    _, again, resumed = run(tmp_path / "cut.jsonl", search)
    assert comparable(resumed) == comparable(trials)
    assert again == whole


@pytest.mark.parametrize("search", [tpe, regularised_evolution])
def test_better_than_random_on_a_smooth_landscape(tmp_path, search):
    config, gains = CONFIG.replace(batch=10, rounds=6), []
    for seed in range(4):
        found = [
            ORACLE(np.array([run(tmp_path / f"{name}{seed}", one, config.replace(seed=seed))[1].candidate]))[0]
            for name, one in (("rival", search), ("random", random_search))
        ]
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0


def test_batches_are_those_of_nars_or_one_at_a_time(tmp_path):
    _, _, trials = run(tmp_path / "a.jsonl", tpe)
    assert np.unique([t.round for t in trials], return_counts=True)[1].tolist() == [10, 5, 5, 5, 2]
    one = RegularisedEvolutionSettings(population=0.25, batch=1)
    _, _, trials = run(tmp_path / "b.jsonl", lambda *a: regularised_evolution(*a, settings=one))
    assert np.unique([t.round for t in trials], return_counts=True)[1].tolist() == [7] + [1] * 20


def test_children_differ_in_one_coordinate_from_the_living(tmp_path):
    settings = RegularisedEvolutionSettings(population=0.25, sample=0.5, batch=1)
    _, _, trials = run(tmp_path / "a.jsonl", lambda *a: regularised_evolution(*a, settings=settings))
    for i in range(7, len(trials)):
        alive = np.array([t.candidate for t in trials[i - 7 : i]])
        changes = (alive != np.array(trials[i].candidate)).sum(axis=1)
        assert changes.min() == 1


def test_with_the_whole_population_as_sample_the_best_is_the_parent(tmp_path):
    settings = RegularisedEvolutionSettings(population=0.25, sample=1.0, batch=1)
    context, _, trials = run(tmp_path / "a.jsonl", lambda *a: regularised_evolution(*a, settings=settings))
    for i in range(7, len(trials)):
        parent = context.best_trial(trials[i - 7 : i])
        assert (np.array(parent.candidate) != np.array(trials[i].candidate)).sum() == 1


@pytest.mark.parametrize("learn", [True, False])
def test_what_tpe_is_told(learn):
    context = Context.of(CONFIG)
    proposer = _Tpe(context, TpeSettings(learn_constraints=learn))
    trials = []
    for size in (5, 40):
        rows = proposer.propose(trials, size)
        assert context.constraints.satisfied(rows).all()
        assert len(np.unique(rows, axis=0)) == size
        trials += [Trial(1, i, row, 0, 3, 1, 1, None, [50.0 + i] * 3, "ok", 0.0) for i, row in enumerate(rows.tolist())]
    told = proposer.study.get_trials()
    outside = [t for t in told if t.constraints["excess"] > 0]
    assert outside  # the window holds a part of the space only
    assert {t.state.name for t in outside} == {"COMPLETE" if learn else "FAIL"}
    assert [t.value for t in told[:5]] == [50.0, 51.0, 52.0, 53.0, 54.0]


def test_where_tpe_has_no_new_proposal_one_is_drawn(monkeypatch):
    monkeypatch.setattr(baselines, "ASKS", 0)
    context = Context.of(CONFIG)
    proposer = _Tpe(context, TpeSettings())
    rows = proposer.propose([], 3)
    trials = [Trial(1, i, row, 0, 3, 1, 1, None, [50.0] * 3, "ok", 0.0) for i, row in enumerate(rows.tolist())]
    rows = np.concatenate([rows, proposer.propose(trials, 30)])
    assert context.constraints.satisfied(rows).all()
    assert len(np.unique(rows, axis=0)) == 33


def test_more_trainings_than_pairs_are_refused(tmp_path):
    config = CONFIG.replace(space=whole_grid(tmp_path / "t.csv", (2, 2, 2)), constraint=Constraint("flops", max=1e9))
    for search in (tpe, regularised_evolution):
        context = Context.of(config)
        with (
            Ledger.open(tmp_path / search.__name__, config.fingerprint) as ledger,
            InProcess(context.evaluator()) as executor,
            pytest.raises(InputError, match="only 8 of"),
        ):
            search(context, BatchRunner(context, ledger, executor, silent))


def test_in_a_small_space_tpe_still_proposes_no_pair_twice(tmp_path):
    config = CONFIG.replace(
        space=whole_grid(tmp_path / "t.csv", (4, 4, 4)), constraint=Constraint("flops", max=1e9), pool=64, batch=8
    )
    context = Context.of(config)
    with Ledger.open(tmp_path / "l", config.fingerprint) as ledger, InProcess(context.evaluator()) as executor:
        tpe(context, BatchRunner(context, ledger, executor, silent))
        assert len(np.unique([t.candidate for t in ledger.trials], axis=0)) == config.trainings == 42
