"""NARS against random search, TPE and regularised evolution, at equal numbers of trainings.

The accuracies come from a table of trainings (--table), from real trainings (--preset), or are made up (--preset
--invented). Every method runs with every seed in OUT/CASE/METHOD/seedN; a second call continues there. OUT/compare.json is
the result, OUT/compare.png a plot of it. There is no target: every difference is reported with its interval.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.comparison import METHODS, NOISE, Comparison, keep_inputs, run_one
from fbnetv3.benchmarks.search.comparison_cases import plan_cases
from fbnetv3.benchmarks.search.comparison_figure import plot
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Table
from fbnetv3.counts import MAX_SEED, parse_count
from fbnetv3.errors import InputError, quote
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.progress import Report, show_progress
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.devices import choose

METHOD = (
    "Every method makes `trainings` trainings a seed, of different pairs inside the constraint, and answers with one pair "
    "(NARS's finalists are among its trainings). Random search, TPE and evolution train all for the recipe's epochs, NARS "
    "from its second batch on for those that its rule of early stopping leaves; TPE and evolution propose in batches of the "
    "size of NARS's, `_sequential` one at a time, which one worker would need. Proposals outside the constraint cost no "
    "training. `acc1` is the true accuracy of the answer, mean and deviation over seeds: {truth}. `regret` is what the best "
    "pair inside the constraint has more. `curve`: true accuracy of the best measured pair so far, by trainings, the last "
    "one that of the answer; {curve}. `nars_minus`: paired by seed, mean and 95% interval of Student's t over seeds, each "
    "by itself; `share_better` counts ties half. `nars_scratch` has no pretraining, `nars_paper_labels` pretrains on FLOPs "
    "and parameters alone, `nars_no_stage3` answers with the best trial of stage 2, which has all trainings."
)
TRUTHS = {  # by the kind of accuracies, what fills the braces of METHOD
    "table": ("the mean of the table's trainings of that pair", "of the table, too"),
    "table, held out": ("the mean of the table's trainings of that pair that the search did not see", "of these, too"),
    "invented": (f"of a made-up landscape; a training sees it with a noise of {NOISE} points", "of the landscape, too"),
    "real": ("top-1 on the test images after the final training", "here validation accuracy after a trial's epochs"),
}


def measure(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the searches. A second call continues what was stopped.")
    ],
    preset: Annotated[str | None, typer.Option(help="Preset whose candidates are trained.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table of trainings (.csv, .json, .npz) to look accuracies up in."),
    ] = None,
    invented: Annotated[
        bool, typer.Option("--invented", help="With --preset: made-up accuracies, which take seconds.")
    ] = False,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas. `all` has the ablations of NARS too.")
    ] = "nars,random,tpe,evolution",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, which begin at --first-seed.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The first seed.")] = 0,
    trainings: Annotated[
        str | None,
        typer.Option(help='Numbers of trainings of every method, such as "40 144"; by default the preset\'s, or 40.'),
    ] = None,
    max_flops: Annotated[
        str, typer.Option(help='Budgets, such as "all 50M". `all` means the preset\'s budget; for a table, none.')
    ] = "all",
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings that run at the same time.")] = 1,
    trial_timeout: Annotated[
        float | None, typer.Option(help="Seconds after which a training that has not ended is stopped, and has failed.")
    ] = None,
) -> Measured:
    """Run all methods for all cases and seeds, and write the plot."""
    if (preset is None) == (table is None):
        raise InputError("give one of --preset and --table")
    settings = ExecutorSettings(workers=workers, trial_timeout=trial_timeout)
    if invented and preset is None:
        raise InputError("--invented needs --preset; a table has accuracies of its own")
    source = table if table is not None else load_preset(preset or "")
    if isinstance(source, SearchConfig) and not invented:
        source, _ = choose(source, settings)  # the device and precision are a part of what is compared
    names = list(METHODS) if methods == "all" else methods.split(",")
    # Everything is checked before the first search: a comparison of real trainings takes hours.
    cases = plan_cases(source, parse_trainings(trainings), parse_budgets(max_flops))
    comparison = Comparison(cases, names, range(first_seed, first_seed + seeds), invented)
    with show_progress() as report:
        values = compare(comparison, out, settings, report)
    write_atomically(out / "compare.png", plot(values))
    truth, curve = TRUTHS[comparison.kind]
    return Measured(values, words={"truth": truth, "curve": curve})


def parse_trainings(text: str | None) -> list[int] | None:
    """Return the numbers of trainings in an option such as "40 144"; None for the default.

    Raises:
        InputError: a word is no whole number.
    """
    try:
        return None if text is None else [int(word) for word in text.split()]
    except ValueError:
        raise InputError(f'--trainings is {quote(text)}; give whole numbers, such as "40 144"') from None


def parse_budgets(text: str) -> list[float | None]:
    """Return the budgets in an option such as "all 50M"; None for `all`.

    Raises:
        InputError: a word is neither `all` nor a count.
    """
    return [None if word == "all" else parse_count(word, "--max-flops") for word in text.split()]


def compare(comparison: Comparison, out: Path, settings: ExecutorSettings, report: Report) -> Values:
    """Run the searches that `out` lacks, and return the values of the result file.

    Raises:
        InputError: the folder holds another comparison or is in use by another one, or a configuration cannot be met.
    """
    with lock_folder(out, "comparison"):
        return _compare(comparison, out, settings, report)


def _compare(comparison: Comparison, out: Path, settings: ExecutorSettings, report: Report) -> Values:
    kept = keep_inputs(comparison, out)
    cases, methods = comparison.cases, comparison.methods
    # Methods are in the inner loop, so that a stopped comparison has all methods for the seeds that it finished.
    runs = [(case, method, seed) for case in cases for seed in comparison.seeds for method in methods]
    total, done = sum(cases[case].trainings for case, _, _ in runs), 0
    found: dict[str, dict[str, list[Values]]] = {case: {method: [] for method in methods} for case in cases}
    for case, method, seed in runs:
        folder = out / case / method / f"seed{seed}"
        progress = functools.partial(
            _report_run, report, done, total, f"{case}, seed {seed}, {method}", comparison.kind
        )
        config = cases[case].replace(seed=seed)
        found[case][method].append(
            run_one(METHODS[method], config, comparison.invented, folder, settings, progress, kept)
        )
        done += config.trainings
    report(total, total, "done")
    return {
        "accuracies": comparison.kind,
        "cases": {case: summary(comparison, case, answers) for case, answers in found.items()},
    }


def _report_run(
    report: Report, before: int, total: int, label: str, kind: str, done: int, _total: int, text: str
) -> None:
    """Report the trainings of one search as a part of all trainings."""
    # The text changes with every training. Looked-up trainings are too fast for that: a log would have thousands of lines.
    report(before + done, total, f"{label}: {text}" if kind == "real" else label)


def summary(comparison: Comparison, case: str, found: Mapping[str, Sequence[Values]]) -> Values:
    """Return the results of one case over seeds: of every method, and how much better NARS is than each of the others."""
    config = comparison.cases[case]
    context = Context.of(config)
    values: Values = {
        "trainings": config.trainings,
        "batch": config.batch,
        "rounds": config.rounds,
        "finalists": config.finalists,
        "max_flops": config.constraint.max,
        "min_flops": config.constraint.min,
        "seeds": list(comparison.seeds),
    }
    # Of a table the best candidate is known, and with it the regret.
    if not context.space.trainable:
        known = context.space.known()
        feasible = known[context.constraints.satisfied(known)]
        values |= {"pairs": len(feasible), "best": round(float(context.space.accuracy(feasible).max()), 4)}
    values["methods"] = {name: _describe(rows, values.get("best")) for name, rows in found.items()}
    ours = [row["acc1"] for row in found.get("nars", [])]
    # One seed has no interval, and without NARS there is nothing to subtract from.
    if ours and len(ours) > 1:
        values["nars_minus"] = {
            name: _against(ours, [row["acc1"] for row in rows]) for name, rows in found.items() if name != "nars"
        }
    return values


def _describe(rows: Sequence[Values], best: float | None) -> Values:
    """Return mean and std of the accuracies of a method over seeds, and the mean of its curves."""
    acc1 = np.array([row["acc1"] for row in rows])
    curves = np.array([row["curve"] for row in rows])
    std = acc1.std(ddof=1) if len(acc1) > 1 else 0.0
    found: Values = {"acc1": round(float(acc1.mean()), 4), "acc1_std": round(float(std), 4)}
    if best is not None:
        found["regret"] = round(best - float(acc1.mean()), 4)
    return found | {
        "epochs": round(float(np.mean([row["epochs"] for row in rows])), 1),
        "seconds": round(float(np.mean([row["seconds"] for row in rows])), 1),
        "by_seed": acc1.round(4).tolist(),
        "curve": curves.mean(axis=0).round(3).tolist(),
        "curve_std": (curves.std(axis=0, ddof=1) if len(curves) > 1 else 0.0 * curves[0]).round(3).tolist(),
    }


def _against(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the paired difference of NARS and another method, and the share of seeds with which NARS is better."""
    difference = np.subtract(ours, theirs)
    # On a table two methods often find the same candidate. Such a tie counts half for each.
    share = float((difference > 0).mean() + (difference == 0).mean() / 2)
    return paired_difference(ours, theirs).rounded(4) | {"share_better": round(share, 3)}


def verdict(difference: Mapping[str, float]) -> str:
    """Return whether an interval says that the first of two methods is better or worse, or shows no difference."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "no difference"


def tables(result: Result) -> dict[str, Table]:
    """Return the true accuracy of the answers, and NARS minus every other method with its 95% interval."""
    cases = result.values["cases"]
    methods = next(iter(cases.values()))["methods"]
    rows = tuple((f"`{method}`", *(_cell(case, method) for case in cases.values())) for method in methods)
    columns = ("method", *(name.replace("_", " ") for name in cases))
    return {"accuracy, and NARS minus the method [95% interval]": Table(columns, rows)}


def _cell(case: Mapping[str, Any], method: str) -> str:
    """Return the accuracy of a method, and by how much NARS is better."""
    against = case.get("nars_minus", {}).get(method)
    gain = f" ({against['mean']:+.2f} [{against['low']:+.2f}, {against['high']:+.2f}])" if against else ""
    return f"{case['methods'][method]['acc1']:.2f}{gain}"


def result_rows(result: Result) -> list[dict[str, Any]]:
    """Return a row per case and method, as the command prints them with --json."""
    rows = []
    for name, case in result.values["cases"].items():
        for method, row in case["methods"].items():
            gain = case.get("nars_minus", {}).get(method)
            regret = {"regret": f"{row['regret']:.3f}"} if "regret" in row else {}
            rows.append(
                {"case": name, "method": method, "acc1": f"{row['acc1']:.3f}", "std": f"{row['acc1_std']:.3f}"}
                | regret
                | {
                    "nars minus it": gain and f"{gain['mean']:+.3f}",
                    "95%": gain and f"{gain['low']:+.3f} to {gain['high']:+.3f}",
                    "nars better": gain and f"{gain['share_better']:.0%}",
                }
            )
    return rows


def result_file(settings: Mapping[str, Any]) -> Path:
    """Return the result file, which is in the folder of the searches. The committed ones are copies."""
    return Path(settings["out"]) / "compare.json"


BENCHMARK = Benchmark(
    "compare",
    METHOD,
    ("torch", "numpy", "scipy", "optuna"),
    measure,
    tables=tables,
    as_json=result_rows,
    file=result_file,
    command="fbnetv3 search compare",
)
