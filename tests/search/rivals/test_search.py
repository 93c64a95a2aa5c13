"""The search of a rival: inside the constraints, resumed after a crash, and fair."""

import functools
import importlib.util

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.rivals.catalogue import RIVALS
from fbnetv3.search.rivals.search import random_search
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger, Outcome, comparable
from tests.search.rivals.made_up import grid_context
from tests.search.scripted import Failing, config, run_scripted

tpe, evolution = RIVALS["tpe"].search, RIVALS["evolution"].search
needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs Optuna")
both = pytest.mark.parametrize(
    "search", [pytest.param(tpe, marks=needs_optuna, id="tpe"), pytest.param(evolution, id="evolution")]
)
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


def sizes(trials):
    return np.unique([t.round for t in trials], return_counts=True)[1].tolist()


def test_random_search_answers_with_the_best_of_as_many_trainings(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=3)
    proposal, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", random_search)
    assert len(trials) == cfg.trainings == 14
    best = max(trials, key=lambda t: context.label(t, 2))
    assert list(proposal.candidate) == best.candidate
    assert proposal.predicted is None


def test_random_search_goes_on_with_other_candidates_for_an_extension(tmp_path):
    cfg, path = config(tmp_path, batch=4, rounds=3), tmp_path / "a.jsonl"
    before = run_scripted(cfg, path, random_search)[1]
    proposal, trials, context = run_scripted(cfg.replace(extensions=[5, 2]), path, random_search)
    assert sizes(trials) == [14, 5, 2]
    assert trials[:14] == before
    assert len({tuple(t.candidate) for t in trials}) == 21
    assert list(proposal.candidate) == context.best_trial(trials).candidate


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "seeds"),
    [pytest.param(tpe, 4, marks=needs_optuna), (evolution, 10)],
    ids=["tpe", "evolution"],
)
def test_it_is_better_than_random_search_on_a_smooth_landscape(tmp_path, search, seeds):
    config, gains = CONFIG.replace(batch=10, rounds=6), []
    for seed in range(seeds):
        found = [
            ORACLE(np.array([run(tmp_path / f"{name}{seed}", one, config.replace(seed=seed))[1].candidate]))[0]
            for name, one in (("rival", search), ("random", random_search))
        ]
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0.2


def test_batches_are_those_of_nars_or_single_trainings(tmp_path, whole):
    assert sizes(whole(evolution)[1]) == [5, 5, 5, 5, 5, 2]
    _, _, trials = run(tmp_path / "b.jsonl", functools.partial(evolution, batch=1))
    assert sizes(trials) == [1] * 27


def test_more_trainings_than_candidates_are_refused_before_the_first_one(tmp_path):
    small, calls = grid_context(tmp_path, sizes=(2, 2, 3)), []
    with (
        Ledger.open(tmp_path / "l", small.config.fingerprint) as ledger,
        InProcess(lambda *job: calls.append(job)) as executor,
        pytest.raises(InputError, match="only 12 of"),
    ):
        evolution(small, BatchRunner(small, ledger, executor, silent))
    assert calls == []
