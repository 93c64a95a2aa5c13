"""The outcomes of tests are read while they run, and the result file has their texts."""

import json

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.gpu.recorder import MARK
from fbnetv3.benchmarks.gpu.tests import BENCHMARK, ROOT, follow, gpu_test_files, unexpected_end
from fbnetv3.benchmarks.result import load_result


def line(**row):
    return f"{MARK}{json.dumps(row)}\n"


def ended(name, outcome, text="", seconds=0.5):
    return line(test=name, outcome=outcome, seconds=seconds, text=text)


def test_all_that_is_known_is_yielded_after_every_test(capsys):
    lines = [
        line(collected=["a", "b", "c"]),
        ".\n",
        ended("a", "passed"),
        ended("b", "skipped", "needs a card"),
        ended("c", "passed"),
        ended("c", "failed", "cannot clean up"),
    ]
    first, second, _, last = follow(lines)
    assert first["cases"] == {"a": {"outcome": "passed", "seconds": 0.5}}
    assert first["not_reached"] == ["b", "c"]
    assert second["cases"]["b"] == {"outcome": "skipped", "seconds": 0.5, "reason": "needs a card"}
    assert last["failed"] == {"c": "cannot clean up"}
    assert last["cases"]["c"]["outcome"] == "failed"
    assert last["not_reached"] == []
    assert capsys.readouterr().err == ".\n"


@pytest.mark.parametrize(
    ("code", "cases", "waiting", "said"),
    [
        (0, {"a": {}}, [], ""),
        (1, {"a": {}}, [], ""),  # a test failed, which the values say
        (-11, {"a": {}}, ["b"], "exit code -11 and 1 tests"),
        (-11, {"a": {}}, [], "exit code -11 and 0 tests"),
        (4, {}, [], "exit code 4"),  # pytest did not understand its options
    ],
)
def test_an_end_before_the_last_test_is_a_failure(code, cases, waiting, said):
    text = unexpected_end(code, {"cases": cases, "failed": {}, "not_reached": waiting})
    assert said in text
    assert bool(text) == bool(said)


def test_the_files_are_those_with_the_mark(tmp_path):
    assert ROOT / "tests" / "whole" / "test_gpu.py" in gpu_test_files(ROOT / "tests")
    with pytest.raises(InputError, match="no tests for a GPU"):
        gpu_test_files(tmp_path)


@pytest.mark.slow  # it runs pytest, which imports the package
def test_a_rehearsal_lists_every_test(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "tests.json", quick=True, seconds=60, device="cpu")
    assert load_result("tests", tmp_path) == result
    assert result.command == "fbnetv3 benchmark gpu-tests --quick --seconds 60 --device cpu"
    assert result.values["cases"]
    assert result.values["failed"] == {}
    outcomes = dict(BENCHMARK.all_tables(result)["outcomes"].rows)
    assert sum(map(int, outcomes.values())) == len(result.values["cases"])
