"""The settings of the rivals."""

import pytest

from fbnetv3.search.rivals.evolution import Evolution
from fbnetv3.search.rivals.settings import EVOLUTION, EVOLUTION_SEQUENTIAL
from tests.search.rivals.made_up import grid_context


@pytest.mark.parametrize(("settings", "population"), [(EVOLUTION, 12), (EVOLUTION_SEQUENTIAL, 24)])
def test_shares_of_the_trainings(tmp_path, settings, population):
    evolution = Evolution(grid_context(tmp_path).constraints, 0, 48, settings)
    assert (evolution.startup, evolution.sample) == (population, population)
