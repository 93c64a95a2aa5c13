"""`fbnetv3 search status | watch | top | diff`: how far a search is, and what it has found."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fbnetv3.cli.show import Json, out, print_rows, say
from fbnetv3.errors import InputError
from fbnetv3.schema import dump_json

if TYPE_CHECKING:
    from fbnetv3.search.report.ranking import Ranked
    from fbnetv3.search.runs.status import Status

Folder = Annotated[Path, typer.Argument(help="Folder of a search, whether it runs, was stopped or has ended.")]


def status(folder: Folder, as_json: Json = False) -> None:
    """Say how far a search is: its state, trainings, best accuracy, time, and what to type next.

    It only reads, so a running search is not disturbed.
    """
    found = _status(folder)
    if as_json:
        print(dump_json(found.to_dict()))
    else:
        out.print(_screen(found))


def watch(
    folder: Folder,
    every: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Show `status` again every few seconds until the search ends or stops. Ctrl-C ends the watching alone."""
    try:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                found = _status(folder)
                live.update(_screen(found), refresh=True)
                if found.state != "running":
                    return
                time.sleep(every)
    except KeyboardInterrupt:
        return


def top(
    folder: Folder,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of candidates.")] = 10,
    measured: Annotated[
        bool,
        typer.Option("--measured", help="Rank by measured accuracy alone, without the seconds that a predictor takes."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the best candidates so far: measured accuracy, what the predictor believes, costs, and the recipes that differ.

    The highest of many noisy accuracies is too high, so the predictor's mean decides the order.
    """
    from fbnetv3.search.report.ranking import differing, rank
    from fbnetv3.search.runs.folder import load_search
    from fbnetv3.search.runs.status import comparable_epochs

    search = load_search(folder)
    trials = search.trials()
    ranking = rank(search.context, trials, comparable_epochs(search.context, trials), predict=not measured)
    if as_json:
        print(dump_json(ranking.to_dicts(n)))
        return
    if not ranking.rows:
        say("No training has succeeded yet.")
        return
    shown = ranking.rows[:n]
    names = differing(shown, [c.name for c in search.space.coordinates if not c.arch])
    print_rows([_row(row, names) for row in shown], as_json)
    words = f"Trials are ROUND.INDEX. Accuracies are validation accuracies after {ranking.epochs} epochs."
    if shown[0].belief is not None:
        words += (
            " Believed is what the predictor believes after all trainings, with an interval of 90%; best is the probability "
            "that no other trained candidate is better. Trainings of the first one have a standard deviation of about "
            f"{shown[0].belief.noise:.1f} points."
        )
    say(words)


def diff(
    folder: Folder,
    a: Annotated[
        str, typer.Argument(help="ROUND.INDEX of a trial, as `search top` shows it, or the folder of another search.")
    ],
    b: Annotated[
        str, typer.Argument(help="ROUND.INDEX of another trial. The default is the answer of the search.")
    ] = "answer",
    as_json: Json = False,
) -> None:
    """Say what two trials differ in, or a trial and the answer, or the answers of two searches."""
    from fbnetv3.search.runs.difference import answer_of, compare, side_of
    from fbnetv3.search.runs.folder import load_search

    search = load_search(folder)
    if Path(a).is_dir():
        if b != "answer":
            raise InputError(f"{a} is a folder, so the answers of both searches are compared; leave out {b}")
        found = compare(answer_of(search, str(folder)), answer_of(load_search(a), a))
    else:
        found = compare(side_of(search, a), side_of(search, b))
    if as_json:
        print(dump_json(dataclasses.asdict(found)))
        return
    rows = [{"": row.kind, "what": row.what, found.a: _cell(row.a), found.b: _cell(row.b)} for row in found.rows]
    print_rows(rows, as_json)
    say(f"{found.same} other values of architecture and recipe are equal.")


def _cell(value: Any) -> str | None:
    from fbnetv3.search.report.findings import value_words

    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return None if value is None else value_words(value)


def _row(row: Ranked, names: list[str]) -> dict[str, Any]:
    from fbnetv3.search.report.findings import value_words

    cells: dict[str, Any] = {"trial": row.trial}
    if (belief := row.belief) is not None:
        cells |= {
            "believed": f"{belief.mean:.1f} ({belief.low:.1f} to {belief.high:.1f})",
            "best": f"{belief.best:.0%}",
        }
    cells |= {"measured": f"{row.acc1:.2f}", "FLOPs": f"{row.flops:,}", "params": f"{row.params:,}"}
    cells |= {name: value_words(row.values[name]) for name in names}
    return cells | {"seconds": f"{row.seconds:.0f}"}


def _status(folder: Path) -> Status:
    from fbnetv3.search.runs.folder import load_search
    from fbnetv3.search.runs.status import status_of

    return status_of(load_search(folder))


def _screen(found: Status) -> Any:
    grid = Table.grid(padding=(0, 2))
    for name, text in found.lines():
        # Text, because rich would read a folder named [b] as markup.
        grid.add_row(Text(name, style="bold"), Text(text, overflow="fold"))
    return grid
