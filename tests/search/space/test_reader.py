"""The grammar of a space's file: what it reads, and every mistake in it that is refused."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.search.space.constraints import Constraint, sample
from fbnetv3.search.space.reader import ANY_DATA, _Reader, filled, list_spaces, load_space, takes_from_data
from fbnetv3.search.space.space import Coordinate
from fbnetv3.search.space.table import TableSpace
from fbnetv3.training.data.shape import DataShape
from tests.search.spaces import TABLE2, TINY, load
from tests.search.tables import write

ROW = TABLE2["rows"][0]


def coordinate(name, text, **keywords):
    """The coordinate that an entry of a file becomes."""
    reader = _Reader("here")
    assert reader.entry(name, text, **keywords) in reader.coordinates
    (made,) = reader.coordinates.values()
    return made


def test_the_grammar_reads_table_2_to_the_sizes_of_the_paper(tmp_path):
    space = load(tmp_path, TABLE2)
    assert space.arch_size / 7 == pytest.approx(1.76e17, rel=0.005)  # the paper's 10^17, without the 7 resolutions
    assert space.arch_size == pytest.approx(1.23e18, rel=0.005)
    assert space.recipe_size == pytest.approx(1.89e7, rel=0.005)  # the paper's 10^7
    assert space.arch_size / space.built_size == 260  # what the rounding of widths leaves out


def test_the_packaged_table_2_is_the_papers(tmp_path):
    space, packaged = load(tmp_path, TABLE2), load_space("table2")
    assert set(packaged.coordinates) == set(space.coordinates)  # their order is the order of the file
    assert packaged.layout == space.layout


def test_ranges_of_table_2(tmp_path):
    by_name = {c.name: c for c in load(tmp_path, TABLE2).coordinates}
    assert by_name["lr"].values[0] == 0.02
    assert by_name["lr"].values[-1] == 0.03
    assert by_name["row3.c"].nominal == (56, 60, 64, 68, 72, 76, 80, 84)
    assert by_name["row3.c"].values == (56, 64, 64, 72, 72, 80, 80, 88)  # as built


def test_networks_of_table_2_have_the_costs_of_their_architectures(tmp_path):
    space = load(tmp_path, TABLE2)
    index = sample(space, 50, Constraint("flops", 800e6, 400e6), seed=0)
    for row, flops in zip(index[:10], space.cost(index).flops()[:10], strict=True):
        assert cost(space.arch(row, "x")).flops() == flops
        assert 400e6 <= flops <= 800e6


def test_the_default_space_differs_from_table_2_where_the_released_networks_do():
    table2, released = ({c.name: c.nominal for c in load_space(name).coordinates} for name in ("table2", "released"))
    alike = table2.keys() & released.keys()
    assert {name for name in alike if table2[name] != released[name]} == {"row6.c"}
    assert released["row6.c"] == (*table2["row6.c"], 228, 232, 236, 240)
    split = {"row1.k", "row2.k", "row3.k", "row4.k", "row5.k", "row5.e"}
    assert table2.keys() - alike == {*split, "ema"}
    assert released.keys() - alike == {f"{name}.{part}" for name in split for part in ("first", "rest")}
    assert all(released[f"{name}.{part}"] == table2[name] for name in split for part in ("first", "rest"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("(1, 4)", (1, 2, 3, 4)),
        ("( 16,24 , 8 )", (16, 24)),
        ("(7, 7)", (7,)),
        ("(7, 9)^a", (7, 8, 9)),
    ],
)
def test_a_range_of_whole_numbers(text, values):
    made = coordinate("row0.n", text)
    assert (made.values, made.ordered, made.arch) == (values, True, True)
    assert all(type(value) is int for value in made.values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("(1, 3)e-1", (0.1, 0.2, 0.3)),
        ("(0.5, 1, 0.25)", (0.5, 0.75, 1.0)),
        ("(7, 9)e-6", (7e-6, 8e-6, 9e-6)),
        ("(0.1, 0.3, 0.1)", (0.1, 0.2, 0.3)),
        ("(1, 3)e1", (10.0, 20.0, 30.0)),
    ],
)
def test_a_range_of_fractions_is_exact(text, values):
    made = coordinate("lr", text, arch=False)
    assert (made.values, made.ordered, made.arch) == (values, True, False)
    assert all(type(value) is float for value in made.values)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 900), st.integers(1, 90), st.integers(0, 50))
def test_a_range_has_every_step_from_low_to_high(low, step, count):
    made = coordinate("row0.n", f"({low}, {low + count * step}, {step})")
    assert made.values == tuple(range(low, low + count * step + 1, step))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("log(1, 100, 3)e-3", (0.001, 0.01, 0.1)),
        ("log(0.5, 8, 5)", (0.5, 1.0, 2.0, 4.0, 8.0)),
        ("log( 1 , 10 , 4 )", (1.0, 2.154, 4.642, 10.0)),
    ],
)
def test_a_log_range_has_both_ends_and_equal_ratios(text, values):
    made = coordinate("lr", text, arch=False)
    assert (made.values, made.ordered, made.log) == (values, True, True)
    assert not coordinate("lr", "(1, 3)", arch=False).log


def test_a_log_range_of_whole_numbers_may_be_one_of_the_architecture():
    made = coordinate("row0.c", "log(8, 64, 4)^a", width=True)
    assert (made.name, made.values, made.log) == ("c^a", (8, 16, 32, 64), True)


@pytest.mark.parametrize("text", ["log(0, 1, 3)", "log(2, 1, 3)", "log(1, 1, 2)", "log(1, 9, 1)", "log(1, 9, 20000)"])
def test_a_log_range_that_is_none_is_refused(text):
    with pytest.raises(
        InputError, match=r"lr is 'log\(.*'; low must be above 0 and below high, and the count from 2 to 10,000"
    ):
        coordinate("lr", text, arch=False)


@pytest.mark.parametrize("text", ["[3, 5]", [3, 5], "[3, 5]^a"])
def test_a_choice_is_not_ordered(text):
    made = coordinate("row0.k", text)
    assert (made.values, made.ordered) == ((3, 5), False)


def test_only_widths_are_rounded():
    assert coordinate("row0.c", "(12, 20, 4)", width=True) == Coordinate(
        "row0.c", (16, 16, 24), True, True, (12, 16, 20)
    )
    assert coordinate("row0.n", "(12, 20, 4)").values == (12, 16, 20)


def test_a_fixed_value_is_no_coordinate():
    reader = _Reader("here")
    assert (reader.entry("row0.n", 3), reader.entry("row0.n", "3"), reader.coordinates) == (3, 3, {})


def test_a_slash_divides_first_block_and_further_blocks():
    reader = _Reader("here")
    assert reader.first_rest("row0.e", "(1, 2)/3") == ("row0.e.first", 3)
    assert reader.first_rest("row0.k", "[3, 5]") == ("row0.k", "row0.k")
    assert list(reader.coordinates) == ["row0.e.first", "row0.k"]


def test_a_mark_shares_a_coordinate_between_rows(tmp_path):
    rows = [TINY["rows"][0] | {"e": "(1, 2)^a", "n": 1} for _ in range(2)]
    space = load(tmp_path, TINY | {"rows": rows})
    assert [c.name for c in space.coordinates] == ["e^a", "row0.c", "row1.c"]
    assert [row.e for row in space.layout.rows] == [("e^a", "e^a")] * 2


def test_coordinates_are_in_the_order_of_the_file(tmp_path):
    space = load(tmp_path, TABLE2 | {"rows": [ROW]})
    names = ["resolution", "stem.c", "row0.k", "row0.c", "row0.n", *TABLE2["recipe"]]
    assert [c.name for c in space.coordinates] == names


def test_a_word_in_the_recipe_is_a_fixed_value(tmp_path):
    space = load(tmp_path, TINY | {"recipe": {"optimizer": "sgd", "dropout": 0.1}})
    assert space.fixed == (("optimizer", "sgd"), ("dropout", 0.1))
    assert space.recipe_size == 1


def test_the_factor_of_sgd_is_1_by_default(tmp_path):
    assert load(tmp_path, TINY).sgd_lr_factor == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"schema": 3}, "schema is 3"),
        ({"resolution": "(224, 272, 7)"}, "whole number of steps"),
        ({"resolution": "(272, 224, 8)"}, "whole number of steps"),
        ({"resolution": "(224, 224, 0)"}, "whole number of steps"),
        ({"resolution": "big"}, "give .*low, high, step"),
        ({"resolution": "[1, 2"}, "give .*low, high, step"),
        ({"resolution": 2.5}, "resolution is 2.5"),
        ({"rows": []}, "give a list of rows"),
        ({"rows": [{"k": 3}]}, r"rows\[0\]: missing key 'e'"),
        ({"rows": [ROW | {"se": "yes"}]}, "se is 'yes'"),
        ({"rows": [ROW | {"k": [3, 3]}]}, "give different values"),
        ({"rows": [ROW | {"k": []}]}, "give different values"),
        ({"rows": [ROW | {"k": [3, "five"]}]}, "each must be a whole number from 1 to 100,000"),
        (
            {"rows": [ROW | {"e": "(1, 2)^a"}, TABLE2["rows"][1] | {"e": "(1, 3)^a"}]},
            r"e\^a is '\(1, 3\)\^a'; an earlier row shares it as \[1, 2\]",
        ),
        ({"recipe": {"speed": [1, 2]}}, "recipe has 'speed'; searchable: lr"),
        ({"recipe": {"ema": "always"}}, "ema is 'always'"),
        ({"recipe": {"ema": [1, 2]}}, "ema is 1"),
        ({"recipe": {"optimizer": ["adam"]}}, "optimizer is 'adam'; .*'rmsprop'"),
        ({"recipe": {"dropout": "(50, 150, 50)e-2"}}, "dropout is 1.0; .*less than 1"),
        ({"recipe": {"lr": [[0.1], [0.2]]}}, "give different values"),
        ({"recipe": {"lr": {"low": 1}}}, "lr is {'low': 1}"),
        ({"recipe": {"lr": "1e-5"}}, "lr is '1e-5'; give '"),
        ({"name": 7}, "name is 7; give a text"),
        ({"about": ""}, "about is ''; give a text"),
        ({"in_chans": 0}, "in_chans is 0; give a whole number from 1"),
        ({"num_classes": True}, "num_classes is True; give a whole number from 1"),
        ({"sgd_lr_factor": 0}, "sgd_lr_factor is 0; give a number above 0"),
        ({"sgd_lr_factor": float("inf")}, "sgd_lr_factor is inf; give a number above 0"),
        ({"stem": {"k": 4, "c": 16, "s": 2}}, r"stem.k is \[4\]; give odd kernels"),
        ({"stem": {"k": 3, "c": 16, "s": 0}}, "stem.s is 0; give a whole number from 1"),
        ({"head": {"e": "(1, 6)", "c": 1984}}, r"head.e is '\(1, 6\)'; give a whole number"),
        ({"rows": [ROW | {"k": "[3, 5]/[4, 5]"}]}, r"row0.k is \[4, 5\]; give odd kernels"),
        ({"rows": [ROW | {"s": 0}]}, "row0.s is 0"),
        ({"rows": [ROW | {"n": 0}]}, "row0.n is 0; give a whole number from 1"),
        ({"rows": [ROW | {"e": "3^1"}]}, "row0.e is '3.1'; a fixed value is the same everywhere"),
        ({"rows": [ROW | {"c": "(8, 900000)"}]}, "899,993 values; at most 10,000"),
        ({"rows": [ROW | {"c": 100_001}]}, "row0.c is 100001; give a whole number from 1 to 100,000"),
        ({"rows": [ROW | {"n": "[1, 100001]"}]}, "each must be a whole number from 1 to 100,000"),
        ({"head": {"e": 6, "c": 10**30}}, "head.c is 10+; give a whole number from 1 to 100,000"),
        ({"rows": [ROW | {"c": "(1.2.3, 4)"}]}, r"row0.c is '\(1.2.3, 4\)'; give"),
        ({"recipe": None}, "recipe is None"),
    ],
)
def test_spaces_are_read_strictly(tmp_path, change, words):
    with pytest.raises(InputError, match=words) as error:
        load(tmp_path, TABLE2 | change)
    assert str(error.value).startswith(str(tmp_path / "space.yaml"))


def test_the_names_of_the_spaces_in_the_package():
    assert list_spaces() == ["cifar", "images", "micro", "micro_recipe", "recipe_only", "released", "table2"]


def test_an_unknown_space_is_answered_with_the_names():
    with pytest.raises(
        InputError,
        match="unknown search space 'nano'; available: cifar, images, micro, micro_recipe, recipe_only, released, table2, or",
    ):
        load_space("nano")


OPEN = {"resolution": "data up to 48", "in_chans": "data", "num_classes": "data"}


def test_a_space_takes_channels_classes_and_size_from_the_data(tmp_path):
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(TABLE2 | OPEN, sort_keys=False))
    numbers = TABLE2 | {"resolution": 40, "in_chans": 1, "num_classes": 7}
    assert takes_from_data(str(path))
    assert yaml.safe_load(filled(str(path), DataShape(1, 7, 40, 5))) == numbers
    assert load_space(str(path), DataShape(1, 7, 40, 5)) == load(tmp_path, numbers)


@pytest.mark.parametrize(("written", "side"), [("data up to 48", 48), ("data", 500), (64, 64)])
def test_the_size_may_have_a_limit(tmp_path, written, side):
    (tmp_path / "open.yaml").write_text(yaml.safe_dump(TABLE2 | OPEN | {"resolution": written}))
    assert load_space(str(tmp_path / "open.yaml"), DataShape(3, 7, 500, 5)).resolutions == (side,)


def test_what_is_not_taken_from_the_data_stays(tmp_path):
    (tmp_path / "open.yaml").write_text(yaml.safe_dump(TABLE2 | {"in_chans": "data"}))
    space, closed = load_space(str(tmp_path / "open.yaml"), DataShape(1, 7, 40, 5)), load(tmp_path, TABLE2)
    assert (space.in_chans, space.num_classes, space.resolutions) == (1, closed.num_classes, closed.resolutions)
    assert not takes_from_data(str(tmp_path / "space.yaml"))
    assert not takes_from_data(write(tmp_path / "mine.csv"))


def test_without_data_nothing_is_taken_from_it():
    with pytest.raises(InputError, match=r"resolution is 'data up to 64': a search takes it from its --data"):
        load_space("images")


def test_a_table_of_trainings_is_a_space_too(tmp_path):
    assert isinstance(load_space(write(tmp_path / "mine.csv")), TableSpace)


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_of_the_package_is_built_at_both_ends(name):
    space = load_space(name, ANY_DATA)
    for row in (np.zeros(len(space.sizes), int), space.sizes - 1):
        assert space.cost(row[None]).flops()[0] == cost(space.arch(row, "x"), space.num_classes, space.in_chans).flops()
