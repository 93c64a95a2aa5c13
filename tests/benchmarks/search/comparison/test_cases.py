"""The configurations of a comparison: how trainings are split, budgets, and tables that are too small."""

import shutil

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.comparison.cases import (
    LowestShare,
    find_tables,
    plan_cases,
    table_config,
    with_budget,
    with_part_of_trainings,
    with_predictor,
    with_trainings,
    without_finalists,
)
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.space.reader import load_space

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
    with pytest.raises(InputError, match=r"26 trainings are not 8 in a first batch and 4 finalists, .* give 24 or 28"):
        with_trainings(small, 26)
    with pytest.raises(
        InputError, match="8 trainings are too few for 8 in a first batch and 4 finalists; give 12 or more"
    ):
        with_trainings(small, 8)


def test_repeats_are_among_the_trainings():
    noisy = load_preset("cifar10")
    assert (noisy.repeats, noisy.finalists, noisy.first, noisy.batch) == (8, 8, 16, 8)
    assert with_trainings(noisy, 96).trainings == without_finalists(with_trainings(noisy, 96)).trainings == 96
    equal = PRESET.replace(repeats=2)
    assert with_trainings(equal, 46).trainings == without_finalists(with_trainings(equal, 46)).trainings == 46
    with pytest.raises(InputError, match="33 trainings are not 16 in a first batch and 8 finalists and 8 repeats, and"):
        with_trainings(noisy, 33)
    with pytest.raises(InputError, match="6 trainings are too few for 4 finalists and 2 repeats; give more"):
        with_trainings(equal, 6)


def test_what_finalists_leave_that_makes_no_batch_is_random():
    alone = without_finalists(PRESET.replace(first=8, batch=4, finalists=3))
    assert (alone.batches, alone.finalists, alone.trainings) == ((11, 4, 4, 4), 0, 23)


def test_a_table_with_fewer_pairs_than_trainings_is_refused(table):
    # 42 trainings in rounds, and 4 finalists: only the finalists and other methods would have too few candidates.
    with pytest.raises(InputError, match=r"grid\.csv has 45 pairs inside the constraint, .* too few for 48 trainings"):
        plan_cases([table], [44, 48], [120.0])


def test_without_finalists_all_trainings_are_in_stage_2():
    alone = without_finalists(with_trainings(PRESET, 144))
    assert (alone.rounds, alone.batch, alone.finalists, alone.trainings) == (4, 36, 0, 144)


def test_a_smaller_budget_has_a_window_of_the_same_proportions():
    [(name, narrow)] = plan_cases([PRESET], None, [400e3]).items()
    assert name == "trainings_40_flops_0.4M"
    assert (narrow.constraint.min, narrow.constraint.max) == (75e3, 400e3)
    assert with_budget(PRESET, None) is PRESET


def test_an_asynchronous_preset_is_refused():
    with pytest.raises(InputError, match=r"quickstart has asynchronous: 4, but .* in batches; take asynchronous: 0"):
        plan_cases([PRESET.replace(asynchronous=4)], None, [None])


def test_cases_are_numbers_of_trainings_times_budgets(table):
    cases = plan_cases([table], [16, 20], [None, 150.0])
    assert list(cases) == [
        "trainings_16",
        "trainings_20",
        "trainings_16_flops_0.00015M",
        "trainings_20_flops_0.00015M",
    ]
    assert [config.trainings for config in cases.values()] == [16, 20, 16, 20]
    assert list(plan_cases([table], None, [None])) == ["trainings_40"]


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


def test_a_relative_budget_is_what_the_cheapest_pairs_have(table):
    # FLOPs are 100 + 10 a + 5 b, and c is the recipe: 125 pairs, of which 5 have 100, 5 have 105 and 10 have 110.
    for share, flops in ((0.04, 100.0), (0.041, 105.0), (0.16, 110.0), (1.0, 160.0)):
        assert LowestShare(share).of(load_space(str(table))) == flops
    [(name, config)] = plan_cases([table], [16], [LowestShare(0.5)]).items()
    assert (name, config.constraint.max, config.pool) == ("trainings_16_flops_50%", 130.0, 70)
    with pytest.raises(InputError, match="a budget of 30% of the pairs needs a table; give FLOPs"):
        plan_cases([PRESET], None, [LowestShare(0.3)])


def test_cases_of_several_tables_have_their_names(table, tmp_path):
    shutil.copy(table, tmp_path / "other.csv")
    cases = plan_cases([table, tmp_path / "other.csv"], [16], [None])
    assert list(cases) == ["grid/trainings_16", "other/trainings_16"]
    assert [config.recipe for config in cases.values()] == ["grid", "other"]


def test_tables_are_found_in_folders(table, tmp_path):
    for name in ("b.csv", "a.csv", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in find_tables([table, tmp_path])] == ["grid.csv", "a.csv", "b.csv"]
    with pytest.raises(InputError, match=r"two tables have the name a; .* rename one"):
        find_tables([tmp_path, tmp_path / "a.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has no table \(.csv, .json, .npz\)"):
        find_tables([tmp_path / "empty"])


def test_a_part_of_the_trainings_has_a_smaller_first_batch(table):
    whole = with_trainings(table_config(table, None), 48)
    found = [with_part_of_trainings(whole, n) for n in (48, 24, 27, 6)]
    assert [config.trainings for config in found] == [48, 24, 27, 6]
    assert [(config.first, config.rounds, config.finalists) for config in found] == [
        (8, 10, 4),
        (4, 5, 4),
        (7, 5, 4),
        (2, 1, 4),
    ]
    with pytest.raises(InputError, match="4 trainings are"):
        with_part_of_trainings(whole, 4)
