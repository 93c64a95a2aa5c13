"""A zoo from nothing at the scale of this machine: what `fbnetv3 search regenerate` made, and what it cost.

    fbnetv3 benchmark regenerate --out DIR

takes some five minutes of two cores, goes on where an earlier call ended, and writes `results/regenerate.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fbnetv3.benchmarks.result import Result, command_of, host, versions, write_result
from fbnetv3.search.runs.zoo import Resources, load_zoo, regenerate

NAME, ZOO = "regenerate", "micro"
METHOD = (
    "`fbnetv3 search regenerate --preset micro`, one run with seed 0: a quickstart search, pairs for three budgets from its "
    "predictor, the largest scaled up twice, the largest of all trained as teacher, all trained with it and published. "
    "`acc1`: top-1 on the 2,000 test images, of which no step before publishing knew. `hours`: of all trainings of a stage, "
    "summed over workers."
)


def main(argv: list[str] | None = None) -> Result:
    """Parse, make the zoo, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo and all before it")
    options = parser.parse_args(argv)
    account = regenerate(load_zoo(ZOO), options.out, None, None, 0, Resources(at_once=2), lambda *_: None)
    teacher = account.pop("teacher")
    values = account | {"teacher": {"acc1": teacher["test_acc1"], "network": account["networks"][-1]["model"]}}
    result = Result.now(
        command=f"{command_of(NAME)} --out DIR",
        method=METHOD,
        versions=versions(["torch", "numpy", "scipy"]) | host(),
        values=values,
    )
    write_result(NAME, result)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
