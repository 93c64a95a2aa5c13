"""The rounds of a search and of its extensions, by hand: 3 + 2 + 2 trainings, 2 finalists and 1 repeat."""

import pytest

from fbnetv3.search.nars.rounds import (
    Part,
    finalist_rounds,
    in_batches,
    parts,
    round_name,
    round_sizes,
)
from tests.search.scripted import config


@pytest.fixture
def cfg(tmp_path):
    return config(tmp_path, first=3, batch=2, rounds=3, repeats=1)


def test_a_search_is_one_part(cfg):
    assert parts(cfg) == [Part(1, (3, 2, 2), 2)]
    assert list(round_sizes(cfg).items()) == [(1, 3), (0, 1), (2, 2), (3, 2), (4, 2)]
    assert round_sizes(cfg, "random") == {1: 10}
    assert finalist_rounds(cfg) == [4]


def test_the_rounds_of_an_extension_come_after_the_finalists_and_end_with_others(cfg):
    """5 trainings are 2 + 1 and 2 finalists; a single one is a finalist."""
    extended = cfg.replace(extensions=(5, 1, 4))
    assert parts(extended)[1:] == [Part(5, (2, 1), 2), Part(8, (), 1), Part(9, (2,), 2)]
    assert list(round_sizes(extended).items())[4:] == [(4, 2), (5, 2), (6, 1), (7, 2), (8, 1), (9, 2), (10, 2)]
    assert round_sizes(extended, "random") == {1: 10, 2: 5, 3: 1, 4: 4}
    assert finalist_rounds(extended) == [4, 7, 8, 10]
    for method in ("nars", "random"):
        assert sum(round_sizes(extended, method).values()) == extended.trainings == 20


def test_without_finalists_an_extension_has_batches_alone(cfg):
    extended = cfg.replace(finalists=0, extensions=(3, 2))
    assert parts(extended) == [Part(1, (3, 2, 2), 0), Part(4, (2, 1), 0), Part(6, (2,), 0)]
    assert finalist_rounds(extended) == []
    assert round_name(extended, 4) == "round 4"


def test_rounds_have_names(cfg):
    extended = cfg.replace(extensions=(5, 1))
    assert [round_name(extended, n) for n in range(4)] == ["repeats", "round 1", "round 2", "round 3"]
    names = ["finalists", "round 5", "round 6", "finalists 2", "finalists 3"]
    assert [round_name(extended, n) for n in range(4, 9)] == names


@pytest.mark.parametrize(("trainings", "sizes"), [(0, ()), (1, (1,)), (3, (3,)), (7, (3, 3, 1))])
def test_the_last_batch_may_be_smaller(trainings, sizes):
    assert in_batches(trainings, 3) == sizes
