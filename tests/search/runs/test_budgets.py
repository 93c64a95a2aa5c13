"""Many budgets from one predictor: pairs inside them, never worse for more, and files that can be used."""

import json
import math
import shutil

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.pair_file import load_pair
from fbnetv3.progress import silent
from fbnetv3.search.execution.machine import Machine
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs import budgets
from fbnetv3.search.runs.budgets import answer_budgets, budget_name, budget_pairs, pareto_front, table_rows
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from tests.search.scripted import FOREIGN, change_first, config, run_scripted

BUDGETS = (4e5, 2e5, 3e5)


def copy(search, folder):
    shutil.copytree(search[1], folder, ignore=shutil.ignore_patterns("plots"))
    return folder


@pytest.fixture
def fresh(scripted_search, tmp_path):
    """A copy of a finished search without budgets."""
    return copy(scripted_search, tmp_path / "run")


@pytest.fixture(scope="module")
def searched(scripted_search, tmp_path_factory):
    """A copy of a finished search, into which `pairs` writes."""
    return copy(scripted_search, tmp_path_factory.mktemp("budgets") / "run")


@pytest.fixture(scope="module")
def pairs(searched):
    return budget_pairs(searched, BUDGETS, silent)


def extended_by(folder, trainings):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("extensions: []", f"extensions: [{trainings}]"))


def test_a_pair_of_a_budget_that_an_extension_changed_is_kept(fresh):
    budget_pairs(fresh, [2e5, 3e5], silent)
    extended_by(fresh, 1)  # one more finalist, which has not been trained
    out, kept = fresh / "budgets", fresh / "earlier" / "1" / "budgets"
    budget_pairs(fresh, [2e5, 3e5], silent)
    assert not kept.exists()
    now, before = (out / "flops_300K.yaml").read_bytes(), (out / "flops_200K.yaml").read_bytes()
    (out / "flops_300K.yaml").write_bytes(before)
    (out / "flops_300K").mkdir()
    (out / "flops_300K" / "weights.pt").write_text("weights")
    budget_pairs(fresh, [2e5, 3e5], silent)
    assert (out / "flops_300K.yaml").read_bytes() == now
    assert not (out / "flops_300K").exists()
    assert (kept / "flops_300K.yaml").read_bytes() == before
    assert (kept / "flops_300K" / "weights.pt").read_text() == "weights"


def test_the_batches_of_an_extension_come_before_its_budgets(fresh):
    extended_by(fresh, 4)
    with pytest.raises(InputError, match=r"has made 12 of the 14 trainings of stage 2; continue it with"):
        budget_pairs(fresh, [3e5], silent)


def test_budgets_are_answered_in_ascending_order(pairs):
    assert [answer.constraint.max for answer, _ in pairs] == sorted(BUDGETS)


def test_every_candidate_satisfies_its_budget(pairs):
    for answer, pair in pairs:
        assert cost(pair.arch, 10, 1).flops() == answer.flops[0] <= answer.constraint.max
        assert answer.flops.max() <= answer.constraint.max


def test_a_larger_budget_is_never_worse(pairs):
    scores = [answer.mean[0] - answer.std[0] for answer, _ in pairs]
    assert scores == sorted(scores)


def test_a_pair_has_the_prediction_of_its_answer(pairs):
    for answer, pair in pairs:
        assert pair.predicted == {
            "mean": pytest.approx(answer.mean[0], abs=1e-4),
            "std": pytest.approx(answer.std[0], abs=1e-4),
        }
        assert pair.provenance["search"] == "nars budgets"
        assert pair.provenance["predicted_after_epochs"] == answer.epochs


def test_every_budget_gets_a_pair_file(searched, pairs):
    folder = searched / "budgets"
    assert {path.name for path in folder.glob("*.*")} == {
        "flops_200K.yaml",
        "flops_300K.yaml",
        "flops_400K.yaml",
        "front.json",
    }
    for answer, pair in pairs:
        loaded = load_pair(folder / f"{budget_name(answer.constraint)}.yaml")
        assert loaded == pair
        assert loaded.measured == {}  # not trained
        assert loaded.constraint["max"] == answer.constraint.max


def test_the_front_lists_the_budgets_and_rises(searched, pairs):
    front = json.loads((searched / "budgets" / "front.json").read_text())
    assert [row["budget"] for row in front["budgets"]] == ["flops 200K", "flops 300K", "flops 400K"]
    points = [(p["flops"], p["predicted"]) for p in front["front"]]
    assert points == sorted(points)
    assert [p[1] for p in points] == sorted({p[1] for p in points})


def test_a_row_of_the_table_says_what_a_pair_costs(pairs):
    (answer, pair), row = pairs[0], table_rows(pairs)[0]
    assert row == {
        "budget": "flops 200K",
        "flops": cost(pair.arch, 10, 1).flops(),
        "params": cost(pair.arch, 10, 1).params(),
        "predicted": pair.predicted["mean"],
        "std": pair.predicted["std"],
        "test_acc1": None,
        "val_acc1": None,
        "epochs": None,
        "pair": "budgets/flops_200K.yaml",
    }
    assert answer.params[0] == row["params"]


def test_the_smallest_budget_does_not_depend_on_the_others(fresh, pairs):
    again = budget_pairs(fresh, BUDGETS[1:], silent)
    assert again[0][1] == pairs[0][1]


def test_a_budget_that_is_given_twice_is_answered_once(fresh):
    assert len(budget_pairs(fresh, [2e5, 2e5], silent)) == 1


def test_budgets_of_parameters_replace_the_constraint_on_flops(fresh):
    ((answer, pair),) = budget_pairs(fresh, [2e4], silent, "params")
    assert answer.constraint.metric == "params"
    assert cost(pair.arch, 10, 1).params() == answer.params[0] <= 2e4
    assert pair.constraint == {"metric": "params", "convention": "published", "max": 2e4}


def test_more_constraints_of_the_search_hold_in_every_budget(tmp_path):
    cfg = config(tmp_path, pool=128, batch=6, also=[{"metric": "params", "max": 22e3}])
    _, trials, context = run_scripted(cfg, tmp_path / "ledger.jsonl")
    answers = answer_budgets(context, trials, [Constraint("flops", 4e5)])
    assert answers[0].params.max() <= 22e3


def test_an_unfinished_search_is_refused(scripted_search, tmp_path):
    folder = scripted_search[1]
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:-3]))
    (tmp_path / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    with pytest.raises(InputError, match="has made 11 of the 12 trainings of stage 2; continue it"):
        budget_pairs(tmp_path, BUDGETS, silent)


@pytest.mark.parametrize(("changes", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_trial_of_another_search_is_refused_with_its_line(fresh, changes, words):
    change_first(fresh / "ledger.jsonl", **changes)
    with pytest.raises(InputError, match=rf"ledger\.jsonl: line 2: .*{words}.*; restore the file"):
        budget_pairs(fresh, BUDGETS, silent)


def test_a_trial_that_is_too_short_is_refused(fresh):
    change_first(fresh / "ledger.jsonl", epochs=1, acc1=[50.0])
    with pytest.raises(InputError, match="trial 0 of round 1 has 1 of 2 epochs, so it is none of this search"):
        budget_pairs(fresh, BUDGETS, silent)


@pytest.mark.parametrize("acc1", [[], [math.nan] * 2, [1.0] * 3], ids=str)
def test_a_wrong_answer_of_an_older_version_teaches_nothing(fresh, acc1):
    change_first(fresh / "ledger.jsonl", acc1=acc1)
    wrong = budget_pairs(fresh, [4e5], silent)[0][0]
    change_first(fresh / "ledger.jsonl", acc1=[], status="failed")
    failed = budget_pairs(fresh, [4e5], silent)[0][0]
    assert wrong.mean.tolist() == failed.mean.tolist()
    assert np.isfinite(wrong.mean).all()


def test_a_search_of_an_earlier_version_is_answered_with_its_epochs(tmp_path, monkeypatch):
    """It stopped at the first epoch. Now four candidates are too few to stop early."""
    cfg = config(tmp_path, batch=4)
    with monkeypatch.context() as patch:
        patch.setattr("fbnetv3.search.nars.algorithm.trial_epochs", lambda *_: 1)
        _, trials, context = run_scripted(cfg, tmp_path / "ledger.jsonl")
    assert answer_budgets(context, trials, [cfg.constraint])[0].epochs == 1


def test_a_ledger_without_trials_is_refused(tmp_path):
    context = Context.of(config(tmp_path))
    with pytest.raises(InputError, match="no trials to learn from"):
        answer_budgets(context, [], [Constraint("flops", 4e5)])


def test_a_budget_that_no_candidate_satisfies_is_refused(fresh):
    with pytest.raises(InputError, match="found no candidate with flops"):
        budget_pairs(fresh, [1e3], silent)


def test_a_pair_is_trained_on_demand_and_only_once(scripted_search, fresh):
    ((_, pair),) = budget_pairs(fresh, [2.5e5], silent, train=True)
    folder = fresh / "budgets" / "flops_250K"
    assert pair.measured["split"] == "test"
    model = read_weight_file(folder / "weights.pt").build()
    assert measure(model, load_data(scripted_search[0].data), "test").acc1 == pair.measured["acc1"]
    assert load_pair(fresh / "budgets" / "flops_250K.yaml") == pair

    before = (folder / "final" / "metrics.jsonl").stat().st_mtime_ns
    assert budget_pairs(fresh, [2.5e5], silent, train=True)[0][1] == pair
    assert (folder / "final" / "metrics.jsonl").stat().st_mtime_ns == before


def test_on_gpus_the_pairs_are_trained_side_by_side_before_they_are_measured(fresh, monkeypatch):
    """The trainings get the folders in which `make_final` looks for them."""
    asked = {}
    monkeypatch.setattr(budgets, "machine_of", lambda config, device, executor: Machine(device, "bf16", device))
    monkeypatch.setattr(budgets, "make_final", lambda *_: ((), {"split": "test", "epochs": 1, "acc1": 50.0}))

    def side_by_side(context, jobs, executor, progress):
        names = {folder.name: job.candidate.arch.name for folder, job in jobs.items()}
        asked.update(device=context.device, executor=executor, names=names)

    monkeypatch.setattr(budgets, "train_side_by_side", side_by_side)
    settings = ExecutorSettings(trials_per_gpu=2)
    budget_pairs(fresh, [3e5, 2.5e5], silent, train=True, device="cuda:3", executor=settings)
    start = "micro_quickstart_0_"
    names = {name: f"{start}{name}" for name in ("flops_250K", "flops_300K")}
    assert asked == {"device": "cuda:3", "executor": settings, "names": names}


def test_pareto_front_by_hand():
    costs, values = np.array([3.0, 1, 2, 2, 4, 5]), np.array([7.0, 5, 4, 6, 7, 9])
    assert pareto_front(costs, values).tolist() == [1, 3, 0, 5]  # an equal value at a higher cost is no gain
    costs, values = np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([5.0, 1.0, 4.0, 5.0, 6.0])
    assert pareto_front(costs, values).tolist() == [1, 3, 4]  # the first costs more than the fourth and is no better


@pytest.mark.parametrize(
    ("budget", "name"),
    [(450e6, "flops_450M"), (1.2e9, "flops_1.2G"), (21500.0, "flops_21.5K"), (12.0, "flops_12")],
)
def test_budgets_have_short_names(budget, name):
    assert budget_name(Constraint("flops", budget)) == name
