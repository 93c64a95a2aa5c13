"""The harness with a benchmark of its own: settings, the recorded command, targets, and the result file."""

import dataclasses
from pathlib import Path
from typing import Annotated

import pytest
import typer

from fbnetv3 import InputError
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, record_targets, target_table
from fbnetv3.benchmarks.result import RESULTS, load_result
from fbnetv3.benchmarks.tables import Table


def measure(
    name: Annotated[str, typer.Argument()],
    data: Annotated[str | None, typer.Option()] = None,
    table: Annotated[Path | None, typer.Option(metavar="FOLDER")] = None,
    seeds: Annotated[tuple[int, ...], typer.Option("--seeds")] = (0, 1),
    wild_guess: Annotated[bool, typer.Option()] = False,
    scale: int = 10,
) -> Measured:
    return Measured({"name": name, "sum": scale * sum(seeds)}, words={"scale": scale}, facts={"cpu": "a fast one"})


BENCHMARK = Benchmark(
    "harness_test",
    "The sum of the seeds times {scale}.",
    ("numpy",),
    measure,
    targets=lambda values: {"sum": Target(values["sum"], "at_least", 5)},
    tables=lambda result: {"sums": Table.of({"sum": "{sum}"}, [result.values])},
    quick={"scale": 1, "seeds": (7,)},
)


def written(*, quick=False, **given):
    return BENCHMARK.written(BENCHMARK.settings({"name": "x", **given}, quick), quick)


@pytest.mark.parametrize(
    ("value", "rule", "met"),
    [
        (5.0, "at_least", True),
        (4.9, "at_least", False),
        (5.0, "at_most", True),
        (5.1, "at_most", False),
        (5.0, "above", False),
        (5.1, "above", True),
        (5.0, "below", False),
        (4.9, "below", True),
    ],
)
def test_a_target_is_met_or_missed(value, rule, met):
    target = Target(value, rule, 5.0)
    assert target.met is met
    assert target.as_dict() == {"value": value, rule: 5.0, "met": met}
    assert record_targets({"x": target}) == {"targets": {"x": target.as_dict()}}
    assert target_table({"x": target}).rows == (
        ("`x`", f"{rule.replace('_', ' ')} 5", f"{value:g}", "met" if met else "missed"),
    )


def test_what_was_given_goes_before_a_rehearsal_and_that_before_the_defaults():
    defaults = {"data": None, "table": None, "seeds": (0, 1), "wild_guess": False, "scale": 10}
    assert BENCHMARK.settings({"name": "x"}) == defaults | {"name": "x"}
    assert BENCHMARK.settings({"name": "x"}, quick=True) == defaults | {"name": "x", "scale": 1, "seeds": (7,)}
    assert BENCHMARK.settings({"name": "x", "seeds": (3,)}, quick=True)["seeds"] == (3,)


def test_the_recorded_command_has_what_differs_from_the_defaults():
    assert written() == "fbnetv3 benchmark harness-test x"
    assert written(seeds=(0, 1), scale=3) == "fbnetv3 benchmark harness-test x"
    assert written(seeds=(5, 6), wild_guess=True) == "fbnetv3 benchmark harness-test x --seeds 5 6 --wild-guess"
    assert written(quick=True) == "fbnetv3 benchmark harness-test --quick x"
    assert written(quick=True, seeds=(0, 1)) == "fbnetv3 benchmark harness-test --quick x --seeds 0 1"


def test_the_recorded_command_names_no_place_of_this_machine(tmp_path):
    (tmp_path / "file.json").touch()
    command = "fbnetv3 benchmark harness-test x"
    assert written(data=f"memory:{tmp_path}") == f"{command} --data memory:FOLDER"
    assert written(data="torchvision:cifar10") == f"{command} --data torchvision:cifar10"
    assert written(data=str(tmp_path / "file.json")) == f"{command} --data file.json"
    assert written(table=tmp_path) == f"{command} --table FOLDER"
    assert written(table=tmp_path / "file.json") == f"{command} --table file.json"
    assert written(table=tmp_path / "absent.json") == f"{command} --table absent.json"
    other = dataclasses.replace(BENCHMARK, command="fbnetv3 search sum", environment={"OMP_NUM_THREADS": "1"})
    assert other.written(other.settings({"name": "x"})) == "OMP_NUM_THREADS=1 fbnetv3 search sum x"


def test_a_run_writes_the_result_file(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "found.json", name="x", seeds=(1, 2))
    assert load_result("found", tmp_path) == result
    assert result.command == "fbnetv3 benchmark harness-test x --seeds 1 2"
    assert result.method == "The sum of the seeds times 10."
    assert result.values == {"name": "x", "sum": 30, "targets": {"sum": {"value": 30, "at_least": 5, "met": True}}}
    assert {"python", "numpy", "machine", "cpus", "cpu"} == set(result.versions)
    tables = BENCHMARK.all_tables(result)
    assert list(tables) == ["sums", "targets"]
    assert tables["sums"].rows == (("30",),)


def test_a_rehearsal_overwrites_no_measured_numbers(tmp_path, monkeypatch):
    target = dataclasses.replace(BENCHMARK, file=lambda settings: tmp_path / f"{settings['name']}.json")
    assert target.run(quick=True, name="x").values["sum"] == 7
    assert list(tmp_path.iterdir()) == []
    target.run(name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert BENCHMARK.result_file({}) == RESULTS / "harness_test.json"


def test_the_files_that_a_run_writes_are_known_before(tmp_path):
    target = dataclasses.replace(BENCHMARK, file=lambda _settings: tmp_path / "found.json", writes=("table",))
    settings = target.settings({"name": "x"})
    assert target.new_files(settings, None, quick=False) == [tmp_path / "found.json"]
    assert target.new_files(settings, None, quick=True) == []
    assert target.new_files(settings, tmp_path / "a.txt", quick=True) == [tmp_path / "a.json"]
    more = settings | {"table": tmp_path / "t.csv"}
    assert target.new_files(more, None, quick=False) == [tmp_path / "found.json", tmp_path / "t.csv"]
    # What is in the folder of a run belongs to the run, which continues.
    assert target.new_files(more | {"out": tmp_path}, None, quick=False) == []
    assert target.new_files(more | {"out": tmp_path / "run"}, None, quick=True) == [tmp_path / "t.csv"]
    target.run(write_to=tmp_path / "a.txt", name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    BENCHMARK.run(write_to=tmp_path / "found.json", name="x")
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_checked_before_anything_is_measured(monkeypatch):
    def refuse(name):
        raise AssertionError("measures")

    refuse.__annotations__ = {"name": Annotated[str, typer.Argument()]}
    strict = dataclasses.replace(BENCHMARK, measure=refuse, quick=None, environment={"OMP_NUM_THREADS": "1"})
    for value, found in ((None, "not set"), ("4", "4")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False) if value is None else monkeypatch.setenv(
            "OMP_NUM_THREADS", value
        )
        with pytest.raises(
            InputError, match=f"OMP_NUM_THREADS is {found}; run this benchmark as: OMP_NUM_THREADS=1 fbnetv3"
        ):
            strict.run(name="x")


def test_a_machine_is_named_only_where_it_matters(tmp_path):
    counts = dataclasses.replace(BENCHMARK, depends_on_machine=False)
    assert "machine" not in counts.run(write_to=tmp_path / "x.json", name="x").versions
