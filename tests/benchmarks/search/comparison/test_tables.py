"""The tables of a comparison: of one table and of several, and of result files of earlier versions."""

import dataclasses

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.comparison.tables import result_rows, tables


def test_table_and_rows_of_a_result():
    result = load_result("compare_quickstart")
    (table,) = tables(result).values()
    case = result.values["cases"]["trainings_40"]
    assert table.columns == ("method", "trainings 40")
    assert table.rows[0] == ("`nars`", f"{case['methods']['nars']['acc1']:.2f}")
    gain = case["nars_minus"]["random"]
    assert f"({gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}])" in table.rows[1][1]
    rows = result_rows(result)
    assert [row["method"] for row in rows] == list(case["methods"])
    assert rows[0]["nars minus it"] is None
    assert rows[1]["nars minus it"] == f"{gain['mean']:+.3f}"


CASE = {
    "table": "a",
    "setting": "trainings_2",
    "methods": {
        "nars": {
            "acc1": 9.8,
            "regret": 0.2,
            "calibration": {"trainings": 8, "error": 0.25, "inside": {"50%": 0.5, "80%": 0.75, "95%": 1.0}},
            "proposal_seconds": {"first": 2.5, "round": 0.25},
        },
        "random": {"acc1": 9.0, "regret": 1.0},
    },
    "nars_minus": {"random": {"mean": 0.8, "low": 0.3, "high": 1.3, "verdict": "better"}},
    "needed": {"regrets": {"x": 1.0, "y": 0.5}, "trainings": {"nars": [1, 2], "random": [2, None]}},
    "left_out": {"recipe_only": "no recipe"},
}


def test_of_one_table_too_it_is_said_which_methods_are_left_out():
    result = dataclasses.replace(load_result("compare_quickstart"), values={"cases": {"x": CASE | {"table": ""}}})
    assert tables(result)["left out"].rows == (("`recipe_only`", "the table", "no recipe"),)


def test_several_tables_have_a_column_each():
    cases = {"a": CASE, "b": CASE | {"table": "b", "left_out": {}}}
    counts = {"random": {"better": 2, "no difference": 0, "worse": 0}}
    together = {"trainings_2": {"median_regret_over_best_rival": 0.2, "tables": counts}}
    result = dataclasses.replace(load_result("compare_quickstart"), values={"cases": cases, "overall": together})
    verdicts, regret, needed, calibration, seconds, left_out = tables(result).values()
    assert verdicts.rows[0] == ("`random`", "2 / 0 / 0")
    assert verdicts.rows[1][1] == "0.20"
    assert regret.columns == ("method", "a", "b")
    assert regret.rows[1][1:] == ("1.00 (+0.80 [+0.30, +1.30])",) * 2
    assert needed.columns[1] == "a (1.00 / 0.50)"
    assert [row[1] for row in needed.rows] == ["1 / 2", "2 / not reached"]
    assert calibration.rows == (("`nars`", "0.25 (50% / 75% / 100%)", "0.25 (50% / 75% / 100%)"),)
    assert seconds.rows == (("`nars`", "2.50 + 0.25", "2.50 + 0.25"),)
    assert left_out.rows == (("`recipe_only`", "a", "no recipe"),)


def test_titles_name_what_the_cells_have():
    result = load_result("compare_quickstart")
    titles = list(tables(dataclasses.replace(result, values={"cases": {"trainings_2": CASE}})))
    assert titles[0] == "regret (by how many points NARS is more accurate [95% intervals that hold together])"
    assert titles[1].endswith("at the end of random / of the best rival / half of that")
    methods = {"tpe": CASE["methods"]["random"]}
    alone = {key: value for key, value in CASE.items() if key != "nars_minus"} | {"methods": methods}
    alone["left_out"] = {}
    alone["needed"] = {"regrets": {"x": 1.0, "y": 0.5}, "trainings": {"tpe": [2, None]}}
    titles = list(tables(dataclasses.replace(result, values={"cases": {"trainings_2": alone}})))
    assert titles == ["regret", "trainings needed for the regret at the end of the best rival / half of that"]
