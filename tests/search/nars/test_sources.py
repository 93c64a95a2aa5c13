"""Sources of a warm start: their file, and which spaces they can serve."""

import dataclasses
import json

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.sources import Source, check_source, read_source
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.reader import load_space
from tests.search.spaces import Counting
from tests.search.tables import whole_grid

SPACE = Counting.make()
ROWS = [[1, 2, 0], [3, 4, 2]]


@pytest.fixture
def source():
    return Source.of("before", SPACE, "images", ROWS, [60.0, 70.0])


def renamed(space, **changes):
    """The space with other facts of its first coordinate."""
    first, *others = space.coordinates
    return dataclasses.replace(space, coordinates=(dataclasses.replace(first, **changes), *others))


def test_a_source_has_the_values_of_its_candidates(source):
    wide = renamed(SPACE, values=tuple(range(0, 100, 10)))
    assert Source.of("before", wide, None, ROWS, [1.0, 2.0]).candidates == [[10, 2, 0], [30, 4, 2]]
    assert source.about == "before: 2 trainings (space counting, data images)"


def test_in_its_own_space_a_source_is_encoded_like_index_rows(source):
    x, y = source.lesson(SPACE)
    assert np.array_equal(x, encode(SPACE, np.array(ROWS)))
    assert y.tolist() == [60.0, 70.0]


def test_the_values_of_the_new_space_may_be_others_and_in_another_order(source):
    here = dataclasses.replace(renamed(SPACE, values=(3, 5)), coordinates=SPACE.coordinates[::-1])
    check_source(source, here, "DIR")
    assert np.array_equal(source.lesson(here).x, encode(SPACE, np.array(ROWS))[:, ::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "c"},
            "c is missing there and a range of the architecture here; a is a range .* there and missing here",
        ),
        ({"ordered": False}, "a is a range of the architecture there and a choice of the architecture here"),
        ({"arch": False}, "a is a range of the architecture there and a range of the recipe here"),
    ],
)
def test_other_coordinates_are_named(source, changes, message):
    with pytest.raises(
        InputError, match=f"DIR: a search in space counting cannot start from one in .*: {message}. Give"
    ):
        check_source(source, renamed(SPACE, **changes), "DIR")


def test_many_differences_are_counted(source):
    with pytest.raises(
        InputError, match=r"row1.k is .* and 20 more\. Give a search whose coordinates have the same names"
    ):
        check_source(source, load_space("micro"), "DIR")


def test_a_file_gives_the_source_back(source, tmp_path):
    (tmp_path / "1.json").write_bytes(source.to_bytes())
    assert read_source(tmp_path / "1.json") == source


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema is 2; this version reads 1"),
        ({"accuracies": [60.0]}, "is damaged: every candidate needs a value of each coordinate, and an accuracy"),
        ({"candidates": [[1, 2, 0], [3, 4]]}, "is damaged: every candidate needs a value of each coordinate"),
        ({"candidates": [], "accuracies": []}, "candidates is"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_damaged_file_is_refused(source, tmp_path, changes, message):
    path = tmp_path / "1.json"
    path.write_text(json.dumps(dataclasses.asdict(source) | changes))
    with pytest.raises(InputError, match=message):
        read_source(path)


def test_a_table_can_be_a_source_of_another_table(tmp_path):
    one = load_space(whole_grid(tmp_path / "one.csv"))
    two = load_space(whole_grid(tmp_path / "two.csv", sizes=(6, 4, 4)))
    source = Source.of("one", one, None, [[3, 0, 0]], [56.0])
    check_source(source, two, "DIR")
    assert source.lesson(two).x[0].tolist() == pytest.approx([0.6, 0, 0])
