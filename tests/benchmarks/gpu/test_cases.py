"""Cases run in order until the time is over, one that fails does not stop the others, and nothing done is lost."""

import itertools

import pytest

from fbnetv3.benchmarks.gpu import cases
from fbnetv3.benchmarks.gpu.cases import NO_CARD, card_facts, cut, driver_version, run_cases, summary_tables
from fbnetv3.benchmarks.harness import Benchmark
from fbnetv3.benchmarks.result import load_result


def fails():
    raise ValueError("no | memory\nleft")


def test_everything_so_far_is_yielded_after_every_case():
    one, two, three = run_cases({"a": lambda: {"x": 1}, "b": fails, "c": lambda: {"x": 3}}, 100, "cpu")
    assert one.values["cases"] == {"a": {"x": 1}}
    assert one.values["not_reached"] == ["b", "c"]
    assert list(two.values["failed"]) == ["b"]
    assert two.values["failed"]["b"].startswith("ValueError: no | memory\nleft (test_cases.py, line ")
    assert three.values["cases"] == {"a": {"x": 1}, "c": {"x": 3}}
    assert three.values["not_reached"] == []
    assert three.facts["card"] == NO_CARD


def test_no_case_starts_when_the_time_is_over(monkeypatch):
    clock = itertools.count(0, 10)  # every look at the clock is ten seconds later
    monkeypatch.setattr(cases.time, "monotonic", lambda: next(clock))
    # begin 0; before a: 10, after it: 20; before b: 30, after it: 40; before c: 50 is too late
    *_, last = run_cases(dict.fromkeys("abc", dict), 45, "cpu")
    assert list(last.values["cases"]) == ["a", "b"]
    assert last.values["not_reached"] == ["c"]


def test_the_first_case_always_runs():
    (only,) = run_cases(dict.fromkeys("ab", dict), 0, "cpu")
    assert list(only.values["cases"]) == ["a"]


def test_a_run_that_is_stopped_keeps_the_cases_that_were_done(tmp_path):
    def stop():
        raise KeyboardInterrupt

    def measure():
        return run_cases({"a": lambda: {"x": 1}, "b": stop, "c": dict}, 100, "cpu")

    benchmark = Benchmark("some", "A method.", (), measure)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(write_to=tmp_path / "some.json")
    kept = load_result("some", tmp_path)
    assert kept.values["cases"] == {"a": {"x": 1}}
    assert kept.values["not_reached"] == ["b", "c"]
    assert kept.versions["card"] == NO_CARD


def test_a_long_text_loses_its_middle():
    assert cut("short") == "short"
    text = "a" * 1500 + "b" * 1500
    assert cut(text) == "a" * 1000 + " ... " + "b" * 1000


def test_the_facts_of_a_card(monkeypatch):
    card = type("Card", (), {"name": "NVIDIA Some", "total_memory": 80 * 2**30, "major": 9, "minor": 0})
    monkeypatch.setattr(cases.torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(cases, "driver_version", lambda: "580.1")
    facts = card_facts("cuda:0")
    assert facts["card"] == "NVIDIA Some"
    assert facts["memory"] == "80.0 GiB"
    assert facts["compute_capability"] == "9.0"
    assert facts["driver"] == "580.1"


def test_the_driver_is_not_known_without_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_version() == "not known"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.159\necho 580.159\n")  # a line for each card
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert driver_version() == "580.159"


def test_tables_name_the_machine_the_failures_and_what_was_not_reached(tmp_path):
    benchmark = Benchmark("some", "A method.", ("torch",), lambda: run_cases({"a": fails, "b": dict}, 0, "cpu"))
    tables = summary_tables(benchmark.run(write_to=tmp_path / "some.json"))
    assert ("card", NO_CARD) in tables["machine"].rows
    ((name, text),) = tables["failed"].rows
    assert name == "`a`"
    assert text.startswith("ValueError: no / memory left (test_cases.py")
    assert tables["not reached in the time"].rows == (("`b`",),)
