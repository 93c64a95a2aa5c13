"""How many architectures and recipes the search spaces hold.

    python -m fbnetv3.benchmarks.space_sizes

writes `results/space_sizes.json` in some seconds; the counts do not depend on the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.result import RESULTS, Result, versions, write_result
from fbnetv3.search.audit import audit
from fbnetv3.search.space import list_spaces, load_space

NAME = "space_sizes"
METHOD = (
    "fbnetv3.search.audit of every space of the package. `architectures`: as written, resolution included; "
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
        command=f"python -m fbnetv3.benchmarks.{NAME}",
        method=METHOD,
        versions=versions(["numpy"]),
        values={name: measure_space(name) for name in list_spaces()},
    )
    write_result(NAME, result, folder)
    return result


if __name__ == "__main__":
    measure()
