"""The committed costs of the released networks against fresh counts, the closed form and the released figures."""

import pytest

import fbnetv3
from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.paper import zoo_cost
from fbnetv3.benchmarks.result import load_result
from fbnetv3.complexity import CONVENTIONS, cost
from fbnetv3.hub.registry import read_registry


@pytest.fixture(scope="module")
def fresh():
    """The counts of fbnetv3_a, made now."""
    return zoo_cost.measure(("fbnetv3_a",))


@pytest.mark.parametrize("name", fbnetv3.list_models())
def test_the_file_holds_what_the_closed_form_gives(name):
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
def test_the_file_holds_the_released_figures(name):
    stored, figures = load_result("zoo_cost").values[name]["published"], read_registry().find(name, "fb")
    assert stored == {"flops": round(figures.flops_m * 1e6), "params": round(figures.params_m * 1e6)}


def test_the_file_holds_every_network_and_how_it_was_measured():
    result = load_result("zoo_cost")
    assert list(result.values) == fbnetv3.list_models()
    assert result.command == "fbnetv3 benchmark zoo-cost"
    assert result.method == zoo_cost.METHOD
    assert set(result.versions) == {"python", "torch", "fvcore"}


def test_fvcore_counts_the_same_today(fresh):
    assert fresh.values == {"fbnetv3_a": load_result("zoo_cost").values["fbnetv3_a"]}


def test_a_run_writes_the_file(tmp_path, fresh, monkeypatch):
    monkeypatch.setattr(zoo_cost, "measure_network", fresh.values.__getitem__)
    result = zoo_cost.BENCHMARK.run(write_to=tmp_path / "zoo_cost.json", models=("fbnetv3_a",))
    assert load_result("zoo_cost", tmp_path) == result
    assert result.command == "fbnetv3 benchmark zoo-cost"


def test_an_operator_without_convention_is_refused(monkeypatch):
    monkeypatch.setattr(zoo_cost, "OPERATORS", ("conv", "linear", "adaptive_avg_pool2d"))
    with pytest.raises(RuntimeError, match="batch_norm"):
        zoo_cost.measure_network("fbnetv3_a")


def test_the_table_has_counted_costs_and_quoted_accuracies():
    (table,) = zoo_cost.tables(load_result("zoo_cost")).values()
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [f"`{name}`" for name in fbnetv3.list_models()]
    assert rows["`fbnetv3_a`"] == ("224", "356.6M", "8.54M", "79.57", "79.1")
    assert rows["`fbnetv3_d`"][-1] == "not given"
