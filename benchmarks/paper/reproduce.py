"""Every number of the paper with its status here: measured here, not run, or only quoted.

`answers.yaml` says which result file answers a number, or why no result does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fbnetv3.benchmarks.paper.numbers import ITEMS, Item, Number, agrees, load_paper, round_like
from fbnetv3.benchmarks.paper.records import read_records, read_yaml
from fbnetv3.benchmarks.result import RESULTS, load_result
from fbnetv3.errors import InputError, available, check_keys
from fbnetv3.hub.registry import read_registry

Status = Literal["quoted", "measured here", "not run"]
Source = Literal["paper", "released files"]
HERE = Path(__file__).parent
RELEASED_TITLE = "not in the paper: published with the released files (hub/registry.json)"
_STYLES = {"quoted": "dim", "measured here": "green", "not run": "yellow"}


@dataclass(frozen=True)
class Measured:
    """A value that was measured here.

    Attributes:
        value: the measured value.
        rounded: the value with the digits of the printed number.
        agrees: whether `rounded` is the printed number.
        result: the result file that holds the value.
        date: when it was measured.
        command: the command that measured it.
        method: how it was measured.
        note: what is known about the value or its difference from the paper's; may be empty.
    """

    value: int | float
    rounded: str
    agrees: bool
    result: str
    date: str
    command: str
    method: str
    note: str


@dataclass(frozen=True)
class Row:
    """One published number and its status.

    `quoted`, `unit` and `place` are those of the publication. A row has `measured` if its status is "measured here"; otherwise
    it has the reason `why` nothing was measured.
    """

    item: str
    id: str
    label: str
    quoted: str
    unit: str
    place: str
    source: Source
    status: Status
    measured: Measured | None = None
    why: str = ""

    def __post_init__(self) -> None:
        measured = self.status == "measured here"
        if self.status not in get_args(Status) or (self.measured is not None) != measured or bool(self.why) == measured:
            raise ValueError(f"{self.item} {self.id}: {self.status!r} with {self.measured!r} and why {self.why!r}")


@dataclass(frozen=True)
class _Reason:
    """A reason why numbers are not measured here, with their status."""

    id: str
    status: str
    text: str


@dataclass(frozen=True)
class _Rule:
    """The answer to the numbers of an item whose ids match a pattern: a reason, or a value of a result file."""

    item: str
    numbers: str
    reason: str = ""
    result: str = ""
    value: str = ""
    note: str = ""
    small: str = ""  # next to a reason: the result file that asks the same question at small scale, on other images


@dataclass(frozen=True)
class _Released:
    """A field of hub/registry.json that is compared with a result file, for every released network."""

    item: str
    field: str
    name: str
    unit: str
    result: str
    value: str


@dataclass(frozen=True)
class _Answers:
    """The keys of answers.yaml."""

    reasons: Any
    answers: Any
    released: Any


def report(item: str | None = None, folder: Path = HERE, results: Path = RESULTS) -> list[Row]:
    """Return a row for every number of one table or figure, or of all: first the paper's, then those of the released files.

    Args:
        item: one of `ITEMS`; None for all of them.
        folder: folder of `paper.yaml` and `answers.yaml`.
        results: folder of the result files.

    Raises:
        InputError: the item is unknown, a file cannot be read, or `answers.yaml` does not answer every number.
    """
    if item is not None and item not in ITEMS:
        raise InputError(f"unknown item {item!r}; {available(item, ITEMS)}")
    paper = load_paper(folder / "paper.yaml")
    reasons, rules, extras = _load_answers(folder / "answers.yaml")
    _check_rules(paper, rules)
    rows: list[Row] = []
    for entry in paper:
        if item in (None, entry.id):
            rows += [_paper_row(entry.id, number, rules, reasons, results) for number in entry.numbers]
            rows += [row for extra in extras if extra.item == entry.id for row in _released_rows(extra, results)]
    return rows


def as_data(item: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of `report` as plain data for JSON: a list of items, each with id, title, section, note and rows."""
    rows = [asdict(row) for row in report(item)]
    return [
        {
            "id": entry.id,
            "title": entry.title,
            "section": entry.section,
            "note": entry.note,
            "rows": [row for row in rows if row["item"] == entry.id],
        }
        for entry in load_paper()
        if item in (None, entry.id)
    ]


def render(console: Console, item: str | None = None) -> None:
    """Print the rows of `report`: a table per item with numbered notes below it, and one line that counts the statuses."""
    rows = report(item)
    for entry in load_paper():
        if item not in (None, entry.id):
            continue
        console.print(Text(f"{entry.name} (section {entry.section}): {entry.title}", style="bold"))
        if entry.note:
            console.print(Text(entry.note))
        for source, heading in (("paper", ""), ("released files", RELEASED_TITLE)):
            block = [row for row in rows if row.item == entry.id and row.source == source]
            if block:
                _print_block(console, block, heading)
        console.print()
    console.print(Text(_summary(rows)))


def _load_answers(path: Path) -> tuple[dict[str, _Reason], list[_Rule], list[_Released]]:
    """Return reasons by id, rules, and the numbers of the released files."""
    data = check_keys(read_yaml(path), _Answers, path.name)
    reason_list = read_records(data["reasons"], _Reason, f"{path.name}: reasons")
    rules = read_records(data["answers"], _Rule, f"{path.name}: answers")
    extras = read_records(data["released"], _Released, f"{path.name}: released")
    # Reasons have ids, because many numbers have the same one.
    reasons = {reason.id: reason for reason in reason_list}
    for reason in reasons.values():
        if reason.status not in ("quoted", "not run"):
            raise InputError(f"{path.name}: reason {reason.id}: status is {reason.status!r}; allowed: quoted, not run")
    for i, rule in enumerate(rules):
        where = f"{path.name}: answers[{i}] ({rule.item} {rule.numbers})"
        if bool(rule.reason) == bool(rule.result) or bool(rule.result) != bool(rule.value):
            raise InputError(f"{where}: give either a reason, or a result and a value")
        # Accuracies on other images may only be pointed to, never compared with the paper's.
        if rule.small and not rule.reason:
            raise InputError(
                f"{where}: has small without a reason; give a reason, because a small experiment answers no number of the paper"
            )
        if rule.reason and rule.reason not in reasons:
            raise InputError(f"{where}: reason is {rule.reason!r}; allowed: {', '.join(reasons)}")
    return reasons, rules, extras


def _check_rules(paper: Sequence[Item], rules: Sequence[_Rule]) -> None:
    """Check that every number has a rule and every rule a number."""
    used = [_rule(rules, entry.id, number) for entry in paper for number in entry.numbers]
    # A rule that answers nothing is a mistyped pattern: the number that it was meant for got another answer.
    for rule in rules:
        if rule not in used:
            raise InputError(
                f"answers.yaml: the rule for {rule.item} {rule.numbers!r} answers no number; remove or correct it"
            )


def _rule(rules: Sequence[_Rule], item: str, number: Number) -> _Rule:
    """Return the rule that answers a number."""
    # The first rule that fits answers: special cases stand before the general ones.
    for rule in rules:
        if rule.item == item and fnmatchcase(number.id, rule.numbers):
            return rule
    raise InputError(
        f"answers.yaml: no rule answers {item} {number.id!r}; add one with a reason, or with result and value"
    )


def _paper_row(item: str, number: Number, rules: Sequence[_Rule], reasons: dict[str, _Reason], results: Path) -> Row:
    """Return the row of one number of the paper."""
    rule = _rule(rules, item, number)
    if rule.result:
        status, why = "measured here", ""
        measured = _measured(number.figure, rule.result, rule.value.replace("{row}", number.row), rule.note, results)
    else:
        status, measured = reasons[rule.reason].status, None
        why = reasons[rule.reason].text + (_small(rule.small, results) if rule.small else "")
    return Row(
        item=item,
        id=number.id,
        label=number.label,
        quoted=number.value,
        unit=number.unit,
        place=number.place,
        source="paper",
        status=cast(Status, status),
        measured=measured,
        why=why,
    )


def _small(name: str, results: Path) -> str:
    """Return where the same question was asked at small scale. Its number is left out: other images, other accuracies."""
    result = load_result(name, results)
    # An experiment trains for an hour. With --show its command prints the result that exists.
    show = " --show" if "experiment" in result.values else ""
    return (
        f"; measured here at small scale, on other images, which is no answer to this number: results/{name}.json "
        f"({result.date}, `{result.command}{show}`)"
    )


def _measured(figure: str, name: str, path: str, note: str, results: Path) -> Measured:
    """Return the value at a dotted path of a result file, and whether it agrees with a printed number."""
    result = load_result(name, results)
    value = result.number(path)
    return Measured(
        value=value,
        rounded=round_like(figure, value),
        agrees=agrees(figure, value),
        result=f"results/{name}.json",
        date=result.date,
        command=result.command,
        method=result.method,
        note=note,
    )


def _released_rows(extra: _Released, results: Path) -> Iterator[Row]:
    """Yield a row for every released network. Its published number is in millions, and exact to the last unit."""
    for row in (row for row in read_registry().rows if row.source == "fb"):
        name, published = row.model, getattr(row, extra.field)
        yield Row(
            item=extra.item,
            id=f"{name}.{extra.field}",
            label=f"{name}: {extra.name}",
            quoted=f"{published}M",
            unit=extra.unit,
            place=f"hub/registry.json, {row.id}: {extra.field}",
            source="released files",
            status="measured here",
            # Six decimals of a million are single units: these numbers are compared exactly.
            measured=_measured(f"{published:.6f}M", extra.result, extra.value.replace("{row}", name), "", results),
        )


def _print_block(console: Console, rows: Sequence[Row], heading: str) -> None:
    """Print one table and the notes that its rows refer to."""
    notes: list[str] = []
    table = Table(title=heading or None, title_justify="left", title_style="bold yellow", box=None, pad_edge=False)
    published = "released" if heading else "paper"
    for column in ("number", f"{published} says", "unit", "place", "status", "measured here"):
        table.add_column(column, justify="right" if column.endswith("says") else "left")
    for row in rows:
        marks = "".join(f" [{_note_number(note, notes)}]" for note in _notes(row))
        status = Text(row.status + marks, style=_STYLES[row.status])
        table.add_row(*map(Text, (row.label, row.quoted, row.unit, row.place)), status, _measured_text(row.measured))
    console.print(table)
    for i, note in enumerate(notes, 1):
        console.print(Text(f"[{i}] {note}", style="dim"))


def _notes(row: Row) -> list[str]:
    """Return how a number was measured, or why it was not."""
    if row.measured is None:
        return [row.why]
    measured = row.measured
    how = f"{measured.result}, {measured.date}, by `{measured.command}`: {measured.method}"
    return [how, measured.note] if measured.note else [how]


def _note_number(note: str, notes: list[str]) -> int:
    """Return the number of a note, which is added to `notes` if it is new."""
    # Many numbers have the same reason. It is printed once, and the rows refer to it.
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1


def _measured_text(measured: Measured | None) -> Text:
    """Return the last cell of a row: the value as it is, as rounded, and whether it agrees."""
    if measured is None:
        return Text("")
    verdict, style = ("agrees", "green") if measured.agrees else ("differs", "bold red")
    return Text(f"{measured.value:,} = {measured.rounded}: {verdict}", style=style)


def _summary(rows: Sequence[Row]) -> str:
    """Return the line that counts the rows by status."""
    measured = [row.measured for row in rows if row.measured is not None]
    agree = sum(m.agrees for m in measured)
    quoted, not_run = (sum(row.status == status for row in rows) for status in ("quoted", "not run"))
    return (
        f"{len(rows)} numbers: {len(measured)} measured here ({agree} agree, {len(measured) - agree} differ), "
        f"{not_run} not run, {quoted} quoted"
    )
