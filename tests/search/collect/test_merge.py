"""Several tables become one that has all their trainings."""

import dataclasses

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.collect.merge import merge
from fbnetv3.search.space.space import Coordinate
from fbnetv3.search.space.table import TableSpace

NAN = np.nan
A = TableSpace(
    name="mine",
    about="images",
    in_chans=1,
    num_classes=4,
    coordinates=(
        Coordinate("k", (3, 5), False, True, (3, 5)),
        Coordinate("lr", (0.1, 0.2), True, False, (0.1, 0.2)),
    ),
    table=np.array([[1, 1], [0, 0]]),
    labels={"flops": np.array([5.0, 1.0]), "params": np.array([6.0, 2.0])},
    acc1=np.array([[[10.0, 20.0], [NAN, NAN]], [[30.0, 40.0], [50.0, 60.0]]]),
    trainings=np.array([1, 2]),
    held_out=True,
    test_acc1=np.array([[[1.0, 2.0], [NAN, NAN]], [[3.0, 4.0], [5.0, 6.0]]]),
    seconds=np.array([[1.0, NAN], [2.0, 3.0]]),
    seeds=np.array([[11, 0], [12, 13]]),
    facts={"data": "images", "design": "seed 0", "constraint": "small", "licence": "MIT"},
)
B = dataclasses.replace(
    A,
    table=np.array([[0, 0], [0, 1]]),
    labels={"flops": np.array([1.0, 3.0]), "params": np.array([2.0, 4.0])},
    acc1=np.array([[[70.0, 80.0]], [[NAN, NAN]]]),
    trainings=np.array([1, 1]),
    test_acc1=np.array([[[7.0, 8.0]], [[NAN, NAN]]]),
    seconds=np.array([[4.0], [5.0]]),
    seeds=np.array([[14], [15]]),
    facts={
        "data": "images",
        "design": "seed 1",
        "constraint": "large",
        "licence": "MIT",
        "failed": "2 trainings failed and are left out",
    },
)


def test_the_trainings_of_two_tables_by_hand():
    found = merge([A, B], ["a", "b"])
    assert found.table.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert found.trainings.tolist() == [3, 1, 1]
    assert {name: values.tolist() for name, values in found.labels.items()} == {"flops": [1, 3, 5], "params": [2, 4, 6]}
    assert found.seeds.tolist() == [[12, 13, 14], [15, 0, 0], [11, 0, 0]]
    assert found.final[0].tolist() == [40, 60, 80]
    assert found.judged[0].tolist() == [4, 6, 8]
    assert found.final[1].tolist() == [25, 25, 25]  # diverged: chance
    assert np.array_equal(found.seconds, [[2, 3, 4], [5, NAN, NAN], [1, NAN, NAN]], equal_nan=True)
    assert found.facts == {
        "data": "images",
        "design": "seed 0; and seed 1",
        "constraint": "small; and large",
        "licence": "MIT",
        "failed": "2 trainings failed and are left out",
    }


def test_one_table_stays_what_it_is():
    found = merge([A], ["a"])
    order = np.lexsort(A.table.T[::-1])
    assert found.table.tolist() == A.table[order].tolist()
    assert np.array_equal(found.acc1, A.acc1[order], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_classes": 5}, "number of classes"),
        ({"coordinates": A.coordinates[::-1]}, "coordinates"),
        ({"test_acc1": None}, "test_acc1"),
        ({"acc1": B.acc1[:, :, :1]}, "acc1"),
        ({"facts": B.facts | {"data": "others"}}, "fact 'data'"),
        ({"labels": B.labels | {"ms": np.ones(2)}}, "set of statistics"),
    ],
)
def test_tables_of_another_kind_are_refused(change, words):
    with pytest.raises(InputError, match=f"b.npz has another .*{words}.* than a.npz"):
        merge([A, dataclasses.replace(B, **change)], ["a.npz", "b.npz"])


def test_the_same_training_twice_is_refused():
    with pytest.raises(InputError, match=r"two tables have the same training \(seed 12 of .*'k': 3"):
        merge([A, A], ["a.npz", "a.npz"])
