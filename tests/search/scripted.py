"""Searches that take no time: a small configuration, and evaluators whose accuracies are made up."""

import json

import yaml

from fbnetv3.complexity import cost
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.algorithm import nars
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.trial import Ledger, Outcome, until_stopped
from fbnetv3.training.engine import cpu_threads

BASE_RECIPE = {"optimizer": "sgd", "lr": 0.05, "epochs": 2, "batch_size": 500, "ema_decay": 0.8}
# A predictor and an evolution that are quick. What they find is worse, but every stage runs.
QUICK = {
    "predictor": {"pretrain_epochs": 5, "members": 2},
    "evolution": {"evaluations": 500, "restarts": 0},
}
# Also on a machine with a GPU.
PLAIN = {"device": "cpu", "precision": "fp32", "readers": 0}


def config(tmp_path, **changes):
    """The quickstart in small: 2 rounds of 2 trainings of 2 epochs in large batches, and 2 finalists."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(BASE_RECIPE))
    small = {
        "recipe": str(recipe),
        "pool": 64,
        "first": None,
        "batch": 2,
        "rounds": 2,
        "finalists": 2,
        "final_stretch": 1,
        "confirm": 1,
        "constraint": {"metric": "flops", "convention": "published", "min": 150_000.0, "max": 400_000.0},
    }
    return load_preset("quickstart").replace(**QUICK | PLAIN | small | changes)


class Scripted:
    """An evaluator in ten lines: a smooth function of the candidate; candidates with a high learning rate diverge."""

    def __init__(self):
        self.calls = []

    def __call__(self, candidate, epochs, seed):
        self.calls.append(seed)
        if candidate.recipe.lr > 0.12:
            return Outcome((), "diverged", 0.0)
        top = 80 - 20 * candidate.recipe.mixup + cost(candidate.arch, 10, 1).flops() / 2e5
        return Outcome(tuple(top - 10 / (e + 1) for e in range(epochs)), "ok", 0.0)


class Stoppable(Scripted):
    """The same trainings, which end early where a rule says so."""

    def __call__(self, candidate, epochs, seed, *, stop=None):
        outcome = super().__call__(candidate, epochs, seed)
        return Outcome(until_stopped(outcome.acc1, stop), outcome.status, 0.0)


class Failing(Scripted):
    """Trainings with these numbers, counted from 0, fail, as they do on a full disk."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        return Outcome((), "failed", 0.0, "OSError: disk full") if len(self.calls) - 1 in self.fails else outcome


# Values that make the first trial of a ledger one of another search, and what the error says.
FOREIGN = {
    "candidate": ({"candidate": [99] * 24}, "no index row of the space micro"),
    "length": ({"candidate": [0]}, "no index row of the space micro"),
    "round": ({"round": 77}, "trial 0 of round 77 is none of this search"),
    "index": ({"index": 77}, "trial 77 of round 1 is none of this search"),
    "seed": ({"seed": 5}, "trial 0 of round 1 has the seed 5, and this search gives it"),
}


def change_first(ledger, **changes):
    """Write other values into the first trial of a ledger."""
    header, first, *rest = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join([header, json.dumps(json.loads(first) | changes) + "\n", *rest]))


def run_scripted(cfg, path, search=nars, evaluator=None):
    """The answer of a search, its trials, and its context; the ledger is at `path`."""
    context = Context.of(cfg)
    with cpu_threads(1), Ledger.open(path, cfg.fingerprint) as ledger, InProcess(evaluator or Scripted()) as executor:
        proposal = search(context, BatchRunner(context, ledger, executor, silent))
        return proposal, list(ledger.trials), context
