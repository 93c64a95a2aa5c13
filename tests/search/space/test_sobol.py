"""Sobol sequences of index rows: every value equally often, and the same rows however many are drawn."""

import numpy as np
import pytest
from scipy.stats import qmc

from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import CHUNK, draws, sobol
from tests.search.tables import whole_grid

MICRO = load_space("micro")


def test_every_value_is_drawn_equally_often():
    index = sobol(MICRO, 12, 0)
    for column, size in zip(index.T, MICRO.sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        assert counts.min() > 0.9 * len(index) / size
        assert counts.max() < 1.1 * len(index) / size


@pytest.mark.parametrize(("log2_n", "n"), [(4, 11), (14, 2**14), (15, 20_000)])
def test_pieces_of_a_sequence_are_scipys_sequence(log2_n, n):
    pieces = np.concatenate(list(draws(MICRO, n, 5)))
    unit = qmc.Sobol(len(MICRO.sizes), scramble=True, rng=np.random.default_rng(5)).random_base2(log2_n)[:n]
    assert np.array_equal(pieces, np.floor(unit * MICRO.sizes))


def test_pieces_have_the_size_of_a_chunk_but_for_the_last():
    assert [len(piece) for piece in draws(MICRO, 2 * CHUNK + 5, 0)] == [CHUNK, CHUNK, 5]


@pytest.mark.filterwarnings("error")
def test_the_rows_of_a_seed_do_not_depend_on_their_number():
    assert np.array_equal(np.concatenate(list(draws(MICRO, 10, 3))), sobol(MICRO, 5, 3)[:10])


def test_another_seed_gives_other_rows():
    assert not np.array_equal(sobol(MICRO, 4, 0), sobol(MICRO, 4, 1))


def test_no_rows_are_drawn_where_none_are_wanted():
    assert list(draws(MICRO, 0, 0)) == []


def test_an_incomplete_table_gives_each_of_its_rows_once(tmp_path):
    table = load_space(whole_grid(tmp_path / "grid.csv", keep=0.3))
    rows = sobol(table, 6, 0)
    assert sorted(rows.tolist()) == sorted(table.table.tolist())
    assert not np.array_equal(rows, table.table)  # in random order
    assert np.array_equal(sobol(table, 3, 0), rows[:8])
    assert not np.array_equal(sobol(table, 6, 1), rows)


def test_a_large_incomplete_table_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.sobol.CHUNK", 7)
    table = load_space(whole_grid(tmp_path / "grid.csv", keep=0.3))
    assert [len(piece) for piece in draws(table, 16, 0)] == [7, 7, 2]
