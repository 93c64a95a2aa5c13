"""What the searches of a comparison say together: means over seeds, paired differences, trainings needed for a regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fbnetv3.benchmarks.harness import Values
from fbnetv3.benchmarks.search.comparison.methods import METHODS, Comparison
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.search.collect.surrogate import rank
from fbnetv3.search.report.analysis import LEVELS, coverage
from fbnetv3.search.space.constraints import ConstraintSet

Case = Mapping[str, Any]
VERDICTS = ("better", "no difference", "worse")


def summary(comparison: Comparison, case: str, found: Mapping[str, Sequence[Values]]) -> Values:
    """Return the results of one case over seeds: of every method, and how much better NARS is than each of the others.

    Args:
        found: the answers of every method, in the order of the seeds.
    """
    config = comparison.cases[case]
    space = comparison.spaces[config.space]
    table, _, setting = case.rpartition("/")
    values: Values = {
        "table": table,
        "setting": setting,
        "trainings": config.trainings,
        "batch": config.batch,
        "rounds": config.rounds,
        "finalists": config.finalists,
        "max_flops": config.constraint.max,
        "min_flops": config.constraint.min,
        "seeds": list(comparison.seeds),
    }
    # Of a table the best candidate is known, and with it the regret.
    if not space.trainable:
        known = space.known()
        feasible = known[ConstraintSet(space, (config.constraint, *config.also)).satisfied(known)]
        values |= {"pairs": len(feasible), "best": round(float(space.accuracy(feasible).max()), 4)}
    values["methods"] = {
        name: {"family": METHODS[name].family} | _describe(rows, values.get("best")) for name, rows in found.items()
    }
    values["left_out"] = comparison.left_out(case)
    # One seed has no interval, and without NARS there is nothing to subtract from.
    if "nars" in found and len(comparison.seeds) > 1:
        values["nars_minus"] = differences(values["methods"])
    if "best" in values and of_family(values["methods"], "rival"):
        values["needed"] = trainings_needed(values)
    return values


def _describe(rows: Sequence[Values], best: float | None) -> Values:
    """Return mean and std of the accuracies of a method over seeds, and the mean of its curves."""
    acc1 = np.array([row["acc1"] for row in rows])
    curves = np.array([row["curve"] for row in rows])
    std = acc1.std(ddof=1) if len(acc1) > 1 else 0.0
    found: Values = {"acc1": round(float(acc1.mean()), 4), "acc1_std": round(float(std), 4)}
    if best is not None:
        found["regret"] = round(best - float(acc1.mean()), 4)
    found |= _calibration(rows)
    # Earlier versions did not measure the time of proposals.
    times = [row["proposal_seconds"] for row in rows if "proposal_seconds" in row]
    if times:
        found["proposal_seconds"] = {key: round(float(np.mean([t[key] for t in times])), 3) for key in times[0]}
    return found | {
        "trainings": round(float(np.mean([row["trainings"] for row in rows])), 1),
        "epochs": round(float(np.mean([row["epochs"] for row in rows])), 1),
        "seconds": round(float(np.mean([row["seconds"] for row in rows])), 1),
        "by_seed": acc1.round(4).tolist(),
        "curve": curves.mean(axis=0).round(3).tolist(),
        "curve_std": (curves.std(axis=0, ddof=1) if len(curves) > 1 else 0.0 * curves[0]).round(3).tolist(),
    }


def _calibration(rows: Sequence[Values]) -> Values:
    """Return how good predictions of the trainings that they chose were, over all seeds: error, intervals, rank correlation.

    The rank correlation is the mean over the searches of that of a search.
    """
    # Earlier versions did not keep the predictions.
    pairs = np.array([pair for row in rows for pair in row.get("predicted", [])], float).reshape(-1, 3)
    found = coverage(pairs)
    if found is None:
        return {}
    inside = {f"{level:.0%}": round(share, 4) for level, share in zip(LEVELS, found.inside, strict=True)}
    error = float(np.abs(pairs[:, 0] - pairs[:, 2]).mean())
    calibration: Values = {"trainings": found.trials, "error": round(error, 4), "inside": inside}
    searches = [np.array(row.get("predicted", []), float).reshape(-1, 3) for row in rows]
    ranks = [rank(search[:, 0], search[:, 2]) for search in searches]
    if known := [value for value in ranks if value is not None]:
        calibration["rank"] = round(float(np.mean(known)), 4)
    return {"calibration": calibration}


def of_family(methods: Mapping[str, Values], family: str) -> list[str]:
    """Return the methods besides NARS that are of a family; see `Method.family`."""
    return [name for name, row in methods.items() if name != "nars" and row["family"] == family]


def differences(methods: Mapping[str, Values]) -> dict[str, Values]:
    """Return the paired difference of NARS and every other method.

    The intervals of a family are corrected together: whoever looks for the one rival that NARS does not beat looks at all of
    them. Families answer questions of their own, so that more ablations do not hide a rival that is better.
    """
    ours = methods["nars"]["by_seed"]
    found = {}
    for name in methods:
        if name != "nars":
            size = len(of_family(methods, methods[name]["family"]))
            found[name] = _against(ours, methods[name]["by_seed"], size)
            found[name] |= {"comparisons": size, "verdict": verdict(found[name])}
    return found


def _against(ours: Sequence[float], theirs: Sequence[float], comparisons: int) -> Values:
    """Return the paired difference of NARS and another method, and the share of seeds with which NARS is better."""
    difference = np.subtract(ours, theirs)
    # On a table two methods often find the same candidate. Such a tie counts half for each.
    share = float((difference > 0).mean() + (difference == 0).mean() / 2)
    return paired_difference(ours, theirs, comparisons=comparisons).rounded(4) | {"share_better": round(share, 3)}


def verdict(difference: Mapping[str, float]) -> str:
    """Return whether an interval says that the first of two methods is better or worse, or shows no difference."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "no difference"


def best_rival(methods: Mapping[str, Values]) -> str:
    """Return the rival with the highest mean accuracy."""
    return max(of_family(methods, "rival"), key=lambda name: methods[name]["acc1"])


def trainings_needed(case: Case) -> Values:
    """Return after how many trainings the mean regret of every method has reached a given one, and stays there.

    The given regrets are those that random search and the best rival have at the end, and half of the latter. None means that
    a method has not reached it at the end.
    """
    methods, best = case["methods"], case["best"]
    rival = best_rival(methods)
    end = best - methods[rival]["curve"][-1]
    regrets = {f"of {rival}, the best rival": end, f"half of that of {rival}": end / 2}
    if "random" in methods:
        regrets = {"of random": best - methods["random"]["curve"][-1]} | regrets
    return {
        "regrets": {name: round(regret, 4) for name, regret in regrets.items()},
        "trainings": {
            name: [_reached(best - np.array(row["curve"]), regret) for regret in regrets.values()]
            for name, row in methods.items()
        },
    }


def _reached(curve: np.ndarray[Any, Any], regret: float) -> int | None:
    """Return from which training on a curve of regrets is at most `regret`; None if its end is above."""
    # Curves are rounded to three decimal places, so that equal ones may differ in the last bit.
    above = np.flatnonzero(curve > regret + 1e-6)
    first = int(above[-1]) + 2 if len(above) else 1
    return first if first <= len(curve) else None


def overall(cases: Mapping[str, Case]) -> Values:
    """Return, for every number of trainings and budget, what the tables say together.

    Returns:
        By setting: NARS's regret divided by that of the best rival by table, the median of these ratios, and for every other
        method on how many tables NARS is better, not different, and worse.
    """
    found: Values = {}
    for setting, tables in by_setting(cases).items():
        ratios = {table: _ratio(case["methods"]) for table, case in tables.items()}
        known = [ratio for ratio in ratios.values() if ratio is not None]
        counts: dict[str, dict[str, int]] = {}
        for case in tables.values():
            for method, row in case.get("nars_minus", {}).items():
                counts.setdefault(method, dict.fromkeys(VERDICTS, 0))[row["verdict"]] += 1
        found[setting] = {
            "regret_over_best_rival": ratios,
            "median_regret_over_best_rival": round(float(np.median(known)), 4) if known else None,
            "tables": counts,
        }
    return found


def by_setting(cases: Mapping[str, Case]) -> dict[str, dict[str, Case]]:
    """Return the cases by number of trainings and budget, and there by table."""
    found: dict[str, dict[str, Case]] = {}
    for case in cases.values():
        found.setdefault(case["setting"], {})[case["table"]] = case
    return found


def _ratio(methods: Mapping[str, Values]) -> float | None:
    """Return NARS's regret divided by that of the best rival; None where there is no such rival, or it has none."""
    if "nars" not in methods or not of_family(methods, "rival") or not methods[best_rival(methods)].get("regret"):
        return None
    return round(float(methods["nars"]["regret"] / methods[best_rival(methods)]["regret"]), 4)
