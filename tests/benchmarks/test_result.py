"""Result files: strict reading, numbers by path, and writes that leave the old file when they fail."""

import json
import platform

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import (
    RESULTS,
    Result,
    command_of,
    device_facts,
    host,
    load_result,
    versions,
    write_result,
)


def result(**changes):
    return Result(
        **{"date": "2026-01-31", "command": "c", "method": "m", "versions": {"v": "1"}, "values": {"a": {"b": 2}}}
        | changes
    )


def test_a_written_result_is_read_back(tmp_path):
    assert write_result("x", result(), tmp_path) == tmp_path / "x.json"
    assert load_result("x", tmp_path) == result()


def test_a_result_of_now_has_todays_date():
    found = Result.now("c", "m", {"v": "1"}, {"a": 1})
    assert found.date.count("-") == 2
    assert (found.command, found.method, found.versions, found.values, found.schema) == (
        "c",
        "m",
        {"v": "1"},
        {"a": 1},
        1,
    )


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_result("x", result(), tmp_path)
    with pytest.raises(ValueError, match="Out of range"):
        write_result("x", result(values={"a": float("nan")}), tmp_path)
    assert load_result("x", tmp_path) == result()
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("path", ["a", "a.c", "a.b.c", "c", "", "t"])
def test_only_numbers_answer(path):
    found = result(values={"a": {"b": 2}, "t": True})
    assert found.number("a.b") == 2
    with pytest.raises(InputError, match="allowed: a number"):
        found.number(path)


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
    with pytest.raises(InputError, match=r"results/x\.json: no such file; `fbnetv3 benchmark --help` lists"):
        load_result("x", tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json is no result file, or is damaged: "):
        load_result("x", tmp_path)


def test_what_is_recorded_about_software_and_machine():
    assert command_of("data_speed") == "fbnetv3 benchmark data-speed"
    found = versions(["numpy", "no-such-package"])
    assert found["python"] == platform.python_version()
    assert found["numpy"][0].isdigit()
    assert found["no-such-package"] == "not installed"
    assert set(host()) == {"machine", "cpus"}


def test_a_result_names_a_device_that_is_not_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA Some")
    assert device_facts("cpu") == {}
    assert device_facts("cuda:1") == {"device": "cuda:1 (NVIDIA Some)"}
