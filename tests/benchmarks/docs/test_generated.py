"""Generated blocks: every page is current, and the words of docs/search.md follow the numbers."""

import copy

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.docs import search as search_page
from fbnetv3.benchmarks.docs.generated import PAGES, render
from fbnetv3.benchmarks.result import load_result
from tests.places import ROOT


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_current(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert render(text, PAGES[page]) == text, "run: python -m fbnetv3.benchmarks.docs.generated"


def test_a_block_is_made_anew_and_nothing_else():
    text = "a <!-- generated: one -->\nold\nlines<!-- end --> b <!-- end -->"
    assert render(text, {"one": lambda: "new"}) == "a <!-- generated: one -->\nnew\n<!-- end --> b <!-- end -->"


@pytest.mark.parametrize("names", [(), ("two",), ("one", "two"), ("one", "one")])
def test_missing_unknown_and_doubled_blocks_are_refused(names):
    text = "".join(f"<!-- generated: {name} -->\n<!-- end -->" for name in names)
    with pytest.raises(InputError, match="needed once each: one"):
        render(text, {"one": lambda: ""})


@pytest.fixture
def changed(monkeypatch):
    """What a block says when its result file has other values."""

    def block(name, change):
        result = copy.deepcopy(load_result({"labels": "cost_speed", "guard": "finalists"}.get(name, name)))
        change(result.values)
        monkeypatch.setattr(search_page, "load_result", lambda _: result)
        return search_page.BLOCKS[name]()

    return block


def test_labels_say_what_was_missed(changed):
    def change(values):
        values["pool"]["seconds"]["median"] = 0.25
        values["targets"] |= {name: {"met": name != "pool_seconds"} for name in values["targets"]}

    text = changed("labels", change)
    assert "takes 0.250 s" in text
    assert text.endswith("Targets missed: pool_seconds.")


def test_the_predictor_tells_bounds_from_factors(changed):
    def change(values):
        against = values["tables"]["useless"]["against"]
        against["scratch"] = {
            "48": {"mse_ratio": 0.75},
            "96": {"factor": 3.25, "factor_is_bound": True, "mse_ratio": 1.5},
        }
        against["statistics"]["96"] = {"factor": 1.5, "factor_is_bound": False, "mse_ratio": 1.0}
        values["targets"]["proxy_r2_flops"] = {"target": 0.998, "measured": 0.5, "met": False}

    text = changed("predictor", change)
    assert "| `useless` | > 3.2 | - | 1.5 | - | 0.75 |" in text
    assert "| `proxy_r2_flops` | 0.998 | 0.5 | missed |" in text


def gaps(values, ensemble, oracle):
    for name, series in (("ensemble", ensemble), ("oracle", oracle)):
        for row, gap in zip(values[name].values(), series, strict=True):
            row["gap"] = gap


def test_the_evolution_names_the_budgets_that_it_misses(changed):
    text = changed("evolution", lambda values: gaps(values, [0.01, 0.02, 0.03, 0.05], [0.06, 0.01, 0.01, 0.07]))
    assert "| `ensemble`, mean gap | 0.010 | 0.020 | 0.030 | 0.050 | at most 0.05: met |" in text
    assert "| 0.070 | at most 0.05: missed at 450M, 750M |" in text


def test_the_evolution_says_who_is_better(changed):
    def change(values):
        values["targets"]["over_random_25x"] = {"value": -0.25, "met": False}
        values["targets"]["seconds"] |= {"value": 1.75, "met": False}
        for row in values["oracle"].values():
            row["runs"] |= {"pymoo": [90.0], "ours": [80.0]}

    text = changed("evolution", change)
    assert "1.75 s of one core with the predictor (at most 1.5: missed)" in text
    assert "The worst seed is 0.25 points below the best of" in text
    lower = sum(max(row["runs"]["pymoo"]) < 79 for row in load_result("evolution").values["ensemble"].values())
    assert lower < 4
    assert "in 4 of 8 cases" in text
    without = changed("evolution", lambda values: values["targets"].pop("over_pymoo"))
    assert "pymoo" not in without


def test_the_guard_names_who_beats_it(changed):
    def change(values):
        for plan in (values["trials_240"], values["trials_36"]):
            for budget in ("budget_0.5", "budget_1"):
                for name in ("stage2", "paper", "lone", "ensemble", "finalists", "random"):
                    plan[budget][name]["regret"] = 1.0
                plan[budget]["guard"]["regret"] = 0.5
        values["trials_36"]["budget_1"]["random"]["regret"] = 0.25
        values["trials_36"]["budget_0.5"]["lone"]["regret"] = 0.125

    text = changed("guard", change)
    assert "stage 2 alone nowhere;" in text
    assert "without trained finalists with 36 (12 seeds), 50% of the networks;" in text
    assert "random search with 36 (12 seeds), all networks." in text
    assert "better than one member in 0 of 4 cases" in text
    assert text.count("| 0.50 |") == 4


def test_latencies_are_extrapolated_by_the_block(changed):
    def change(values):
        values["released"] |= {"seconds": 2.0, "pieces_measured": 10, "pieces_of_the_space": 1500, "bias": 1.25}

    assert "| 1.25 |" in changed("latency", change)
    assert "| 1,500 | 300 s |" in changed("latency", change)
