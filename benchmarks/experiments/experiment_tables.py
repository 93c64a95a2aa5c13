"""The tables of an experiment: its cells, its differences, and the networks of the full scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table, amount, decimals

CELLS: dict[str, Format] = {
    "cell": "{name}",
    "network": lambda cell: ", ".join([cell["model"], *_settings(cell["arguments"])]),
    "recipe": lambda cell: ", ".join([cell["recipe"], *_settings(cell["changes"]), *_tuned(cell)]) + _taught_by(cell),
    "epochs": "{epochs}",
    "FLOPs": lambda cell: amount(cell["flops"]),
    "params": lambda cell: amount(cell["params"]),
    "top-1 (%)": lambda cell: decimals(cell["mean"]),
    "std": lambda cell: decimals(cell["deviation"]),
    "n": lambda cell: f"{cell['n']}" + (f" ({len(cell['failed'])} failed)" if cell["failed"] else ""),
}
DIFFERENCES: dict[str, Format] = {
    "difference": "{about}",
    "points": lambda row: decimals(row["mean"], "+.2f"),
    "95% interval": lambda row: "none" if row["low"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}",
    "n": "{n}",
    "paper's sign": "{paper}",
    "here": lambda row: verdict(row),
}
FULL: dict[str, Format] = {
    "at full scale": "{name}",
    "network": "{model}",
    "pixels": "{resolution}",
    "FLOPs": lambda network: amount(network["flops"]),
    "params": lambda network: amount(network["params"]),
}


def tables(result: Result) -> dict[str, Table]:
    """Return the cells, the differences, and the costs of the networks of the full scale."""
    values, data = result.values, result.values["data"]
    split = f"{data['train']:,} training images of {data['name']}, top-1 on {data[data['split']]:,} of {data['split']}"
    return {
        f"{values['title']}: {split}": Table.of(CELLS, _cells(values)),
        "differences": Table.of(DIFFERENCES, values["differences"].values()),
        "networks of the full scale": Table.of(FULL, ({"name": name, **row} for name, row in values["full"].items())),
    }


def verdict(row: Mapping[str, Any]) -> str:
    """Return what the interval of a difference allows to say about the sign of the paper's numbers."""
    if row["excludes_zero"] is None:
        return "too few seeds"
    if not row["excludes_zero"]:
        return "undecided: the interval includes zero"
    return "the paper's sign" if (row["mean"] > 0) == (row["paper"] == "positive") else "against the paper's sign"


def _cells(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every cell with the values of its network."""
    for name, cell in values["cells"].items():
        # The file has the costs once per network, because several cells train the same one.
        yield {**values["networks"][cell["network"]], **cell, "name": name}


def _settings(mapping: Mapping[str, Any]) -> list[str]:
    """Return the entries of a mapping as words."""
    return [f"{key} {value}" for key, value in mapping.items()]


def _tuned(cell: Mapping[str, Any]) -> list[str]:
    """Return the words for the values that a cell was tuned to, none if it was not tuned."""
    tried = [row for row in cell.get("tuned", []) if row["val_acc1"] is not None]
    if not tried:
        return []
    best = {key: value for key, value in max(tried, key=lambda row: row["val_acc1"]).items() if key != "val_acc1"}
    return [f"{', '.join(_settings(best))} (best of {len(cell['tuned'])})"]


def _taught_by(cell: Mapping[str, Any]) -> str:
    """Return the words that name the teacher of a cell, if it has one."""
    return f", taught by {cell['teacher']}" if cell["teacher"] else ""
