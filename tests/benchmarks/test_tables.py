"""Tables: cells made of rows, the same in Markdown and on a terminal."""

import io

import pytest
from rich.console import Console

from fbnetv3.benchmarks.tables import Table, amount, decimals, difference, duration, number, ratio

TABLE = Table.of(
    {"network": "`{name}`", "AP": "{mean[AP]:.1f}", "FLOPs": lambda row: amount(row["flops"])},
    [{"name": "a", "mean": {"AP": 2.25}, "flops": 4_130_000}, {"name": "[red]", "mean": {"AP": 10.0}, "flops": 999}],
)


def test_a_cell_is_the_row_in_the_format_of_its_column():
    assert TABLE.columns == ("network", "AP", "FLOPs")
    assert TABLE.rows == (("`a`", "2.2", "4.13M"), ("`[red]`", "10.0", "999"))


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| network | AP | FLOPs |",
        "| --- | --- | --- |",
        "| `a` | 2.2 | 4.13M |",
        "| `[red]` | 10.0 | 999 |",
    ]


def test_a_terminal_shows_no_backticks_and_reads_no_markup():
    console = Console(file=io.StringIO(), width=60)
    console.print(TABLE.rich("costs"))
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert lines == ["costs", "network AP FLOPs", "a 2.2 4.13M", "[red] 10.0 999"]


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (15_400, "15.4K"), (4_130_000, "4.13M"), (7_800_000_000, "7.8G")]
)
def test_amounts(count, text):
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.4e-7, "0.24 µs"), (9e-4, "9e+02 µs"), (0.0024, "0.0024 s"), (61, "61 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.999581, "0.99958"), (8.0, "8"), (1_000_000, "1,000,000"), (-0.0123, "-0.0123")]
)
def test_numbers(value, text):
    assert number(value) == text


def test_numbers_with_intervals():
    assert decimals(None) == "-"
    assert decimals(1.234) == "1.23"
    assert decimals(1.234, "+.1f") == "+1.2"
    assert difference({"mean": 0.275, "low": -0.1, "high": 0.65}) == "+0.28 (-0.10 to +0.65)"
    assert ratio({"ratio": 1.634, "low": 1.6, "high": 1.66}) == "1.63 [1.60, 1.66]"
