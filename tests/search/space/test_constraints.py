"""Resource constraints, and index rows that satisfy them: sampled, repaired and drawn."""

import dataclasses
import hashlib

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.schema import read
from fbnetv3.search.space.constraints import HALVINGS, Constraint, ConstraintSet, random_rows, sample
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol
from tests.search.spaces import FEW, Counting, load
from tests.search.tables import whole_grid

MICRO, COUNTING = load_space("micro"), Counting.make()
ALL = np.indices((10, 10, 3)).reshape(3, -1).T  # of the counting space, whose candidates have 10 a + b FLOPs


@dataclasses.dataclass(frozen=True)
class Slow:
    """A made-up latency: a + b milliseconds."""

    max: float

    def values(self, index):
        return (index[:, 0] + index[:, 1]).astype(float)


def flops(**window):
    return ConstraintSet(COUNTING, (Constraint("flops", **window),))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"metric": "speed"}, "metric is 'speed'; .*'flops' or 'params'"),
        ({"convention": "mine"}, "convention is 'mine'; .*'published' or 'fvcore'"),
        ({"min": 2.0}, "here: flops from 2 to 1 is empty; min must not exceed max"),
        ({"max": "450M"}, "max is '450M'"),
        ({"max": 0.0}, "max is 0.0; .*greater than 0"),
        ({"min": -1.0}, "min is -1.0; .*greater than or equal to 0"),
    ],
    ids=["metric", "convention", "window", "text", "zero", "negative"],
)
def test_a_constraint_is_read_strictly(bad, words):
    with pytest.raises(InputError, match=words):
        read(Constraint, {"metric": "flops", "max": 1.0} | bad, "here")


def test_the_ends_of_a_window_are_inside():
    values = np.array([1, 2, 3, 4, 5])
    assert Constraint("flops", max=4, min=2).satisfied(values).tolist() == [False, True, True, True, False]


def test_a_constraint_without_a_minimum_has_none():
    assert Constraint("params", max=4).satisfied(np.array([0, 4, 5])).tolist() == [True, True, False]


def test_values_are_the_figure_in_the_convention():
    index = np.array([[3, 4, 0], [9, 9, 2]])
    assert Constraint("flops", 1.0).values(COUNTING, index).tolist() == [34, 99]
    assert Constraint("flops", 1.0, convention="fvcore").values(COUNTING, index).tolist() == [36, 101]
    assert Constraint("params", 1.0).values(COUNTING, index).tolist() == [4, 9]


def test_conventions_of_networks_differ_by_norms_and_the_second_pool():
    index = sobol(MICRO, 6, 0)
    costs = MICRO.cost(index)
    constraint = Constraint("params", 6e4)
    assert np.array_equal(constraint.satisfied(constraint.values(MICRO, index)), costs.weights <= 6e4)
    published, fvcore = (Constraint("flops", 1e9, convention=c).values(MICRO, index) for c in ("published", "fvcore"))
    assert (fvcore - published == 2 * costs.norm - costs.noop_pool).all()


def test_without_constraints_every_candidate_is_feasible():
    assert ConstraintSet(COUNTING).satisfied(ALL).all()
    assert (ConstraintSet(COUNTING).excess(ALL) == 0).all()


def test_a_feasible_candidate_satisfies_all_constraints():
    constraints = ConstraintSet(COUNTING, (Constraint("flops", 50, 20), Constraint("params", 4)), (Slow(7),))
    a, b, _ = ALL.T
    by_hand = (10 * a + b <= 50) & (10 * a + b >= 20) & (b <= 4) & (a + b <= 7)
    assert np.array_equal(constraints.satisfied(ALL), by_hand)
    assert 0 < by_hand.sum() < len(ALL)


def test_what_a_table_lacks_is_not_feasible(tmp_path):
    table = load_space(whole_grid(tmp_path / "grid.csv", keep=0.3))
    everything = np.indices((4, 4, 4)).reshape(3, -1).T
    constraints = ConstraintSet(table)
    assert constraints.satisfied(everything).sum() == len(table.table)
    assert constraints.excess(everything)[~constraints.satisfied(everything)].tolist() == [1.0] * (
        64 - len(table.table)
    )


@pytest.mark.parametrize(
    ("row", "excess"),
    [
        ([3, 0, 0], 0.0),  # 30 FLOPs, at the lower end
        ([4, 0, 0], 0.0),  # at the upper end
        ([5, 0, 0], 50 / 40 - 1),
        ([1, 5, 0], (30 - 15) / 30 + (5 / 2 - 1)),  # too few FLOPs, and 5 parameters
        ([9, 3, 0], (93 / 40 - 1) + (3 / 2 - 1) + (12 / 8 - 1)),  # too much of everything
    ],
)
def test_the_excess_by_hand(row, excess):
    constraints = ConstraintSet(COUNTING, (Constraint("flops", 40, 30), Constraint("params", 2)), (Slow(8),))
    assert constraints.excess(np.array([row])).tolist() == pytest.approx([excess])


def test_the_excess_is_0_for_feasible_candidates_alone():
    constraints = ConstraintSet(COUNTING, (Constraint("flops", 50, 20), Constraint("params", 4)), (Slow(7),))
    assert np.array_equal(constraints.excess(ALL) == 0, constraints.satisfied(ALL))


def test_samples_are_different_feasible_and_reproducible():
    window = Constraint("flops", 1.0e6, 0.5e6)
    index = sample(MICRO, 500, window, seed=3)
    assert len(np.unique(index, axis=0)) == 500
    figures = MICRO.cost(index).flops()
    assert figures.min() >= 0.5e6
    assert figures.max() <= 1.0e6
    assert np.array_equal(index, sample(MICRO, 500, window, seed=3))
    assert not np.array_equal(index, sample(MICRO, 500, window, seed=4))


def test_samples_are_the_first_different_rows_of_the_sequence():
    space, window = load_space("table2"), Constraint("flops", 800e6, 400e6)
    drawn = space.canonical(sobol(space, 15, 4))
    drawn = drawn[window.satisfied(space.cost(drawn).flops())]
    _, first = np.unique(drawn, axis=0, return_index=True)
    assert np.array_equal(sample(space, 10_000, window, seed=4), drawn[np.sort(first)[:10_000]])


# What an earlier version drew, before it had look-up tables of costs.
FINGERPRINT = "1a3e6937a578ff4b"


def test_seeded_samples_costs_and_encodings_do_not_change():
    digest = hashlib.sha256()
    for seed in range(2):
        for n, constraint in (
            (10, Constraint("flops", 4e5, 1.5e5)),
            (500, Constraint("flops", 1e6, 5e5)),
            (40, Constraint("params", 6e4)),
            (300, Constraint("flops", 5e5, convention="fvcore")),
        ):
            index = sample(MICRO, n, constraint, seed)
            for part in (index, *MICRO.cost(index), encode(MICRO, index)):
                digest.update(np.ascontiguousarray(part).tobytes())
    assert digest.hexdigest()[:16] == FINGERPRINT


def test_several_constraints_are_sampled_together():
    constraints = ConstraintSet(COUNTING, (Constraint("flops", 50, 20), Constraint("params", 4)), (Slow(7),))
    feasible = ALL[constraints.satisfied(ALL)]
    assert sorted(constraints.sample(len(feasible), 0).tolist()) == sorted(feasible.tolist())


def test_a_small_space_gives_each_candidate_once(tmp_path):
    few = load(tmp_path, FEW)
    assert (few.arch_size, few.built_size) == (14, 8)
    everything = sample(few, 8, Constraint("flops", 1e12), seed=0)
    assert len({few.arch(row, "x") for row in everything}) == 8


def test_a_space_with_too_few_candidates_says_how_many_it_has(tmp_path):
    words = (
        r"space few: only 8 of 1,048,576 samples are different candidates, all of them feasible, 9 are needed; "
        "give a larger space, or ask for fewer"
    )
    with pytest.raises(InputError, match=words):
        sample(load(tmp_path, FEW), 9, Constraint("flops", 1e12), seed=0)


def test_an_infeasible_budget_says_what_there_is(monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.constraints.MAX_DRAWS", 2**16)
    words = (
        r"space micro: only 0 of 65,536 samples have flops \(published convention\) from 0 to 1,000 "
        r"\(the nearest other has \d{3},\d{3}\), 10 are needed; give wider constraints"
    )
    with pytest.raises(InputError, match=words):
        sample(MICRO, 10, Constraint("flops", 1000), seed=0)


def test_the_nearest_other_is_the_smallest_excess_outside(monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.constraints.MAX_DRAWS", 2**14)
    # From 20 to 21 FLOPs there are 2 x 3 candidates. The nearest other ones have 22 FLOPs.
    words = r"only 6 of 16,384 samples have flops .* from 20 to 21 \(the nearest other has 22\), 7 are needed"
    with pytest.raises(InputError, match=words):
        flops(max=21, min=20).sample(7, 0)


def test_every_constraint_is_named_with_its_figure(monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.constraints.MAX_DRAWS", 2**10)
    constraints = ConstraintSet(COUNTING, (Constraint("params", 9), Constraint("flops", 99)), (Slow(0.5),))
    words = (
        r"only 3 of 1,024 samples have params \(published convention\) from 0 to 9 \(the nearest other has \d\) and "
        r"flops .* from 0 to 99 .* and a latency of at most 0.5 ms \(the nearest other has 1 ms\), 4 are needed"
    )
    with pytest.raises(InputError, match=words):
        constraints.sample(4, 0)


def test_repaired_rows_are_feasible():
    constraints, rng = flops(max=30), np.random.default_rng(0)
    repaired = constraints.repair(ALL, np.zeros_like(ALL), rng)
    assert constraints.satisfied(repaired).all()
    assert len(ALL) * 0.9 < len(repaired) <= len(ALL)


def test_feasible_rows_are_not_repaired():
    constraints = flops(max=30)
    feasible = ALL[constraints.satisfied(ALL)]
    assert np.array_equal(constraints.repair(feasible, np.zeros_like(feasible), np.random.default_rng(0)), feasible)


def test_a_repair_mixes_row_and_anchor_and_leaves_the_recipe_alone():
    row, anchor = np.array([[9, 8, 2]] * 50), np.array([[1, 3, 0]] * 50)
    repaired = flops(max=80).repair(row, anchor, np.random.default_rng(0))
    assert {tuple(one) for one in repaired.tolist()} == {(1, 8, 2), (1, 3, 2)}


def test_what_cannot_be_repaired_is_dropped():
    rows = np.full((1000, 3), [9, 0, 0])
    repaired = flops(max=20).repair(rows, np.zeros_like(rows), np.random.default_rng(0))
    # A row is checked HALVINGS times, so it gets the anchor's value in HALVINGS - 1 tries of probability 1/2.
    assert 1000 - len(repaired) == pytest.approx(1000 / 2 ** (HALVINGS - 1), abs=20)


def test_rows_that_are_drawn_are_feasible_and_reproducible():
    constraints = flops(max=50, min=20)
    rows = constraints.draw(200, np.random.default_rng(5))
    assert rows.shape == (200, 3)
    assert constraints.satisfied(rows).all()
    assert np.array_equal(rows, constraints.draw(200, np.random.default_rng(5)))


def test_rows_are_drawn_uniformly_where_constraints_are_wide():
    counts = np.bincount(flops(max=1000).draw(8000, np.random.default_rng(0))[:, 0], minlength=10)
    assert counts.min() > 700
    assert counts.max() < 900


def test_where_feasible_rows_are_rare_others_are_repaired_towards_them():
    window = ConstraintSet(MICRO, (Constraint("flops", 2.2e5),))
    assert 0 < window.satisfied(random_rows(MICRO, 2**13, np.random.default_rng(0))).sum() < 100
    rows = window.draw(500, np.random.default_rng(0))
    assert 300 < len(rows) <= 500  # some cannot be repaired
    assert window.satisfied(rows).all()


def test_crossover_finds_what_random_rows_do_not_hold():
    window = ConstraintSet(MICRO, (Constraint("flops", 1.45e5),))
    assert not window.satisfied(random_rows(MICRO, 2**13, np.random.default_rng(0))).any()
    rows = window.draw(10, np.random.default_rng(0))
    assert len(rows) == 10
    assert window.satisfied(rows).all()


def test_constraints_that_nothing_satisfies_name_the_nearest_row():
    constraints = ConstraintSet(COUNTING, (Constraint("params", 1), Constraint("flops", 99, 99)))
    words = (
        r"space counting: found no candidate with params .* from 0 to 1 \(the nearest other has 1\) and "
        r"flops .* from 99 to 99 \(the nearest other has 91\); give wider constraints"
    )
    with pytest.raises(InputError, match=words):
        constraints.draw(5, np.random.default_rng(0))


def test_random_rows_have_every_value_equally_often():
    rows = random_rows(COUNTING, 9000, np.random.default_rng(0))
    assert np.bincount(rows[:, 0], minlength=10) == pytest.approx(900, abs=100)
    assert np.bincount(rows[:, 2], minlength=3) == pytest.approx(3000, abs=200)


def test_random_rows_are_canonical(tmp_path):
    few = load(tmp_path, FEW)
    rows = random_rows(few, 200, np.random.default_rng(0))
    assert {*rows[:, 1].tolist()} == {0, 1, 3, 5}


def test_random_rows_of_an_incomplete_table_are_its_rows(tmp_path):
    table = load_space(whole_grid(tmp_path / "grid.csv", keep=0.3))
    rows = random_rows(table, 500, np.random.default_rng(0))
    assert {*map(tuple, rows.tolist())} == {*map(tuple, table.table.tolist())}
