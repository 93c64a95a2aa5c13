"""A rehearsal on few digits, the digits themselves, and the committed result."""

import sys

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.benchmarks.experiments import fine_tuning as benchmark
from fbnetv3.benchmarks.experiments.fine_tuning import BENCHMARK, CELLS, RATES, digits, gain
from fbnetv3.benchmarks.result import load_result

pytest.importorskip("sklearn")


def test_digits_are_split_by_class_and_seed():
    data = digits(3, seed=1)
    assert (data.class_counts(), data.count("val"), data.count("test")) == ([3] * 10, 100, 1797 - 30 - 100)
    assert data.train.images.shape == (30, 1, 28, 28)
    assert (data.train.images.dtype, int(data.train.images.max())) == (torch.uint8, 255)
    assert not torch.equal(data.train.images, digits(3, seed=2).train.images)
    assert torch.equal(data.test.labels, digits(3, seed=1).test.labels)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        digits(3, seed=1)


def test_the_gain_is_between_the_best_rates_by_validation():
    cells = {
        f"{start}, rate {rate}": {
            "val": val + 5.0 * (rate == best),
            "seeds": {"0": val - 1 + 99 * (rate != best), "1": val},
        }
        for start, val, best in (("scratch", 60.0, 0.1), ("fine-tuned", 70.0, 0.03))
        for rate in RATES
    }
    expected = {"of": "fine-tuned, rate 0.03", "over": "scratch, rate 0.1", "mean": 10.0, "low": 10.0, "high": 10.0}
    assert gain(cells) == expected


@pytest.mark.slow
def test_a_rehearsal_writes_a_complete_result(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "fine_tuning.json", quick=True)
    assert load_result("fine_tuning", tmp_path) == result
    (cells,) = result.values["images"].values()
    assert list(cells) == list(CELLS)
    assert all(cell["n"] == 2 for cell in cells.values())


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("fine_tuning")
    assert result.command == "fbnetv3 benchmark fine-tuning"
    assert result.method == benchmark.METHOD
    assert {n: gain(cells) for n, cells in result.values["images"].items()} == result.values["gain"]
    assert all(cell["n"] == 5 for cells in result.values["images"].values() for cell in cells.values())
