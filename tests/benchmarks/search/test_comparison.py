"""The methods of a comparison: one search in its folder, curves, made-up trainings."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search import comparison as module
from fbnetv3.benchmarks.search.comparison import (
    METHODS,
    NOISE,
    Comparison,
    InventedEvaluator,
    curve,
    make_context,
    run_one,
    stage_two_alone,
)
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.progress import silent
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.trial import Trial, read_ledger


def trial(round_, row, acc1):
    return Trial(round_, 0, row, 0, len(acc1), 1, 1, None, acc1, "ok", 0.0)


def test_a_search_is_run_once(table, small, tmp_path, monkeypatch):
    config = small(table)["trainings_16"]
    answer = run_one(METHODS["random"], config, False, tmp_path, 1, silent)
    assert len(read_ledger(tmp_path / "ledger.jsonl")) == answer["trainings"] == len(answer["curve"]) == 16
    assert answer["curve"][-1] == pytest.approx(answer["acc1"], abs=1e-4)

    def refuse(context, runner):
        raise AssertionError("searches again")

    monkeypatch.setattr(module.baselines, "random_search", refuse)
    assert run_one(module.Method(refuse), config, False, tmp_path, 1, silent) == answer
    with pytest.raises(InputError, match="another configuration; give another --out"):
        run_one(METHODS["random"], config.replace(seed=5), False, tmp_path, 1, silent)


def test_the_curve_is_the_true_accuracy_of_the_best_measured(table, small):
    context, _, truth = make_context(small(table)["trainings_16"], False)
    rows = [[0, 0, 0], [4, 4, 4], [1, 1, 1]]
    trials = [trial(1, row, [acc1]) for row, acc1 in zip(rows, (60.0, 55.0, 70.0), strict=True)]
    first, third = context.space.accuracy(np.array([rows[0], rows[2]])).tolist()
    assert curve(context, truth, trials, third) == [first, first, third]
    assert curve(context, None, trials, 0.0) == [60.0, 60.0, 70.0]


def test_trials_that_stopped_early_are_compared_after_as_many_epochs(monkeypatch, table, small):
    context, _, truth = make_context(small(table)["trainings_16"], False)
    long, short = trial(1, [0, 0, 0], [30.0, 60.0]), trial(2, [4, 4, 4], [40.0])
    monkeypatch.setattr(module, "nars", lambda *_: None)

    class Runner:
        class ledger:  # noqa: N801
            trials = [long, short]  # noqa: RUF012

    assert stage_two_alone(context, Runner).candidate == (4, 4, 4)
    assert curve(context, truth, [long, short, long], 1.0)[1] == truth(np.array([[4, 4, 4]]))[0]


def test_a_made_up_training_ends_near_the_true_accuracy():
    context, evaluate, truth = make_context(load_preset("quickstart"), True)
    assert isinstance(evaluate, InventedEvaluator)
    assert isinstance(truth, Oracle)
    row = (context.space.sizes // 2).tolist()
    candidate = context.space.candidate(row, context.base, "x")
    epochs = candidate.recipe.epochs
    outcomes = [evaluate(candidate, epochs, seed) for seed in range(40)]
    assert all(outcome.status == "ok" and len(outcome.acc1) == epochs for outcome in outcomes)
    assert all(np.all(np.diff(outcome.acc1) > 0) for outcome in outcomes)
    last = np.array([outcome.acc1[-1] for outcome in outcomes]) - truth(np.array([row]))[0]
    assert abs(last.mean()) < 3 * NOISE / 40**0.5
    assert 0.5 * NOISE < last.std() < 1.5 * NOISE
    assert evaluate(candidate, epochs, 3) == outcomes[3]


def test_unknown_methods_are_named(table, small):
    with pytest.raises(InputError, match=r"unknown annealing; available: nars, random, tpe, .*"):
        Comparison(small(table), ["annealing"], [0])
    with pytest.raises(InputError, match=r"unknown evolutoin; did you mean .evolution.*\? Available: nars"):
        Comparison(small(table), ["evolutoin"], [0])
    with pytest.raises(InputError, match="unknown none"):
        Comparison(small(table), [], [0])


def test_the_kind_of_accuracies(table, small):
    preset = {"x": load_preset("quickstart")}
    assert Comparison(small(table), ["nars"], [0]).kind == "table"
    assert Comparison(preset, ["nars"], [0], invented=True).kind == "invented"
    assert Comparison(preset, ["nars"], [0]).kind == "real"
