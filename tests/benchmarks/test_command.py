"""The command of a benchmark: its options, several values after one name, showing and drawing results, and mistakes."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import pytest
import typer

from fbnetv3.benchmarks.command import Runs, Seeds, make_command, one_of
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target
from fbnetv3.benchmarks.tables import Table
from fbnetv3.errors import InputError


def measure(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Data to sum up.")],
    seeds: Seeds = (0, 1),
    scale: Annotated[str, typer.Option(parser=one_of("cpu", "full"))] = "cpu",
    runs: Runs = Path("runs"),
    hidden: int = 1,
) -> Measured:
    if scale == "full":
        raise KeyboardInterrupt
    return Measured({"sum": sum(seeds), "hidden": hidden})


BENCHMARK = Benchmark(
    "command_test",
    "m",
    ("numpy",),
    measure,
    targets=lambda values: {"sum": Target(values["sum"], "at_least", 5)},
    tables=lambda result: {"sums": Table.of({"`sum`": "{sum}"}, [result.values])},
    quick={"hidden": 0},
    plot=lambda result: b"picture of %d" % result.values["sum"],
)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Call the command: (exit code, stdout, stderr). The result file is found.json in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").touch()
    kept = dataclasses.replace(BENCHMARK, file=lambda _settings: tmp_path / "found.json")

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            make_command(kept)([str(word) for word in arguments])
        return stopped.value.code, *capsys.readouterr()

    return call


def values(path):
    return json.loads(path.read_text())["values"]


def test_an_option_takes_several_values(run, tmp_path):
    code, out, _ = run("--data", "data.txt", "--seeds", 2, 3, 4)
    assert code == 0
    assert values(tmp_path / "found.json")["sum"] == 9
    assert "fbnetv3 benchmark command-test --data data.txt --seeds 2 3 4" in out
    assert run("--seeds", -2, -3, 4, "--data", "data.txt", "--overwrite")[0] == 0
    assert values(tmp_path / "found.json")["sum"] == -1
    assert run("--seeds", 2, "--seeds", 3, "--data", "data.txt", "--overwrite")[0] == 0
    assert values(tmp_path / "found.json")["sum"] == 5


def test_tables_or_json_are_printed(run):
    _, out, _ = run("--data", "data.txt")
    lines = [line.split() for line in out.splitlines()]
    assert ["sum"] in lines
    assert ["sum", "at", "least", "5", "1", "missed"] in lines
    _, out, _ = run("--data", "data.txt", "--json", "--overwrite")
    assert json.loads(out) == {"sum": 1, "hidden": 1, "targets": {"sum": {"value": 1, "at_least": 5, "met": False}}}


def test_a_rehearsal_writes_only_where_it_is_told(run, tmp_path):
    code, out, _ = run("--data", "data.txt", "--quick", "--json")
    assert (code, json.loads(out)["hidden"]) == (0, 0)
    assert not (tmp_path / "found.json").exists()
    run("--data", "data.txt", "--quick", "--out", "other.json")
    assert values(tmp_path / "other.json")["hidden"] == 0


def test_a_result_is_shown_and_drawn_without_what_only_a_measurement_needs(run, tmp_path):
    run("--data", "data.txt", "--seeds", 3)
    code, out, _ = run("--show")
    assert (code, out.split()[-5:]) == (0, ["at", "least", "5", "3", "missed"])
    assert run("--plot", "a.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == b"picture of 3"
    assert values(tmp_path / "found.json")["sum"] == 3


def test_a_measurement_is_drawn_too(run, tmp_path):
    run("--data", "data.txt", "--plot", "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"picture of 1"


def test_no_file_is_replaced_unless_it_is_asked_for(run, tmp_path, monkeypatch):
    run("--data", "data.txt", "--seeds", 3, "--plot", "a.png")
    before = (tmp_path / "found.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Benchmark, "run", lambda *_arguments, **_words: pytest.fail("measured"))
        for arguments in ((), ("--out", "found.json"), ("--out", "new.json", "--plot", "a.png")):
            with pytest.raises(InputError, match=r"exists already; give --overwrite to replace it, or another path"):
                run("--data", "data.txt", *arguments)
        with pytest.raises(InputError, match=r"a\.png exists already"):
            run("--show", "--plot", "a.png")
    assert (tmp_path / "found.json").read_text() == before
    # Both pieces of advice work.
    assert run("--data", "data.txt", "--out", "new.json")[0] == 0
    assert run("--data", "data.txt", "--seeds", 4, "--plot", "a.png", "--overwrite")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == b"picture of 4"
    assert values(tmp_path / "found.json")["sum"] == 4


def test_ctrl_c_is_one_line(run):
    code, out, err = run("--data", "data.txt", "--scale", "full")
    assert (code, out) == (130, "")
    assert err == "fbnetv3: stopped; what was finished is kept, and the same command continues\n"


def test_mistakes(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for arguments, words in (
        ((), "Missing option '--data'"),
        (("--data", "data.txt", "--seeds", "many"), "'--seeds'"),
        (("--data", "data.txt", "--scale", "ful"), "'ful' is unknown; did you mean 'full'?"),
        (("--data", "data.txt", "--scale", "x"), "'x' is unknown; available: cpu, full"),
        (("--data", "data.txt", "--hidden", "2"), "No such option"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert words in err, err


def test_the_help_says_what_is_measured(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("--help")
    assert code == 0
    for words in (__doc__, "Data to sum up.", "--quick", "--show", "--json", "--plot", "required"):
        assert words in out
    assert "hidden" not in out
