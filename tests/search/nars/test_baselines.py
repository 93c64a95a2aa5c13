"""What NARS is compared with: inside the constraints, resumed after a crash, and fair."""

import importlib.util
import sys

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
    _Evolution,
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
from tests.search.scripted import Failing, config, run_scripted
from tests.search.tables import whole_grid

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs Optuna")
both = pytest.mark.parametrize("search", [pytest.param(tpe, marks=needs_optuna), regularised_evolution])
CONFIG = load_preset("quickstart").replace(pool=128, first=None, batch=5, rounds=5, finalists=2)
ORACLE = Oracle(load_space("micro"))


class CrashError(KeyboardInterrupt):
    pass


def run(path, search, config=CONFIG, stop_after=None):
    """Context, answer and trials of a search on a made-up landscape, which crashes before a training."""
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


def made_up(rows, first=50.0, step=1.0):
    """Trials of index rows whose accuracies rise by a step."""
    return [
        Trial(1, i, row, 0, 3, 1, 1, None, [first + step * i] * 3, "ok", 0.0) for i, row in enumerate(rows.tolist())
    ]


def sizes(trials):
    return np.unique([t.round for t in trials], return_counts=True)[1].tolist()


def test_random_search_answers_with_the_best_of_as_many_trainings(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=3)
    proposal, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", random_search)
    assert len(trials) == cfg.trainings == 14
    best = max(trials, key=lambda t: context.label(t, 2))
    assert list(proposal.candidate) == best.candidate
    assert proposal.predicted is None


def test_random_search_does_not_answer_with_a_failed_training(tmp_path):
    cfg = config(tmp_path, batch=2, rounds=1)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", random_search, Failing({0, 2, 3}))
    assert list(proposal.candidate) == trials[1].candidate


def test_random_search_draws_another_pool_than_nars(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=3)
    _, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", random_search)
    pool = {tuple(row) for row in context.pool().tolist()}
    assert sum(tuple(t.candidate) in pool for t in trials) < len(trials) / 2


@both
def test_different_feasible_candidates_as_many_as_nars_trains(tmp_path, search):
    context, proposal, trials = run(tmp_path / "l.jsonl", search)
    assert len(trials) == CONFIG.trainings == 27
    rows = np.array([t.candidate for t in trials])
    assert len(np.unique(rows, axis=0)) == 27
    assert context.constraints.satisfied(rows).all()
    assert {t.epochs for t in trials} == {context.base.epochs}
    assert proposal.candidate == tuple(max(trials, key=lambda t: t.acc1[-1]).candidate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Answers and trials of undisturbed searches by method, made when they are asked for."""
    made = {}

    def get(search):
        if search not in made:
            made[search] = run(tmp_path_factory.mktemp("whole") / "l.jsonl", search)[1:]
        return made[search]

    return get


@both
@pytest.mark.parametrize("crash", [0, 3, 5, 12, 26])
def test_resumed_after_a_crash_it_ends_the_same(tmp_path, whole, search, crash):
    with pytest.raises(CrashError):
        run(tmp_path / "cut.jsonl", search, stop_after=crash)
    _, again, resumed = run(tmp_path / "cut.jsonl", search)
    proposal, trials = whole(search)
    assert comparable(resumed) == comparable(trials)
    assert again == proposal


@pytest.mark.parametrize(
    ("search", "seeds"),
    [pytest.param(tpe, 2, marks=needs_optuna), (regularised_evolution, 10)],
    ids=["tpe", "evolution"],
)
def test_it_is_better_than_random_search_on_a_smooth_landscape(tmp_path, search, seeds):
    config, gains = CONFIG.replace(batch=10, rounds=6), []
    for seed in range(seeds):
        found = [
            ORACLE(np.array([run(tmp_path / f"{name}{seed}", one, config.replace(seed=seed))[1].candidate]))[0]
            for name, one in (("baseline", search), ("random", random_search))
        ]
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0.2


@needs_optuna
def test_batches_of_tpe_are_those_of_nars_after_its_random_trials(whole):
    assert sizes(whole(tpe)[1]) == [10, 5, 5, 5, 2]


def test_batches_may_have_one_training(tmp_path):
    one = RegularisedEvolutionSettings(population=0.25, batch=1)
    _, _, trials = run(tmp_path / "b.jsonl", lambda *a: regularised_evolution(*a, settings=one))
    assert sizes(trials) == [7] + [1] * 20


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


@pytest.fixture
def small(tmp_path):
    """The context of a search in a table of 8 candidates, all of them feasible."""
    table = whole_grid(tmp_path / "t.csv", (2, 2, 2))
    return Context.of(CONFIG.replace(space=table, constraint=Constraint("flops", max=1e9)))


def test_where_all_neighbours_were_tried_a_random_candidate_is_taken(small):
    """Only the corner opposite of the parent is left, which no single change reaches."""
    evolution = _Evolution(small, RegularisedEvolutionSettings())
    rows = small.space.table
    evolution.population = 1
    parent = rows[(rows == 0).all(axis=1)]
    others = rows[~(rows == 0).all(axis=1) & ~(rows == 1).all(axis=1)]
    trials = made_up(np.concatenate([others, parent]))
    assert evolution.propose(trials, 1).tolist() == [[1, 1, 1]]


def test_where_no_candidate_is_left_evolution_says_so(small, monkeypatch):
    monkeypatch.setattr(baselines, "TOURNAMENTS", 20)
    evolution = _Evolution(small, RegularisedEvolutionSettings())
    with pytest.raises(InputError, match="20 tournaments and random draws found no new feasible candidate; give fewer"):
        evolution.propose(made_up(small.space.table), 1)


@needs_optuna
@pytest.mark.parametrize("learn", [True, False])
def test_tpe_is_told_of_results_and_of_infeasible_proposals(learn):
    context = Context.of(CONFIG)
    proposer = _Tpe(context, TpeSettings(learn_constraints=learn))
    trials = []
    for size in (5, 15):
        rows = proposer.propose(trials, size)
        assert context.constraints.satisfied(rows).all()
        assert len(np.unique(rows, axis=0)) == size
        trials += made_up(rows)
    told = proposer.study.get_trials()
    outside = [t for t in told if t.constraints["excess"] > 0]
    assert outside  # the window holds a part of the space only
    assert {t.state.name for t in outside} == {"COMPLETE" if learn else "FAIL"}
    assert [t.value for t in told[:5]] == [50.0, 51.0, 52.0, 53.0, 54.0]


@needs_optuna
def test_where_tpe_has_no_new_proposal_one_is_drawn(monkeypatch):
    monkeypatch.setattr(baselines, "ASKS", 0)
    context = Context.of(CONFIG)
    proposer = _Tpe(context, TpeSettings())
    rows = proposer.propose([], 3)
    rows = np.concatenate([rows, proposer.propose(made_up(rows, step=0.0), 30)])
    assert context.constraints.satisfied(rows).all()
    assert len(np.unique(rows, axis=0)) == 33


@both
def test_more_trainings_than_candidates_are_refused(tmp_path, small, search):
    with (
        Ledger.open(tmp_path / "l", small.config.fingerprint) as ledger,
        InProcess(small.evaluator()) as executor,
        pytest.raises(InputError, match="only 8 of"),
    ):
        search(small, BatchRunner(small, ledger, executor, silent))


@needs_optuna
def test_in_a_small_space_tpe_still_proposes_no_candidate_twice(tmp_path):
    config = CONFIG.replace(
        space=whole_grid(tmp_path / "t.csv", (3, 3, 3)), constraint=Constraint("flops", max=1e9), pool=27, batch=4
    )
    context = Context.of(config)
    with Ledger.open(tmp_path / "l", config.fingerprint) as ledger, InProcess(context.evaluator()) as executor:
        tpe(context, BatchRunner(context, ledger, executor, silent))
        assert len(np.unique([t.candidate for t in ledger.trials], axis=0)) == config.trainings == 22


def test_without_optuna_tpe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"TPE needs Optuna: pip install 'fbnetv3\[compare\]'"):
        _Tpe(Context.of(CONFIG), TpeSettings())
