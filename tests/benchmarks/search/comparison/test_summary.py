"""What the searches of a comparison say together: by hand."""

import pytest

from fbnetv3.benchmarks.search.comparison.methods import Comparison
from fbnetv3.benchmarks.search.comparison.summary import differences, overall, summary, trainings_needed, verdict


def answers(*accuracies):
    return [{"acc1": a, "trainings": 16, "epochs": 16, "seconds": 1.0, "curve": [a - 1, a]} for a in accuracies]


def test_the_summary_by_hand(table, small):
    comparison = Comparison(small(table), ["nars", "random"], [0, 1, 2])
    found = summary(comparison, "trainings_16", {"nars": answers(61, 62, 63), "random": answers(60, 62, 60)})
    assert found["pairs"] == 125
    assert found["methods"]["nars"]["acc1"] == 62.0
    assert found["methods"]["nars"]["acc1_std"] == 1.0
    assert found["methods"]["nars"]["curve"] == [61.0, 62.0]
    assert found["methods"]["random"]["regret"] == pytest.approx(found["best"] - 182 / 3, abs=1e-3)
    assert found["nars_minus"]["random"]["mean"] == pytest.approx(4 / 3, abs=1e-4)
    assert found["nars_minus"]["random"]["share_better"] == pytest.approx(2.5 / 3, abs=1e-3)


def test_calibration_by_hand(table, small):
    predicted = [[50.0, 1.0, 50.5], [50.0, 1.0, 51.0]], [[50.0, 1.0, 48.5], [50.0, 1.0, 55.0]]
    nars = [row | {"predicted": pairs} for row, pairs in zip(answers(60.0, 60.0), predicted, strict=True)]
    comparison = Comparison(small(table), ["nars", "random"], [0, 1])
    methods = summary(comparison, "trainings_16", {"nars": nars, "random": answers(60.0, 60.0)})["methods"]
    # Of distances of .5, 1, 1.5 and 5 std, one is within .67, two within 1.28, three within 1.96.
    inside = {"50%": 0.25, "80%": 0.5, "95%": 0.75}
    assert methods["nars"]["calibration"] == {"trainings": 4, "error": 2.0, "inside": inside}
    assert "calibration" not in methods["random"]


def test_rank_correlations_by_hand(table, small):
    """Two searches: 1 - 6 * (0 + 1 + 1) / 24 = 0.5, and in order; a third one has too few predictions."""
    predicted = [
        [[50.0, 1.0, 50.0], [51.0, 1.0, 53.0], [52.0, 1.0, 52.0]],
        [[50.0, 1.0, 50.0], [51.0, 1.0, 51.0], [52.0, 1.0, 52.0]],
        [[50.0, 1.0, 50.0], [51.0, 1.0, 49.0]],
    ]
    nars = [row | {"predicted": pairs} for row, pairs in zip(answers(60.0, 60.0, 60.0), predicted, strict=True)]
    comparison = Comparison(small(table), ["nars"], [0, 1, 2])
    assert summary(comparison, "trainings_16", {"nars": nars})["methods"]["nars"]["calibration"]["rank"] == 0.75


def test_one_seed_gives_no_interval(table, small):
    comparison = Comparison(small(table), ["nars", "random"], [0])
    found = summary(comparison, "trainings_16", {"nars": answers(61), "random": answers(60)})
    assert "nars_minus" not in found
    assert found["methods"]["nars"]["acc1_std"] == 0.0


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 2.0, "better"), (-0.1, 2.0, "no difference"), (-2.0, -0.1, "worse")]
)
def test_a_verdict_is_what_the_interval_says(low, high, words):
    assert verdict({"mean": 0.0, "low": low, "high": high}) == words


def method(family, *by_seed, curve=(0.0,)):
    return {"family": family, "acc1": sum(by_seed) / len(by_seed), "by_seed": list(by_seed), "curve": list(curve)}


def test_the_intervals_of_a_family_are_corrected_together():
    methods = {
        "nars": method("rival", 81.0, 82.0, 83.0),
        "random": method("rival", 80.0, 80.0, 80.0),
        "tpe": method("rival", 80.0, 81.0, 82.0),
        "nars_scratch": method("ablation", 80.0, 80.0, 80.0),
    }
    found = differences(methods)
    assert [row["comparisons"] for row in found.values()] == [2, 2, 1]
    # t(0.9875, 2) = 6.20535 and t(0.975, 2) = 4.30265, times the standard error 1/sqrt(3)
    assert found["random"]["low"] == pytest.approx(2 - 6.20535 / 3**0.5, abs=1e-4)
    assert found["nars_scratch"]["low"] == pytest.approx(2 - 4.30265 / 3**0.5, abs=1e-4)
    assert [row["verdict"] for row in found.values()] == ["no difference", "better", "no difference"]


def test_trainings_needed_by_hand():
    case = {
        "best": 10.0,
        "methods": {
            "nars": method("rival", 9.8, curve=[5.0, 9.0, 8.0, 9.2, 9.8]),
            "random": method("rival", 8.0, curve=[5.0, 5.0, 7.0, 7.5, 8.0]),
            "tpe": method("rival", 9.0, curve=[8.0, 8.0, 8.5, 9.0, 9.0]),
        },
    }
    found = trainings_needed(case)
    assert found["regrets"] == {"of random": 2.0, "of tpe, the best rival": 1.0, "half of that of tpe": 0.5}
    # NARS was at 1.0 after two trainings, and lost it again: it stays there from the fourth on.
    assert found["trainings"] == {"nars": [2, 4, 5], "random": [5, None, None], "tpe": [1, 4, None]}


def test_what_several_tables_say_together():
    def case(table, ours, theirs, verdict):
        methods = {"nars": {"regret": ours}, "random": {"regret": theirs, "acc1": -theirs, "family": "rival"}}
        return {
            "table": table,
            "setting": "trainings_48",
            "methods": methods,
            "nars_minus": {"random": {"verdict": verdict}},
        }

    cases = [case("a", 0.2, 0.8, "better"), case("b", 0.6, 0.5, "no difference"), case("c", 0.1, 0.1, "better")]
    found = overall({row["table"]: row for row in cases})
    assert found == {
        "trainings_48": {
            "regret_over_best_rival": {"a": 0.25, "b": 1.2, "c": 1.0},
            "median_regret_over_best_rival": 1.0,
            "tables": {"random": {"better": 2, "no difference": 1, "worse": 0}},
        }
    }
