"""A table of trainings of a small grid, and searches on it that take a moment."""

import dataclasses
from pathlib import Path

import pytest

from fbnetv3.benchmarks.search.comparison.cases import plan_cases, with_predictor
from tests.search.space.test_table import whole_grid


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """The file of a table with 125 candidates, in which more of every coordinate is better."""
    return Path(whole_grid(tmp_path_factory.mktemp("table") / "grid.csv", (5, 5, 5), noise=0.3))


@pytest.fixture(scope="session")
def small():
    """A function that returns cases of a table, with a quick predictor and a short evolution."""

    def cases(path, trainings=(16,), flops=(None,)):
        found = {}
        for name, config in plan_cases([path], trainings, flops).items():
            evolution = dataclasses.replace(config.evolution, evaluations=400, restarts=0)
            found[name] = with_predictor(config.replace(evolution=evolution), pretrain_epochs=5, members=2)
        return found

    return cases
