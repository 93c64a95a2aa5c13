"""The latency table: what it holds, how it is summed, limits by it, and that measuring it can be resumed."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from fbnetv3 import InputError, build_model
from fbnetv3.arch import Arch
from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.space import measure_latency as timing
from fbnetv3.search.space.constraints import Limits, random_rows
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.latency import (
    KINDS,
    LatencyLimit,
    LatencyTable,
    Piece,
    covering,
    distinct_pieces,
    load_table,
    save_table,
)
from fbnetv3.search.space.space import load_space

MICRO = load_space("micro")
ROWS = random_rows(MICRO, 200, np.random.default_rng(0))


def quiet(_done, _total, _text):
    pass


def walk(arch: Arch):
    """The pieces of one architecture, counted from its modules' inputs, independently of the table's own way."""
    side = arch.resolution
    yield Piece(0, 1, arch.stem.c, arch.stem.k, 0, arch.stem.s, 0, side)
    side, cin = -(-side // arch.stem.s), arch.stem.c
    for row in arch.rows:
        for i in range(row.n):
            s = row.s if i == 0 else 1
            yield Piece(1, cin, row.c, row.k, row.e, s, int(row.se), side)
            side, cin = -(-side // s), row.c
    yield Piece(2, cin, arch.head.c, 0, arch.head.e, 0, 0, side)
    yield Piece(3, arch.head.c, 10, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def made_up():
    """A table of all pieces of the space with random times."""
    rng = np.random.default_rng(1)
    return LatencyTable(
        "micro", {"cpu": "none"}, {p: float(rng.random()) for p in distinct_pieces(MICRO, covering(MICRO))}
    )


def test_the_sum_is_that_of_the_network_s_pieces(made_up):
    total = made_up.latency(MICRO, ROWS)
    for row, ms in zip(ROWS.tolist(), total, strict=True):
        assert ms == pytest.approx(sum(made_up.ms[piece] for piece in walk(MICRO.arch(row, "x"))), rel=1e-12)


def test_the_covering_rows_hold_every_piece():
    found = set(distinct_pieces(MICRO, covering(MICRO)))
    assert found >= set(distinct_pieces(MICRO, random_rows(MICRO, 5000, np.random.default_rng(2))))
    # By hand: stem 2 widths; rows of blocks (first, rest): 2x2 k 2, 2 k 2; 2x3 k 2 e 3, 3 k 2 e 3; ...
    stems = [p for p in found if KINDS[p.kind] == "stem"]
    assert len(stems) == 2
    first_of_row_1 = [p for p in found if p.kind == 1 and (p.s, p.side) == (2, 14)]
    assert len(first_of_row_1) == 2 * 3 * 2 * 3
    assert len([p for p in found if KINDS[p.kind] == "pool"]) == 5


def test_codes_are_different():
    pieces = distinct_pieces(load_space("released"), random_rows(load_space("released"), 300, np.random.default_rng(0)))
    assert len({int(p.code()) for p in pieces}) == len(pieces) > 500


def test_a_table_survives_its_file_and_says_what_it_lacks(made_up, tmp_path):
    save_table(made_up, tmp_path / "table.json")
    loaded = load_table(tmp_path / "table.json")
    assert loaded == made_up
    lacking = dataclasses.replace(made_up, ms={p: t for p, t in made_up.ms.items() if (p.kind, p.k) != (1, 5)})
    with pytest.raises(InputError, match=r"holds no ir cin \d+ c \d+ k 5 e .*; measure it first"):
        lacking.latency(MICRO, ROWS)
    (tmp_path / "table.json").write_text((tmp_path / "table.json").read_text().replace('"ir"', '"irr"', 1))
    with pytest.raises(InputError, match="is no latency table, or is damaged"):
        load_table(tmp_path / "table.json")


def test_three_limits_hold_together(made_up, tmp_path):
    save_table(made_up, tmp_path / "table.json")
    bound = LatencyLimit(str(tmp_path / "table.json"), 6.0).load(MICRO)
    limits = Limits(MICRO, (Constraint("flops", 9e5), Constraint("params", 3e4)), (bound,))
    alone = [Limits(MICRO, (c,)) for c in limits.constraints] + [Limits(MICRO, (), (bound,))]
    assert np.array_equal(limits.allows(ROWS), np.logical_and.reduce([one.allows(ROWS) for one in alone]))
    assert all(not one.allows(ROWS).all() for one in alone)
    found = evolve(MICRO, lambda i: i.sum(1).astype(float), ROWS[:0], limits, EvolutionSettings(evaluations=2000), 0)
    assert made_up.latency(MICRO, found.index).max() <= 6.0
    assert limits.allows(found.index).all()
    with pytest.raises(InputError, match=r"at most 0.001 ms \(the nearest has"):
        Limits(MICRO, (), (dataclasses.replace(bound, max=0.001),)).draw(10, np.random.default_rng(0))


def test_a_network_is_its_pieces_one_after_the_other():
    """Built pieces compute what the network computes: the same modules with the same shapes."""
    row = ROWS[0].tolist()
    arch = MICRO.arch(row, "x")
    shapes = []
    for piece in walk(arch):
        module, example = timing.build_piece(piece)
        shapes.append((tuple(example.shape), tuple(module.eval()(example).shape)))
    for (_, out), (into, _) in itertools.pairwise(shapes):
        assert out == into
    params = sum(p.numel() for piece in walk(arch) for p in timing.build_piece(piece)[0].parameters())
    assert params == sum(p.numel() for p in build_model(arch, 10, 1).parameters())


def test_measuring_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "BATCH", 5)
    wanted = distinct_pieces(MICRO, ROWS[:3])
    assert len(wanted) > 10
    measured, path = [], tmp_path / "table.json"
    original = timing.build_piece

    def counted(piece):
        measured.append(piece)
        if len(measured) == 8:
            raise KeyboardInterrupt
        return original(piece)

    monkeypatch.setattr(timing, "build_piece", counted)
    with pytest.raises(KeyboardInterrupt):
        timing.measure_table(MICRO, wanted, path, quiet, rounds=1)
    assert sorted(load_table(path).ms) == wanted[:5]
    table = timing.measure_table(MICRO, wanted, path, quiet, rounds=1)
    assert sorted(table.ms) == wanted
    assert measured[8:] == wanted[5:]  # what the file held was not measured again
    assert all(ms > 0 for ms in table.ms.values())
    times = timing.measure_networks([MICRO.arch(ROWS[0].tolist(), "x")], MICRO, rounds=1)
    assert times[0] > 0
    data = json.loads(path.read_text())
    data["machine"]["cpu"] = "another"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="give another file"):
        timing.measure_table(MICRO, wanted, path, quiet)
