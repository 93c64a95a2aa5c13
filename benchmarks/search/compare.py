"""NARS against other methods of search, at equal numbers of trainings.

The accuracies come from tables of trainings (--table), from real trainings (--preset), from a surrogate of a table of them
(--preset --surrogate), or are made up (--preset --invented). Every method runs with every seed in OUT/CASE/METHOD/seedN; a
second call continues there. OUT/compare.json is the result, OUT/compare.png shows the curves. There is no target: every
difference is reported with its interval.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.search.comparison.cases import Budget, LowestShare, find_tables, plan_cases
from fbnetv3.benchmarks.search.comparison.figure import plots
from fbnetv3.benchmarks.search.comparison.landscape import INVENTED, NOISE
from fbnetv3.benchmarks.search.comparison.methods import METHODS, Comparison
from fbnetv3.benchmarks.search.comparison.processes import Key, Task, run_on_processes
from fbnetv3.benchmarks.search.comparison.run import keep_inputs
from fbnetv3.benchmarks.search.comparison.summary import overall, summary
from fbnetv3.benchmarks.search.comparison.tables import result_rows, tables
from fbnetv3.counts import MAX_SEED, parse_count
from fbnetv3.errors import InputError, quote
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.progress import Report, show_progress
from fbnetv3.search.collect.surrogate import cross_check
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, load_preset
from fbnetv3.search.runs.devices import choose
from fbnetv3.search.space.table_file import read_table, table_path

METHOD = (
    "Every method makes `trainings` trainings a seed, of different pairs inside the constraint, and answers with one pair "
    "(NARS's finalists are among its trainings). Others than NARS train all for the recipe's epochs, NARS from its second "
    "batch on for those that its rule of early stopping leaves. Others propose in batches of the size of NARS's, "
    "`_sequential` one at a time, which one worker would need. `tpe`, `gp` (Gaussian process) and `cmaes` are those of Optuna, "
    "`smac` is SMAC3, `evolution` is regularised evolution. Proposals outside the constraint cost no training. `acc1` "
    "is the true accuracy of the answer, mean and std over seeds: {truth}. `regret` is what the best pair inside the "
    "constraint has more. `curve`: true accuracy of the best measured pair so far, by trainings, the last one that of the "
    "answer; {curve}. `nars_minus`: accuracy paired by seed, mean and interval of Student's t. The intervals of a family "
    "(rivals, ablations, orders) hold together with 95%: each has the level 1 - 0.05 / `comparisons` (Bonferroni). "
    "`verdict` says on which side of zero the interval is; `share_better` counts ties half. `needed`: after how many "
    "trainings the mean regret has come to a given one, to stay there. `proposal_seconds`: processor time of the proposals"
    " on one thread, before the first batch (with pretraining) and a later round, without the trainings. Ablations: "
    "`nars_scratch` has no pretraining, `nars_paper_labels` pretrains on FLOPs and parameters alone, `nars_no_stage3` has "
    "all trainings in stage 2, which stays in the pool, `nars_no_uncertainty` trains the highest predicted accuracies, "
    "`nars_no_early_stopping` trains all candidates for all epochs. "
    "Orders: `architecture_only` and `recipe_only` keep the other part of a start, `architecture_then_recipe` and "
    "`recipe_then_architecture` have half of the trainings for each part, and the second part starts from the first one's "
    "answer. They are searched by NARS, or by random search (`_random`). The start is drawn by the seed from the better "
    "half of NARS's first batch, by measured accuracy; its trainings count as made before. A part with fewer candidates "
    "than trainings is trained completely; what is left goes to the second part."
)
TRUTHS = {  # by the kind of accuracies, what fills the braces of METHOD
    "table": ("the mean of the table's trainings of that pair", "of the table, too"),
    "table, held out": ("the mean of the table's trainings of that pair that the search did not see", "of these, too"),
    "invented": (f"of a made-up landscape; a training sees it with a noise of {NOISE} points", "of the landscape, too"),
    "surrogate": (
        "the estimate of a surrogate that is fitted to a table of trainings, no measurement; a training sees it with the std "
        "of the table's repeated trainings of pairs that are about as good",
        "of the surrogate, too",
    ),
    "real": ("top-1 on the test images after the final training", "here validation accuracy after a trial's epochs"),
}


def measure(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the searches. A second call continues what was stopped.")
    ],
    preset: Annotated[str | None, typer.Option(help="Preset whose candidates are trained.")] = None,
    table: Annotated[
        tuple[Path, ...],
        typer.Option(
            metavar="TABLE ...",
            help="Tables of trainings (.csv, .json, .npz) to look accuracies up in, folders of tables, or the package's "
            "fashion_mnist.",
        ),
    ] = (),
    invented: Annotated[
        bool, typer.Option("--invented", help="With --preset: made-up accuracies, which take seconds.")
    ] = False,
    surrogate: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="With --preset: accuracies that are estimated from a table of trainings in the preset's space, as `search "
            "collect` makes them, such as the package's fashion_mnist.",
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas or spaces. `all` has all rivals, ablations and orders.")
    ] = "nars,random,tpe,evolution",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, which begin at --first-seed.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The first seed.")] = 0,
    trainings: Annotated[
        str | None,
        typer.Option(help='Numbers of trainings of every method, such as "40 144"; by default the preset\'s, or 40.'),
    ] = None,
    max_flops: Annotated[
        str,
        typer.Option(
            help='Budgets, such as "all 50M 30%". `all` means the preset\'s budget; for a table, none. 30% of a table are its '
            "pairs of the fewest FLOPs."
        ),
    ] = "all",
    processes: Annotated[
        int,
        typer.Option(min=1, help="Number of searches that run at the same time, on tables and made-up accuracies."),
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings that run at the same time.")] = 1,
    trial_timeout: Annotated[
        float | None, typer.Option(help="Seconds after which a training that has not ended is stopped, and has failed.")
    ] = None,
) -> Measured:
    """Run all methods for all cases and seeds, and write the figures."""
    if (preset is None) == (not table):
        raise InputError("give one of --preset and --table")
    settings = ExecutorSettings(workers=workers, trial_timeout=trial_timeout)
    known = INVENTED if invented else str(table_path(surrogate)) if surrogate else ""
    if known and preset is None:
        raise InputError(
            f"--{'invented' if invented else 'surrogate'} needs --preset; a table has accuracies of its own"
        )
    if invented and surrogate:
        raise InputError("give one of --invented and --surrogate")
    if processes > 1 and preset is not None and not known:
        raise InputError("--processes is for accuracies that are looked up; give --workers for real trainings")
    sources: Sequence[SearchConfig | Path] = find_tables(table) if preset is None else [load_preset(preset)]
    if isinstance(sources[0], SearchConfig) and not known:
        sources = [choose(sources[0], settings)[0]]  # the device and precision are a part of what is compared
    names = list(METHODS) if methods == "all" else methods.replace(",", " ").split()
    # Everything is checked before the first search: a comparison of real trainings takes hours.
    cases = plan_cases(sources, parse_trainings(trainings), parse_budgets(max_flops))
    comparison = Comparison(cases, names, range(first_seed, first_seed + seeds), known)
    checked = {} if surrogate is None else {"surrogate": checked_surrogate(comparison)}
    with show_progress() as report:
        values = checked | compare(comparison, out, settings, report, processes)
    for name, png in plots(values).items():
        write_atomically(out / name, png)
    truth, curve = TRUTHS[comparison.kind]
    return Measured(values, words={"truth": truth, "curve": curve})


def checked_surrogate(comparison: Comparison) -> Values:
    """Return how well the surrogate of a comparison estimates pairs that it was not fitted to; see `cross_check`.

    Raises:
        InputError: no such table, or one of another space.
    """
    [space] = comparison.spaces.values()
    check = cross_check(space, read_table(Path(comparison.known)))
    return {key: value and round(value, 4) for key, value in dataclasses.asdict(check).items()}


def parse_trainings(text: str | None) -> list[int] | None:
    """Return the numbers of trainings in an option such as "40 144"; None for the default.

    Raises:
        InputError: a word is no whole number.
    """
    try:
        return None if text is None else [int(word) for word in text.split()]
    except ValueError:
        raise InputError(f'--trainings is {quote(text)}; give whole numbers, such as "40 144"') from None


def parse_budgets(text: str) -> list[Budget]:
    """Return the budgets in an option such as "all 50M 30%"; None for `all`.

    Raises:
        InputError: a word is neither `all`, nor a count, nor a share.
    """
    return [None if word == "all" else _parse_budget(word) for word in text.split()]


def _parse_budget(word: str) -> Budget:
    if not word.endswith("%"):
        return parse_count(word, "--max-flops")
    try:
        share = float(word.removesuffix("%"))
    except ValueError:
        share = math.nan
    if not 0 < share <= 100:
        raise InputError(
            f"--max-flops is {quote(word)}; a share of a table's pairs is above 0% and at most 100%, such as 30%"
        )
    return LowestShare(share / 100)


def compare(
    comparison: Comparison, out: Path, settings: ExecutorSettings, report: Report, processes: int = 1
) -> Values:
    """Run the searches that `out` lacks, and return the values of the result file.

    Args:
        processes: number of searches that run at the same time.

    Raises:
        InputError: the folder holds another comparison or is in use by another one, or a configuration cannot be met.
    """
    with lock_folder(out, "comparison"):
        tasks = plan_tasks(comparison, out, settings)
        found: dict[str, dict[str, list[Values]]] = {case: {} for case in comparison.cases}
        answers = dict(_run(comparison, tasks, report, processes))
    for case, method, seed in tasks:
        found[case].setdefault(method, []).append(answers[case, method, seed])
    cases = {case: summary(comparison, case, rows) for case, rows in found.items()}
    values = {"accuracies": comparison.kind, "cases": cases}
    return values | ({"overall": overall(cases)} if len({case["table"] for case in cases.values()}) > 1 else {})


def plan_tasks(comparison: Comparison, out: Path, settings: ExecutorSettings) -> dict[Key, Task]:
    """Return all searches of a comparison in the order in which they run, and write the copies of its inputs.

    Raises:
        InputError: the folder holds another comparison.
    """
    kept, tasks = keep_inputs(comparison, out), {}
    for case, config in comparison.cases.items():
        fitting = [method for method in comparison.methods if method not in comparison.left_out(case)]
        # Methods are in the inner loop, so that a stopped comparison has all methods for the seeds that it finished.
        for seed, method in itertools.product(comparison.seeds, fitting):
            folder = out / case / method / f"seed{seed}"
            tasks[case, method, seed] = Task(
                method, config.replace(seed=seed), comparison.known, folder, settings, kept[config.space]
            )
    return tasks


def _run(
    comparison: Comparison, tasks: Mapping[Key, Task], report: Report, processes: int
) -> Iterator[tuple[Key, Values]]:
    """Yield the answer of every search, and report the progress in trainings."""
    total, done = sum(task.config.trainings for task in tasks.values()), 0
    if processes > 1:
        for key, answer in run_on_processes(tasks, processes):
            done += tasks[key].config.trainings
            report(done, total, _label(*key))
            yield key, answer
    else:
        for key, task in tasks.items():
            yield key, task.run(functools.partial(_report_run, report, done, total, _label(*key), comparison.kind))
            done += task.config.trainings
    report(total, total, "done")


def _label(case: str, method: str, seed: int) -> str:
    return f"{case}, seed {seed}, {method}"


def _report_run(
    report: Report, before: int, total: int, label: str, kind: str, done: int, _total: int, text: str
) -> None:
    """Report the trainings of one search as a part of all trainings."""
    # The text changes with every training. Looked-up trainings are too fast for that: a log would have thousands of lines.
    report(before + done, total, f"{label}: {text}" if kind == "real" else label)


def result_file(settings: Mapping[str, Any]) -> Path:
    """Return the result file, which is in the folder of the searches. The committed ones are copies."""
    return Path(settings["out"]) / "compare.json"


BENCHMARK = Benchmark(
    "compare",
    METHOD,
    ("torch", "numpy", "scipy", "optuna", "cmaes", "smac"),
    measure,
    tables=tables,
    as_json=result_rows,
    file=result_file,
    command="fbnetv3 search compare",
)
