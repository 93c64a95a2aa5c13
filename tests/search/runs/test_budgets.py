"""Many budgets from one predictor: pairs inside them, never worse for more, and files that can be used."""

import json

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.pair_file import load_pair
from fbnetv3.progress import silent as quiet
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.budgets import answer_budgets, budget_name, budget_pairs, pareto_front
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.packaged import load_images
from fbnetv3.weight_file import read_weight_file
from tests.search.scripted import config, run_scripted

BUDGETS = (4e5, 2e5, 3e5)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder as a search leaves it, with scripted trainings."""
    folder = tmp_path_factory.mktemp("searched")
    cfg = config(folder, pool=128, batch=6)
    run_scripted(cfg, folder / "ledger.jsonl")
    save_config(cfg, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def pairs(searched):
    return budget_pairs(searched, BUDGETS, quiet)


def test_every_pair_keeps_its_budget_and_more_is_never_worse(searched, pairs):
    assert [answer.constraint.max for answer, _ in pairs] == sorted(BUDGETS)
    scores = []
    for answer, pair in pairs:
        assert cost(pair.arch, 10, 1).flops() == answer.flops[0] <= answer.constraint.max
        assert answer.flops.max() <= answer.constraint.max
        assert pair.predicted == {
            "mean": pytest.approx(answer.mean[0], abs=1e-4),
            "std": pytest.approx(answer.std[0], abs=1e-4),
        }
        scores.append(answer.mean[0] - answer.std[0])
    assert scores == sorted(scores)


def test_its_files(searched, pairs):
    folder = searched / "budgets"
    assert {path.name for path in folder.iterdir()} == {
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
    front = json.loads((folder / "front.json").read_text())
    assert [row["budget"] for row in front["budgets"]] == ["flops 200K", "flops 300K", "flops 400K"]
    points = [(p["flops"], p["predicted"]) for p in front["front"]]
    assert points == sorted(points)
    assert [p[1] for p in points] == sorted({p[1] for p in points})


def test_the_same_folder_gives_the_same_pairs(searched, pairs):
    again = budget_pairs(searched, BUDGETS[1:], quiet)
    assert again[0][1] == pairs[0][1]  # the least budget begins with nothing of another


def test_limits_of_the_search_hold_in_every_budget(tmp_path):
    cfg = config(tmp_path, pool=128, batch=6, also=[{"metric": "params", "max": 22e3}])
    _, trials, context = run_scripted(cfg, tmp_path / "ledger.jsonl")
    answers = answer_budgets(context, trials, [Constraint("flops", 4e5)])
    assert answers[0].params.max() <= 22e3


def test_an_unfinished_search_is_refused(searched, tmp_path):
    lines = (searched / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:-3]))
    (tmp_path / "config.yaml").write_bytes((searched / "config.yaml").read_bytes())
    with pytest.raises(InputError, match="has made 11 of the 12 trainings of stage 2; continue it"):
        budget_pairs(tmp_path, BUDGETS, quiet)
    context = Context.of(config(tmp_path))
    with pytest.raises(InputError, match="no trials to learn from"):
        answer_budgets(context, [], [Constraint("flops", 4e5)])
    with pytest.raises(InputError, match="found no candidate with flops"):
        budget_pairs(searched, [1e3], quiet)


def test_a_pair_is_trained_on_demand(searched):
    ((_, pair),) = budget_pairs(searched, [2.5e5], quiet, train=True)
    folder = searched / "budgets" / "flops_250K"
    assert pair.measured["split"] == "test"
    model = read_weight_file(folder / "weights.pt").build()
    assert measure(model, load_images("fashion_mnist"), "test").acc1 == pair.measured["acc1"]
    assert load_pair(searched / "budgets" / "flops_250K.yaml") == pair

    assert budget_pairs(searched, [2.5e5], quiet, train=True)[0][1] == pair


def test_pareto_front_by_hand():
    costs, values = np.array([3.0, 1, 2, 2, 4, 5]), np.array([7.0, 5, 4, 6, 7, 9])
    assert pareto_front(costs, values).tolist() == [1, 3, 0, 5]  # equal value for more is no gain


def test_names_of_budgets():
    names = [budget_name(Constraint("flops", v)) for v in (450e6, 1.2e9, 21500.0, 12.0)]
    assert names == ["flops_450M", "flops_1.2G", "flops_21.5K", "flops_12"]
