"""Every sentence of advice, with a made-up search that it follows from, and one from which it does not."""

import dataclasses

import pytest

from fbnetv3.search.nars.early_stopping import early_stopping_epoch, fewest_candidates
from fbnetv3.search.report.advice import advice
from tests.search.made_up import diverged, failed, make_config, make_trials
from tests.search.report.known import NAMES

CONFIG = make_config()
MOST = 16  # index of the highest learning rate


@pytest.fixture
def trials(space):
    """Three rounds of five: the predictor ranks well, and the best accuracies come in the first round."""
    return make_trials(CONFIG, space, 3)


def said(trials, space, epochs=2, **changes):
    return " ".join(advice(CONFIG.replace(**changes), space, trials, epochs))


def put(trial, **values):
    row = list(trial.candidate)
    for name, index in values.items():
        row[NAMES.index(name)] = index
    return dataclasses.replace(trial, candidate=row)


def test_a_search_in_which_nothing_is_wrong_gets_no_advice(trials, space):
    trials = [
        dataclasses.replace(t, acc1=[*t.acc1[:1], t.acc1[1] + (i == 8), *t.acc1[2:]]) for i, t in enumerate(trials)
    ]
    trials[8] = dataclasses.replace(trials[8], acc1=[50.0, 65.5])  # the 9th of 15
    assert advice(CONFIG, space, trials, 2) == []


def test_failed_trainings_are_to_be_fixed_first(trials, space):
    two = [failed(trials[0], "OSError: disk full"), failed(trials[6], "OSError: disk full"), *trials[1:6], *trials[7:]]
    assert "2 trainings of 15 failed, most of them with “OSError: disk full”." in said(two, space)
    assert "failed" not in said([failed(trials[0], "OSError"), *trials[1:]], space)  # one of fifteen


def test_the_range_in_which_trainings_diverge_is_named(trials, space):
    """Four with the highest rate diverge, and the eleven others have the lowest."""
    some = [diverged(put(t, lr=MOST)) if i in (1, 3, 7, 11) else put(t, lr=0) for i, t in enumerate(trials)]
    lr = space.coordinates[NAMES.index("lr")].values
    words = f"4 of 15 trainings diverged; 100% of these have a lr of {lr[1]:.3g} or more, of the others 0%."
    assert words in said(some, space)
    assert "diverged" not in said([diverged(t) if i in (1, 3) else t for i, t in enumerate(trials)], space)


def test_trainings_that_diverge_with_any_recipe_blame_the_base(trials, space):
    same = [put(t, **{c.name: 0 for c in space.coordinates if not c.arch}) for t in trials]
    same = [diverged(t) if i % 3 == 0 else t for i, t in enumerate(same)]
    assert "5 of 15 trainings diverged, whatever the recipe" in said(same, space)


def ranked(trials, *epochs):
    """First batches of ten with these accuracies after every epoch, and one later training of all epochs."""
    first = [
        dataclasses.replace(trials[i], round=1, index=i, epochs=len(epochs), acc1=[60.0 + e[i] for e in epochs])
        for i in range(10)
    ]
    return [*first, dataclasses.replace(trials[10], round=2, epochs=len(epochs), acc1=[60.0] * len(epochs))]


SORTED, MIXED = tuple(range(10)), (5, 2, 8, 0, 9, 1, 7, 3, 6, 4)


def test_early_stopping_that_bought_nothing_gets_a_lower_threshold(trials, space):
    """Perfect rankings of ten candidates have a lower end of 0.987: tanh(atanh(1 - 6 / 990) - 1 / sqrt(7))."""
    text = said(ranked(trials, MIXED, SORTED, SORTED), space, epochs=3, early_stopping=0.999)
    assert (
        "Early stopping bought nothing: all trainings ran for 3 epochs. Lower its threshold: with early_stopping: 0.98 "
        in text
    )
    assert "instead of 0.999, later trainings would have ended after 2 epochs." in text


def test_the_advised_threshold_would_have_worked(trials, space):
    some = ranked(trials, MIXED, SORTED, SORTED)
    curves = [t.acc1 for t in some if t.round == 1]
    assert early_stopping_epoch(curves, 0.999, 3) == 3
    assert early_stopping_epoch(curves, 0.98, 3) == 2


def test_a_threshold_cannot_help_where_earlier_rankings_differ(trials, space):
    text = said(ranked(trials, MIXED, MIXED, SORTED), space, epochs=3, early_stopping=0.999)
    needed = fewest_candidates(0.999)
    assert f"A first batch of 10 cannot show that earlier rankings are right: give first: {needed}." in text
    text = said(ranked(trials, MIXED, MIXED, SORTED), space, epochs=3, early_stopping=0.9)
    assert "Earlier rankings do not agree with the last one" in text


@pytest.mark.parametrize(
    ("epochs", "changes"), [(2, {}), (3, {"stopping": "model"})], ids=["it saved some", "a model decides"]
)
def test_early_stopping_that_worked_gets_no_advice(trials, space, epochs, changes):
    assert "Early stopping" not in said(ranked(trials, MIXED, SORTED, SORTED), space, epochs, **changes)


def test_a_predictor_that_ranks_by_chance_needs_more_trainings(trials, space):
    wrong = [
        t if t.predicted is None else dataclasses.replace(t, predicted=[-t.predicted[0] + 130, 5.0]) for t in trials
    ]
    text = said(wrong, space)
    assert "ranked the 10 candidates that it chose hardly better than chance (rank correlation -0.80)" in text
    assert "chance" not in said(trials, space)


def test_intervals_that_hold_too_little_are_not_to_be_trusted(trials, space):
    """Predicted and measured differ by 1, 1, 2, 0 and 1 points in every round: only one of five is inside with a tiny std."""
    sure = [t if t.predicted is None else dataclasses.replace(t, predicted=[t.predicted[0], 0.01]) for t in trials]
    assert "Only 20% of the trainings came out inside the interval that should hold 80%" in said(sure, space)


def test_a_range_is_extended_where_the_best_are_at_its_end(space):
    trials = make_trials(CONFIG, space, 4)
    best = [i for i, t in enumerate(trials) if t.index in (2, 4)][:5]  # 64 and 65%
    at_end = [put(t, lr=MOST if t.index in (2, 4) else 3) for t in trials]
    assert len(best) == 5
    top = space.coordinates[NAMES.index("lr")].values[-1]
    assert f"5 of the 5 best candidates have the highest lr, {top:.3g}: extend its range." in said(
        at_end, space, rounds=4
    )
    inside = [put(t, lr=5) for t in trials]
    assert "lr" not in said(inside, space, rounds=4)
    off = [put(t, dropout=0) for t in trials]
    assert "dropout" not in said(off, space, rounds=4)  # there is nothing below 0
    assert "extend" not in said(at_end[:15], space)  # too few to tell


def test_a_search_that_still_improves_may_go_on(trials, space):
    trials[13] = dataclasses.replace(trials[13], acc1=[50.0, 66.0])
    assert "The best accuracy came from training 14 of 15, near the end" in said(trials, space)


def test_a_search_that_has_stopped_improving_was_too_long(trials, space):
    assert "The best accuracy came from training 5 of 15; the later ones did not improve" in said(trials, space)
    assert "The best accuracy" not in said(trials[:9], space)  # it has not ended


def test_without_trials_there_is_no_advice(space):
    assert advice(CONFIG, space, [], 2) == []
    assert advice(CONFIG, space, [diverged(t) for t in make_trials(CONFIG, space, 1)][:2], 2) == []
