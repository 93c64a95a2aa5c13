"""Latency tables: which parts networks have, how their times are summed, and the file of a table."""

import dataclasses
import json

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.space.constraints import Constraint, ConstraintSet, random_rows
from fbnetv3.search.space.latency import (
    KINDS,
    Calibration,
    LatencyLimit,
    LatencyTable,
    Part,
    covering,
    distinct_parts,
    load_table,
    parts,
    save_table,
)
from fbnetv3.search.space.reader import load_space
from tests.search.parts import walk
from tests.search.spaces import TINY, load
from tests.search.tables import write

MICRO = load_space("micro")
ROWS = random_rows(MICRO, 200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def table():
    """All parts of the space with random times."""
    rng = np.random.default_rng(1)
    times = {part: float(rng.random()) for part in distinct_parts(MICRO, covering(MICRO))}
    return LatencyTable("micro", {"cpu": "none"}, times)


@pytest.fixture
def path(table, tmp_path):
    save_table(table, tmp_path / "table.json")
    return tmp_path / "table.json"


def test_the_parts_of_a_network_by_hand(tmp_path):
    space = load(tmp_path, TINY)
    values = {"row0.e.first": 2, "row0.e.rest": 3, "row0.c": 16, "row0.n": 3}
    assert list(parts(space, lambda entry: values[entry] if isinstance(entry, str) else entry)) == [
        (Part(0, 1, 8, 3, 0, 2, 0, 8), 1),
        (Part(1, 8, 16, 3, 2, 2, 1, 4), 1),
        (Part(1, 16, 16, 3, 3, 1, 1, 2), 2),
        (Part(2, 16, 32, 0, 2, 0, 0, 2), 1),
        (Part(3, 32, 3, 0, 0, 0, 0, 0), 1),
    ]


def test_parts_that_no_row_has_are_left_out(tmp_path):
    space = load(tmp_path, TINY)
    one_block, two_blocks = np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]])
    assert [KINDS[part.kind] for part in distinct_parts(space, one_block)] == ["stem", "ir", "pool", "classifier"]
    assert len(distinct_parts(space, two_blocks)) == 5


def test_the_parts_of_many_rows_are_those_of_each():
    together = distinct_parts(MICRO, ROWS[:50])
    assert together == sorted({part for row in ROWS[:50].tolist() for part in walk(MICRO.arch(row, "x"))})


def test_the_covering_rows_have_every_part():
    found = set(distinct_parts(MICRO, covering(MICRO)))
    assert found >= set(distinct_parts(MICRO, random_rows(MICRO, 5000, np.random.default_rng(2))))


def test_the_parts_of_the_covering_rows_by_hand():
    found = distinct_parts(MICRO, covering(MICRO))
    assert len([part for part in found if KINDS[part.kind] == "stem"]) == 2  # widths
    # The first block of the second row: 2 widths before it, 3 widths, 2 kernels, 3 expansions.
    assert len([part for part in found if part.kind == 1 and (part.s, part.side) == (2, 14)]) == 2 * 3 * 2 * 3
    assert len([part for part in found if KINDS[part.kind] == "pool"]) == 5


def test_different_parts_have_different_codes():
    released = load_space("released")
    found = distinct_parts(released, random_rows(released, 300, np.random.default_rng(0)))
    assert len({int(part.code()) for part in found}) == len(found) > 500


def test_the_latency_is_the_sum_of_the_networks_parts(table):
    for row, ms in zip(ROWS.tolist(), table.latency(MICRO, ROWS), strict=True):
        assert ms == pytest.approx(sum(table.ms[part] for part in walk(MICRO.arch(row, "x"))), rel=1e-12)


def test_no_rows_have_no_latency(table):
    assert table.latency(MICRO, ROWS[:0]).shape == (0,)


def test_a_part_that_a_table_lacks_is_named(table):
    lacking = dataclasses.replace(table, ms={p: t for p, t in table.ms.items() if (p.kind, p.k) != (1, 5)})
    words = r"of space micro lacks ir cin \d+ c \d+ k 5 e .*; measure it with `fbnetv3 search latency-table`"
    with pytest.raises(InputError, match=words):
        lacking.latency(MICRO, ROWS)


def test_a_part_that_is_not_used_may_be_missing(table):
    used = distinct_parts(MICRO, ROWS[:1])
    small = dataclasses.replace(table, ms={part: table.ms[part] for part in used})
    assert small.latency(MICRO, ROWS[:1]).tolist() == table.latency(MICRO, ROWS[:1]).tolist()


def test_a_table_is_the_same_after_its_file(table, path):
    assert load_table(path) == table


def test_the_file_has_one_line_for_each_part(table, path):
    lines = path.read_text().splitlines()
    assert len(lines) == len(table.ms) + 2
    assert json.loads(lines[1].rstrip(","))[0] == "stem"
    data = json.loads(path.read_text())
    assert data["fields"] == ["kind", "cin", "c", "k", "e", "s", "se", "side", "ms"]
    assert (data["schema"], data["space"], data["machine"]) == (1, "micro", {"cpu": "none"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data | {"schema": 2},
        lambda data: data | {"pieces": {}},
        lambda data: data | {"pieces": []},
        lambda data: data | {"pieces": [["irr", *data["pieces"][0][1:]]]},
        lambda data: data | {"pieces": [data["pieces"][0][:-3]]},
        lambda data: data | {"pieces": [[]]},
        lambda data: data | {"pieces": [[*data["pieces"][0][:-1], "fast"]]},
        lambda data: data | {"machine": 3},
        lambda data: {key: value for key, value in data.items() if key != "space"},
        lambda data: data | {"pieces": [["ir", 8, 16, 3, 2, 1, 0, 14, float("nan")]]},
        lambda data: data | {"pieces": [["ir", 8, 16, 3, 2, 1, 0, 14, -1.0]]},
        lambda data: data | {"pieces": [["ir", 8, 10**30, 3, 2, 1, 0, 14, 1.0]]},
        lambda data: data | {"pieces": [["ir", 8, -16, 3, 2, 1, 0, 14, 1.0]]},
        lambda data: data | {"pieces": [["ir", 8, 1e999, 3, 2, 1, 0, 14, 1.0]]},
    ],
    ids=[
        *("schema", "no list", "no parts", "kind", "short row", "empty row", "time", "machine", "space"),
        *("nan", "negative time", "too wide", "negative width", "infinite width"),
    ],
)
def test_a_damaged_table_is_refused(path, damage):
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(
        InputError, match=r"table\.json is no latency table, or is damaged; make one with `fbnetv3 search"
    ):
        load_table(path)


def test_a_calibrated_latency_is_the_sum_times_the_factor(table, path):
    calibrated = dataclasses.replace(table, calibration=Calibration(0.5, 8, 0.02, 0.9))
    assert calibrated.latency(MICRO, ROWS).tolist() == (table.latency(MICRO, ROWS) / 2).tolist()
    save_table(calibrated, path)
    assert load_table(path) == calibrated


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ({"factor": 0.0, "networks": 8, "error": 0.1}, "calibration: factor is 0.0"),
        ({"networks": 8, "error": 0.1}, "calibration: missing key 'factor'"),
        (2.0, "calibration: expected a mapping, got float 2.0"),
    ],
)
def test_a_wrong_calibration_is_refused(path, calibration, words):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": calibration}))
    with pytest.raises(InputError, match=words):
        load_table(path)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the latency table .*absent\.json"):
        load_table(tmp_path / "absent.json")


def test_a_limit_reads_its_table(table, path):
    constraint = LatencyLimit(str(path), 6.0).load(MICRO)
    assert constraint.max == 6.0
    assert np.array_equal(constraint.values(ROWS), table.latency(MICRO, ROWS))


def test_a_table_of_trainings_has_no_latencies(path, tmp_path):
    with pytest.raises(InputError, match="mine is a table, whose candidates are no networks"):
        LatencyLimit(str(path), 6.0).load(load_space(write(tmp_path / "mine.csv")))


def test_a_latency_and_two_costs_are_constraints_together(path):
    latency = LatencyLimit(str(path), 6.0).load(MICRO)
    constraints = ConstraintSet(MICRO, (Constraint("flops", 9e5), Constraint("params", 3e4)), (latency,))
    alone = [ConstraintSet(MICRO, (c,)) for c in constraints.constraints] + [ConstraintSet(MICRO, (), (latency,))]
    assert np.array_equal(constraints.satisfied(ROWS), np.logical_and.reduce([one.satisfied(ROWS) for one in alone]))
    assert all(not one.satisfied(ROWS).all() for one in alone)


def test_a_latency_that_no_network_has_is_named_with_the_nearest(path):
    latency = LatencyLimit(str(path), 0.001).load(MICRO)
    with pytest.raises(InputError, match=r"at most 0.001 ms \(the nearest other has [\d.]+ ms\)"):
        ConstraintSet(MICRO, (), (latency,)).draw(10, np.random.default_rng(0))
