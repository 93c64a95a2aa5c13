"""The configurations that a comparison runs: a preset or a table of trainings, with numbers of trainings and budgets."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import SearchConfig, read_config
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.space.table_file import SUFFIXES, table_path

FINALISTS = 4  # of NARS on a table; the quickstart has as many
POOL = 4000  # largest pool of NARS on a table
FEWEST = 40  # feasible candidates that a table must have


class LowestShare(float):
    """A budget that so large a share of a table's pairs satisfies: those of the fewest FLOPs."""

    def of(self, space: SearchSpace) -> float:
        """Return the budget in FLOPs.

        Raises:
            InputError: the space is no table. How many FLOPs its candidates have depends on how they are drawn.
        """
        if space.trainable:
            raise InputError(f"a budget of {self:.0%} of the pairs needs a table; give FLOPs, such as 50M")
        counts = np.sort(space.figure("flops", "published", space.known()))
        return float(counts[max(math.ceil(self * len(counts)) - 1, 0)])


Budget = float | LowestShare | None


def find_tables(paths: Sequence[Path]) -> list[Path]:
    """Return the files of tables: those that are given, all that given folders hold, and those of the package by name.

    Raises:
        InputError: no such table, a folder has none, or two tables have the same name.
    """
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [table_path(path)]
        )
        if not inside:
            raise InputError(f"{path} has no table ({', '.join(SUFFIXES)}); give a folder that has some")
        found += inside
    names = [path.stem for path in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"two tables have the name {twice[0]}; a comparison names its tables by their files: rename one"
        )
    return found


def plan_cases(
    sources: Sequence[SearchConfig | Path], trainings: Sequence[int] | None, max_flops: Sequence[Budget]
) -> dict[str, SearchConfig]:
    """Return the configurations by name: every number of trainings under every budget, for every source.

    Args:
        sources: a preset, or the files of tables. With several tables, the names begin with that of the table.
        trainings: numbers of trainings; by default those of the preset, or 40 for a table.
        max_flops: budgets; None means the preset's budget, and no budget for a table.

    Raises:
        InputError: an asynchronous preset, or trainings or budgets that do not fit.
    """
    for source in sources:
        if isinstance(source, SearchConfig) and source.asynchronous:
            raise InputError(
                f"{source.name} has asynchronous: {source.asynchronous}, but the methods of a comparison propose in batches; "
                "take asynchronous: 0"
            )
    cases = {}
    for source, flops in itertools.product(sources, max_flops):
        limited = table_config(source, flops) if isinstance(source, Path) else with_budget(source, flops)
        table = ""
        if isinstance(source, Path) and len(sources) > 1:
            # The recipe of a table only says how many epochs it knows. Its name lets every table have a copy of its own.
            table, limited = f"{source.stem}/", limited.replace(recipe=source.stem)
        for total in trainings or [limited.trainings]:
            # The preset's own split of its trainings stays, even if `with_trainings` would split them in another way.
            config = limited if total == limited.trainings else with_trainings(limited, total)
            if isinstance(source, Path) and total > config.pool:
                raise InputError(
                    f"{source} has {config.pool} pairs inside the constraint, which are too few for {total} trainings; give "
                    "fewer trainings, or a larger budget"
                )
            cases[f"{table}trainings_{total}{_budget_name(flops)}"] = config
    return cases


def _budget_name(flops: Budget) -> str:
    """Return the end of the name of a case with this budget."""
    if flops is None:
        return ""
    return f"_flops_{flops * 100:g}%" if isinstance(flops, LowestShare) else f"_flops_{flops / 1e6:g}M"


def with_budget(config: SearchConfig, flops: Budget) -> SearchConfig:
    """Return the configuration with another budget. The window below it keeps its proportion to the budget."""
    before = config.constraint
    if flops is None:
        return config
    if isinstance(flops, LowestShare):
        flops = flops.of(load_space(config.space))
    return config.replace(
        constraint=dataclasses.replace(before, metric="flops", max=flops, min=before.min / before.max * flops)
    )


def with_trainings(config: SearchConfig, total: int) -> SearchConfig:
    """Return the configuration with another number of trainings: repeats and finalists, and equal batches after the first one.

    Raises:
        InputError: nothing is left for batches, or batches of this size do not make the number.
    """
    kept = config.repeats + config.finalists
    named = f"{config.finalists} finalists" + (f" and {config.repeats} repeats" if config.repeats else "")
    left = total - kept
    if config.first:
        parts = f"{config.first} in a first batch and {named}"
        rounds, rest = divmod(left - config.first, config.batch)
        if rounds < 0:
            raise InputError(f"{total} trainings are too few for {parts}; give {config.first + kept} or more")
        if rest:
            raise InputError(
                f"{total} trainings are not {parts}, and batches of {config.batch}; "
                f"give {total - rest} or {total - rest + config.batch}"
            )
        return config.replace(rounds=rounds + 1)
    # Section 4.1 has 4 batches and section 4.2 has 5. The nearest number that divides the trainings is taken.
    fitting = [rounds for rounds in (5, 4, 6, 3, 2, 1) if left > 0 and left % rounds == 0]
    if not fitting:
        raise InputError(f"{total} trainings are too few for {named}; give more")
    return config.replace(rounds=fitting[0], batch=left // fitting[0])


def with_part_of_trainings(config: SearchConfig, total: int) -> SearchConfig:
    """Return the configuration with `total` of its trainings. The first batch shrinks as the trainings do.

    Raises:
        InputError: nothing is left for batches.
    """
    left = total - config.repeats - config.finalists
    if not config.first or left <= 0:
        return with_trainings(config, total)
    return _with_stage2(config, left, min(max(config.first * total // config.trainings, config.batch), left))


def _with_stage2(config: SearchConfig, total: int, first: int) -> SearchConfig:
    """Return the configuration with so many trainings in stage 2. What is too few for another batch is random too."""
    rounds, rest = divmod(total - first, config.batch)
    return config.replace(first=first + rest, rounds=rounds + 1)


def without_finalists(config: SearchConfig) -> SearchConfig:
    """Return the configuration with all trainings in stage 2, in about as many rounds as before."""
    total = config.trainings - config.repeats
    if config.first:
        return _with_stage2(config.replace(finalists=0), total, config.first)
    # Near the old number of rounds the batches stay about as large, so that only the finalists are missing.
    rounds = min((r for r in range(1, total + 1) if total % r == 0), key=lambda r: abs(r - config.rounds))
    return config.replace(finalists=0, rounds=rounds, batch=total // rounds)


def with_predictor(config: SearchConfig, **changes: Any) -> SearchConfig:
    """Return the configuration with other settings of the predictor."""
    return config.replace(predictor=dataclasses.replace(config.predictor, **changes))


def table_config(path: Path, flops: Budget) -> SearchConfig:
    """Return the configuration of a search on a table. Its pool is all feasible rows, or `POOL` of them.

    Raises:
        InputError: the file is no table, or has too few feasible rows.
    """
    space = load_space(str(path))
    if space.trainable:
        raise InputError(f"{path} is no table; give a .csv, .json or .npz file, or a preset")
    flops = flops.of(space) if isinstance(flops, LowestShare) else flops
    counts = space.figure("flops", "published", space.known())
    constraint = Constraint("flops", max=flops or float(counts.max()))
    feasible = int(constraint.satisfied(counts).sum())
    if feasible < FEWEST:
        raise InputError(
            f"{path} has {feasible} pairs of at most {constraint.max:g} FLOPs; at least {FEWEST} are needed"
        )
    settings: dict[str, Any] = {"schema": 1, "about": "a table", "data": "table", "recipe": "table"}
    # 8 random trainings, 7 batches of 4 and 4 finalists: 40 trainings. Table trainings are not
    # trained again with a longer schedule, so `final_stretch` is 1.
    small = {"first": 8, "batch": 4, "rounds": 8, "finalists": FINALISTS, "early_stopping": 0.98, "final_stretch": 1}
    settings |= {"name": space.name, "space": str(path), "constraint": constraint, "pool": min(feasible, POOL)}
    return read_config(settings | small | {"predictor": {}, "evolution": {}}, str(path))
