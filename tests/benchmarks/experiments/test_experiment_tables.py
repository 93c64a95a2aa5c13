"""The tables of an experiment, and what an interval allows to say."""

import pytest

from fbnetv3.benchmarks.experiments.config import list_experiments
from fbnetv3.benchmarks.experiments.experiment_tables import tables, verdict
from fbnetv3.benchmarks.result import load_result


@pytest.mark.parametrize(
    ("low", "high", "paper", "words"),
    [
        (0.1, 0.5, "positive", "the paper's sign"),
        (-0.5, -0.1, "positive", "against the paper's sign"),
        (-0.5, -0.1, "negative", "the paper's sign"),
        (-0.1, 0.5, "positive", "undecided: the interval includes zero"),
        (None, None, "positive", "too few seeds"),
    ],
)
def test_a_verdict_is_what_the_interval_allows(low, high, paper, words):
    excludes = None if low is None else low > 0 or high < 0
    mean = None if low is None else (low + high) / 2
    assert verdict({"mean": mean, "low": low, "high": high, "paper": paper, "excludes_zero": excludes}) == words


@pytest.mark.parametrize("name", list_experiments())
def test_the_tables_have_the_numbers_of_the_result_file(name):
    result = load_result(f"experiment_{name}")
    cells, differences, full = (table.markdown() for table in tables(result).values())
    for cell in result.values["cells"].values():
        assert f"| {cell['mean']:.2f} | {cell['deviation']:.2f} | {cell['n']} |" in cells
    for row in result.values["differences"].values():
        assert f"| {row['mean']:+.2f} | {row['low']:+.2f} to {row['high']:+.2f} | {row['n']} |" in differences
        assert f"| {row['paper']} | {verdict(row)} |" in differences
    for network, row in result.values["full"].items():
        assert f"| {network} | {row['model']} | {row['resolution']} |" in full
    assert "5,000 training images of fashion_mnist, top-1 on 2,000 of test" in next(iter(tables(result)))


def test_settings_and_teachers_of_a_cell_are_named():
    cells = next(iter(tables(load_result("experiment_table8")).values())).markdown()
    assert "| dist | pair:micro_800k.yaml | pair:micro_800k.yaml, ema False, distillation 0.8, taught by ema |" in cells
    cells = next(iter(tables(load_result("experiment_table1")).values())).markdown()
    assert "| wide_recipe_1 | resnet18_wide, base_width 16 | fashion_mnist/micro | 6 | 4.13M | 1.38M |" in cells


def test_what_was_not_measured_is_a_dash():
    result = load_result("experiment_table1")
    row = result.values["differences"]["recipe_1"]
    row |= {"mean": None, "low": None, "high": None, "n": 0, "excludes_zero": None}
    assert "| - | none | 0 | positive | too few seeds |" in list(tables(result).values())[1].markdown()
