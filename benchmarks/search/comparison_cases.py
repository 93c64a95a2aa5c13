"""The configurations that a comparison runs: a preset or a table of trainings, with numbers of trainings and budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import SearchConfig, read_config
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.reader import load_space

FINALISTS = 4  # of NARS on a table; the quickstart has as many
POOL = 4000  # largest pool of NARS on a table
FEWEST = 40  # feasible candidates that a table must have


def plan_cases(
    source: SearchConfig | Path, trainings: Sequence[int] | None, max_flops: Sequence[float | None]
) -> dict[str, SearchConfig]:
    """Return the configurations by name: every number of trainings under every budget.

    Args:
        source: a preset, or the file of a table.
        trainings: numbers of trainings; by default those of the preset, or 40 for a table.
        max_flops: budgets; None means the preset's budget, and no budget for a table.
    """
    cases = {}
    for flops in max_flops:
        limited = table_config(source, flops) if isinstance(source, Path) else with_budget(source, flops)
        for total in trainings or [limited.trainings]:
            name = f"trainings_{total}" + ("" if flops is None else f"_flops_{flops / 1e6:g}M")
            # The preset's own split of its trainings stays, even if `with_trainings` would split them in another way.
            cases[name] = limited if total == limited.trainings else with_trainings(limited, total)
    return cases


def with_budget(config: SearchConfig, flops: float | None) -> SearchConfig:
    """Return the configuration with another budget. The window below it keeps its proportion to the budget."""
    before = config.constraint
    if flops is None:
        return config
    return config.replace(
        constraint=dataclasses.replace(before, metric="flops", max=flops, min=before.min / before.max * flops)
    )


def with_trainings(config: SearchConfig, total: int) -> SearchConfig:
    """Return the configuration with another number of trainings: the finalists, and equal batches after the first one.

    Raises:
        InputError: nothing is left for batches, or batches of this size do not make the number.
    """
    left = total - config.finalists
    if config.first:
        rounds, rest = divmod(left - config.first, config.batch)
        if rounds < 0 or rest:
            raise InputError(
                f"{total} trainings are not {config.first} in a first batch, {config.finalists} finalists and batches of "
                f"{config.batch}; give {total - rest} or {total - rest + config.batch}"
            )
        return config.replace(rounds=rounds + 1)
    # Section 4.1 has 4 batches and section 4.2 has 5. The nearest number that divides the trainings is taken.
    fitting = [rounds for rounds in (5, 4, 6, 3, 2, 1) if left > 0 and left % rounds == 0]
    if not fitting:
        raise InputError(f"{total} trainings are too few for {config.finalists} finalists; give more")
    return config.replace(rounds=fitting[0], batch=left // fitting[0])


def without_finalists(config: SearchConfig) -> SearchConfig:
    """Return the configuration with all trainings in stage 2, in about as many rounds as before."""
    total = config.trainings
    if config.first:
        return with_trainings(config.replace(finalists=0), total)
    # Near the old number of rounds the batches stay about as large, so that only the finalists are missing.
    rounds = min((r for r in range(1, total + 1) if total % r == 0), key=lambda r: abs(r - config.rounds))
    return config.replace(finalists=0, rounds=rounds, batch=total // rounds)


def with_predictor(config: SearchConfig, **changes: Any) -> SearchConfig:
    """Return the configuration with other settings of the predictor."""
    return config.replace(predictor=dataclasses.replace(config.predictor, **changes))


def table_config(path: Path, flops: float | None) -> SearchConfig:
    """Return the configuration of a search on a table. Its pool is all feasible rows, or `POOL` of them.

    Raises:
        InputError: the file is no table, or has too few feasible rows.
    """
    space = load_space(str(path))
    if space.trainable:
        raise InputError(f"{path} is no table; give a .csv, .json or .npz file, or a preset")
    counts = space.figure("flops", "published", space.known())
    constraint = Constraint("flops", max=flops or float(counts.max()))
    feasible = int(constraint.satisfied(counts).sum())
    if feasible < FEWEST:
        raise InputError(
            f"{path} has {feasible} pairs of at most {constraint.max:g} FLOPs; at least {FEWEST} are needed"
        )
    settings: dict[str, Any] = {"schema": 1, "about": "a table", "data": "table", "recipe": "table"}
    # 8 random trainings, 7 batches of 4 and 4 finalists: 40 trainings, as many as the quickstart makes. Table trainings are not
    # trained again with a longer schedule, so `final_stretch` is 1.
    small = {"first": 8, "batch": 4, "rounds": 8, "finalists": FINALISTS, "early_stopping": 0.98, "final_stretch": 1}
    settings |= {"name": space.name, "space": str(path), "constraint": constraint, "pool": min(feasible, POOL)}
    return read_config(settings | small | {"predictor": {}, "evolution": {}}, str(path))
