"""The committed result file against fresh counts, and how result files are written and read."""

import json

import pytest

import fbnetv3
from fbnetv3 import InputError
from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.paper import zoo_cost
from fbnetv3.benchmarks.result import RESULTS, Result, load_result, write_result
from fbnetv3.complexity import CONVENTIONS, cost
from fbnetv3.hub.registry import read_registry


@pytest.mark.parametrize("name", fbnetv3.list_models())
def test_file_holds_what_the_closed_form_gives(name):
    stored, closed = load_result("zoo_cost").values[name], cost(ARCHS[name])
    for convention in CONVENTIONS:
        expected = {"flops": closed.flops(convention), "params": closed.params(convention)}
        assert stored["closed_form"][convention] == expected
    assert stored["published"] == stored["closed_form"]["published"]
    counted = stored["fvcore"]
    assert {"flops": counted["total"], "params": counted["params"]} == stored["closed_form"]["fvcore"]
    assert counted["total"] == sum(counted[operator] for operator in zoo_cost.OPERATORS)
    assert counted["conv"] + counted["linear"] == closed.conv
    assert stored["resolution"] == ARCHS[name].resolution


@pytest.mark.parametrize("name", fbnetv3.list_models())
def test_file_holds_the_released_figures(name):
    stored, figures = load_result("zoo_cost").values[name]["published"], read_registry().find(name, "fb")
    assert stored == {"flops": round(figures.flops_m * 1e6), "params": round(figures.params_m * 1e6)}


def test_file_holds_every_network_and_how_it_was_measured():
    result = load_result("zoo_cost")
    assert list(result.values) == fbnetv3.list_models()
    assert result.command == "fbnetv3 benchmark zoo-cost"
    assert result.method == zoo_cost.METHOD
    assert set(result.versions) == {"python", "torch", "fvcore"}


def test_fvcore_counts_the_same_today():
    assert zoo_cost.measure_network("fbnetv3_a") == load_result("zoo_cost").values["fbnetv3_a"]


def test_measure_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo_cost, "list_models", lambda: ["fbnetv3_a"])
    result = zoo_cost.measure(tmp_path)
    assert load_result("zoo_cost", tmp_path) == result
    assert result.values["fbnetv3_a"] == load_result("zoo_cost").values["fbnetv3_a"]


def test_an_operator_without_convention_is_refused(monkeypatch):
    monkeypatch.setattr(zoo_cost, "OPERATORS", ("conv", "linear", "adaptive_avg_pool2d"))
    with pytest.raises(RuntimeError, match="batch_norm"):
        zoo_cost.measure_network("fbnetv3_a")


def result(**changes):
    return Result(
        **{"date": "2026-01-31", "command": "c", "method": "m", "versions": {"v": "1"}, "values": {"a": {"b": 2}}}
        | changes
    )


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_result("x", result(), tmp_path)
    with pytest.raises(ValueError, match="Out of range"):
        write_result("x", result(values={"a": float("nan")}), tmp_path)
    assert load_result("x", tmp_path) == result()
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("path", ["a", "a.c", "a.b.c", "c", ""])
def test_only_numbers_answer(path):
    assert result().number("a.b") == 2
    with pytest.raises(InputError, match="allowed: a number"):
        result().number(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {}}, "values is {}"),
        ({"date": "yesterday"}, "date is 'yesterday'; allowed: YYYY-MM-DD"),
        ({"date": 20260131}, "date is 20260131"),
        ({"method": ""}, "method is ''"),
        ({"schema": 2}, "schema is 2; this version reads 1"),
        ({"host": "h"}, "unknown key 'host'"),
    ],
)
def test_reading_is_strict(tmp_path, change, message):
    data = json.loads((RESULTS / "zoo_cost.json").read_text()) | change
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"results/x\.json: .*{message}"):
        load_result("x", tmp_path)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"results/x\.json: no such file; run: fbnetv3 benchmark x"):
        load_result("x", tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"results/x\.json: cannot be read"):
        load_result("x", tmp_path)
