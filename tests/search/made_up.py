"""Made-up results of searches for the report: accuracies that can be counted by hand, without any training."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np

from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.search.nars.config import load_preset, save_config
from fbnetv3.search.nars.context import trial_seed
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.predictor.diagnostics import Statistic
from fbnetv3.search.report.page import write_report
from fbnetv3.search.runs.folder import CONFIG, SearchFolder, SearchResult, write_results
from fbnetv3.search.space.constraints import sample
from fbnetv3.search.trial import Ledger, Trial

EPOCHS = 2  # that early stopping chose; trials of the first round have 3
# A made-up round. The predictions have the ranks 1 2 3 4 5, the measurements 2 1 4 3 5. The squared differences of the ranks
# add up to 4, so Spearman's coefficient is 1 - 6 * 4 / (5 * 24) = 0.8. The absolute differences are 1 1 2 0 1.
PREDICTED = (60.0, 61.0, 62.0, 63.0, 64.0)
MEASURED = (61.0, 60.0, 64.0, 63.0, 65.0)
PROXY = (
    Statistic("flops", (100.0, 200.0, 300.0), (110.0, 190.0, 300.0)),
    Statistic("params", (10.0, 20.0, 30.0), (10.0, 20.0, 30.0)),
)


def make_config(**changes):
    """The quickstart with rounds of 5 trainings."""
    return load_preset("quickstart").replace(**{"first": None, "batch": 5, "rounds": 3, "confirm": 1} | changes)


def make_trials(config, space, rounds):
    """Rounds of five trials. The first round trained for 3 epochs and has no predictions."""
    rows = sample(space, 5 * rounds, config.constraint, 3)
    costs, rng = space.cost(rows), np.random.default_rng(0)
    trials = []
    for i, row in enumerate(rows.tolist()):
        round, index = i // 5 + 1, i % 5
        curve = [50.0, MEASURED[index], 90.0 + index][: 3 if round == 1 else EPOCHS]
        trials.append(
            Trial(
                round=round,
                index=index,
                candidate=row,
                seed=trial_seed(config.seed, round, index),
                epochs=3 if round == 1 else EPOCHS,
                flops=int(costs.flops()[i]),
                params=int(costs.params()[i]),
                predicted=None if round == 1 else [PREDICTED[index], float(rng.uniform(0.5, 2))],
                acc1=curve,
                status="ok",
                seconds=6.0,
            )
        )
    return trials


def diverged(trial):
    return dataclasses.replace(trial, acc1=[], status="diverged")


def failed(trial, error):
    return dataclasses.replace(trial, acc1=[], status="failed", error=error)


def repeats(trials, *accuracies):
    """Second trainings of the first candidates of the first batch."""
    return [
        dataclasses.replace(t, round=0, acc1=[50.0, 60.0, acc1], seed=trial_seed(0, 0, i + 2))
        for i, (t, acc1) in enumerate(zip(trials, accuracies, strict=False))
    ]


def make_result(config, space, trials, method="nars", acc1=81.25):
    """What a search answered with: its last trial, trained to `acc1` percent of the test images.

    Random search has the same trials in one round.
    """
    best, nars = trials[-1], method == "nars"
    if not nars:
        seeds = [trial_seed(config.seed, 1, i) for i in range(len(trials))]
        trials = [dataclasses.replace(t, round=1, index=i, seed=seeds[i]) for i, t in enumerate(trials)]
    arch, recipe, _ = space.candidate(best.candidate, load_recipe(config.recipe), "micro_pair")
    recipe = recipe.stretched(config.final_stretch)
    pair = Pair(
        arch=arch,
        recipe=recipe,
        space=config.space,
        seed=config.seed,
        constraint={"metric": "flops", "convention": "published", "max": config.constraint.max},
        predicted={"mean": 66.6, "std": 0.9},
        measured={"split": "test", "epochs": recipe.epochs, "acc1": acc1},
        provenance={"data": config.data, "search": method, "training_seed": 4242, "torch": "9.8.7"},
    )
    proposal = Proposal(
        tuple(best.candidate),
        (66.6, 0.9) if nars else None,
        EPOCHS,
        (65.0, 66.0, 66.6) if nars else (),
        proxy=PROXY if nars else (),
    )
    curve = tuple(np.linspace(60, 82, recipe.epochs).tolist())
    return SearchResult(method, pair, proposal, tuple(trials), curve, best.flops, best.params)


def write_search(folder, config, results):
    """Write the files that a search with these results leaves, over those of an earlier call."""
    search = SearchFolder(folder, config)
    for result in results:
        write_trials(folder, config, result.trials, result.method)
        save_pair(result.pair, search.pair(result.method))
    write_results(results, folder)
    return search


def write_trials(folder, config, trials, method="nars"):
    """Write the files of a search that has made these trials so far, over those of an earlier call."""
    search = SearchFolder(folder, config)
    save_config(config, folder / CONFIG)
    search.ledger(method).unlink(missing_ok=True)
    with Ledger.open(search.ledger(method), config.fingerprint) as ledger:
        for trial in trials:
            ledger.append(trial)
    return search


def report(folder, config, results):
    """Write a search and its report; return the page as it is written and as it is read."""
    write_search(folder, config, results)
    return read(write_report(folder))


def read(path):
    """Return a page as it is written and as it is read."""
    text = path.read_text()
    return text, Page(text)


class Page(HTMLParser):
    """Text, tables (rows of cells), tags and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.script, self.rows, self.tags, self.links, self.in_cell = "", "", [], [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "action", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        if self.tags[-1:] == ["script"] and not data.isspace():
            self.script += data
            return
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    @property
    def words(self):
        """The text with single spaces between its words."""
        return re.sub(r"\s+", " ", self.text)

    def row(self, first):
        """The first row of a table that begins with this cell."""
        return next(row for row in self.rows if row[0] == first)

    def after(self, *head):
        """The rows after the first row that begins with these cells."""
        return self.rows[next(i for i, row in enumerate(self.rows) if tuple(row[: len(head)]) == head) + 1 :]
