"""Files of tables: a CSV file read by hand, the file of NAS-Bench-Macro, and what is wrong with a file."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.table_file import list_tables, read_table, table_path
from tests.search.tables import HEADER, LINES, changed, write


def write_path(tmp_path, lines=LINES, header=HEADER):
    path = tmp_path / "mine.csv"
    write(path, lines, header)
    return path


def test_the_coordinates_of_a_csv_file(tmp_path):
    space = read_table(write_path(tmp_path))
    assert space.name == "mine"
    assert space.num_classes == 1000
    assert [(c.name, c.values, c.ordered, c.arch) for c in space.coordinates] == [
        ("depth", (1, 2), True, True),
        ("kernel", ("k3", "k5"), False, True),
        ("lr", (0.05, 0.1), True, False),
    ]


def test_the_rows_and_trainings_of_a_csv_file(tmp_path):
    space = read_table(write_path(tmp_path))
    assert space.table.tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert space.trainings.tolist() == [1, 2, 1, 1, 1]
    assert np.array_equal(space.acc1[1], [[30, 50], [32, 54]])
    assert np.array_equal(space.acc1[3], [[33, np.nan], [np.nan, np.nan]], equal_nan=True)


def test_the_labels_of_a_csv_file(tmp_path):
    labels = read_table(write_path(tmp_path)).labels
    assert {name: values.tolist() for name, values in labels.items()} == {
        "flops": [200, 100, 300, 150, 150],
        "params": [20, 10, 30, 10, 10],
        "ms": [1.5, 0.5, 2.0, 0.5, 0.5],
    }


def test_the_order_of_the_columns_is_free(tmp_path):
    names = HEADER.split(",")
    order = [8, 3, 0, 5, 7, 1, 6, 2, 4]  # the accuracies come backwards
    lines = [",".join(line.split(",")[i] for i in order) for line in LINES]
    moved = read_table(write_path(tmp_path, lines, ",".join(names[i] for i in order)))
    plain = read_table(write_path(tmp_path))
    assert np.array_equal(moved.table, plain.table)
    assert np.array_equal(moved.acc1, plain.acc1, equal_nan=True)


@pytest.mark.parametrize("end", ["\n", "\n\n", "\r\n", "\n,,,\n", "\n\n\n"])
def test_blank_lines_are_no_trainings(tmp_path, end):
    (tmp_path / "a.csv").write_bytes(f"arch.k,label.flops,label.params,acc1\n\n3,10,5,50\n\n4,20,5,60{end}".encode())
    assert read_table(tmp_path / "a.csv").acc1.tolist() == [[[50.0]], [[60.0]]]
    (tmp_path / "a.csv").write_bytes(b"arch.k,label.flops,label.params,acc1\n\n3,10,5,x\n")
    with pytest.raises(InputError, match="line 3, column 'acc1' is 'x'"):  # counted as an editor counts them
        read_table(tmp_path / "a.csv")


def test_a_mark_of_spreadsheets_is_not_read(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffarch.k,label.flops,label.params,acc1\n3,10,5,50\n", encoding="utf-8")
    assert [c.name for c in read_table(tmp_path / "a.csv").coordinates] == ["k"]


def test_1_000_is_a_word(tmp_path):
    space = read_table(write_path(tmp_path, ["1_000,10,5,50", "4,20,5,60"], "arch.k,label.flops,label.params,acc1"))
    assert space.coordinates[0].values == ("1_000", "4")
    with pytest.raises(InputError, match=r"column 'label\.flops' is '1_000'; give a number"):
        read_table(write_path(tmp_path, ["3,1_000,5,50"], "arch.k,label.flops,label.params,acc1"))


@pytest.mark.parametrize("flops", ["1e30", str(2**63), str(2**53 + 2), "0", "1.5"])
def test_counts_that_are_no_counts(tmp_path, flops):
    with pytest.raises(
        InputError, match=r"column 'label\.flops' is .*; give a whole number from 1 to 9,007,199,254,740,992"
    ):
        read_table(write_path(tmp_path, [f"3,{flops},5,50"], "arch.k,label.flops,label.params,acc1"))


def test_one_epoch_needs_no_number(tmp_path):
    space = read_table(write_path(tmp_path, ["3,10,5,50", "4,20,5,60"], "arch.k,label.flops,label.params,acc1"))
    assert space.acc1.tolist() == [[[50.0]], [[60.0]]]


def test_a_column_of_numbers_and_words_is_a_choice(tmp_path):
    lines = ["1,10,5,50", "none,20,5,60", "2.5,20,5,60"]
    (coordinate,) = read_table(write_path(tmp_path, lines, "arch.a,label.flops,label.params,acc1")).coordinates
    assert (coordinate.values, coordinate.ordered) == (("1", "2.5", "none"), False)


@pytest.mark.parametrize("cell", ["nan", "inf", "9" * 400])
def test_a_number_that_is_not_finite_is_a_word(tmp_path, cell):
    lines = ["1,10,5,50", f"{cell},20,5,60", f"{cell},20,5,70"]
    space = read_table(write_path(tmp_path, lines, "arch.a,label.flops,label.params,acc1"))
    assert (set(space.coordinates[0].values), space.coordinates[0].ordered) == ({"1", cell}, False)
    assert space.trainings.tolist() == [1, 2]


def test_equal_numbers_are_one_value_however_they_are_written(tmp_path):
    space = read_table(write_path(tmp_path, ["1,10,5,50", "1.0,10,5,60"], "arch.a,label.flops,label.params,acc1"))
    assert space.trainings.tolist() == [2]


BAD_FILES = {
    "a text as label": (
        changed(0, "label.flops", "many"),
        HEADER,
        "line 2, column 'label.flops' is 'many'; give a number",
    ),
    "a fraction of a parameter": (
        changed(0, "label.params", "1.5"),
        HEADER,
        "line 2, column 'label.params' is '1.5'; give a whole number from 1",
    ),
    "no FLOPs": (
        changed(0, "label.flops", "0"),
        HEADER,
        "line 2, column 'label.flops' is '0'; give a whole number from 1",
    ),
    "two labels of a candidate": (
        changed(3, "label.ms", "9"),
        HEADER,
        "line 5, column 'label.ms' is '9'; line 3 has the same candidate with 0.5",
    ),
    "a gap in a curve": (
        changed(2, "acc1.1", ""),
        HEADER,
        "line 4, column 'acc1.2' is '70'; an earlier epoch is empty",
    ),
    "too accurate": (changed(2, "acc1.2", "170"), HEADER, "line 4, column 'acc1.2' is '170'; give percent"),
    "not a number": (changed(2, "label.ms", "nan"), HEADER, "line 4, column 'label.ms' is 'nan'; give a number"),
    "a number that is too large": (changed(2, "label.ms", "9" * 400), HEADER, "...; give a number"),
    "a short line": ([*LINES, "1,2"], HEADER, "line 8 has 2 cells, the header has 9; give one for each column"),
    "no lines": ([], HEADER, "has a header but no line; give a line for every training"),
    "an unknown column": (
        LINES,
        HEADER.replace("note.who", "who"),
        "line 1, column 'who': unknown; allowed: arch.NAME",
    ),
    "a missing epoch": (LINES, HEADER.replace("acc1.2", "acc1.3"), "line 1, column 'acc1': epochs must be 1, 2"),
    "no column of FLOPs": (LINES, HEADER.replace("label.flops", "label.f"), "line 1, column 'label.flops': missing"),
    "a coordinate twice": (LINES, HEADER.replace("recipe.lr", "recipe.depth"), "line 1, column 'depth': given twice"),
    "a column twice": (LINES, HEADER.replace("label.ms", "note.who"), "line 1, column 'note.who': given twice"),
    "no coordinate": (["1,1,1"], "label.flops,label.params,acc1", "column 'arch.NAME or recipe.NAME': missing"),
    "no accuracy": (["1,1,1"], "arch.a,label.flops,label.params", "line 1, column 'acc1': missing"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_wrong_with_a_csv_file_is_one_line(tmp_path, name):
    lines, header, words = BAD_FILES[name]
    path = write_path(tmp_path, lines, header)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert words in str(error.value)
    assert str(error.value).startswith(str(path))


def test_an_empty_file_has_no_columns(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty\.csv: line 1, column 'arch.NAME or recipe.NAME': missing"):
        read_table(tmp_path / "empty.csv")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b'a,"b\nc'], ids=["no text", "open quote"])
def test_a_file_that_is_no_csv_is_refused(tmp_path, content):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.csv (cannot be read as a|is no) table of trainings.*: "):
        read_table(tmp_path / "bad.csv")


def test_a_csv_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the table of trainings .*absent\.csv: No such file"):
        read_table(tmp_path / "absent.csv")


@pytest.fixture(scope="module")
def macro(tmp_path_factory):
    """A file in the format of NAS-Bench-Macro with made-up numbers, and its content."""
    keys = ["".join(digits) for digits in itertools.product("012", repeat=8)]
    data = {
        key: {
            "test_acc": [10 + i % 50, 20 + i % 50, 30 + i % 50],
            "mean_acc": 0.0,
            "flops": 1000 + i,
            "params": 10 + i,
        }
        for i, key in enumerate(keys)
    }
    path = tmp_path_factory.mktemp("macro") / "macro.json"
    path.write_text(json.dumps(data))
    return path, data


def test_nas_bench_macro_has_8_layers_of_3_choices(macro):
    space = read_table(macro[0])
    assert (space.name, space.num_classes, len(space.table)) == ("nas-bench-macro", 10, 3**8)
    assert space.facts["licence"] == "Apache-2.0"
    assert not space.held_out
    assert [(c.name, c.values, c.ordered) for c in space.coordinates] == [
        (f"layer{i}", (0, 1, 2), False) for i in range(8)
    ]
    assert space.listed is None


def test_a_row_of_nas_bench_macro_has_the_numbers_of_its_key(macro):
    path, data = macro
    space = read_table(path)
    row = np.array([[0, 2, 1, 0, 0, 1, 2, 2]])
    expected = data["02100122"]
    assert space.acc1[space.position(row)[0], :, 0].tolist() == expected["test_acc"]
    assert space.cost(row).flops().tolist() == [expected["flops"]]
    assert space.cost(row).params().tolist() == [expected["params"]]
    assert space.accuracy(row).tolist() == [np.mean(expected["test_acc"])]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "[1, 2",
        "[]",
        json.dumps({"00000000": {"test_acc": [1, 2, 3], "flops": 1, "params": 1}}),
    ],
    ids=["absent", "cut off", "a list", "one row"],
)
def test_another_json_file_is_refused(tmp_path, content):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="table of NAS-Bench-Macro"):
        read_table(path)


def test_the_table_of_the_package_is_of_the_quickstart():
    assert list_tables() == ["fashion_mnist"]
    path = table_path(Path("fashion_mnist"))
    assert path.stat().st_size <= 2_000_000
    table, context = read_table(path), Context.of(load_preset("quickstart"))
    for ours, theirs in zip(table.coordinates, context.space.coordinates, strict=True):
        assert (ours.name, len(ours.values), ours.arch) == (theirs.name, len(theirs.values), theirs.arch)
    assert context.constraints.satisfied(table.table).all()
    assert np.array_equal(table.label("flops", table.table), context.space.cost(table.table).flops())
    assert table.acc1.shape[2] == context.base.epochs
    assert table.trainings.sum() >= 500
    assert (table.trainings >= 3).sum() >= 50
    assert table.facts["licence"] == "Apache-2.0"
    # What it says of its data is no path of somebody's machine.
    assert table.facts["data"] == "fashion_mnist"


def test_an_unknown_table_is_answered_with_the_names():
    with pytest.raises(
        InputError, match=r"unknown table 'mnist'; available: fashion_mnist, or the path of a file \(\.csv"
    ):
        read_table(Path("mnist"))
