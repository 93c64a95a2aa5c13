"""What every search space can do: coordinates, index rows, and which of them are the same candidate."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.search.space.reader import ANY_DATA, list_spaces, load_space
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import Coordinate, SearchSpace
from tests.search.spaces import TABLE2, TINY, Counting, load

MICRO, COUNTING = load_space("micro"), Counting.make()
ROWS = st.tuples(*(st.integers(0, size - 1) for size in MICRO.sizes.tolist()))


def test_a_coordinate_knows_the_first_index_of_every_value():
    widths = Coordinate("c", (16, 16, 24), True, True, (12, 16, 24))
    assert widths.first.tolist() == [0, 0, 2]


def test_a_coordinate_is_indexed_with_a_column():
    assert Coordinate("k", (3, 5), False, True, (3, 5)).array[[1, 0, 1]].tolist() == [5, 3, 5]


def test_a_space_without_a_kind_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        SearchSpace("none", "", 1, 2, ())


@pytest.mark.parametrize("ask", ["evaluator", "known", "accuracy"])
def test_accuracies_are_unknown_unless_a_space_knows_them(ask):
    arguments = [np.zeros((1, 3), int)] if ask == "accuracy" else []
    with pytest.raises(
        InputError, match=r"accuracies of space counting are not known: its candidates have to be trained"
    ):
        getattr(COUNTING, ask)(*arguments)


def test_every_combination_of_values_is_a_candidate_unless_a_space_lists_them():
    assert COUNTING.listed is None
    assert COUNTING.contains(np.zeros((2, 3), int)).tolist() == [True, True]


def test_sizes_by_hand(tmp_path):
    space = load(tmp_path, TINY | {"recipe": {"lr": "(1, 5)e-2", "ema": [True, False]}})
    assert space.sizes.tolist() == [2, 2, 2, 3, 5, 2]
    assert space.arch_size == 2 * 2 * 2 * 3
    assert space.built_size == 2 * 2 * 1 * 3  # both widths are built as 16
    assert space.recipe_size == 5 * 2


def test_values_of_a_row_and_columns_of_many_rows(tmp_path):
    space = load(tmp_path, TINY)
    assert space.values([1, 0, 0, 2]) == {"row0.e.first": 2, "row0.e.rest": 2, "row0.c": 16, "row0.n": 3}
    columns = space.columns(np.array([[1, 0, 0, 2], [0, 1, 1, 0]]))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "row0.e.first": [2, 1],
        "row0.e.rest": [2, 3],
        "row0.c": [16, 16],
        "row0.n": [3, 1],
    }


@pytest.mark.parametrize("row", [[9, 9, 3], [0, -1, 0], [0, 0], [0, 0, 0, 0]])
def test_indices_outside_a_space_are_refused(row):
    with pytest.raises(InputError) as error:
        COUNTING.values(row)
    assert str(error.value) == f"space counting: {row} is no index row; sizes are [10, 10, 3]"


@settings(deadline=None)  # a busy machine is no failure
@given(ROWS)
def test_the_row_of_a_candidates_values_has_these_values(row):
    values = MICRO.values(row)
    assert MICRO.values(MICRO.find(values)) == values


def test_values_of_other_coordinates_are_refused():
    with pytest.raises(InputError, match=r"space counting: a candidate has values of a, b, lr; given: a, c"):
        COUNTING.find({"a": 1, "c": 2})
    with pytest.raises(InputError, match="given: none"):
        COUNTING.find({})


def test_a_value_that_a_coordinate_lacks_is_refused():
    with pytest.raises(InputError, match="space counting has no b of 10"):
        COUNTING.find({"a": 1, "b": 10, "lr": 0})


def test_rounded_widths_make_equal_candidates_equal_rows(tmp_path):
    space = load(tmp_path, TABLE2)
    column = [c.name for c in space.coordinates].index("row3.c")
    rows = np.zeros((8, len(space.coordinates)), int)
    rows[:, column] = np.arange(8)
    canonical = space.canonical(rows)
    assert canonical[:, column].tolist() == [0, 1, 1, 3, 3, 5, 5, 7]
    assert rows[:, column].tolist() == list(range(8))  # the given rows stay as they are
    assert np.array_equal(space.canonical(canonical), canonical)


def test_distinct_rows_are_the_first_of_their_kind():
    rows = np.array([[1, 2], [0, 1], [1, 2], [0, 1], [0, 0]])
    rows = np.concatenate([rows, np.zeros((5, len(MICRO.coordinates) - 2), int)], axis=1)
    assert MICRO.distinct(rows).tolist() == [0, 1, 4]
    assert MICRO.distinct(rows[:0]).tolist() == []


def test_no_digit_is_lost_in_a_space_of_many_coordinates():
    values = tuple(range(1, 9))
    wide = dataclasses.replace(
        MICRO, coordinates=tuple(Coordinate(str(i), values, True, True, values) for i in range(50))
    )
    rows = np.concatenate([digit * np.eye(50, dtype=int) for digit in range(1, 8)])
    assert wide.distinct(np.concatenate([rows, rows])).tolist() == list(range(350))


@pytest.mark.parametrize("name", list_spaces())
def test_distinct_rows_are_numpys(name):
    space = load_space(name, ANY_DATA)
    index = np.concatenate([space.canonical(sobol(space, 8, seed)) for seed in (0, 1, 0)])
    index[300:310, 0] = 0
    index[310:320] = index[300:310]
    index[320:330, -1] = (index[300:310, -1] + 1) % space.sizes[-1]  # only the last digit differs
    index[320:330, :-1] = index[300:310, :-1]
    _, first = np.unique(index, axis=0, return_index=True)
    assert space.distinct(index).tolist() == sorted(first)
