"""Index rows as the columns that the predictor sees."""

import dataclasses

import numpy as np

from fbnetv3.search.space.encoding import arch_mask, encode, encode_values
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import Coordinate
from tests.search.spaces import TABLE2, TINY, load

MICRO = load_space("micro")


def test_the_ends_of_every_coordinate_by_hand():
    index = np.zeros((2, len(MICRO.coordinates)), int)
    index[1] = MICRO.sizes - 1
    x = encode(MICRO, index)
    position = 0
    for coordinate in MICRO.coordinates:
        width = 1 if coordinate.ordered else len(coordinate.values)
        part = x[:, position : position + width]
        assert part.tolist() == ([[0], [1]] if coordinate.ordered else [[1, 0], [0, 1]]), coordinate.name
        position += width
    assert position == x.shape[1] == len(arch_mask(MICRO))


def test_a_range_is_scaled_by_its_values_and_not_by_its_indices(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"e": 1, "c": "(8, 40, 4)", "n": 1}]})
    # Widths are built as 8 16 16 24 24 32 32 40 40, so the third index is a quarter of the way.
    assert encode(space, np.arange(9)[:, None])[:, 0].tolist() == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]


def test_a_choice_has_a_column_for_every_value(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"k": [5, 3, 7], "e": 1, "c": 8, "n": 1}]})
    assert encode(space, np.array([[0], [2], [1]])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_a_range_of_one_value_is_0(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"e": "(2, 2)", "c": 8, "n": 1}]})
    assert encode(space, np.zeros((1, 1), int)).tolist() == [[0.0]]


def test_columns_are_floats_from_0_to_1():
    x = encode(MICRO, sobol(MICRO, 8, 0))
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (0.0, 1.0)


def test_no_rows_have_all_columns():
    assert encode(MICRO, sobol(MICRO, 1, 0)[:0]).shape == (0, len(arch_mask(MICRO)))


def test_equal_networks_have_equal_encodings(tmp_path):
    space = load(tmp_path, TABLE2)
    rows = np.zeros((8, len(space.coordinates)), int)
    rows[:, [c.name for c in space.coordinates].index("row3.c")] = np.arange(8)
    assert np.array_equal(encode(space, rows), encode(space, space.canonical(rows)))


def test_the_mask_marks_the_columns_of_the_architecture():
    assert arch_mask(MICRO).sum() == 21
    recipe = {"optimizer": 2, "ema": 2, "lr": 1, "dropout": 1, "stochastic_depth": 1, "mixup": 1, "weight_decay": 1}
    assert (~arch_mask(MICRO)).sum() == sum(recipe.values())


def test_the_mask_repeats_for_every_column_of_a_choice(tmp_path):
    space = load(tmp_path, TINY | {"recipe": {"optimizer": ["sgd", "rmsprop"], "lr": "(1, 2)e-2"}})
    assert arch_mask(space).tolist() == [True] * 4 + [False] * 3


def test_a_range_may_be_scaled_by_its_logarithms(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"e": 1, "c": 8, "n": "(1, 4)"}]})
    [count] = space.coordinates
    space = dataclasses.replace(space, coordinates=(dataclasses.replace(count, log=True),))
    assert encode(space, np.array([[0], [1], [3]]))[:, 0].tolist() == [0, 0.5, 1]


def test_values_of_another_space_are_encoded_on_this_space_s_scale(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"k": [3, 5], "e": 1, "c": "(8, 24, 8)", "n": 1}]})
    k, c = (coordinate.name for coordinate in space.coordinates)
    assert encode_values(space, {k: [5, 3], c: [8, 16]}).tolist() == encode(space, np.array([[1, 0], [0, 1]])).tolist()
    # 7 is no choice of this space; a width of 32 is half a range above it, and one of 400 counts as a whole range above it.
    assert encode_values(space, {k: [7, 7], c: [32, 400]}).tolist() == [[0, 0, 1.5], [0, 0, 2]]


def test_a_value_without_a_logarithm_is_below_the_range():
    rate = Coordinate("lr", (0.01, 0.1, 1.0), True, False, (0.01, 0.1, 1.0), log=True)
    space = dataclasses.replace(MICRO, coordinates=(rate,))
    assert encode_values(space, {"lr": [0.1, 10.0, 0.0]})[:, 0].tolist() == [0.5, 1.5, -1]
