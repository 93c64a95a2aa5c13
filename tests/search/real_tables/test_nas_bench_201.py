"""NAS-Bench-201: costs of cells by hand, the sizes that the authors give, and trainings of another cell."""

import pickle

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables.nas_bench_201 import costs, read_nas_bench_201
from tests.search.real_tables.made_up import NAS

EMPTY, ALL_3X3 = [0] * 6, [3] * 6


def test_parameters_are_those_that_the_authors_give():
    # 0.073306, 0.079156 and 0.080456 M without operations, 1.531546 M with six 3x3 convolutions.
    assert [costs(np.array([EMPTY]), *set_)[1].tolist() for set_ in ((32, 10), (32, 100), (16, 120))] == [
        [73306],
        [79156],
        [80456],
    ]
    assert costs(np.array([ALL_3X3]), 32, 10)[1].tolist() == [1531546]


def test_multiply_adds_by_hand():
    # The stem, two residual blocks at 16 x 16 and at 8 x 8, and the classifier.
    empty = (
        27 * 16 * 1024 + (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) * 256 + (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) * 64 + 640
    )
    assert costs(np.array([EMPTY]), 32, 10)[0].tolist() == [empty]
    # c*c*side*side is the same in all three stages: 262,144.
    assert costs(np.array([ALL_3X3]), 32, 10)[0].tolist() == [empty + 3 * 5 * 6 * 9 * 262144]
    assert costs(np.array([[1, 4, 2, 0, 0, 0]]), 32, 10)[0].tolist() == [empty + 3 * 5 * 262144]


def test_a_table_by_hand():
    space = read_nas_bench_201(pickle.dumps(NAS), "cifar10")
    assert (space.name, space.num_classes) == ("nas_bench_201_cifar10", 10)
    assert all(c.arch and not c.ordered for c in space.coordinates)
    assert space.values(space.table[1])["op0"] == "nor_conv_1x1"
    # The second cell has a 1x1 and a 3x3 convolution. The first training of the third cell is of another cell: it is left out.
    assert space.trainings.tolist() == [3, 2, 2]
    nan = float("nan")
    assert np.array_equal(space.acc1[:, :, 0], [[10, 12, 11], [80, 82, nan], [20, 22, nan]], equal_nan=True)
    assert space.accuracy(space.table).tolist() == [11, 81, 21]


def test_a_cell_without_a_training_of_its_size_is_refused():
    with pytest.raises(InputError, match="a network has 73306 parameters, not 79156"):
        read_nas_bench_201(pickle.dumps(NAS), "cifar100")
