import dataclasses

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.encoding import encode
from fbnetv3.search.evolve import EvolutionSettings, breed, evolve
from fbnetv3.search.labels import Constraint, cost
from fbnetv3.search.optimize import early_stopping_epoch, first_batch, promising_batch
from fbnetv3.search.sampling import sample
from fbnetv3.search.space import load_space

MICRO = load_space("micro")
WINDOW = Constraint("flops", 1.0e6, 0.3e6)


def linear(index):
    """A known landscape: its unconstrained best is one corner of the space."""
    x = encode(MICRO, index).astype(float)
    return x @ np.linspace(-1, 1, x.shape[1])


@pytest.mark.parametrize("budget", [0.5e6, 1.0e6])
def test_it_beats_the_best_of_many_samples_inside_the_budget(budget):
    constraint = Constraint("flops", budget)
    pool = sample(MICRO, 2000, constraint, seed=9)
    found = evolve(MICRO, linear, pool[:5], constraint, EvolutionSettings(), seed=0)
    assert cost(MICRO, found.index).flops().max() <= budget
    assert found.scores[0] > linear(pool).max()
    assert np.array_equal(found.scores, linear(found.index))
    assert (np.diff(found.scores) <= 0).all()
    assert len(np.unique(found.index, axis=0)) == len(found.index)


def test_it_comes_within_one_percent_of_the_corner_of_a_landscape():
    found = evolve(
        MICRO, linear, sample(MICRO, 5, WINDOW, 0), Constraint("flops", 1e9), EvolutionSettings(patience=10), seed=0
    )
    weights, position, best = np.linspace(-1, 1, encode(MICRO, found.index[:1]).shape[1]), 0, 0.0
    for coordinate in MICRO.coordinates:
        width = 1 if coordinate.ordered else len(coordinate.values)
        part = weights[position : position + width]
        best += max(part.max(), 0) if coordinate.ordered else part.max()
        position += width
    assert found.scores[0] == pytest.approx(best, rel=0.01)


def test_history_never_falls_and_ends_when_the_gain_saturates():
    found = evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, EvolutionSettings(patience=2), seed=0)
    gains = np.diff(found.history)
    assert (gains >= 0).all()
    assert (gains[-2:] <= 1e-6).all()
    flat = evolve(
        MICRO, lambda i: np.zeros(len(i)), sample(MICRO, 5, WINDOW, 0), WINDOW, EvolutionSettings(patience=1), seed=0
    )
    assert len(flat.history) == 2  # Algorithm 1 ends at the first generation without a gain


def test_the_same_seed_gives_the_same_population():
    runs = [evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, EvolutionSettings(), seed=s) for s in (0, 0, 1)]
    assert np.array_equal(runs[0].index, runs[1].index)
    assert not np.array_equal(runs[0].index, runs[2].index)


def test_trials_outside_the_constraint_are_no_parents():
    outside = sample(MICRO, 5, Constraint("flops", 3e6, 1.2e6), 0)
    settings = dataclasses.replace(EvolutionSettings(), population=1000, generations=1, children=1)
    found = evolve(MICRO, linear, outside, WINDOW, settings, seed=0)
    rows = {tuple(row) for row in found.index.tolist()}
    assert not rows & {tuple(row) for row in outside.tolist()}


def test_an_infeasible_budget_is_refused():
    with pytest.raises(InputError, match="give a constraint inside that range"):
        evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), Constraint("params", 10), EvolutionSettings(), seed=0)


def test_children_stay_in_the_space_and_good_parents_change_less():
    parents = sample(MICRO, 50, WINDOW, 1)
    scores = np.linspace(1, 0, 50)
    children = breed(MICRO, parents, scores, 40, np.random.default_rng(0))
    assert children.shape == (2000, len(MICRO.coordinates))
    assert (children >= 0).all()
    assert (children < MICRO.sizes).all()
    changed = (children != np.repeat(parents, 40, axis=0)).mean(1).reshape(50, 40).mean(1)
    assert changed[0] < 0.1  # the best: one coordinate in expectation is drawn anew, and may be drawn the same
    assert changed[0] < changed[10] < changed[20] < changed[40]


def test_first_batch_is_random_and_seeded():
    assert np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 3))
    assert len(set(first_batch(100, 8, 3))) == 8
    assert not np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 4))


def test_promising_batch_by_hand():
    members = np.array([[9.0, 8, 7, 1, 0], [0.0, 1, 2, 3, 9]])
    assert promising_batch(members, np.zeros(5, bool), 3).tolist() == [0, 4, 1]
    assert promising_batch(members, np.array([True, False, False, False, True]), 3).tolist() == [1, 3, 2]
    with pytest.raises(InputError, match="2 candidates left, a batch needs 3"):
        promising_batch(members, np.array([True, True, True, False, False]), 3)


def test_early_stopping_epoch_by_hand():
    agree = [[1, 10, 11], [2, 20, 21], [3, 30, 31], [0, 5, 6]]
    late = [[3, 10, 11], [2, 20, 21], [1, 30, 31], [0, 40, 41]]
    assert early_stopping_epoch(agree, 0.92, 3) == 1
    assert early_stopping_epoch(late, 0.92, 3) == 2
    assert early_stopping_epoch([[1, 2], [2, 1], [3, 3]], 0.92, 2) == 2
    assert early_stopping_epoch([*late, []], 0.92, 3) == 2  # a diverged training is left out
    assert early_stopping_epoch([[5, 5, 1], [5, 5, 2], [5, 5, 3]], 0.92, 3) == 3  # no ranking in equal values
    assert early_stopping_epoch([[1, 2, 3], [2, 3, 4]], 0.92, 3) == 3  # two rank nothing
    assert early_stopping_epoch([[], []], 0.92, 3) == 3
