"""Stage 3: the evolution finds the best, stays inside the constraints, and ends when it should."""

import dataclasses
import itertools

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.evolve import (
    PRESETS,
    EvolutionSettings,
    Ranked,
    breed,
    cautious_score,
    evolve,
    one_change,
)
from fbnetv3.search.space.constraints import Constraint, ConstraintSet, sample
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.reader import load_space

MICRO = load_space("micro")
WINDOW = Constraint("flops", 1.0e6, 0.3e6)
INSIDE = ConstraintSet(MICRO, (WINDOW,))
NONE = np.empty((0, len(MICRO.sizes)), np.int64)  # no trials of stage 2


def linear(index):
    """A known landscape: its unconstrained best is one corner of the space."""
    x = encode(MICRO, index).astype(float)
    return x @ np.linspace(-1, 1, x.shape[1])


@pytest.fixture(scope="module")
def parents():
    return sample(MICRO, 5, WINDOW, 0)


@pytest.fixture(scope="module")
def default(parents):
    return evolve(INSIDE, linear, parents, EvolutionSettings(), seed=0)


@pytest.mark.parametrize("budget", [0.5e6, 1.0e6])
def test_it_beats_the_best_of_many_samples_inside_the_budget(budget):
    constraint = Constraint("flops", budget)
    pool = sample(MICRO, 2000, constraint, seed=9)
    found = evolve(ConstraintSet(MICRO, (constraint,)), linear, pool[:5], EvolutionSettings(), seed=0)
    assert MICRO.cost(found.index).flops().max() <= budget
    assert found.scores[0] > linear(pool).max()


def test_the_population_is_different_and_ordered_by_score(default):
    assert np.array_equal(default.scores, linear(default.index))
    assert (np.diff(default.scores) <= 0).all()
    assert len(np.unique(default.index, axis=0)) == len(default.index)


def test_it_comes_within_one_percent_of_the_corner_of_a_landscape(parents):
    wide = ConstraintSet(MICRO, (Constraint("flops", 1e9),))
    found = evolve(wide, linear, parents, EvolutionSettings(patience=10), seed=0)
    weights, position, best = np.linspace(-1, 1, encode(MICRO, found.index[:1]).shape[1]), 0, 0.0
    for coordinate in MICRO.coordinates:
        width = 1 if coordinate.ordered else len(coordinate.values)
        part = weights[position : position + width]
        best += max(part.max(), 0) if coordinate.ordered else part.max()
        position += width
    assert found.scores[0] == pytest.approx(best, rel=0.01)


def test_history_never_falls_and_ends_when_the_gain_saturates(parents):
    settings = EvolutionSettings(patience=2, restarts=0, polish=False)
    found = evolve(INSIDE, linear, parents, settings, seed=0)
    gains = np.diff(found.history)
    assert (gains >= 0).all()
    assert (gains[-2:] <= 1e-6).all()
    assert (gains[:-2] > 1e-6).any()
    assert found.evaluations < settings.evaluations


def test_the_rule_of_the_paper_ends_at_the_first_generation_without_gain(parents):
    calls = []

    def flat(index):
        calls.append(len(index))
        return np.zeros(len(index))

    found = evolve(INSIDE, flat, parents, PRESETS["paper"], seed=0)
    assert len(calls) == 2
    assert sum(calls) == found.evaluations
    assert found.history == (0.0, 0.0)


def test_the_evolution_of_the_paper_scores_fewer_candidates_and_finds_no_better_one(parents, default):
    paper = evolve(INSIDE, linear, parents, PRESETS["paper"], seed=0)
    assert paper.evaluations < default.evaluations
    assert paper.scores[0] <= default.scores[0]


@pytest.mark.parametrize("evaluations", [50, 999, 5000])
def test_no_row_is_scored_twice_and_none_beyond_the_limit_or_the_constraints(parents, evaluations):
    scored = []

    def score(index):
        scored.extend(map(tuple, index.tolist()))
        return linear(index)

    found = evolve(INSIDE, score, parents, EvolutionSettings(evaluations=evaluations), seed=0)
    assert len(set(scored)) == len(scored) == found.evaluations == evaluations
    values = MICRO.cost(np.array(scored)).flops()
    assert WINDOW.min <= values.min() <= values.max() <= WINDOW.max


def test_after_polishing_no_change_of_one_coordinate_gains(parents):
    """The evolution alone is stopped too early to promise this."""
    weights = np.random.default_rng(3).normal(size=(encode(MICRO, parents[:1]).shape[1], 40))

    def rugged(index):
        return np.tanh(2 * encode(MICRO, index).astype(float) @ weights[:, :20]).sum(1)

    short = EvolutionSettings(patience=1, restarts=0, population=20, children=2)
    found = evolve(INSIDE, rugged, parents, short, seed=0)
    assert found.evaluations < short.evaluations
    rows = one_change(MICRO, found.index[0])
    assert rugged(rows[INSIDE.satisfied(rows)]).max() == pytest.approx(found.scores[0])
    unpolished = evolve(INSIDE, rugged, parents, dataclasses.replace(short, polish=False), seed=0)
    assert unpolished.scores[0] < found.scores[0]


def test_a_restart_finds_what_the_first_start_missed():
    """Mutations of the first local best do not reach this needle. More starts find it more often."""
    target = sample(MICRO, 1, WINDOW, 77)[0]

    def trap(index):
        near = (index == target).mean(1)
        return np.where(near > 0.6, 10 * near, 1 - near)

    def hits(restarts):
        settings = EvolutionSettings(restarts=restarts, patience=3, population=20, children=2, random=40, polish=False)
        return sum(evolve(INSIDE, trap, NONE, settings, s).scores[0] > 5 for s in range(12))

    assert hits(5) > hits(0)


@pytest.mark.parametrize("budget", [0.35e6, 0.16e6])
def test_it_finds_the_best_of_what_can_be_enumerated(budget):
    """Fixing all but six coordinates leaves some thousand candidates. The best of them is known."""
    free = ("stem.c", "row1.c", "row2.c", "row3.c", "row2.n", "mixup")
    coordinates = (
        c if c.name in free else dataclasses.replace(c, values=c.values[:1], nominal=c.nominal[:1])
        for c in MICRO.coordinates
    )
    space = dataclasses.replace(MICRO, coordinates=tuple(coordinates))
    constraints = ConstraintSet(space, (Constraint("flops", budget),))
    everything = space.canonical(np.array(list(itertools.product(*map(range, space.sizes)))))
    inside = everything[constraints.satisfied(everything)]
    assert 50 < len(inside) < len(everything)
    waves = 0.2 * np.random.default_rng(0).normal(size=(len(space.sizes), 8))

    def score(index):
        return np.sin(index @ waves).sum(1)

    best = score(inside).max()
    settings = EvolutionSettings(evaluations=1500)
    found = [evolve(constraints, score, NONE, settings, s).scores[0] for s in range(10)]
    assert sum(value == pytest.approx(best) for value in found) >= 9


def test_the_same_seed_gives_the_same_population(parents, default):
    again, other = (evolve(INSIDE, linear, parents, EvolutionSettings(), seed=s) for s in (0, 1))
    assert np.array_equal(again.index, default.index)
    assert not np.array_equal(other.index, default.index)


def test_trials_outside_the_constraint_are_no_parents():
    outside = sample(MICRO, 5, Constraint("flops", 3e6, 1.2e6), 0)
    found = evolve(INSIDE, linear, outside, EvolutionSettings(population=1000, children=1), seed=0)
    rows = {tuple(row) for row in found.index.tolist()}
    assert not rows & {tuple(row) for row in outside.tolist()}


def test_the_best_trials_are_in_the_first_generation(parents):
    scored = []

    def score(index):
        scored.append(index)
        return linear(index)

    evolve(INSIDE, score, parents, EvolutionSettings(parents=3, evaluations=50), seed=0)
    assert np.array_equal(scored[0][:3], parents[:3])
    assert tuple(parents[3]) not in {tuple(row) for row in np.concatenate(scored).tolist()}


def test_an_infeasible_budget_is_refused(parents):
    none = ConstraintSet(MICRO, (Constraint("params", 10),))
    message = r"found no candidate with params \(published convention\) from 0 to 10 \(the nearest other has [\d,]+\)"
    with pytest.raises(InputError, match=message):
        evolve(none, linear, parents, EvolutionSettings(), seed=0)


def test_children_stay_inside_the_constraints():
    parents = Ranked(sample(MICRO, 50, WINDOW, 1), np.linspace(1, 0, 50))
    settings = EvolutionSettings(children=200, crossover=0.0, mutation=0.5)
    children = breed(INSIDE, parents, settings, np.random.default_rng(0))
    assert 1000 < len(children) <= 10_000  # those outside are left out
    assert (children >= 0).all()
    assert (children < MICRO.sizes).all()
    assert INSIDE.satisfied(children).all()


def test_better_parents_have_children_that_change_less():
    parents = Ranked(sample(MICRO, 50, WINDOW, 1), np.linspace(1, 0, 50))
    settings = EvolutionSettings(children=200, crossover=0.0, mutation=0.5)
    children = breed(ConstraintSet(MICRO), parents, settings, np.random.default_rng(0))
    changed = (children != np.repeat(parents.index, 200, axis=0)).mean(1).reshape(50, 200).mean(1)
    assert changed[0] < 0.1  # the best: one coordinate in expectation is drawn again, and may be drawn the same
    assert changed[0] < changed[10] < changed[20] < changed[40]


def test_crossover_takes_every_coordinate_from_a_parent():
    corners = np.stack([np.zeros_like(MICRO.sizes), MICRO.canonical(MICRO.sizes[None] - 1)[0]])
    settings = EvolutionSettings(children=500, crossover=1.0, mutation=0.0)
    children = breed(ConstraintSet(MICRO), Ranked(corners, np.array([1.0, 0])), settings, np.random.default_rng(0))
    from_either = (children == corners[0]) | (children == corners[1])
    assert from_either.mean() > 0.95  # the rest are mutants, one coordinate in expectation
    mixed = ((children == corners[0]).mean(1) - 0.5).__abs__() < 0.3
    assert 0.3 < mixed.mean() < 0.7  # half the mates are the parent itself


def test_near_mutations_of_a_range_are_small_steps():
    """With mutation 1 and no crossover, a parent below the mean mutates every coordinate."""
    ordered = np.array([c.ordered for c in MICRO.coordinates]) & (MICRO.sizes > 10)
    middle = MICRO.canonical((MICRO.sizes // 2)[None])[0]
    parents = Ranked(np.stack([np.zeros_like(middle), middle]), np.array([1.0, 0.0]))

    def step(near):
        settings = EvolutionSettings(children=500, crossover=0.0, mutation=1.0, near=near)
        children = breed(ConstraintSet(MICRO), parents, settings, np.random.default_rng(0))[500:]
        return np.median(np.abs(children - middle)[:, ordered])

    assert step(1.0) <= 2 < step(0.0)


def test_one_change_has_every_value_of_every_coordinate():
    row = MICRO.canonical((MICRO.sizes // 2)[None])[0]
    rows = one_change(MICRO, row)
    assert len(rows) == MICRO.sizes.sum()
    assert ((rows != row).sum(axis=1) <= 1).all()
    for column, coordinate in zip(rows.T, MICRO.coordinates, strict=True):
        assert set(column) == set(coordinate.first)


def test_equal_scores_keep_their_order_in_a_ranking():
    first = Ranked(np.array([[0], [1]]), np.array([1.0, 2.0]))
    both = first.join(Ranked(np.array([[2], [3]]), np.array([2.0, 3.0])))
    assert both.index[:, 0].tolist() == [0, 1, 2, 3]
    assert both.top(3).index[:, 0].tolist() == [3, 1, 2]
    assert both.top(3).scores.tolist() == [3.0, 2.0, 2.0]


def test_a_cautious_score_subtracts_standard_deviations():
    class Predictor:
        def predict(self, x):
            return np.full(len(x), 70.0), np.arange(len(x), dtype=float)

    score = cautious_score(MICRO, Predictor(), 1.5)
    assert score(sample(MICRO, 3, WINDOW, 0)).tolist() == [70.0, 68.5, 67.0]
