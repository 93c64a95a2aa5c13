"""Every benchmark: listed once, its command parses the recorded one, and its targets follow from the committed values."""

import shlex
import subprocess
import sys

import pytest

from fbnetv3.benchmarks.catalogue import CATALOGUE, COMPARE
from fbnetv3.benchmarks.command import make_command
from fbnetv3.benchmarks.harness import Benchmark
from fbnetv3.benchmarks.result import RESULTS, command_of, load_result
from tests.places import ROOT

FOLDER = ROOT / "benchmarks"
ENTRIES = CATALOGUE | {"compare": COMPARE}
COMMANDS = {command_of(name.replace("-", "_")): entry for name, entry in CATALOGUE.items()}
COMMANDS["fbnetv3 search compare"] = COMPARE
RESULT_FILES = sorted(path.stem for path in RESULTS.glob("*.json"))


def benchmark_of(result):
    """The benchmark whose command wrote a result, and the arguments of that command."""
    words = shlex.split(result.command)
    start = words.index("fbnetv3")
    return COMMANDS[" ".join(words[start : start + 3])].load(), words[start + 3 :]


def parse(benchmark, words):
    """The settings that a command line means."""
    context = make_command(benchmark).make_context("command", list(words))
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in benchmark.options and context.get_parameter_source(name).name != "DEFAULT"
    }
    return benchmark.settings(given)


def test_every_module_with_a_benchmark_is_listed_once():
    defining = sorted(
        path.relative_to(FOLDER).with_suffix("").as_posix().replace("/", ".")
        for path in FOLDER.glob("*/*.py")
        if "\nBENCHMARK = Benchmark(" in path.read_text()
    )
    assert sorted(entry.module for entry in ENTRIES.values()) == defining


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_its_benchmark(name):
    benchmark = ENTRIES[name].load()
    assert isinstance(benchmark, Benchmark)
    assert benchmark.name == name.replace("-", "_")
    assert ENTRIES[name].about.endswith(".")
    assert (benchmark.command or command_of(benchmark.name)) in COMMANDS
    assert set(benchmark.quick or {}) <= set(benchmark.parameters)
    assert benchmark.tables is not None


@pytest.mark.parametrize("name", RESULT_FILES)
def test_a_recorded_command_is_one_that_can_be_typed_and_means_what_would_be_recorded_today(name):
    result = load_result(name)
    benchmark, words = benchmark_of(result)
    settings = parse(benchmark, words)
    again = shlex.split(benchmark.written(settings))
    assert parse(benchmark, again[again.index("fbnetv3") + 3 :]) == settings


@pytest.mark.parametrize("name", RESULT_FILES)
def test_targets_follow_from_the_committed_values(name):
    result = load_result(name)
    benchmark, _ = benchmark_of(result)
    if benchmark.targets is None:
        assert not any(key.startswith("target") for key in result.values)
        return
    recorded = benchmark.record(benchmark.targets(result.values))
    assert recorded
    assert {key: result.values[key] for key in recorded} == recorded


@pytest.mark.parametrize("name", RESULT_FILES)
def test_a_committed_result_has_tables(name):
    result = load_result(name)
    benchmark, _ = benchmark_of(result)
    tables = benchmark.all_tables(result)
    assert tables
    for title, table in tables.items():
        assert table.rows, title
        assert all(len(row) == len(table.columns) for row in table.rows), title


def test_the_list_imports_no_benchmark():
    script = "import sys, fbnetv3.benchmarks.catalogue; print([m for m in sys.modules if m.startswith('fbnetv3.benchmarks')])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['fbnetv3.benchmarks', 'fbnetv3.benchmarks.catalogue']"
