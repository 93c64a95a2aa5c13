"""Which pairs a collection trains."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.collect.design import MOST_CHANGES, NEIGHBOURS, REPEATED, designed, rows_of
from fbnetv3.search.nars.batches import Batch, plan, trial_of
from fbnetv3.search.nars.context import Context
from fbnetv3.search.trial import Outcome
from tests.search.collect.made_up import TRAININGS, Scripted
from tests.search.scripted import config


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return Context.of(designed(config(tmp_path_factory.mktemp("settings")), TRAININGS))


def train(context, rounds, outcome=None):
    """The trials of the first rounds, made by scripted trainings or with one outcome."""
    trials = []
    for round in range(1, rounds + 1):
        batch = Batch(round, rows_of(context, round, trials), context.base.epochs)
        for planned in plan(context, batch):
            candidate = context.space.candidate(planned.candidate, context.base, "one")
            trials.append(trial_of(planned, outcome or Scripted()(candidate, planned.epochs, planned.seed)))
    return trials


@pytest.fixture(scope="module")
def trials(context):
    return train(context, REPEATED[-1])


def of_round(trials, *rounds):
    return [trial for trial in trials if trial.round in rounds]


def test_a_tenth_of_the_trainings_is_a_round_and_the_first_has_the_rest(context):
    assert context.config.batches == (16, 4, 4, 4, 4, 4, 4)
    assert designed(context.config, 2009).batches == (809, *[200] * 6)
    assert designed(context.config, 2009).pool >= 2009
    with pytest.raises(InputError, match="a collection has 19 trainings; allowed: at least 20"):
        designed(context.config, 19)


def test_all_pairs_but_the_repeated_ones_are_new_and_feasible(context, trials):
    rows = np.array([trial.candidate for trial in of_round(trials, 1, *NEIGHBOURS)])
    assert len(context.space.distinct(rows)) == len(rows) == 32
    assert context.constraints.satisfied(rows).all()


def test_neighbours_differ_from_one_of_the_best_tenth_in_one_to_three_coordinates(context, trials):
    for round in NEIGHBOURS:
        before = of_round(trials, *range(1, round))
        best = sorted(before, key=lambda trial: -context.label(trial, 2))[: len(before) // 10]
        for trial in of_round(trials, round):
            changes = [(np.array(trial.candidate) != parent.candidate).sum() for parent in best]
            assert 1 <= min(changes) <= MOST_CHANGES
    means = [np.mean([context.label(trial, 2) for trial in of_round(trials, *rounds)]) for rounds in ((1,), NEIGHBOURS)]
    assert means[1] > means[0] + 2


def test_the_best_and_as_many_random_ones_have_three_trainings(context, trials):
    again = [trial.candidate for trial in of_round(trials, REPEATED[0])]
    assert [trial.candidate for trial in of_round(trials, REPEATED[1])] == again
    ranked = sorted(of_round(trials, 1, *NEIGHBOURS), key=lambda trial: -context.label(trial, 2))
    assert again[:2] == [trial.candidate for trial in ranked[:2]]
    random = [trial.candidate for trial in of_round(trials, 1) if trial.candidate not in again[:2]]
    assert again[2:] == random[:2]
    seeds = [trial.seed for trial in trials if trial.candidate == again[0]]
    assert len(set(seeds)) == 3


def test_rounds_depend_on_the_seed_and_on_the_trials_alone(context, trials):
    before = of_round(trials, 1)
    rows = rows_of(context, 2, before)
    assert rows.tolist() == rows_of(context, 2, before).tolist()
    other = Context.of(context.config.replace(seed=1))
    assert rows.tolist() != rows_of(other, 2, before).tolist()


def test_failed_trainings_have_no_neighbours_and_are_not_repeated(context):
    failed = train(context, 1, Outcome((), "failed", 0.0, "no memory"))
    good = train(context, 1)[3]
    rows = rows_of(context, 2, [*failed[:3], good, *failed[4:]])
    assert ((rows != good.candidate).sum(axis=1) <= MOST_CHANGES).all()
    assert rows_of(context, 6, [*failed[:3], good, *failed[4:]])[0].tolist() == good.candidate


def test_a_space_without_enough_neighbours_is_refused(context, monkeypatch):
    monkeypatch.setattr("fbnetv3.search.collect.design.fresh", lambda space, known, rows: np.zeros(0, np.int64))
    with pytest.raises(InputError, match="space micro has too few feasible neighbours of the best 1 pairs"):
        rows_of(context, 2, train(context, 1))
