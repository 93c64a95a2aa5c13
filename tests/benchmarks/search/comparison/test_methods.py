"""The methods of a comparison: names, kinds of accuracies, methods that cannot search a table."""

import sys
from pathlib import Path

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.comparison.methods import METHODS, Comparison
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.rivals.catalogue import RIVALS
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_archive import write_archive
from tests.search.tables import whole_grid


def test_ablations_change_one_thing(table, small):
    config = small(table)["trainings_16"]
    names = ("nars_no_stage3", "nars_no_uncertainty", "nars_no_early_stopping")
    changed = {name: METHODS[name].change(config) for name in names}
    assert {changed.trainings for changed in changed.values()} == {16}
    assert (changed["nars_no_stage3"].finalists, changed["nars_no_stage3"].beyond_pool) == (0, False)
    assert changed["nars_no_uncertainty"].replace(acquisition="expected_improvement") == config
    assert config.early_stopping < 1.0
    assert changed["nars_no_early_stopping"].replace(early_stopping=config.early_stopping) == config


def test_where_trainings_have_one_epoch_none_stops_early(table, small):
    reasons = Comparison(small(table), ["nars", "nars_no_early_stopping"], [0]).left_out("trainings_16")
    assert reasons == {"nars_no_early_stopping": "its trainings have one epoch, so that none stops early"}
    assert METHODS["nars_no_early_stopping"].unfit(load_space("micro")) == ""


def test_unknown_methods_are_named(table, small):
    with pytest.raises(InputError, match=r"unknown annealing; available: nars, random, tpe, .*"):
        Comparison(small(table), ["annealing"], [0])
    with pytest.raises(InputError, match=r"unknown evolutoin; did you mean .evolution."):
        Comparison(small(table), ["evolutoin"], [0])
    with pytest.raises(InputError, match="unknown none"):
        Comparison(small(table), [], [0])


def test_the_kind_of_accuracies(table, small):
    preset = {"x": load_preset("quickstart")}
    assert Comparison(small(table), ["nars"], [0]).kind == "table"
    assert Comparison(preset, ["nars"], [0], known="invented").kind == "invented"
    assert Comparison(preset, ["nars"], [0], known="table.npz").kind == "surrogate"
    assert Comparison(preset, ["nars"], [0]).kind == "real"


def test_tables_of_both_kinds_are_refused(table, small, tmp_path):
    write_archive(load_space(str(table)), tmp_path / "other.npz")
    cases = small(table) | {"other": small(tmp_path / "other.npz")["trainings_16"]}
    with pytest.raises(InputError, match="others do not; convert all of them"):
        _ = Comparison(cases, ["nars"], [0]).kind


def test_a_method_that_cannot_search_a_table_is_left_out_with_the_reason(table, small, tmp_path):
    names = ["nars", "recipe_only", "architecture_then_recipe_random"]
    assert Comparison(small(table), names, [0]).left_out("trainings_16") == {}
    header, *lines = table.read_text().replace("recipe.c", "arch.c").splitlines()
    (tmp_path / "alone.csv").write_text("\n".join([header, *lines]))
    comparison = Comparison(small(tmp_path / "alone.csv"), names, [0])
    assert comparison.left_out("trainings_16") == dict.fromkeys(names[1:], "the table has no choice of the recipe")


def test_rivals_that_change_candidates_are_left_out_of_a_sparse_table(small, tmp_path):
    table = whole_grid(tmp_path / "sparse.csv", (9, 9, 9), keep=0.075)
    case = small(Path(table))
    names = ["nars", "random", "evolution", "evolution_sequential"]
    reasons = Comparison(case, names, [0]).left_out("trainings_16")
    assert list(reasons) == names[2:]
    assert all("at least 10% are needed to propose changed ones" in reason for reason in reasons.values())


def test_rivals_are_there_in_batches_and_sequential():
    rivals = [name for name, method in METHODS.items() if method.family == "rival"]
    assert rivals == ["nars", "random", *RIVALS, *(f"{name}_sequential" for name in RIVALS)]


def test_a_missing_package_is_named_before_anything_runs(table, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"the package optuna is missing: pip install 'fbnetv3\[compare\]'"):
        Comparison(small(table), ["nars", "gp_sequential"], [0])
    Comparison(small(table), ["nars", "evolution"], [0])


def test_families():
    assert {name for name, method in METHODS.items() if method.family == "order"} == {
        name + end
        for name in ("architecture_only", "recipe_only", "architecture_then_recipe", "recipe_then_architecture")
        for end in ("", "_random")
    }
    assert {METHODS[name].family for name in ("random", "tpe", "evolution")} == {"rival"}
    assert METHODS["nars_scratch"].family == "ablation"
