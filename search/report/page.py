"""The report of a search, ended or not: one self-contained HTML page, and its plots as PNG files in `plots/` next to it.

It is written from the files in the search's folder, so it can be written again at any time.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbnetv3.arch import Arch
from fbnetv3.device import AUTO
from fbnetv3.files import write_atomically
from fbnetv3.pages.markup import figure, fill, table
from fbnetv3.pages.plots import Plot, count
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.schema import load_json
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.report import template as words
from fbnetv3.search.report.advice import advice
from fbnetv3.search.report.analysis import errors, summary
from fbnetv3.search.report.figures import (
    plot_early_stopping,
    plot_evolution,
    plot_predicted,
    plot_proxy,
)
from fbnetv3.search.report.findings import Findings, find
from fbnetv3.search.report.findings_page import calibration_section, findings_plots, findings_section
from fbnetv3.search.report.outcome import image_counts, outcome, percent, plot_answers, split_of
from fbnetv3.search.report.plots import groups, plot_convergence, plot_final, plot_pareto, plot_rounds
from fbnetv3.search.report.ranking import Belief, rank
from fbnetv3.search.report.trials_page import script, script_hash, trials_section
from fbnetv3.search.runs.budgets import FOLDER, FRONT
from fbnetv3.search.runs.clock import read_clock
from fbnetv3.search.runs.confirm import load_confirmation
from fbnetv3.search.runs.folder import METHODS, RESULT, SearchFolder, SearchResult, load_search
from fbnetv3.search.runs.inputs import recipe_name
from fbnetv3.search.runs.provisional import provisional_results
from fbnetv3.search.runs.status import duration, status_of
from fbnetv3.search.space.network_space import NetworkSpace, as_networks
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.trial import REPEATS, Place
from fbnetv3.training.accuracy import image_interval

REPORT, PLOTS = "report.html", "plots"
BUDGETS = Path(FOLDER) / f"{FRONT}.json"


def write_report(folder: str | Path) -> Path:
    """Write the page and the plots of a search, each file completely or not at all; return the page's path.

    The page of a search that has not ended says so, and is about the trainings so far. Pairs that `fbnetv3 search budgets` made
    are shown too.

    Raises:
        InputError: no search there, or one without a training that succeeded; a folder that cannot be written; a damaged file.
    """
    search = load_search(folder)
    ended = (search.path / RESULT).is_file()
    results, space = search.results() if ended else provisional_results(search), as_networks(search.space)
    front = search.path / BUDGETS
    budgets = load_json(front, "answer to budgets", ("budgets",))["budgets"] if front.is_file() else []
    findings = find(search.context, results[0].trials, results[0].proposal.epochs) if ended else Findings()
    confirmation = load_confirmation(search)
    plots = _plots(search.config, results, budgets, ended)
    plots["findings"] = findings_plots(findings) if ended else []
    plots["outcome_plot"] = [] if confirmation is None else [plot_answers(confirmation)]
    pairs = [(f"budget {row['budget']}", row, load_pair(search.path / row["pair"])) for row in budgets]
    parts = {
        "trials": trials_section(search.config, space, results, _beliefs(search.context, results[0], findings)),
        "cost": _cost(search, results),
    }
    if ended:
        parts["outcome"] = outcome(search.config, results, image_counts(search.config), confirmation)
    else:
        parts["outcome"] = fill(words.UNFINISHED, {}, {"status": table(("", ""), status_of(search).lines(), "words")})
    page = _page(search.config, space, results, plots, pairs, findings, parts, ended)
    for plot in (p for part in plots.values() for p in part):
        file = search.path / PLOTS / f"{plot.name}.png"
        if plot.png is not None:
            write_atomically(file, plot.png)
        else:
            # An earlier report may have had this plot.
            file.unlink(missing_ok=True)
    write_atomically(search.path / REPORT, page)
    return search.path / REPORT


def _plots(
    config: SearchConfig, results: list[SearchResult], budgets: list[dict[str, Any]], ended: bool
) -> dict[str, list[Plot]]:
    """Return the plots of every part of the page, by the part's name in the template."""
    nars = results[0]
    same_metric = [row for row in budgets if config.constraint.metric in row]
    search = [plot_rounds(config, results), plot_pareto(config, results, same_metric), plot_convergence(results)]
    knowledge = [plot_predicted(config, nars), plot_early_stopping(config, nars)]
    if not ended:
        return {"search": search, "knowledge": knowledge, "final_plot": []}
    knowledge = [plot_proxy(nars), *knowledge, plot_evolution(config, nars)]
    return {"search": search, "knowledge": knowledge, "final_plot": [plot_final(results)]}


def _page(
    config: SearchConfig,
    space: NetworkSpace,
    results: list[SearchResult],
    plots: Mapping[str, list[Plot]],
    budgets: list[tuple[str, dict[str, Any], Pair]],
    findings: Findings,
    parts: Mapping[str, str],
    ended: bool,
) -> str:
    nars = results[0]
    pair, sizes, split = nars.pair, image_counts(config), split_of(nars)
    text = _words(config, space, nars) | {name: f"{n:,}" for name, n in sizes.items()}
    recipe, searched = _recipe_rows(config, space, nars)
    made = {"seed": pair.seed, "space": pair.space} | pair.provenance
    rounds = [[name, *summary(trials, nars.proposal.epochs)] for _, name, trials in groups(config, results)]
    markup = {
        "css": words.CSS,
        "script": script(),
        "script_hash": script_hash(),
        **parts,
        "unfinished": "" if ended else " (unfinished)",
        "chosen": fill(words.CHOSEN_BY, text, {"apart": fill(words.APART[split], text, {})}),
        "advice": _advice(config, space, nars),
        "apart": fill(words.APART[split], text, {}),
        "unbiased": fill(words.UNBIASED[split], text, {}),
        "subset": fill(words.SUBSET, text, {}) if sizes else "",
        "use": fill(words.USE if split and config.data else words.RETRAIN, text, {}),
        "arch": table(("stage", "block", "k", "e", "c", "n", "s", "se"), _arch_rows(pair.arch)),
        "recipe": table(("field", "value", "where it comes from"), recipe, "words", searched),
        "pairs": _pairs(space, results, budgets, sizes),
        "rounds": table(words.ROUNDS, rounds),
        "repeats": _REPEATS if any(t.round == REPEATS for t in nars.trials) else "",
        "asynchronous": fill(words.ASYNCHRONOUS, text, {}) if config.asynchronous else "",
        "extended": _extended(config),
        "failures": _failures(results),
        "finalists": _finalists(nars) if nars.proposal.finalists else "",
        "lone": words.LONE if config.rounds == 1 else "",
        "made": table(("what", "value"), [[k.replace("_", " "), _value(v)] for k, v in made.items()], "words"),
        "calibration": calibration_section(findings.calibration),
        **{part: "".join(map(figure, some)) for part, some in plots.items()},
    }
    if ended:
        markup["findings"] = findings_section(findings, plots["findings"], space, config.constraint.metric)
    else:
        best = {"best": f"{nars.pair.predicted['mean']:.2f}", "epochs": text["epochs"]}
        markup |= {"chosen": fill(words.UNFINISHED_PAIR, best, {}), "findings": words.UNFINISHED_FINDINGS}
        markup |= {"use": words.UNFINISHED_USE, "final_plot": words.UNFINISHED_USE}
    return fill(words.PAGE, text, markup)


_REPEATS = " Repeats are second trainings of candidates of round 1 with another seed. They say how noisy trainings are."


def _cost(search: SearchFolder, results: Sequence[SearchResult]) -> str:
    """Return what the trainings cost, and how long the search took by the clock, as far as it was noted."""
    nars, *others = results
    spent = {r.method: duration(sum(t.seconds for t in r.trials)) for r in results}
    rest = [fill(words.COST_OTHER, {"other": METHODS[r.method], "seconds": spent[r.method]}, {}) for r in others]
    device = "" if search.config.device == AUTO else f" on {search.config.device}"
    text = fill(words.COST, {"seconds": spent[nars.method], "device": device}, {"others": "".join(rest)})
    clock = read_clock(search.path)
    if not clock.sessions:
        return text
    sessions = "" if len(clock.sessions) == 1 else f", in {len(clock.sessions)} sessions"
    return text + fill(words.WALL, {"wall": duration(clock.wall()), "sessions": sessions}, {})


def _extended(config: SearchConfig) -> str:
    trainings = " and then by ".join(map(str, config.extensions))
    return fill(words.EXTENDED, {"trainings": trainings}, {}) if trainings else ""


def _beliefs(context: Context, nars: SearchResult, findings: Findings) -> dict[Place, Belief]:
    """Return what the predictor believes of every candidate, by trial; nothing where it does not explain the trials."""
    if findings.posterior is None:
        return {}
    ranking = rank(context, nars.trials, nars.proposal.epochs, posterior=findings.posterior)
    return {place: row.belief for row in ranking.rows if row.belief for place in row.places}


def _advice(config: SearchConfig, space: SearchSpace, nars: SearchResult) -> str:
    texts = advice(config, space, nars.trials, nars.proposal.epochs)
    rows = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return fill(words.ADVICE, {}, {"rows": rows}) if texts else ""


def _words(config: SearchConfig, space: NetworkSpace, nars: SearchResult) -> dict[str, object]:
    """Return the values that the page's text shows."""
    pair, limit = nars.pair, config.constraint
    spent = Counter(t.epochs for t in nars.trials)
    return {
        "name": config.name,
        "about": config.about,
        "space": space.name,
        "archs": _big(space.arch_size),
        "recipes": _big(space.recipe_size),
        "data": config.data or f"the data of {config.evaluator or 'an evaluator'}",
        "named_data": "" if config.data else " --data DATA",
        "limit": (f"{limit.min:,.0f} to " if limit.min else "at most ") + f"{limit.max:,.0f}",
        "metric": "FLOPs (one multiply-add = 1)" if limit.metric == "flops" else "parameters",
        "convention": limit.convention,
        "candidates": count(len(nars.trials), "candidate"),
        "spent": ", ".join(f"{n} for {count(e, 'epoch')}" for e, n in sorted(spent.items(), reverse=True)),
        "final": count(pair.recipe.epochs, "epoch"),
        "mean": f"{pair.predicted['mean']:.1f}",
        "std": f"{pair.predicted['std']:.1f}",
        "epochs": count(nars.proposal.epochs, "epoch"),
        "resolution": pair.arch.resolution,
        "base": recipe_name(config),
        "at_once": count(config.asynchronous, "candidate"),
        "unless": ", if the trainings end in the same order" if config.asynchronous else "",
    }


def _finalists(nars: SearchResult) -> str:
    """Return the table of finalists, with predicted next to measured accuracy, and with the chosen one marked."""
    rows, finalists = [], nars.proposal.finalists
    for i, f in enumerate(finalists, 1):
        mean, std = f.predicted
        off = f"{(f.measured - mean) / std:+.1f}" if std else "-"
        rows.append([str(i), f"{mean:.1f} ± {std:.1f}%", f"{f.measured:.1f}%", off, f"{f.final:.1f}%"])
    chosen = [i for i, f in enumerate(finalists) if f.candidate == nars.proposal.candidate]
    marked = table(words.FINALIST_HEAD, rows, marked=chosen)
    return words.FINALISTS.substitute(table=marked, chosen=words.CHOSEN[bool(chosen)])


def _pairs(
    space: SearchSpace,
    results: list[SearchResult],
    budgets: list[tuple[str, dict[str, Any], Pair]],
    sizes: Mapping[str, int],
) -> str:
    """Return the tables of all pairs: costs, accuracies and searched recipe fields; nothing if there is one pair only."""
    pairs = [(METHODS[f.method], {"flops": f.flops, "params": f.params}, f.pair) for f in results] + budgets
    if len(pairs) == 1:
        return ""
    rows = []
    for name, costs, pair in pairs:
        predicted = f"{pair.predicted['mean']:.1f} ± {pair.predicted['std']:.1f}%"
        # A search without a predictor answers with what it measured, and has a std of 0.
        predicted = predicted if pair.predicted["std"] else "-"
        # On the test images, or on the validation images where the data has no others.
        final = f"{percent(pair)}%" if pair.measured else "-"
        if pair.measured and pair.measured["split"] in sizes:
            low, high = image_interval(pair.measured["acc1"], sizes[pair.measured["split"]])
            final += f" ({low:.1f} to {high:.1f})"
        rows.append([name, f"{costs['flops']:,}", f"{costs['params']:,}", predicted, final])
    fields = [c.name for c in space.coordinates if not c.arch]
    recipes = [[name, *(_value(pair.recipe.to_dict()[field]) for field in fields)] for name, _, pair in pairs]
    markup = {
        "table": table(("pair", "FLOPs", "parameters", "predicted", "measured"), rows),
        "recipes": table(("pair", *(field.replace("_", " ") for field in fields)), recipes),
    }
    return fill(words.PAIRS, {"epochs": count(results[0].proposal.epochs, "epoch")}, markup)


def _failures(results: list[SearchResult]) -> str:
    lines = [(f, line) for f in results for line in errors(f.trials)]
    rows = "".join(f"<li>{html.escape(METHODS[f.method])}, {html.escape(line)}</li>" for f, line in lines)
    return words.FAILURES.substitute(rows=rows) if rows else ""


def _arch_rows(arch: Arch) -> list[list[str]]:
    named = [("stem", arch.stem)]
    named += [(str(i), row) for i, stage in enumerate(arch.stages, 1) for row in stage]
    named += [("head", arch.head)] if arch.head is not None else []
    return [[name, b.block, *map(str, (b.k, b.e, b.c, b.n, b.s)), "yes" if b.se else "-"] for name, b in named]


def _recipe_rows(config: SearchConfig, space: NetworkSpace, nars: SearchResult) -> tuple[list[list[str]], range]:
    """Return field, value and origin of every recipe field, searched ones first, and the positions of the searched ones."""
    recipe = nars.pair.recipe.to_dict()
    rows = []
    for c in space.coordinates:
        if not c.arch:
            factor = space.sgd_lr_factor if c.name == "lr" and recipe["optimizer"] == "sgd" else 1
            values = [_value(v if factor == 1 else v * factor) for v in c.values]
            choices = f"{values[0]} to {values[-1]}" if c.ordered else ", ".join(values)
            rows.append([c.name, _value(recipe.pop(c.name)), f"searched: {choices}"])
    searched, stretch = range(len(rows)), config.final_stretch
    for name, value in recipe.items():
        longer = name in ("epochs", "lr_decay") and stretch > 1
        rows.append([name, _value(value), f"base recipe, stretched {stretch} times" if longer else "base recipe"])
    return rows, searched


def _big(n: int) -> str:
    return f"{n:,}" if n < 10**9 else f"about 10^{len(str(n)) - 1}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list):
        return "; ".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
