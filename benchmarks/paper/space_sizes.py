"""How many architectures and recipes the search spaces hold.

    fbnetv3 benchmark space-sizes

writes `results/space_sizes.json` in some seconds; the counts do not depend on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, versions, write_result
from fbnetv3.search.space.audit import audit
from fbnetv3.search.space.space import list_spaces, load_space

NAME = "space_sizes"
METHOD = (
    "`fbnetv3 search audit` of every space of the package. `architectures`: as written, resolution included; "
    "`without_resolution`: those of one resolution; `built`: architectures that differ after widths are rounded to multiples "
    "of 8, resolution included; `recipes`: combinations of the searched values of recipes. `table2` is the caption of Table 2 "
    "read literally, in which the kernel of MBPool is no choice: that block has no depthwise convolution."
)


def measure_space(name: str) -> dict[str, Any]:
    """The sizes of one space."""
    found = audit(load_space(name), ())
    return {
        "architectures": found.architectures,
        "resolutions": found.resolutions,
        "without_resolution": found.architectures // found.resolutions,
        "built": found.built,
        "recipes": found.recipes,
    }


def measure(folder: Path = RESULTS) -> Result:
    """Count all spaces and write `<folder>/space_sizes.json`."""
    result = Result.now(
        command=command_of(NAME),
        method=METHOD,
        versions=versions(["numpy"]),
        values={name: measure_space(name) for name in list_spaces()},
    )
    write_result(NAME, result, folder)
    return result


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    argparse.ArgumentParser(prog=command_of(NAME), description=__doc__).parse_args(argv)
    return measure()


if __name__ == "__main__":
    main()
