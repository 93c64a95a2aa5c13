"""`fbnetv3 search status | watch`: how far a search is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fbnetv3.cli.show import Json, out
from fbnetv3.schema import dump_json

if TYPE_CHECKING:
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
