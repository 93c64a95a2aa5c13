"""Does NARS pay? Search methods with as many trainings, over seeds, on a table of trainings or on real ones.

    fbnetv3 search compare --table nas-bench-macro_cifar10.json --out DIR
    fbnetv3 search compare --preset quickstart --seeds 5 --out DIR

runs every method with every seed in DIR/CASE/METHOD/seedN, which a second call resumes, and writes DIR/compare.json (a result
file, which the committed ones are copies of) and DIR/compare.png.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.result import Result, host, versions, write_result
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.benchmarks.seeds import paired_difference
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.search.execution.executor import Execution, Executor
from fbnetv3.search.execution.images import Outcome
from fbnetv3.search.nars import baselines as rivals
from fbnetv3.search.nars.algorithm import Context, Progress, Proposal, kept, nars, random_search
from fbnetv3.search.nars.config import SearchConfig, read_config, save_config
from fbnetv3.search.runs.run import final_candidate, train_final
from fbnetv3.search.space.constraints import Floats
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.space import Candidate, IntMatrix, load_space
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.trial import Ledger, Trial
from fbnetv3.training.loop import cpu_threads

NAME = "compare"
CONFIG, ANSWER, LEDGER = "config.yaml", "answer.json", "ledger.jsonl"
FINALISTS = 4  # of NARS on tables, as in the quickstart
POOL = 4000  # of NARS on tables, at the most
NOISE = 0.5  # deviation of an invented training, in points
INVENTED = "invented"
Search = Callable[[Context, Ledger, Executor, Progress], Proposal]
Truth = Callable[[IntMatrix], Floats]
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
TRUTHS = {
    "table": ("the mean of the table's trainings of that pair", "of the table, too"),
    INVENTED: (f"of a made-up landscape; a training sees it with a noise of {NOISE} points", "of the landscape, too"),
    "real": ("top-1 on the test images after the final training", "here validation accuracy after a trial's epochs"),
}


def stage_two_alone(context: Context, ledger: Ledger, executor: Executor, progress: Progress) -> Proposal:
    """NARS whose answer is the best trial of stage 2 (Table 7 asks what stage 3 adds).

    Trials of the first batch trained longer than those that stopped early: all are compared after as many epochs.
    """
    nars(context, ledger, executor, progress)
    epoch = min(t.epochs for t in ledger.trials)
    best = max(kept(ledger.trials), key=lambda t: (context.label(t, epoch), -t.round, -t.index))
    return Proposal(tuple(best.candidate), None, best.epochs)


def predictor_with(config: SearchConfig, **changes: Any) -> SearchConfig:
    """The search with other settings of the predictor."""
    return config.replace(predictor=dataclasses.replace(config.predictor, **changes))


def without_finalists(config: SearchConfig) -> SearchConfig:
    """As many trainings, all in stage 2: as near to the number of rounds as divides them."""
    total = config.trainings
    rounds = min((r for r in range(1, total + 1) if total % r == 0), key=lambda r: abs(r - config.rounds))
    return config.replace(finalists=0, rounds=rounds, batch=total // rounds)


@dataclass(frozen=True)
class Method:
    """A search, and what it changes in the configuration."""

    search: Search
    change: Callable[[SearchConfig], SearchConfig] = lambda config: config


METHODS = {
    "nars": Method(nars),
    "random": Method(random_search),
    "tpe": Method(rivals.tpe),
    "evolution": Method(rivals.regularised_evolution),
    "tpe_sequential": Method(partial(rivals.tpe, settings=rivals.TpeSettings(batch=1))),
    "evolution_sequential": Method(
        partial(rivals.regularised_evolution, settings=rivals.EvolutionSettings(batch=1)),
    ),
    "nars_scratch": Method(nars, partial(predictor_with, pretrain=False)),
    "nars_paper_labels": Method(nars, partial(predictor_with, rich_labels=False)),
    "nars_no_stage3": Method(stage_two_alone, without_finalists),
}


@dataclass(frozen=True)
class Plan:
    """What is compared: configurations by name, methods, seeds, and whether accuracies are invented."""

    cases: Mapping[str, SearchConfig]
    methods: Sequence[str]
    seeds: Sequence[int]
    invented: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(f"methods: unknown {', '.join(unknown) or 'none'}; allowed: {', '.join(METHODS)}")

    @cached_property
    def kind(self) -> str:
        """Whose accuracies: table, invented or real."""
        is_table = isinstance(load_space(next(iter(self.cases.values())).space), TableSpace)
        return "table" if is_table else INVENTED if self.invented else "real"


def plan_cases(
    config: SearchConfig | Path, trainings: Sequence[int] | None, max_flops: Sequence[float | None]
) -> dict[str, SearchConfig]:
    """The configurations to compare by name: numbers of trainings times budgets.

    Args:
        config: a preset, or the file of a table.
        trainings: by default the preset's, or 40.
        max_flops: None is no other budget than the preset's.
    """
    cases = {}
    for flops in max_flops:
        limited = table_config(config, flops) if isinstance(config, Path) else with_budget(config, flops)
        for total in trainings or [limited.trainings]:
            name = f"trainings_{total}" + ("" if flops is None else f"_flops_{flops / 1e6:g}M")
            cases[name] = limited if total == limited.trainings else with_trainings(limited, total)
    return cases


def with_budget(config: SearchConfig, flops: float | None) -> SearchConfig:
    """Another budget, whose window keeps its proportions."""
    before = config.constraint
    if flops is None:
        return config
    return config.replace(
        constraint=dataclasses.replace(before, metric="flops", max=flops, min=before.min / before.max * flops)
    )


def with_trainings(config: SearchConfig, total: int) -> SearchConfig:
    """As many trainings: the finalists, and the rest in about as many batches as section 4.1 has."""
    left = total - config.finalists
    fitting = [rounds for rounds in (5, 4, 6, 3, 2, 1) if left > 0 and left % rounds == 0]
    if not fitting:
        raise InputError(f"{total} trainings are too few for {config.finalists} finalists; give more")
    return config.replace(rounds=fitting[0], batch=left // fitting[0])


def table_config(path: Path, flops: float | None) -> SearchConfig:
    """A search of a table; its pool is the rows inside the budget, or `POOL` of them."""
    space = load_space(str(path))
    if not isinstance(space, TableSpace):
        raise InputError(f"{path} is no table; give a .csv or .json file, or a preset")
    constraint = Constraint("flops", max=flops or float(space.labels["flops"].max()))
    inside = int(constraint.holds(space.labels["flops"]).sum())
    settings: dict[str, Any] = {"schema": 1, "about": "a table", "data": "table", "recipe": "table"}
    small = {"batch": 9, "rounds": 4, "finalists": FINALISTS, "early_stopping": 0.98, "final_stretch": 1}
    if inside < 40:
        raise InputError(f"{path} has {inside} pairs of at most {constraint.max:g} FLOPs; at least 40 are needed")
    settings |= {"name": space.name, "space": str(path), "constraint": constraint, "pool": min(inside, POOL)}
    return read_config(settings | small | {"predictor": {}, "evolution": {}}, str(path))


@dataclass(frozen=True)
class InventedEvaluator:
    """The landscape with the noise of a training; all epochs rank alike, the earlier ones lower."""

    oracle: Oracle

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """A curve that ends near the true accuracy after the recipe's last epoch."""
        space = self.oracle.space
        top = float(self.oracle(np.array([space.find(candidate.values)]))[0])
        top += NOISE * float(np.random.default_rng(seed).normal())
        last = candidate.recipe.epochs
        return Outcome(tuple(top - 10.0 * (last - epoch) / last for epoch in range(1, epochs + 1)), "ok", 0.0)


def compare(plan: Plan, out: Path, workers: int, command: str, progress: Progress) -> Result:
    """Run what is missing in `out`, and write result and plot.

    Raises:
        InputError: a folder that holds another comparison, or a configuration that cannot be met.
    """
    runs = [(case, method, seed) for case in plan.cases for seed in plan.seeds for method in plan.methods]
    total, done, answers = sum(plan.cases[case].trainings for case, _, _ in runs), 0, []
    for case, method, seed in runs:
        config = plan.cases[case]

        def report(
            ready: int, _: int, text: str, begun: int = done, where: str = f"{case}, seed {seed}, {method}"
        ) -> None:
            progress(begun + ready, total, f"{where}: {text}" if plan.kind == "real" else where)

        folder = out / case / method / f"seed{seed}"
        answers.append(run_one(plan, METHODS[method], config.replace(seed=seed), folder, workers, report))
        done += config.trainings
    progress(total, total, "done")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {case: {m: [] for m in plan.methods} for case in plan.cases}
    for (case, method, _), answer in zip(runs, answers, strict=True):
        found[case][method].append(answer)
    values = {case: summary(plan, case, found[case]) for case in plan.cases}
    truth, curve = TRUTHS[plan.kind]
    method_text = METHOD.format(truth=truth, curve=curve)
    packages = versions(["torch", "numpy", "scipy", "optuna"]) | host()
    result = Result.now(command, method_text, packages, {"accuracies": plan.kind, "cases": values})
    write_result(NAME, result, out)
    write_atomically(out / f"{NAME}.png", plot(result.values))
    return result


def run_one(
    plan: Plan, method: Method, config: SearchConfig, folder: Path, workers: int, progress: Progress
) -> dict[str, Any]:
    """One search in its folder, resumed; what it answered with."""
    config = method.change(config)
    if (folder / ANSWER).is_file():
        answer: dict[str, Any] = json.loads((folder / ANSWER).read_text())
        if answer["config"] != config.fingerprint:
            raise InputError(f"{folder} holds a search of another configuration; give another --out")
        return answer
    context, truth = make_context(config, plan.invented)
    save_config(config, folder / CONFIG)
    with (
        cpu_threads(1),
        Ledger.open(folder / LEDGER, config.fingerprint) as ledger,
        Execution().executor(context.evaluator, workers, config.processes) as executor,
    ):
        proposal = method.search(context, ledger, executor, progress)
        trials = sorted(ledger.trials, key=lambda t: (t.round, t.index))
    with cpu_threads(1):
        acc1 = true_accuracy(context, truth, proposal, folder, progress)
    answer = {
        "config": config.fingerprint,
        "candidate": list(proposal.candidate),
        "acc1": acc1,
        "trainings": len(trials),
        "epochs": sum(t.epochs for t in trials),
        "seconds": round(sum(t.seconds for t in trials), 1),
        "curve": [round(value, 4) for value in curve(context, truth, trials, acc1)],
    }
    write_atomically(folder / ANSWER, json.dumps(answer) + "\n")
    return answer


def make_context(config: SearchConfig, invented: bool) -> tuple[Context, Truth | None]:
    """How candidates are evaluated, and their true accuracy where it is known."""
    space = load_space(config.space)
    if isinstance(space, TableSpace):
        context = Context.of(config)
        assert isinstance(context.space, TableSpace)
        return context, context.space.accuracy
    if invented:
        oracle = Oracle(space)
        return Context.of(config, InventedEvaluator(oracle)), oracle
    return Context.of(config), None


def true_accuracy(context: Context, truth: Truth | None, proposal: Proposal, folder: Path, progress: Progress) -> float:
    """Of the answer: known, or measured on the test images after the final training."""
    if truth is not None:
        return float(truth(np.array([proposal.candidate]))[0])
    return float(train_final(context, final_candidate(context, proposal.candidate), folder, progress)[1]["acc1"])


def curve(context: Context, truth: Truth | None, trials: Sequence[Trial], acc1: float) -> list[float]:
    """After every training, accuracy of the best measured pair so far; where the truth is known, that, to the answer's."""
    epoch = min(t.epochs for t in trials)  # the longest that all of them trained, where some stopped early
    measured = np.array([context.label(t, t.epochs if truth is None else epoch) for t in trials])
    best = [int(measured[: i + 1].argmax()) for i in range(len(trials))]
    if truth is None:
        return [float(value) for value in measured[best]]
    found = truth(np.array([trials[i].candidate for i in best]))
    return [*map(float, found[:-1]), acc1]


def summary(plan: Plan, case: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Over seeds: every method, and what NARS has more than each of the others."""
    config = plan.cases[case]
    context, _ = make_context(config, plan.invented)
    values: dict[str, Any] = {
        "trainings": config.trainings,
        "batch": config.batch,
        "rounds": config.rounds,
        "finalists": config.finalists,
        "max_flops": config.constraint.max,
        "min_flops": config.constraint.min,
        "seeds": list(plan.seeds),
    }
    if isinstance(context.space, TableSpace):
        inside = context.space.table[context.limits.allows(context.space.table)]
        values |= {"pairs": len(inside), "best": round(float(context.space.accuracy(inside).max()), 4)}
    values["methods"] = {name: _describe(rows, values.get("best")) for name, rows in found.items()}
    ours = [row["acc1"] for row in found.get("nars", [])]
    if ours and len(ours) > 1:
        values["nars_minus"] = {
            name: _against(ours, [row["acc1"] for row in rows]) for name, rows in found.items() if name != "nars"
        }
    return values


def _describe(rows: Sequence[Mapping[str, Any]], best: float | None) -> dict[str, Any]:
    acc1 = np.array([row["acc1"] for row in rows])
    curves = np.array([row["curve"] for row in rows])
    spread = acc1.std(ddof=1) if len(acc1) > 1 else 0.0
    found: dict[str, Any] = {"acc1": round(float(acc1.mean()), 4), "acc1_std": round(float(spread), 4)}
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
    difference = np.subtract(ours, theirs)
    share = float((difference > 0).mean() + (difference == 0).mean() / 2)
    found = {key: round(value, 4) for key, value in asdict(paired_difference(ours, theirs)).items()}
    return found | {"share_better": round(share, 3)}


def plot(values: Mapping[str, Any]) -> bytes:
    """A panel a case: the best so far against trainings, mean and deviation over seeds; on tables the regret."""
    from matplotlib.figure import Figure

    cases = values["cases"]
    figure = Figure(figsize=(5.5 * len(cases), 4.2), layout="constrained")
    for axes, (name, case) in zip(np.atleast_1d(figure.subplots(1, len(cases))), cases.items(), strict=True):
        best = case.get("best")
        for i, (method, row) in enumerate(case["methods"].items()):
            mean, spread = np.array(row["curve"]), np.array(row["curve_std"])
            mean = mean if best is None else best - mean
            steps = np.arange(1, len(mean) + 1)
            axes.plot(steps, mean, label=method, color=f"C{i}")
            axes.fill_between(steps, mean - spread, mean + spread, color=f"C{i}", alpha=0.12, linewidth=0)
        if best is not None:
            axes.set_ylim(
                0.0, 2.5 * max(best - row["curve"][len(row["curve"]) // 4] for row in case["methods"].values())
            )
        axes.set(title=name.replace("_", " "), xlabel="trainings")
        axes.set_ylabel("best so far, %" if best is None else "regret of the best so far, points")
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
