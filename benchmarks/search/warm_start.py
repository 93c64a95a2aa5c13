"""What a search gains that starts from an earlier one (`fbnetv3 search run --from`), and what a misleading start costs.

All accuracies are known: the tables are the public ones of `fbnetv3 search table`, and each search sees one training of a
candidate and is judged by the others. The earlier search is a real one too. A misleading start is the same search with its
accuracies shuffled or turned around. A second call continues what was stopped.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.comparison.cases import table_config, with_trainings
from fbnetv3.benchmarks.search.on_tables import kept_answer, search
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Format, Table, difference
from fbnetv3.files import lock_folder
from fbnetv3.progress import count_steps
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.pretrain import pretrained_predictor
from fbnetv3.search.nars.sources import Source
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.training.engine import cpu_threads

METHOD = (
    "Every search makes `trainings` trainings and answers with one candidate. `regret` is what the best candidate inside the "
    "budget has more, in points of the mean accuracy of the trainings that the search did not see; mean over {seeds} seeds. "
    "`none` starts from nothing. `related` starts from a finished search of {earlier} trainings with another seed: on other "
    "data (`networks`, `mlp`), or on the same data without a budget, which {share:.0%} of the candidates satisfy (`budget`). "
    "`random` and `reversed` start from the same search with its accuracies in random order or turned around. `gain`: regret "
    "of `none` minus that of the start, paired by seed, with the 95% interval of Student's t, each by itself. The searches of "
    "a seed share one predictor that was pretrained for {pretraining} epochs."
)
EARLIER = 40  # trainings of the search that another one starts from
SHARE = 0.3  # of the candidates satisfy the budget
PRETRAINING = 20  # epochs; fewer than the default, since the starts are compared and not the pretraining
MISLEADING = ("random", "reversed")


@dataclass(frozen=True)
class Case:
    """A search, and the earlier one that it starts from: names of tables, and whether the search has a budget."""

    table: str
    earlier: str
    budget: bool = False


CASES = {
    "budget": Case("fcnet_protein_structure", "fcnet_protein_structure", budget=True),
    "mlp": Case("mlp_vehicle", "mlp_credit_g"),
    "networks": Case("nas_bench_201_imagenet", "nas_bench_201_cifar10"),
}


def measure(
    tables: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the tables (`fbnetv3 search table convert`).")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the answers. A second call continues what was stopped.")
    ],
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 16,
    trainings: tuple[int, ...] = (24, 48),
    cases: Mapping[str, Case] = CASES,
) -> Measured:
    """Search every case with all starts and seeds.

    Args:
        trainings: numbers of trainings. Misleading starts are measured with the first one, where a start counts most.
        cases: the searches by name.
    """
    values: Values = {"seeds": seeds, "earlier": EARLIER, "cases": {}}
    with lock_folder(out, "benchmark"), cpu_threads(1), count_steps(seeds * len(cases)) as step:
        for name, case in cases.items():
            found = []
            for seed in range(seeds):
                step(f"{name}, seed {seed}")
                found.append(regrets(case, tables, trainings, seed, out / f"{name}_{seed}.json"))
            values["cases"][name] = dataclasses.asdict(case) | {"regret": summary(found)}
    return Measured(values, words={"seeds": seeds, "earlier": EARLIER, "share": SHARE, "pretraining": PRETRAINING})


def regrets(case: Case, tables: Path, trainings: tuple[int, ...], seed: int, file: Path) -> dict[str, dict[str, float]]:
    """Return the regret of every start by number of trainings. What a file has already is only read.

    Raises:
        InputError: the file is of another configuration.
    """
    target = context_of(tables / f"{case.table}.npz", seed, case.budget)
    # Another seed: the two searches of one table may not see the same trainings.
    earlier = context_of(tables / f"{case.earlier}.npz", seed + 1000)
    key = f"{target.config.fingerprint} {earlier.config.fingerprint} {trainings}"

    def measured() -> Values:
        source, pretrained = earlier_search(earlier), pretrained_predictor(target)
        known = target.space.known()
        best = float(target.space.accuracy(known[target.constraints.satisfied(known)]).max())
        result = {
            str(total): {
                start: best - accuracy(resized(target, total), pretrained, [change(source, seed)] if change else [])
                for start, change in STARTS.items()
                if total == trainings[0] or start not in MISLEADING
            }
            for total in trainings
        }
        return {"regret": result}

    regret: dict[str, dict[str, float]] = kept_answer(file, key, ("regret",), measured)["regret"]
    return regret


def shuffled(source: Source, seed: int) -> Source:
    """Return the source with its accuracies in random order."""
    order = np.random.default_rng(seed).permutation(len(source.accuracies))
    return dataclasses.replace(source, accuracies=[source.accuracies[i] for i in order])


def turned(source: Source, seed: int) -> Source:
    """Return the source with its accuracies turned around: the best candidate has the worst one."""
    ends = max(source.accuracies) + min(source.accuracies)
    return dataclasses.replace(source, accuracies=[ends - value for value in source.accuracies])


STARTS: dict[str, Callable[[Source, int], Source] | None] = {
    "none": None,
    "related": lambda source, seed: source,
    "random": shuffled,
    "reversed": turned,
}


def context_of(table: Path, seed: int, budget: bool = False) -> Context:
    """Return the context of a search on a table."""
    config = table_config(table, None)
    if budget:
        space = Context.of(config).space
        counts = space.figure("flops", "published", space.known())
        limit = float(np.quantile(counts, SHARE))
        config = table_config(table, limit)
    predictor = dataclasses.replace(config.predictor, pretrain_epochs=PRETRAINING)
    return Context.of(config.replace(predictor=predictor, seed=seed))


def resized(context: Context, total: int) -> Context:
    """Return the context of the same search with so many trainings."""
    return dataclasses.replace(context, config=with_trainings(context.config, total))


def earlier_search(context: Context) -> Source:
    """Run the search that another one starts from, and return its trainings."""
    context = resized(context, EARLIER)
    proposal, trials = search(context, pretrained_predictor(context))
    return context.source(trials, proposal.epochs)


def accuracy(context: Context, pretrained: AccuracyPredictor, sources: Sequence[Source]) -> float:
    """Run a search, and return the accuracy of its answer in the trainings that the search did not see."""
    predictor = copy.copy(pretrained)
    if sources:
        predictor.start_from([source.lesson(context.space) for source in sources])
    proposal, trials = search(dataclasses.replace(context, sources=tuple(sources)), predictor)
    judge = context.space.judge([(trial.candidate, trial.seed) for trial in trials])
    return float(judge(np.array([proposal.candidate]))[0])


def summary(found: Sequence[Mapping[str, Mapping[str, float]]]) -> Values:
    """Return the mean regret of every start over seeds, and what it gains, by number of trainings."""
    values: Values = {}
    for total, starts in found[0].items():
        series = {start: [row[total][start] for row in found] for start in starts}
        values[total] = {
            start: {"regret": round(float(np.mean(regret)), 3), "by_seed": np.round(regret, 3).tolist()}
            | ({"gain": paired_difference(series["none"], regret).rounded(3)} if start != "none" else {})
            for start, regret in series.items()
        }
    return values


def rows(values: Values) -> list[Values]:
    """Return a row for every case, number of trainings and start."""
    return [
        {"case": name, "trainings": total, "start": start, "none": starts["none"]["regret"], **row}
        for name, case in values["cases"].items()
        for total, starts in case["regret"].items()
        for start, row in starts.items()
        if start != "none"
    ]


def targets(values: Values) -> dict[str, Target]:
    """Return the targets: no start is worse than none, a misleading one costs next to nothing, and a related one pays."""
    found = rows(values)

    def share(starts: Collection[str]) -> float:
        """Return the mean gain as a share of the regret without a start."""
        chosen = [row for row in found if row["start"] in starts]
        gained, without = (
            sum(values) for values in zip(*((row["gain"]["mean"], row["none"]) for row in chosen), strict=True)
        )
        return round(float(gained / max(without, 1e-9)), 3)

    return {
        "intervals_below_zero": Target(sum(row["gain"]["high"] < 0 for row in found), "at_most", 0),
        "misleading_share": Target(share(MISLEADING), "at_least", -0.05),
        "related_share": Target(share(("related",)), "above", 0.0),
    }


COLUMNS: dict[str, Format] = {
    "case": "{case}",
    "trainings": "{trainings}",
    "start": "{start}",
    "regret": lambda row: f"{row['regret']:.2f}",
    "regret without": lambda row: f"{row['none']:.2f}",
    "gain (95% interval)": lambda row: difference(row["gain"]),
}


def result_tables(result: Result) -> dict[str, Table]:
    """Return regret and gain in points, a row for every case, number of trainings and start."""
    return {"gain of a start": Table.of(COLUMNS, rows(result.values))}


BENCHMARK = Benchmark(
    "warm_start",
    METHOD,
    ("torch", "numpy", "scipy"),
    measure,
    targets=targets,
    tables=result_tables,
    quick={"seeds": 2, "trainings": (16,)},
    depends_on_machine=False,
)
