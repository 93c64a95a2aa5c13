"""How many architectures and recipes the search spaces hold.

The counts do not depend on the machine and take some seconds. `fbnetv3 reproduce table2` compares them with the paper's.
"""

from __future__ import annotations

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.search.space.audit import audit
from fbnetv3.search.space.network_space import as_networks
from fbnetv3.search.space.reader import ANY_DATA, list_spaces, load_space

METHOD = (
    "`fbnetv3 search audit` of every space of the package. `architectures`: as written, resolution included; "
    "`without_resolution`: those of one resolution; `built`: architectures that differ after widths are rounded to multiples "
    "of 8, resolution included; `recipes`: combinations of the searched values of recipes. `table2` is the caption of Table 2 "
    "read literally, in which the kernel of MBPool is no choice: that block has no depthwise convolution."
)


COLUMNS: dict[str, Format] = {
    "space": "`{space}`",
    "architectures as written": lambda row: _count(row["architectures"]),
    "as built": lambda row: _count(row["built"]),
    "recipes": lambda row: _count(row["recipes"]),
    "as written, without resolution": lambda row: _count(row["without_resolution"]),
}


def measure(spaces: tuple[str, ...] = ()) -> Measured:
    """Count the given spaces; by default all of the package."""
    return Measured({name: measure_space(name) for name in spaces or list_spaces()})


def measure_space(name: str) -> Values:
    """Return the sizes of one space."""
    # Without networks to compare with: only the sizes are needed.
    found = audit(as_networks(load_space(name, ANY_DATA)), ())
    return {
        "architectures": found.architectures,
        "resolutions": found.resolutions,
        "without_resolution": found.architectures // found.resolutions,
        "built": found.built,
        "recipes": found.recipes,
    }


def _count(number: int) -> str:
    """Return a number of candidates as the table prints it."""
    # 10^17 is what the paper writes: of large sizes only the power of ten can be compared.
    return f"{number:.2e}" if number >= 1e6 else str(number)


def tables(result: Result) -> dict[str, Table]:
    """Return the sizes, a row per space."""
    return {"search spaces": Table.of(COLUMNS, ({"space": name, **row} for name, row in result.values.items()))}


BENCHMARK = Benchmark("space_sizes", METHOD, ("numpy",), measure, tables=tables, depends_on_machine=False)
