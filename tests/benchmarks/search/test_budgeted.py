"""Searches with a budget of epochs, on a made-up table whose curves rise by known steps."""

import numpy as np
import pytest

from fbnetv3.benchmarks.search.budgeted import OptunaSearch, nars_search
from fbnetv3.benchmarks.search.early_stopping import base_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.training.engine import cpu_threads

EPOCHS, BUDGET = 4, 30 * 4
ASHA = OptunaSearch(False, "SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": 2})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """125 candidates: the more, the better, from the first epoch on."""
    path = tmp_path_factory.mktemp("table") / "grid.csv"
    lines = ["arch.a,arch.b,recipe.c,label.flops,label.params," + ",".join(f"acc1.{k}" for k in range(1, EPOCHS + 1))]
    for a, b, c in np.indices((5, 5, 5)).reshape(3, -1).T.tolist():
        curve = ",".join(str(10 * k + a + b + c + (a * b) % 3 / 10) for k in range(1, EPOCHS + 1))
        lines.append(f"{a},{b},{c},{1 + a + b},{1 + a},{curve}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def context(table):
    """A function that returns the context of a search with some settings."""

    def make(**changes):
        quick = {
            "predictor": PredictorSettings(pretrain_epochs=2, members=1),
            "evolution": EvolutionSettings(evaluations=100),
        }
        return Context.of(base_config(table).replace(**{"seed": 3} | quick | changes))

    return make


def costs(ended):
    return [training.epochs for training in ended]


@pytest.mark.parametrize(
    "search", [nars_search, OptunaSearch(False), OptunaSearch(True)], ids=["nars", "random", "tpe"]
)
def test_without_early_stopping_the_budget_is_complete_trainings(context, search):
    with cpu_threads(1):
        ended = search(context(early_stopping=1.0), BUDGET)
    assert sum(costs(ended)) - BUDGET in range(3 * EPOCHS + 1)  # NARS ends after a batch of four
    assert set(costs(ended)) == {EPOCHS}
    assert len({training.candidate for training in ended}) == len(ended)
    found = context().space.accuracy(np.array([training.candidate for training in ended]))
    assert [training.accuracy for training in ended] == found.tolist()


def test_a_model_makes_more_trainings_of_the_same_epochs(context):
    with cpu_threads(1):
        ended = nars_search(context(stopping="model"), BUDGET)
    assert len(ended) > BUDGET / EPOCHS
    assert all((training.accuracy is None) == (training.epochs < EPOCHS) for training in ended)
    assert set(costs(ended[:8])) == {EPOCHS}


def test_with_the_rule_trainings_are_compared_where_they_stop(context):
    with cpu_threads(1):
        ended = nars_search(context(early_stopping=0.5), BUDGET)
    assert set(costs(ended[8:])) == {1}
    # 10 points in each of the three epochs that are left.
    found = context().space.accuracy(np.array([training.candidate for training in ended])) - 30
    assert [training.accuracy for training in ended] == pytest.approx(found.tolist())


@pytest.mark.parametrize("guided", [False, True], ids=["random", "tpe"])
def test_a_pruner_ends_trainings_at_its_rungs(context, guided):
    search = OptunaSearch(guided, ASHA.pruner, ASHA.settings)
    ended = search(context(), BUDGET)
    assert set(costs(ended)) <= {1, 2, EPOCHS}
    assert costs(ended)[0] == EPOCHS  # with nothing to compare it with
    assert {training.accuracy is None for training in ended if training.epochs < EPOCHS} == {True}
    assert search(context(), BUDGET) == ended


def test_hyperband_gives_the_same_search_again(context):
    search = OptunaSearch(True, "HyperbandPruner", {"min_resource": 1, "max_resource": EPOCHS, "reduction_factor": 2})
    assert search(context(), BUDGET) == search(context(), BUDGET)


def test_a_search_ends_when_all_candidates_were_tried(context):
    ended = ASHA(context(), 10**6)
    assert len(ended) == len({training.candidate for training in ended}) == 125
