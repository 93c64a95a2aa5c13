import dataclasses
import itertools

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.evolve import PRESETS, EvolutionSettings, Ranked, breed, evolve, one_change
from fbnetv3.search.space.constraints import Limits, as_limits, random_rows
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.sobol import sample
from fbnetv3.search.space.space import load_space

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
    settings = EvolutionSettings(patience=2, restarts=0, polish=False)
    found = evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, settings, seed=0)
    gains = np.diff(found.history)
    assert (gains >= 0).all()
    assert (gains[-2:] <= 1e-6).all()
    assert (gains[:-2] > 1e-6).any()
    assert found.evaluations < settings.evaluations


def test_the_paper_s_rule_ends_at_the_first_generation_without_gain():
    calls = []

    def flat(index):
        calls.append(len(index))
        return np.zeros(len(index))

    found = evolve(MICRO, flat, sample(MICRO, 5, WINDOW, 0), WINDOW, PRESETS["paper"], seed=0)
    assert len(calls) == 2
    assert sum(calls) == found.evaluations
    assert found.history == (0.0, 0.0)
    default = evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, EvolutionSettings(), seed=0)
    paper = evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, PRESETS["paper"], seed=0)
    assert paper.evaluations < default.evaluations
    assert paper.scores[0] <= default.scores[0]


def test_no_row_is_scored_twice_and_none_beyond_the_limit_or_the_constraints():
    scored = []

    def score(index):
        scored.extend(map(tuple, index.tolist()))
        return linear(index)

    for evaluations in (50, 999, 5000):
        scored.clear()
        settings = EvolutionSettings(evaluations=evaluations)
        found = evolve(MICRO, score, sample(MICRO, 5, WINDOW, 0), WINDOW, settings, seed=0)
        assert len(set(scored)) == len(scored) == found.evaluations == evaluations
        values = cost(MICRO, np.array(scored)).flops()
        assert WINDOW.min <= values.min() <= values.max() <= WINDOW.max


def test_no_change_of_one_coordinate_gains():
    """The polishing's promise, where the evolution alone is stopped too early to keep it."""
    weights = np.random.default_rng(3).normal(size=(20, 40))

    def rugged(index):
        return np.tanh(2 * encode(MICRO, index).astype(float) @ weights[: encode(MICRO, index).shape[1]][:, :20]).sum(1)

    weights = np.random.default_rng(3).normal(size=(encode(MICRO, sample(MICRO, 1, WINDOW, 0)).shape[1], 40))
    short = EvolutionSettings(patience=1, restarts=0, population=20, children=2)
    found = evolve(MICRO, rugged, sample(MICRO, 5, WINDOW, 0), WINDOW, short, seed=0)
    assert found.evaluations < short.evaluations
    rows = one_change(MICRO, found.index[0])
    assert len(rows) == MICRO.sizes.sum()
    assert rugged(rows[WINDOW.allows(cost(MICRO, rows))]).max() == pytest.approx(found.scores[0])
    unpolished = evolve(
        MICRO, rugged, sample(MICRO, 5, WINDOW, 0), WINDOW, dataclasses.replace(short, polish=False), seed=0
    )
    assert unpolished.scores[0] < found.scores[0]


def test_a_restart_finds_what_the_first_start_missed():
    """A needle that mutations of the first local best do not reach: more starts, more often found."""
    target = sample(MICRO, 1, WINDOW, 77)[0]

    def trap(index):
        near = (index == target).mean(1)
        return np.where(near > 0.6, 10 * near, 1 - near)

    def hits(restarts):
        settings = EvolutionSettings(restarts=restarts, patience=3, population=20, children=2, random=40, polish=False)
        return sum(evolve(MICRO, trap, target[None][:0], WINDOW, settings, s).scores[0] > 5 for s in range(12))

    assert hits(5) > hits(0)


@pytest.mark.parametrize("budget", [0.35e6, 0.16e6])
def test_it_finds_the_best_of_what_can_be_enumerated(budget):
    """Fixing all but six coordinates leaves some thousand pairs, of which the best is known."""
    free = [
        MICRO.coordinates.index(c)
        for c in MICRO.coordinates
        if c.name in ("stem.c", "row1.c", "row2.c", "row3.c", "row2.n", "mixup")
    ]
    space = dataclasses.replace(
        MICRO,
        coordinates=tuple(
            c if j in free else dataclasses.replace(c, values=c.values[:1], nominal=c.nominal[:1])
            for j, c in enumerate(MICRO.coordinates)
        ),
    )
    everything = space.canonical(np.array(list(itertools.product(*map(range, space.sizes)))))
    inside = everything[Constraint("flops", budget).allows(cost(space, everything))]
    assert 50 < len(inside) < len(everything)
    waves = 0.2 * np.random.default_rng(0).normal(size=(len(space.sizes), 8))

    def score(index):
        return np.sin(index @ waves).sum(1)

    best = score(inside).max()
    settings = EvolutionSettings(evaluations=1500)
    found = [evolve(space, score, inside[:0], Constraint("flops", budget), settings, s).scores[0] for s in range(10)]
    assert sum(value == pytest.approx(best) for value in found) >= 9


def test_the_same_seed_gives_the_same_population():
    runs = [evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), WINDOW, EvolutionSettings(), seed=s) for s in (0, 0, 1)]
    assert np.array_equal(runs[0].index, runs[1].index)
    assert not np.array_equal(runs[0].index, runs[2].index)


def test_trials_outside_the_constraint_are_no_parents():
    outside = sample(MICRO, 5, Constraint("flops", 3e6, 1.2e6), 0)
    settings = EvolutionSettings(population=1000, children=1)
    found = evolve(MICRO, linear, outside, WINDOW, settings, seed=0)
    rows = {tuple(row) for row in found.index.tolist()}
    assert not rows & {tuple(row) for row in outside.tolist()}


def test_an_infeasible_budget_is_refused():
    with pytest.raises(InputError, match=r"params \(published convention\) 0 to 10 \(the nearest has [\d,]+\)"):
        evolve(MICRO, linear, sample(MICRO, 5, WINDOW, 0), Constraint("params", 10), EvolutionSettings(), seed=0)


def test_children_stay_inside_and_good_parents_change_less():
    parents = Ranked(sample(MICRO, 50, WINDOW, 1), np.linspace(1, 0, 50))
    settings = EvolutionSettings(children=200, crossover=0.0, mutation=0.5)
    children = breed(as_limits(MICRO, WINDOW), parents, settings, np.random.default_rng(0))
    assert 1000 < len(children) <= 10_000  # those outside are left out
    assert (children >= 0).all()
    assert (children < MICRO.sizes).all()
    assert WINDOW.allows(cost(MICRO, children)).all()
    free = breed(Limits(MICRO), parents, settings, np.random.default_rng(0))
    changed = (free != np.repeat(parents.index, 200, axis=0)).mean(1).reshape(50, 200).mean(1)
    assert changed[0] < 0.1  # the best: one coordinate in expectation is drawn anew, and may be drawn the same
    assert changed[0] < changed[10] < changed[20] < changed[40]


def test_crossover_takes_every_coordinate_from_a_parent():
    parents = Ranked(
        np.stack([np.zeros_like(MICRO.sizes), MICRO.canonical(MICRO.sizes[None] - 1)[0]]), np.array([1.0, 0])
    )
    settings = EvolutionSettings(children=500, crossover=1.0, mutation=0.0)
    children = breed(Limits(MICRO), parents, settings, np.random.default_rng(0))
    from_either = (children == parents.index[0]) | (children == parents.index[1])
    assert from_either.mean() > 0.95  # the rest are mutants, one coordinate in expectation
    mixed = ((children == parents.index[0]).mean(1) - 0.5).__abs__() < 0.3
    assert 0.3 < mixed.mean() < 0.7  # half the mates are oneself


def test_rows_outside_are_mixed_with_their_anchors_until_inside():
    tight, rng = Limits(MICRO, (Constraint("flops", 0.2e6),)), np.random.default_rng(0)
    rows = random_rows(MICRO, 500, rng)
    anchor = sample(MICRO, 1, Constraint("flops", 0.17e6), 0)
    repaired = tight.repair(rows, np.repeat(anchor, 500, axis=0), rng)
    assert tight.allows(rows).mean() < 0.05
    assert tight.allows(repaired).all()
    assert 400 < len(repaired) <= 500
    assert len(np.unique(repaired, axis=0)) > 350
    inside = rows[tight.allows(rows)]
    assert {tuple(r) for r in inside.tolist()} <= {tuple(r) for r in repaired.tolist()}


def test_a_first_generation_is_found_where_chance_does_not_come():
    """The cheapest architecture alone keeps this limit: no uniform sample of a look does."""
    least = int(cost(MICRO, np.zeros((1, len(MICRO.sizes)), np.int64)).flops()[0])
    limits = Limits(MICRO, (Constraint("flops", least * 1.01),))
    assert not limits.allows(random_rows(MICRO, 2**15, np.random.default_rng(1))).any()
    rows = limits.draw(50, np.random.default_rng(0))
    assert len(rows)
    assert limits.allows(rows).all()


def test_excess_by_hand():
    limits = Limits(MICRO, (Constraint("flops", 1e6, 0.5e6), Constraint("params", 2e4)))
    rows = random_rows(MICRO, 300, np.random.default_rng(0))
    flops, params = cost(MICRO, rows).flops(), cost(MICRO, rows).params()
    expected = np.maximum(flops / 1e6 - 1, 0) + np.maximum(1 - flops / 0.5e6, 0) + np.maximum(params / 2e4 - 1, 0)
    assert limits.excess(rows) == pytest.approx(expected)
    assert np.array_equal(limits.allows(rows), expected == 0)
    assert limits.sample(20, 0).shape == (20, len(MICRO.sizes))
    assert limits.allows(limits.sample(20, 0)).all()
    one = Limits(MICRO, (WINDOW,))
    assert np.array_equal(one.sample(20, 4), sample(MICRO, 20, WINDOW, 4))
