"""The generated blocks of docs/search.md: what was measured of each of its parts, and which targets hold.

Every word that depends on a result is chosen here from the result file, so that a new run cannot leave a stale claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fbnetv3.benchmarks.docs.readme import compared
from fbnetv3.benchmarks.experiments.report import markdown_table
from fbnetv3.benchmarks.result import Result, load_result

# Columns of the guard's table: heading, answer, and which of its figures.
GUARD = (
    ("stage 2 alone", "stage2", "regret"),
    ("one network (`paper`)", "paper", "regret"),
    ("default, one member", "lone", "regret"),
    ("ensemble", "ensemble", "regret"),
    ("guard", "guard", "regret"),
    ("random search", "random", "regret"),
    ("optimism, ensemble", "ensemble", "optimism"),
    ("optimism, guard", "guard", "optimism"),
)
RIVALS = ("scratch", "scratch_network", "statistics", "paper")  # of the predictor
SAMPLES = 96
GAIN = "the guard's gain over stage 2 alone (95% interval)"
WITHOUT_GUARD = ("paper", "lone", "ensemble")  # answers of stage 3 that are not trained before they are chosen


def labels() -> str:
    """Speed of labels, of a pool and of the stream."""
    result = load_result("cost_speed")
    value = result.number
    missed = [name for name, target in result.values["targets"].items() if not target["met"]]
    return (
        f"Measured on one core ({source('cost_speed', result)}): "
        f"{value('labels.architectures_per_second.statistics') / 1e6:.1f} million architectures a second with all statistics, "
        f"{value('fvcore_over_statistics.ratio') / 1e6:.1f} million times as fast as building a network and counting it with "
        f"fvcore; a pool of {value('pool.rows'):,}, drawn, filtered, labelled and encoded, takes "
        f"{value('pool.seconds.median'):.3f} s; {value('stream.draws'):,} draws, {value('stream.inside'):,} of them in the "
        f"window, screened with one network, and the best {value('stream.kept'):,} scored with eight, take "
        f"{value('stream.seconds.median'):.1f} s. Targets missed: {', '.join(missed) or 'none'}."
    )


def predictor() -> str:
    """By table how many times the samples the rivals need, then the targets."""
    result = load_result("predictor")
    rows = [
        [
            f"`{name}`",
            *(_factor(against, rival) for rival in RIVALS),
            f"{min(row['mse_ratio'] for row in against['scratch'].values()):.2f}",
        ]
        for name, against in ((name, table["against"]) for name, table in result.values["tables"].items())
    ]
    targets = [
        [f"`{name}`", f"{row['target']:g}", f"{row['measured']:g}", _met(row)]
        for name, row in result.values["targets"].items()
    ]
    return "\n".join(
        [
            f"How many times the {SAMPLES} samples of the default each rival needs for the default's error "
            f"(`{result.command}`, {source('predictor', result)}; `>`: it "
            f"does not get there with all samples measured), and the "
            "error of `scratch` over the default's at equal samples, where that is smallest:",
            "",
            *markdown_table(["table", *(f"`{rival}`" for rival in RIVALS), "smallest ratio of errors"], rows),
            "",
            *markdown_table(["target", "at least", "measured", ""], targets),
        ]
    )


def evolution() -> str:
    """The gaps by landscape and budget, then the time and the rivals."""
    result = load_result("evolution")
    values, target = result.values, result.values["targets"]
    budgets = list(values["oracle"])
    gaps = {name: [row["gap"] for row in values[name].values()] for name in ("ensemble", "oracle")}
    rows = [
        [
            f"`{name}`, mean gap",
            *(f"{gap:.3f}" for gap in gaps[name]),
            _held(gaps[name], budgets, target[f"gap_{name}"]),
        ]
        for name in gaps
    ]
    early = [row["best"] - float(np.mean(row["runs"]["paper"])) for row in values["ensemble"].values()]
    rows.append(["`ensemble`, preset `paper`, mean gap", *(f"{gap:.2f}" for gap in early), "it stops early"])
    most = max(row["evaluations"] for row in values["ensemble"].values())
    lead, small = target["over_random_25x"]["value"], values["enumerated"]
    return "\n".join(
        [
            f"Measured on `{values['space']}` (`{result.command}`, {source('evolution', result)}; {values['seeds']} seeds, "
            f"{most:,} evaluations at the most, no trials to start from). `ensemble` is the default "
            f"predictor ({values['predictor']['members']} members) fitted "
            f"to {values['trials']} made-up accuracies; `oracle` is "
            "their source itself. Gap: points below the best value that "
            "any method found, 5 times as many evaluations included.",
            "",
            *markdown_table(["landscape", *budgets, "target"], rows),
            "",
            f"One budget takes {target['seconds']['value']:.2f} s of one core with the predictor (at most "
            f"{target['seconds']['at_most']}: {_met(target['seconds'])}). "
            f"{_pymoo(result)}The worst seed is {abs(lead):.2f} points "
            f"{'above' if lead >= 0 else 'below'} the best of 25 times as many random pairs inside the budget. Of "
            f"{small['pairs']:,} enumerated pairs {small['found']} of {small['seeds']} seeds find the best (at least "
            f"{target['optimum']['at_least']:.0%}: {_met(target['optimum'])}).",
        ]
    )


def guard() -> str:
    """Regrets by number of trainings and budget, then what the guard gains and who beats it."""
    result = load_result("finalists")
    cases = guard_cases(result.values)
    rows = [
        [name, *(f"{case[answer][key]:.2f}" for _, answer, key in GUARD), _interval(case["gain_over_stage2"])]
        for name, case in cases.items()
    ]
    beaten = {
        name: [key for key, case in cases.items() if case[name]["regret"] < case["guard"]["regret"]]
        for name in ("stage2", *WITHOUT_GUARD, "random")
    }
    lone = sum(case["ensemble"]["regret"] < case["lone"]["regret"] for case in cases.values())
    return "\n".join(
        [
            f"Measured on accuracies that are real, those of NAS-Bench-Macro's networks (`{result.command}`, "
            f"{result.values['finalists']} finalists, {source('finalists', result)}): mean regret, in points below the best "
            "network within the budget, and optimism, predicted less true accuracy of the answer.",
            "",
            *markdown_table(["trainings, budget", *(heading for heading, _, _ in GUARD), GAIN], rows),
            "",
            f"Stage 2 alone, the guard and random search made {result.values['finalists']} trainings more than the others. "
            "The paper reports that stage 3 adds 0.6 to 0.8 points. A lower mean regret than the guard's: "
            f"stage 2 alone {_where(beaten['stage2'])}; a stage 3 without trained finalists "
            f"{_where({key for name in WITHOUT_GUARD for key in beaten[name]})}; random search {_where(beaten['random'])}. The "
            f"ensemble by itself does better than one member in {lone} of {len(cases)} cases.",
        ]
    )


def latency() -> str:
    """How well sums over measured blocks predict whole networks."""
    result = load_result("latency")
    rows = [
        [
            f"{row['networks']} of `{name}`",
            f"{row['rank_correlation']:.2f}",
            f"{row['rank_correlation_flops']:.2f}",
            f"{row['bias']:.2f}",
            f"{row['error_scaled']:.0%}",
            f"{row['pieces_of_the_space']:,}",
            f"{row['seconds'] / row['pieces_measured'] * row['pieces_of_the_space']:.0f} s",
        ]
        for name, row in result.values.items()
        if name != "machine"
    ]
    columns = (
        "random networks",
        "rank correlation with measured time",
        "the same of FLOPs",
        "predicted over measured",
        "mean error after dividing by that",
        "blocks of the space",
        "time for all of them",
    )
    return "\n".join(
        [
            f"Checked against whole networks (`{result.command}`, "
            f"{source('latency', result)}, {result.values['machine']['cpu']}; "
            "the time for all blocks is extrapolated from those that were measured):",
            "",
            *markdown_table(columns, rows),
        ]
    )


def quickstart() -> str:
    """The quickstart now, and as it was with the first predictor and evolution."""
    result = load_result("quickstart")
    value, row = result.number, result.values["difference"]
    zero = "does not exclude" if row["low"] <= 0 <= row["high"] else "excludes"
    return (
        f"Measured ({source('quickstart', result)}): with predictor, evolution and finalists as they are now, the quickstart "
        f"reaches {value('mean.after'):.2f}% on the test images over {len(result.values['test_acc1']['after'])} seeds; commit "
        f"{result.versions['before']}, which had the first ones, reaches {value('mean.before'):.2f}% with the same seeds. The "
        f"difference is {_interval(row)} points, which {zero} zero, in {value('slower'):.2f} times the processor time."
    )


def parallel() -> str:
    """Efficiency of the executors with two workers."""
    result = load_result("parallel")
    cases = {name: row for name, row in result.values.items() if isinstance(row, Mapping) and "pool" in row}
    least = {name: min((row[name]["efficiency"], case) for case, row in cases.items()) for name in ("pool", "ray")}
    missed = [name for name, target in result.values["targets"].items() if not target["met"]]
    return (
        f"Measured ({source('parallel', result)}, {result.values['rounds']} rounds, interleaved with one worker): with two "
        f"workers on tasks of half a second and of two, computing or sleeping, the process pool's parallel efficiency is "
        f"{least['pool'][0]:.1%} or more, Ray's {least['ray'][0]:.1%} or more. Targets missed: {', '.join(missed) or 'none'}."
    )


def invented() -> str:
    """Ablations on accuracies that are made up."""
    return compared("compare_invented", "Made-up accuracies of the quickstart's space")


def zoo() -> str:
    """What `search regenerate` made here."""
    result = load_result("regenerate")
    hours = ", ".join(f"{stage} {value:.3f}" for stage, value in result.values["hours"].items())
    teacher = result.values["teacher"]
    rows = [
        [
            f"`{row['model']}`",
            f"{row['flops'] / 1e3:.0f}K",
            f"{row['params'] / 1e3:.1f}K",
            f"{row['acc1']:.2f}",
            row["made"],
        ]
        for row in result.values["networks"]
    ]
    return (
        f"Made here ({source('regenerate', result)}, one seed, `{result.command}`): networks for 5,000 Fashion-MNIST images, "
        f"top-1 on the 2,000 test images; hours of training on one core: {hours}. The teacher, {teacher['network']} without "
        f"distillation, has {teacher['acc1']:.2f}%.\n\n"
        + "\n".join(markdown_table(["network", "FLOPs", "params", "top-1", "made"], rows))
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "quickstart": quickstart,
    "labels": labels,
    "predictor": predictor,
    "evolution": evolution,
    "guard": guard,
    "latency": latency,
    "parallel": parallel,
    "zoo": zoo,
    "invented": invented,
}


def source(name: str, result: Result) -> str:
    """When, and the link to the result file."""
    return f"{result.date}, [{name}.json](../benchmarks/results/{name}.json)"


def guard_cases(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A row of the table a number of trainings and budget, by its words."""
    cases = {}
    for plan in (plan for name, plan in values.items() if name.startswith("trials_")):
        for budget in (name for name in plan if name.startswith("budget_")):
            share = float(budget.removeprefix("budget_"))
            networks = "all networks" if share == 1.0 else f"{share:.0%} of the networks"
            cases[f"{plan['batches'] * plan['batch']} ({plan['seeds']} seeds), {networks}"] = plan[budget]
    return cases


def _met(target: Mapping[str, Any]) -> str:
    return "met" if target["met"] else "missed"


def _factor(against: Mapping[str, Any], rival: str) -> str:
    row = against.get(rival, {}).get(str(SAMPLES))
    return "-" if row is None else f"{'> ' if row['factor_is_bound'] else ''}{row['factor']:.1f}"


def _held(gaps: Sequence[float], budgets: Sequence[str], target: Mapping[str, Any]) -> str:
    missed = [budget for gap, budget in zip(gaps, budgets, strict=True) if gap > target["at_most"]]
    return f"at most {target['at_most']}: " + (f"missed at {', '.join(missed)}" if missed else "met")


def _pymoo(result: Result) -> str:
    target = result.values["targets"].get("over_pymoo")
    if target is None:
        return ""
    rows = [row["runs"] for name in ("ensemble", "oracle") for row in result.values[name].values()]
    lower = sum(max(runs["pymoo"]) < float(np.mean(runs["ours"])) for runs in rows)
    return (
        f"pymoo {result.versions['pymoo']}'s GA takes {target['ratio']:.1f} times as long with as many evaluations (at least "
        f"{target['at_least']:g}: {_met(target)}), and ends below our mean in {lower} of {len(rows)} cases (one run each). "
    )


def _interval(gain: Mapping[str, float]) -> str:
    return f"{gain['mean']:+.2f} ({gain['low']:+.2f} to {gain['high']:+.2f})"


def _where(cases: Iterable[str]) -> str:
    return f"with {'; '.join(sorted(cases))}" if cases else "nowhere"
