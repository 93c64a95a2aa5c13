"""The best of a large sample: the same as of all its rows at once, in pieces that fit into memory."""

import numpy as np
import pytest

from fbnetv3.search.space import screen as screen_module
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.screen import screen
from fbnetv3.search.space.sobol import CHUNK, sobol
from tests.search.spaces import FEW, load

MICRO = load_space("micro")
WINDOW = Constraint("flops", 1e6, 5e5)
FACTORS = np.random.default_rng(0).normal(size=(2, len(MICRO.sizes)))


def cheap(index):
    return index @ FACTORS[0]


def score(index):
    return index @ FACTORS[1]


def first_coordinate(index):
    return index[:, 0].astype(float)


def feasible_rows(log2_n, seed):
    """The feasible rows of a sample in the order drawn, and the different ones among them."""
    index = MICRO.canonical(sobol(MICRO, log2_n, seed))
    index = index[WINDOW.satisfied(MICRO.cost(index).flops())]
    return index, np.unique(index, axis=0)


@pytest.mark.parametrize("keep", [1, 37, 5000, 10**6])
def test_the_best_are_those_of_the_complete_sample(keep):
    drawn, different = feasible_rows(15, 7)
    kept = different[np.argsort(-cheap(different), kind="stable")[:keep]]
    found = screen(MICRO, WINDOW, 2**15, 7, cheap, score, keep)
    assert found.feasible == len(drawn)
    assert len(found.index) == min(keep, len(different))
    assert {*map(tuple, found.index.tolist())} == {*map(tuple, kept.tolist())}
    assert np.allclose(found.scores, score(found.index))
    assert (np.diff(found.scores) <= 0).all()


def test_of_equal_scores_the_earlier_rows_stay():
    drawn, _ = feasible_rows(14, 1)
    found = screen(MICRO, WINDOW, 2**14, 1, first_coordinate, first_coordinate, 200)
    best = drawn[drawn[:, 0] == MICRO.sizes[0] - 1]
    assert np.array_equal(found.index, best[:200])


@pytest.mark.parametrize("keep", [5, 8, 20])
def test_no_network_is_returned_twice(tmp_path, keep):
    few = load(tmp_path, FEW)
    assert [c.name for c in few.coordinates] == ["row0.e", "row0.c"]

    def widths(index):
        return index @ [1.0, 10.0]

    found = screen(few, Constraint("flops", 1e9), 2**14, 0, widths, widths, keep)
    # Widths are built as 8 16 16 24 24 32 32. The first indices of the different ones are 0 1 3 5. There are two expansions.
    expected = sorted((e + 10 * c for e in (0, 1) for c in (0, 1, 3, 5)), reverse=True)[:keep]
    assert found.scores.tolist() == expected
    assert found.feasible == 2**14


def test_pieces_are_small_and_only_the_kept_rows_are_scored_again(monkeypatch):
    sizes, kept = [], []

    def top(space, parts, keep, original=screen_module._top):
        kept.append(sum(len(part.index) for part in parts))
        return original(space, parts, keep)

    def counted(index):
        sizes.append(len(index))
        return score(index)

    monkeypatch.setattr(screen_module, "_top", top)
    screen(MICRO, WINDOW, 2**17, 3, cheap, counted, 10_000)
    assert sum(sizes) == 10_000
    assert max(sizes) <= CHUNK
    assert len(kept) > 2
    assert max(kept) <= 2 * 10_000 + CHUNK  # however many rows are drawn


def test_nothing_is_kept_where_nothing_is_feasible():
    found = screen(MICRO, Constraint("flops", 1.0), 2**10, 0, cheap, score, 5)
    assert (found.index.shape, found.scores.shape, found.feasible) == ((0, len(MICRO.sizes)), (0,), 0)
