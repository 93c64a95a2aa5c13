"""Tables of trainings as search spaces: what is looked up in them, and what they do not have."""

import dataclasses
import pickle

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table import TableEvaluator
from fbnetv3.search.trial import Outcome
from tests.search.tables import whole_grid, write

# The rows of the table of tests/search/tables.py in the order in which they first appear: depth, kernel, lr.
TWICE, EARLY, DIVERGED, ABSENT = [0, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return load_space(write(tmp_path_factory.mktemp("table") / "mine.csv"))


@pytest.fixture
def evaluate(space):
    """Look up the trainings of an index row: (row, epochs, seed)."""
    base = space.base_recipe("any")
    return lambda row, epochs, seed: TableEvaluator(space)(space.candidate(row, base, "x"), epochs, seed)


def test_the_known_rows_are_all_rows(space):
    assert space.known().tolist() == [[1, 0, 1], TWICE, [1, 1, 0], EARLY, DIVERGED]
    assert not space.trainable


def test_accuracies_are_means_over_trainings_after_their_last_epoch(space):
    # The second is the mean of two trainings. The fourth was stopped early. The last diverged: chance among 1,000 classes.
    assert space.accuracy(space.table).tolist() == [60.0, 52.0, 70.0, 33.0, 0.1]


def test_costs_are_the_tables_in_every_convention(space):
    costs = space.cost(space.table)
    assert costs.flops().tolist() == costs.flops("fvcore").tolist() == [200, 100, 300, 150, 150]
    assert costs.params().tolist() == costs.params("fvcore").tolist() == [20, 10, 30, 10, 10]
    for convention in ("published", "fvcore"):
        assert space.figure("flops", convention, space.table).tolist() == [200, 100, 300, 150, 150]


def test_statistics_are_the_tables_in_its_units(space):
    names, labels = space.statistics(space.table)
    assert names == ("flops", "params", "ms")
    assert labels[:2].tolist() == [[200, 20, 1.5], [100, 10, 0.5]]


def test_a_constraint_holds_for_a_table(space):
    window = Constraint("flops", max=200, min=150)
    assert window.satisfied(window.values(space, space.table)).tolist() == [True, False, False, True, True]


def test_the_encoding_of_a_row(space):
    assert arch_mask(space).tolist() == [True, True, True, False]
    assert encode(space, space.table[:1]).tolist() == [[1.0, 1.0, 0.0, 1.0]]


def test_the_base_recipe_says_how_many_epochs_are_known(space):
    assert space.base_recipe("any").epochs == 2
    assert space.base_recipe("other") == space.base_recipe("any")


def test_a_candidate_has_values_and_no_network(space):
    base = space.base_recipe("any")
    candidate = space.candidate(TWICE, base, "candidate")
    assert candidate.values == {"depth": 1, "kernel": "k3", "lr": 0.1}
    assert candidate.recipe == base
    assert candidate.arch.name == "candidate (a row of table mine: no network)"
    assert space.resolutions == (candidate.arch.resolution,)


def test_a_row_that_a_table_lacks_is_no_candidate(space):
    rows = np.array([ABSENT, TWICE])
    assert space.contains(rows).tolist() == [False, True]
    assert ConstraintSet(space, (Constraint("flops", max=1000),)).satisfied(rows).tolist() == [False, True]
    assert space.label("ms", rows).tolist() == [0.0, 0.5]


def test_a_row_that_a_table_lacks_cannot_be_looked_up(space):
    words = r"table mine has no \{'depth': 1, 'kernel': 'k3', 'lr': 0\.05\}; only its rows can be looked up"
    with pytest.raises(InputError, match=words):
        space.position(np.array([TWICE, ABSENT]))
    with pytest.raises(InputError, match=words):
        space.accuracy(np.array([ABSENT]))


def test_positions_are_those_in_the_table(space):
    order = [3, 0, 0, 4]
    assert space.position(space.table[order]).tolist() == order


@pytest.mark.parametrize(("seed", "acc1"), [(4, (30.0, 50.0)), (7, (32.0, 54.0))])
def test_the_seed_chooses_a_training(evaluate, seed, acc1):
    assert evaluate(TWICE, 2, seed) == Outcome(acc1, "ok", 0.0)


def test_fewer_epochs_are_the_first_ones(evaluate):
    assert evaluate(TWICE, 1, 7).acc1 == (32.0,)
    assert evaluate(EARLY, 1, 0).acc1 == (33.0,)


def test_a_rule_ends_a_training(space):
    candidate = space.candidate(TWICE, space.base_recipe("any"), "x")
    assert space.evaluator()(candidate, 2, 7, stop=lambda acc1: acc1[-1] < 40).acc1 == (32.0,)
    assert space.evaluator()(candidate, 2, 7, stop=lambda acc1: acc1[-1] < 30).acc1 == (32.0, 54.0)


def test_a_training_without_accuracies_diverged(evaluate):
    assert evaluate(DIVERGED, 2, 0) == Outcome((), "diverged", 0.0)


def test_more_epochs_than_a_training_has_are_refused(evaluate):
    with pytest.raises(InputError, match=r"table mine: \{'depth': 1, .*\} has 1 epochs, 2 are asked for"):
        evaluate(EARLY, 2, 0)


def test_a_candidate_of_another_space_is_refused(space):
    candidate = space.candidate(TWICE, space.base_recipe("any"), "x")._replace(values={})
    with pytest.raises(InputError, match="a candidate has values of depth, kernel, lr"):
        space.evaluator()(candidate, 2, 0)


def test_the_evaluator_can_be_sent_to_another_process(space):
    evaluator = pickle.loads(pickle.dumps(space.evaluator()))
    assert evaluator(space.candidate(TWICE, space.base_recipe("any"), "x"), 2, 7).acc1 == (32.0, 54.0)


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_a_table_is_listed_unless_it_has_all_combinations(tmp_path, keep):
    space = load_space(whole_grid(tmp_path / "grid.csv", (6, 6, 6), keep=keep))
    assert (space.listed is None) == (keep == 1.0)
    if keep < 1:
        assert np.array_equal(space.listed, space.table)


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_a_pool_is_of_the_tables_feasible_rows(tmp_path, keep):
    space = load_space(whole_grid(tmp_path / "grid.csv", (6, 6, 6), keep=keep))
    constraints = ConstraintSet(space, (Constraint("flops", max=140),))
    feasible = space.table[constraints.satisfied(space.table)]
    assert sorted(constraints.sample(len(feasible), 0).tolist()) == sorted(feasible.tolist())
    with pytest.raises(InputError, match=f"only {len(feasible)} of"):
        constraints.sample(len(feasible) + 1, 0)


def test_two_tables_are_different_even_with_the_same_content(tmp_path):
    path = write(tmp_path / "mine.csv")
    first, second = load_space(path), load_space(path)
    assert first == first
    assert first != second
    assert len({first, second}) == 2


@pytest.fixture
def held_out(space):
    """The same table, judged by the trainings that a search did not see."""
    return dataclasses.replace(space, held_out=True)


def test_a_search_is_judged_by_the_trainings_that_it_did_not_see(held_out):
    # The second candidate has two trainings, which end at 50 and at 54. An even seed sees the first.
    rows = np.array([TWICE, EARLY, TWICE])
    assert held_out.judge([(TWICE, 4)])(rows).tolist() == [54.0, 33.0, 54.0]
    assert held_out.judge([(TWICE, 7)])(rows).tolist() == [50.0, 33.0, 50.0]
    # Where nothing is left, or nothing was seen, all trainings count.
    assert held_out.judge([(TWICE, 7), (TWICE, 4), (EARLY, 0)])(rows).tolist() == [52.0, 33.0, 52.0]
    assert held_out.judge([])(rows).tolist() == [52.0, 33.0, 52.0]


def test_a_csv_table_is_judged_by_all_trainings(space):
    assert space.judge([(TWICE, 4)])(np.array([TWICE])).tolist() == [52.0]


def test_the_noise_is_the_std_of_candidates_with_several_trainings(space):
    assert space.noise() == pytest.approx(8**0.5)  # of 50 and 54
    assert np.isnan(space.noise(space.trainings < 2))


def test_candidates_that_share_a_part_are_a_space_of_their_own(tmp_path):
    space = load_space(whole_grid(tmp_path / "grid.csv", (3, 4, 5)))
    free = np.array([False, False, True])
    part = space.subspace([2, 1, 4], free)
    assert part.sizes.tolist() == [1, 1, 5]
    assert part.listed is None  # complete: it is sampled and has neighbours as every other space
    assert part.values([0, 0, 3]) == {"a": 2, "b": 1, "c": 3}
    whole = np.where(free, part.table, [2, 1, 4])
    assert part.accuracy(part.table).tolist() == space.accuracy(whole).tolist()
    assert part.label("flops", part.table).tolist() == space.label("flops", whole).tolist() == [125.0] * 5


def test_of_a_table_with_gaps_a_part_has_the_rows_that_are_there(space):
    part = space.subspace(TWICE, np.array([True, True, False]))
    assert part.table.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert part.accuracy(part.table).tolist() == [60.0, 52.0, 33.0]
    assert part.trainings.tolist() == [1, 2, 1]
    assert part.contains(np.array([[1, 1, 0]])).tolist() == [False]


def test_a_search_is_judged_by_test_images_where_the_table_has_them(space):
    tested = dataclasses.replace(space, test_acc1=space.acc1 / 2)
    assert tested.accuracy(space.table).tolist() == pytest.approx([30, 26, 35, 16.5, 0.1])
    assert tested.judge([])(space.table).tolist() == tested.accuracy(space.table).tolist()
    outcome = tested.evaluator()(tested.candidate(space.table[0], tested.base_recipe(""), ""), 2, 0)
    assert outcome.acc1 == (40, 60)
