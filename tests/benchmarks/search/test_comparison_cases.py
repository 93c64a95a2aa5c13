"""The configurations of a comparison: how trainings are split, budgets, and tables that are too small."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.comparison_cases import (
    plan_cases,
    table_config,
    with_budget,
    with_predictor,
    with_trainings,
    without_finalists,
)
from fbnetv3.search.nars.config import load_preset

PRESET = load_preset("quickstart").replace(first=None, batch=9, rounds=4)


def test_trainings_are_split_into_batches_and_finalists():
    assert [(c.rounds, c.batch, c.finalists) for c in (with_trainings(PRESET, n) for n in (40, 144, 17))] == [
        (4, 9, 4),
        (5, 28, 4),
        (1, 13, 4),
    ]
    with pytest.raises(InputError, match="4 trainings are too few for 4 finalists"):
        with_trainings(PRESET, 4)


def test_with_a_first_batch_of_its_own_the_others_keep_their_size():
    small = PRESET.replace(first=8, batch=4)
    assert [with_trainings(small, n).batches for n in (12, 24)] == [(8,), (8, 4, 4, 4)]
    assert without_finalists(with_trainings(small, 24)).batches == (8, 4, 4, 4, 4)
    with pytest.raises(InputError, match="26 trainings are not 8 in a first batch, 4 finalists"):
        with_trainings(small, 26)


def test_without_finalists_all_trainings_are_in_stage_2():
    alone = without_finalists(with_trainings(PRESET, 144))
    assert (alone.rounds, alone.batch, alone.finalists, alone.trainings) == (4, 36, 0, 144)


def test_a_smaller_budget_has_a_window_of_the_same_proportions():
    [(name, narrow)] = plan_cases(PRESET, None, [200e3]).items()
    assert name == "trainings_40_flops_0.2M"
    assert (narrow.constraint.min, narrow.constraint.max) == (75e3, 200e3)
    assert with_budget(PRESET, None) is PRESET


def test_cases_are_numbers_of_trainings_times_budgets(table):
    cases = plan_cases(table, [16, 20], [None, 150.0])
    assert list(cases) == [
        "trainings_16",
        "trainings_20",
        "trainings_16_flops_0.00015M",
        "trainings_20_flops_0.00015M",
    ]
    assert [config.trainings for config in cases.values()] == [16, 20, 16, 20]
    assert list(plan_cases(table, None, [None])) == ["trainings_40"]


def test_the_pool_of_a_table_is_its_feasible_rows(table):
    assert table_config(table, None).pool == 125
    assert table_config(table, 150.0).pool < 125
    with pytest.raises(InputError, match="has 30 pairs of at most 115 FLOPs; at least 40 are needed"):
        table_config(table, 115.0)


def test_a_space_of_networks_is_no_table(tmp_path):
    (tmp_path / "space.yaml").write_text("schema: 1\n")
    with pytest.raises(InputError, match=r"space\.yaml"):
        table_config(tmp_path / "space.yaml", None)


def test_settings_of_the_predictor_are_changed():
    changed = with_predictor(PRESET, pretrain=False, members=1)
    assert (changed.predictor.pretrain, changed.predictor.members) == (False, 1)
    assert changed.replace(predictor=PRESET.predictor) == PRESET
