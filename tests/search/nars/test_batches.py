"""The trainings of a round: recorded ones are taken, missing ones are made, and their order does not matter."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.algorithm import nars
from fbnetv3.search.nars.batches import Batch, BatchRunner, foreign_trial, job_of, plan, recorded
from fbnetv3.search.nars.context import Context
from fbnetv3.search.rivals.search import random_search
from fbnetv3.search.trial import REPEATS, Ledger, Outcome, Trial, read_ledger
from tests.search.scripted import Failing, Scripted, Stoppable, config, run_scripted


@pytest.fixture
def context(tmp_path):
    return Context.of(config(tmp_path, batch=3))


def batch_of(context, round=1, n=3, epochs=2, predicted=None):
    return Batch(round, context.pool()[:n], epochs, predicted)


def trial(batch, index, status="ok", **changes):
    values = {
        "round": batch.round,
        "index": index,
        "candidate": batch.rows[index].tolist(),
        "seed": 7,
        "epochs": batch.epochs,
        "flops": 1,
        "params": 1,
        "predicted": None,
        "acc1": [50.0] * batch.epochs if status == "ok" else [],
        "status": status,
        "seconds": 0.0,
    }
    return Trial(**values | changes)


def test_recorded_trials_are_found_by_their_place(context):
    batch = batch_of(context)
    trials = [trial(batch, 2), trial(batch, 0)]
    assert recorded(batch, trials, "ledger") == {2: trials[0], 0: trials[1]}


def test_trials_of_other_rounds_are_not_those_of_this_batch(context):
    batch = batch_of(context, round=2)
    assert recorded(batch, [trial(batch, 0, round=1)], "ledger") == {}


def test_every_training_of_a_batch_is_given_its_rule(context, tmp_path):
    batch = batch_of(context)
    ended = dataclasses.replace(batch, round=2, stop=lambda acc1: True)
    with Ledger.open(tmp_path / "ledger.jsonl", "config") as ledger, InProcess(Stoppable()) as executor:
        runner = BatchRunner(context, ledger, executor, silent)
        assert {(t.trained, t.stopped) for t in runner.run(batch) if t.status == "ok"} == {(2, False)}
        assert {(t.trained, t.stopped) for t in runner.run(ended) if t.status == "ok"} == {(1, True)}


def test_a_failed_trial_counts_as_missing(context):
    batch = batch_of(context)
    assert recorded(batch, [trial(batch, 0, "failed")], "ledger") == {}


def test_a_failed_trial_counts_once_a_later_round_depends_on_it(context):
    batch = batch_of(context)
    trials = [trial(batch, 0, "failed"), trial(batch, 1, round=2)]
    assert recorded(batch, trials, "ledger") == {0: trials[0]}


def test_a_diverged_trial_is_not_repeated(context):
    batch = batch_of(context)
    assert list(recorded(batch, [trial(batch, 0, "diverged")], "ledger")) == [0]


@pytest.mark.parametrize("change", [{"candidate": [0] * 29}, {"epochs": 1}], ids=["candidate", "epochs"])
def test_a_trial_that_this_search_does_not_make_is_refused(context, change):
    batch = batch_of(context)
    with pytest.raises(InputError, match=r"ledger.jsonl: trial 1 of round 1 is not the one .* start in another folder"):
        recorded(batch, [trial(batch, 1, **change)], "ledger.jsonl")


def test_a_ledger_of_other_versions_is_refused(tmp_path):
    cfg, path = config(tmp_path), tmp_path / "a.jsonl"
    run_scripted(cfg, path)
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[1])
    row["candidate"][0] ^= 1
    path.write_text(lines[0] + json.dumps(row) + "\n" + "".join(lines[2:]))
    with pytest.raises(InputError, match="trial 0 of round 1 is not the one that this search makes"):
        run_scripted(cfg, path)


def made(context, round, index, **changes):
    """A trial as the search of a context makes it at a place."""
    seed = context.trial_seed(round, index + (2 if round == REPEATS else 0))
    first = trial(batch_of(context, round), 0)
    return dataclasses.replace(first, **{"index": index, "seed": seed} | changes)


@pytest.fixture
def foreign(context):
    """The check of the ledger of a search with 2 rounds of 3, 2 repeats and 2 finalists."""
    return foreign_trial(context.config.replace(repeats=2), context.space, "nars")


@pytest.mark.parametrize(("round", "index"), [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2), (3, 1)])
def test_a_trial_at_a_place_of_the_search_is_none_of_another(context, foreign, round, index):
    assert foreign(made(context, round, index)) == ""


@pytest.mark.parametrize(
    ("round", "index", "most"), [(0, 2, 2), (1, 3, 3), (2, 3, 3), (3, 2, 2), (4, 0, 0), (2**62, 2**62, 0)]
)
def test_a_round_or_an_index_of_another_search_is_named(context, foreign, round, index, most):
    words = f"trial {index} of round {round} is none of this search, which has {most} in this round"
    assert foreign(made(context, round, index)) == words


@pytest.mark.parametrize("row", [[], [0], [99] + [0] * 23, [0] * 23 + [2**62], [0] * 25], ids=str)
def test_a_candidate_of_another_space_is_named(context, foreign, row):
    words = foreign(made(context, 1, 0, candidate=row))
    assert words.startswith("trial 0 of round 1 has the candidate [")
    # The configuration of a search that has begun has a record of its space.
    assert words.endswith("which is no index row of the space micro, unless micro was changed: restore that")


def test_a_seed_of_another_search_is_named(context, foreign):
    right = context.trial_seed(2, 1)
    words = f"trial 1 of round 2 has the seed 5, and this search gives it {right}"
    assert foreign(made(context, 2, 1, seed=5)) == words


def test_random_search_has_one_round(context):
    foreign = foreign_trial(context.config, context.space, "random")  # 8 trainings, as NARS
    assert foreign(made(context, 1, 7)) == ""
    assert foreign(made(context, 1, 8)).endswith("which has 8 in this round")
    assert foreign(made(context, 2, 0)).endswith("which has 0 in this round")


def test_another_method_may_have_any_rounds(context):
    foreign = foreign_trial(context.config, context.space, "other")  # at most 8, if each has one training
    assert foreign(made(context, 8, 0)) == foreign(made(context, 1, 7)) == ""
    assert foreign(made(context, 9, 0)).endswith("which has 0 in this round")
    assert foreign(made(context, 0, 0)).endswith("which has 0 in this round")
    assert "has the seed 5" in foreign(made(context, 2, 0, seed=5))


def test_the_trials_of_a_search_are_its_own(tmp_path):
    cfg = config(tmp_path, batch=3, repeats=2)
    for method, search in (("nars", nars), ("random", random_search)):
        _, trials, context = run_scripted(cfg, tmp_path / method, search)
        foreign = foreign_trial(cfg, context.space, method)
        assert len(trials) == 10
        assert not any(foreign(t) for t in trials)


def test_a_training_is_planned_with_its_place_its_seed_and_its_costs(context):
    predicted = np.array([[61.0, 62.0, 63.0], [1.0, 2.0, 3.0]])
    batch = batch_of(context, 2, predicted=predicted)
    planned, costs = plan(context, batch, first=4), context.space.cost(batch.rows)
    assert [p.place for p in planned] == [(2, 4), (2, 5), (2, 6)]
    assert [p.seed for p in planned] == [context.trial_seed(2, i) for i in (4, 5, 6)]
    assert [p.candidate for p in planned] == batch.rows.tolist()
    assert [(p.flops, p.params) for p in planned] == list(zip(costs.flops(), costs.params(), strict=True))
    assert [p.predicted for p in planned] == [[61.0, 1.0], [62.0, 2.0], [63.0, 3.0]]
    assert {p.epochs for p in planned} == {2}


def test_a_job_has_the_candidate_the_epochs_and_the_seed_of_its_training(context):
    planned = plan(context, batch_of(context))[1]
    candidate = context.space.candidate(planned.candidate, context.base, "candidate")
    assert job_of(context, planned) == (candidate, 2, context.trial_seed(1, 1), None)


def test_a_failed_trial_counts_once_a_later_training_was_planned(context):
    batch, later = batch_of(context), plan(context, batch_of(context, 2))
    assert recorded(batch, [trial(batch, 0, "failed")], "ledger", later[:1]) == {0: trial(batch, 0, "failed")}


def test_repeats_leave_the_seeds_of_the_final_training_and_of_random_search_alone(context):
    seeds = [planned.seed for planned in plan(context, batch_of(context, REPEATS))]
    assert seeds == [context.trial_seed(REPEATS, i) for i in (2, 3, 4)]


class Backwards:
    """An executor whose jobs end in the reverse order."""

    def __init__(self, evaluator):
        self.inner = InProcess(evaluator)

    def run(self, jobs):
        return reversed(list(self.inner.run(jobs)))


def run_batch(context, batch, path, executor):
    said = []
    with Ledger.open(path, context.config.fingerprint) as ledger:
        return BatchRunner(context, ledger, executor, lambda *words: said.append(words)).run(batch), said


def test_trials_are_returned_in_the_order_of_rows_and_written_as_they_end(context, tmp_path):
    batch, path = batch_of(context), tmp_path / "ledger.jsonl"
    trials, _ = run_batch(context, batch, path, Backwards(Scripted()))
    assert [t.candidate for t in trials] == batch.rows.tolist()
    assert [t.index for t in read_ledger(path)] == [2, 1, 0]


def test_a_trial_has_the_costs_of_its_candidate_and_its_prediction(context, tmp_path):
    predicted = np.array([[61.0, 62.0, 63.0], [1.0, 2.0, 3.0]])
    batch = batch_of(context, predicted=predicted)
    trials, _ = run_batch(context, batch, tmp_path / "l", InProcess(Scripted()))
    costs = context.space.cost(batch.rows)
    assert [t.flops for t in trials] == costs.flops().tolist()
    assert [t.params for t in trials] == costs.params().tolist()
    assert [t.predicted for t in trials] == [[61.0, 1.0], [62.0, 2.0], [63.0, 3.0]]


def test_costs_are_counted_in_the_convention_of_the_constraint(context, tmp_path):
    changed = context.config.replace(constraint={"metric": "flops", "convention": "fvcore", "max": 4e5})
    context = Context.of(changed)
    batch = batch_of(context)
    trials, _ = run_batch(context, batch, tmp_path / "l", InProcess(Scripted()))
    assert [t.flops for t in trials] == context.space.cost(batch.rows).flops("fvcore").tolist()


def test_what_the_ledger_holds_is_not_trained_again(context, tmp_path):
    batch, path, evaluator = batch_of(context), tmp_path / "l", Scripted()
    first, _ = run_batch(context, batch, path, InProcess(Scripted()))
    again, _ = run_batch(context, batch, path, InProcess(evaluator))
    assert again == first
    assert evaluator.calls == []


def test_a_batch_in_which_every_training_failed_ends_the_search(context, tmp_path):
    message = "all 3 trainings of round 1 failed, OSError: disk full; fix the cause, and resume"
    with pytest.raises(InputError, match=message):
        run_batch(context, batch_of(context), tmp_path / "l", InProcess(Failing({0, 1, 2})))
    assert [t.status for t in read_ledger(tmp_path / "l")] == ["failed"] * 3


def test_repeats_may_all_fail(context, tmp_path):
    trials, _ = run_batch(context, batch_of(context, REPEATS), tmp_path / "l", InProcess(Failing({0, 1, 2})))
    assert {t.status for t in trials} == {"failed"}


def test_failed_trainings_are_made_again_until_a_later_round_depends_on_them(tmp_path):
    cfg = config(tmp_path, batch=3, rounds=2)
    path = tmp_path / "a.jsonl"
    with pytest.raises(InputError, match="all 3 trainings of round 2 failed"):
        run_scripted(cfg, path, evaluator=Failing({0, 3, 4, 5}))
    assert [t.status for t in read_ledger(path)] == ["failed", "ok", "ok", "failed", "failed", "failed"]
    evaluator = Scripted()
    _, trials, _ = run_scripted(cfg, path, evaluator=evaluator)
    assert len(evaluator.calls) == 5  # round 2, and the finalists
    assert [(t.round, t.index) for t in trials] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]
    assert [t.status == "failed" for t in trials] == [True] + [False] * 7
    assert read_ledger(path) == trials


class Wrong(Scripted):
    """A custom evaluator whose trainings with these numbers, counted from 0, end with NaN."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        return Outcome((math.nan,) * epochs, "ok", 0.0) if len(self.calls) - 1 in self.wrong else outcome


def test_an_answer_of_nan_is_one_failed_trial_and_the_search_ends(tmp_path):
    cfg, path = config(tmp_path, batch=4), tmp_path / "a.jsonl"
    proposal, trials, _ = run_scripted(cfg, path, evaluator=Wrong({1}))
    assert [t.status for t in trials].count("failed") == 1
    assert trials[1].error == (
        "the evaluator answered with Outcome(acc1=(nan, nan), status='ok', seconds=0.0, error=''): "
        "the accuracy after epoch 1 is nan; allowed: percent, from 0 to 100"
    )
    assert "NaN" not in path.read_text()
    assert run_scripted(cfg, path, evaluator=Scripted())[:2] == (proposal, trials)


def test_a_search_whose_evaluator_was_mended_ends_as_if_it_had_never_been_wrong(tmp_path):
    cfg = config(tmp_path, batch=4)
    with pytest.raises(
        InputError, match=r"all 4 trainings of round 1 failed, the evaluator answered with Outcome.*nan"
    ):
        run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Wrong(range(9)))
    mended = run_scripted(cfg, tmp_path / "a.jsonl")
    assert mended[:2] == run_scripted(cfg, tmp_path / "b.jsonl")[:2]


@pytest.mark.parametrize("value", [math.nan, math.inf, 101.0])
def test_a_wrong_answer_in_the_ledger_of_an_older_version_is_trained_again(tmp_path, value):
    """An older version wrote it with the status ok, and could then not fit its predictor."""
    cfg = config(tmp_path, batch=4)
    expected = run_scripted(cfg, tmp_path / "right.jsonl")[:2]
    lines = (tmp_path / "right.jsonl").read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    lines[2] = json.dumps(row | {"acc1": [value, value], "status": "ok"}) + "\n"
    (tmp_path / "old.jsonl").write_text("".join(lines[:5]))
    evaluator = Scripted()
    assert run_scripted(cfg, tmp_path / "old.jsonl", evaluator=evaluator)[:2] == expected
    assert row["seed"] in evaluator.calls
    assert len(evaluator.calls) == 1 + 4 + 2  # this trial, round 2 and the finalists


def test_a_search_of_an_earlier_version_continues_with_its_epochs(tmp_path, monkeypatch):
    """It stopped at the first epoch. Now four candidates are too few to stop early."""
    cfg = config(tmp_path, batch=4, rounds=3)
    with monkeypatch.context() as patch:
        patch.setattr("fbnetv3.search.nars.algorithm.trial_epochs", lambda *_: 1)
        earlier = run_scripted(cfg, tmp_path / "all.jsonl")[:2]
    assert [t.epochs for t in earlier[1]] == [2] * 4 + [1] * 8 + [2] * 2
    lines = (tmp_path / "all.jsonl").read_text().splitlines(keepends=True)
    for kept in (6, 9, 15):  # the header, round 1, and one later trial, round 2, or all
        (tmp_path / "cut.jsonl").write_text("".join(lines[:kept]))
        assert run_scripted(cfg, tmp_path / "cut.jsonl")[:2] == earlier
    (tmp_path / "cut.jsonl").write_text("".join(lines[:5]))
    assert {t.epochs for t in run_scripted(cfg, tmp_path / "cut.jsonl")[1]} == {2}


@pytest.mark.parametrize(
    ("round", "given", "name"),
    [(1, "", "round 1"), (3, "", "round 3"), (3, "finalists", "finalists"), (REPEATS, "repeats", "repeats")],
)
def test_progress_names_the_round_and_the_best_so_far(context, tmp_path, round, given, name):
    batch = dataclasses.replace(batch_of(context, round), name=given)
    evaluator = lambda candidate, epochs, seed: Outcome((50.0, 61.25), "ok", 0.0)  # noqa: E731
    said = run_batch(context, batch, tmp_path / "l", InProcess(evaluator))[1]
    assert said[0] == (0, 8, f"{name}: 0 of 3 candidates trained")
    assert said[-1] == (3, 8, f"{name}: 3 of 3 candidates trained, best so far 61.2%")
    assert len(said) == 4


def test_a_failed_training_is_not_the_best_so_far(context, tmp_path):
    said = run_batch(context, batch_of(context), tmp_path / "l", InProcess(Failing({0})))[1]
    assert said[1][2] == "round 1: 1 of 3 candidates trained"
    assert "best so far" in said[2][2]
