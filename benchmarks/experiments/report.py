"""What an experiment showed: tables on a terminal, and the generated blocks of docs/experiments.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fbnetv3.benchmarks.experiments.config import list_experiments
from fbnetv3.benchmarks.result import Result, load_result

CELLS = ("cell", "network", "recipe", "epochs", "FLOPs", "params", "top-1 (%)", "deviation", "n")
DIFFERENCES = ("difference", "points", "95% interval", "n", "paper's sign", "here")
Rows = list[tuple[str, ...]]


def cell_rows(values: Mapping[str, Any]) -> Rows:
    """A row a cell, under `CELLS`."""
    rows: Rows = []
    for name, cell in values["cells"].items():
        network = values["networks"][cell["network"]]
        recipe = ", ".join([cell["recipe"], *(f"{key} {value}" for key, value in cell["changes"].items())])
        model = ", ".join([network["model"], *(f"{key} {value}" for key, value in network["arguments"].items())])
        failed = f" ({len(cell['failed'])} failed)" if cell["failed"] else ""
        rows.append(
            (
                name,
                model,
                recipe + (f", taught by {cell['teacher']}" if cell["teacher"] else ""),
                str(cell["epochs"]),
                _amount(network["flops"]),
                _amount(network["params"]),
                _number(cell["mean"]),
                _number(cell["deviation"]),
                f"{cell['n']}{failed}",
            )
        )
    return rows


def difference_rows(values: Mapping[str, Any]) -> Rows:
    """A row a difference, under `DIFFERENCES`."""
    return [
        (
            row["about"],
            _number(row["mean"], "+"),
            "none" if row["low"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}",
            str(row["n"]),
            row["paper"],
            verdict(row),
        )
        for row in values["differences"].values()
    ]


def full_rows(values: Mapping[str, Any]) -> Rows:
    """Name, model, input side, multiply-adds and parameters of every network of the full scale."""
    return [
        (name, row["model"], str(row["resolution"]), _amount(row["flops"]), _amount(row["params"]))
        for name, row in values["full"].items()
    ]


def verdict(row: Mapping[str, Any]) -> str:
    """What the interval of a difference allows to say, beside the sign of the paper's numbers."""
    if row["excludes_zero"] is None:
        return "too few seeds"
    if not row["excludes_zero"]:
        return "includes zero: not told apart"
    return f"excludes zero, sign {'as' if (row['mean'] > 0) == (row['paper'] == 'positive') else 'against'} the paper's"


def summary(values: Mapping[str, Any]) -> str:
    """One sentence that counts the verdicts."""
    found = [verdict(row) for row in values["differences"].values()]
    counts = [sum(words in text for text in found) for words in (" as the", "against", "includes", "too few")]
    few = f", {counts[3]} have too few seeds" if counts[3] else ""
    return (
        f"Of {len(found)} differences {counts[0]} have the paper's sign with an interval that excludes zero, {counts[1]} the "
        f"opposite sign with one that excludes zero, and {counts[2]} cannot be told from zero{few}."
    )


def print_tables(console: Console, result: Result) -> None:
    """The cells, the differences, and the costs of the networks of the full scale."""
    values, data = result.values, result.values["data"]
    console.print(Text(f"{values['experiment']}, scale {values['scale']}: {values['title']}", style="bold"))
    console.print(
        Text(
            f"{data['name']}: {data['train']} training images, top-1 on {data[data['split']]} of {data['split']}; "
            f"{result.date}, `{result.command}`"
        )
    )
    for columns, rows in ((CELLS, cell_rows(values)), (DIFFERENCES, difference_rows(values))):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    console.print(Text(summary(values)))
    console.print(Text(result.method, style="dim"))


def markdown(result: Result) -> str:
    """The block of docs/experiments.md of one result."""
    values, data = result.values, result.values["data"]
    full = ("at full scale", "network", "pixels", "FLOPs", "params")
    return "\n".join(
        [
            f"Measured {result.date} with `{result.command}` (torch "
            f"{result.versions['torch']}): {data['train']:,} training images "
            f"of `{data['name']}`, top-1 on its {data[data['split']]:,} {data['split']} images.",
            "",
            *markdown_table(CELLS, cell_rows(values)),
            "",
            *markdown_table(DIFFERENCES, difference_rows(values)),
            "",
            summary(values),
            "",
            *markdown_table(full, full_rows(values)),
        ]
    )


def block(name: str) -> str:
    """The block of an experiment, from its result file."""
    return markdown(load_result(f"experiment_{name}"))


BLOCKS: dict[str, Callable[[], str]] = {name: partial(block, name) for name in list_experiments()}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _amount(count: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
