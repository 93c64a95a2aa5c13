"""The committed sizes are those of the spaces, and Table 2's follow from its ranges."""

import pytest

from fbnetv3.benchmarks.paper import space_sizes
from fbnetv3.benchmarks.result import load_result
from fbnetv3.search.space.reader import list_spaces


@pytest.mark.parametrize("name", list_spaces())
def test_the_file_holds_what_is_counted_today(name):
    assert load_result("space_sizes").values[name] == space_sizes.measure_space(name)


def test_the_file_holds_every_space_and_how_it_was_measured():
    result = load_result("space_sizes")
    assert list(result.values) == list_spaces()
    assert result.command == "fbnetv3 benchmark space-sizes"
    assert result.method == space_sizes.METHOD


def test_the_recipes_of_table_2_by_hand():
    # lr 20..30, dropout 1..31, stochastic depth 10..31, mixup 0..41, weight decay 7..21, two optimizers, EMA or not
    assert load_result("space_sizes").number("table2.recipes") == 11 * 31 * 22 * 42 * 15 * 2 * 2


def test_a_run_writes_the_file(tmp_path):
    result = space_sizes.BENCHMARK.run(write_to=tmp_path / "space_sizes.json", spaces=("micro",))
    assert result == load_result("space_sizes", tmp_path)
    assert list(result.values) == ["micro"]


def test_large_sizes_are_rounded_and_small_ones_are_not():
    (table,) = space_sizes.tables(load_result("space_sizes")).values()
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["`table2`"] == ("1.23e+18", "4.74e+15", "1.89e+07", "1.76e+17")
    assert rows["`recipe_only`"][0] == "1"
