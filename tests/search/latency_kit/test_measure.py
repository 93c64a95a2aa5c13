"""The script of a kit on a device without torch and this package, and a search within the latency of that device."""

import re

import numpy as np
import pytest

from fbnetv3.search.latency_kit.times import import_table, read_times
from fbnetv3.search.space.latency import save_table
from tests.search.latency_kit.kits import every_row, on_device, small_kit, small_space
from tests.search.scripted import config, run_scripted

QUICK = ("--device", "toy", "--repeats", "3", "--warmup", "1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A space, its file, its kit, the kit's folder and the process that measured it."""
    folder = tmp_path_factory.mktemp("device")
    space, path = small_space(folder)
    kit = small_kit(space, folder / "kit")
    return space, path, kit, folder / "kit", on_device(folder / "kit" / "measure.py", *QUICK)


def test_every_file_is_timed_without_torch(measured):
    _, _, kit, folder, done = measured
    assert done.returncode == 0, done.stderr
    times = read_times(folder / "times.csv", kit)
    assert set(times.ms) == {*kit.parts, *kit.networks}
    assert times.machine["device"] == "toy"
    assert times.machine["provider"] == "CPUExecutionProvider"
    assert times.machine["threads"] == "1"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", times.machine["onnxruntime"])
    assert "[1/14] " in done.stdout
    assert "[14/14] " in done.stdout


def test_the_device_of_these_tests_has_no_torch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch")
    assert "the device has no torch" in on_device(script).stderr


def test_a_stopped_measurement_continues(measured):
    folder = measured[3]
    times = folder / "times.csv"
    before = times.read_text()
    lines = before.splitlines(keepends=True)
    times.write_text("".join(lines[:-2]))
    done = on_device(folder / "measure.py", *QUICK)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\[(\d+)/14\]", done.stdout, re.MULTILINE) == ["13", "14"]
    assert times.read_text().splitlines(keepends=True)[:-2] == lines[:-2]
    times.write_text(before)


def test_times_of_other_settings_are_not_continued(measured):
    folder = measured[3]
    before = (folder / "times.csv").read_bytes()
    done = on_device(folder / "measure.py", *QUICK, "--threads", "2")
    assert done.returncode == 1
    assert "has other values of threads; move it away, or give the same options" in done.stderr
    assert (folder / "times.csv").read_bytes() == before


def test_wrong_options_are_refused(measured):
    done = on_device(measured[3] / "measure.py", "--repeats", "0")
    assert done.returncode == 2
    assert "--threads and --repeats are whole numbers from 1" in done.stderr


def test_a_search_within_a_latency_of_the_device(measured, tmp_path):
    """From the kit to the answer: every training is of a network within the limit, and the space has others."""
    space, path, _, folder, _ = measured
    table = import_table(folder)
    save_table(table, tmp_path / "latency.json")
    everything = table.latency(space, every_row(space))
    limit = float(np.median(everything))
    settings = {
        "space": str(path),
        "pool": 32,
        "constraint": {"metric": "flops", "convention": "published", "max": 1e9},
        "latency": {"table": str(tmp_path / "latency.json"), "max": limit},
    }
    proposal, trials, _ = run_scripted(config(tmp_path, **settings), tmp_path / "ledger.jsonl")
    rows = np.array([trial.candidate for trial in trials])
    assert len(rows) >= 4
    assert table.latency(space, rows).max() <= limit < everything.max()
    assert proposal is not None
