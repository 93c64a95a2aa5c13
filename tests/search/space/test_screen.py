import numpy as np
import pytest
import yaml

from fbnetv3.search.space import screen as stream
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.sobol import CHUNK, sobol
from fbnetv3.search.space.space import load_space

MICRO = load_space("micro")
WINDOW = Constraint("flops", 1e6, 5e5)
FACTORS = np.random.default_rng(0).normal(size=(2, len(MICRO.sizes)))


def screen(index):
    return index @ FACTORS[0]


def score(index):
    return index @ FACTORS[1]


def first_coordinate(index):
    return index[:, 0].astype(float)


def everything(log2_n, seed):
    index = MICRO.canonical(sobol(MICRO, log2_n, seed))
    index = index[WINDOW.allows(cost(MICRO, index))]
    return index, np.unique(index, axis=0)


@pytest.mark.parametrize("keep", [1, 37, 5000, 10**6])
def test_the_best_are_those_of_the_whole_sample(keep):
    drawn, different = everything(15, 7)
    kept = different[np.argsort(-screen(different), kind="stable")[:keep]]
    found = stream.best(MICRO, WINDOW, 2**15, 7, screen, score, keep)
    assert found.inside == len(drawn)
    assert len(found.index) == min(keep, len(different))
    assert {*map(tuple, found.index.tolist())} == {*map(tuple, kept.tolist())}
    assert np.allclose(found.scores, score(found.index))
    assert (np.diff(found.scores) <= 0).all()


def test_of_equal_scores_the_earlier_stay():
    drawn, _ = everything(14, 1)
    found = stream.best(MICRO, WINDOW, 2**14, 1, first_coordinate, first_coordinate, 200)
    best = drawn[drawn[:, 0] == MICRO.sizes[0] - 1]
    assert np.array_equal(found.index, best[:200])


@pytest.mark.parametrize("keep", [5, 8, 20])
def test_no_network_comes_twice(tmp_path, keep):
    row = {"k": 3, "e": "(1, 2)", "c": "(8, 32, 4)", "n": 1, "s": 2, "se": False}
    text = {"schema": 1, "name": "small", "about": "Few networks.", "resolution": 8, "in_chans": 1, "num_classes": 2}
    text |= {"stem": {"k": 3, "c": 16, "s": 2}, "rows": [row], "head": {"e": 1, "c": 8}, "recipe": {}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(text))
    small = load_space(str(tmp_path / "small.yaml"))
    widths = lambda index: index @ [1.0, 10.0]  # noqa: E731
    found = stream.best(small, Constraint("flops", 1e9), 2**14, 0, widths, widths, keep)
    # Widths 8 16 16 24 24 32 32 as built, their first indices 0 1 3 5; two expansions.
    expected = sorted((e + 10 * c for e in (0, 1) for c in (0, 1, 3, 5)), reverse=True)[:keep]
    assert found.scores.tolist() == expected
    assert found.inside == 2**14


def test_pieces_are_small_and_only_the_kept_are_scored_anew(monkeypatch):
    sizes, kept = [], []
    monkeypatch.setattr(
        stream, "_top", lambda *a, top=stream._top: kept.append(sum(len(p.index) for p in a[1])) or top(*a)
    )

    def counted(index):
        sizes.append(len(index))
        return score(index)

    stream.best(MICRO, WINDOW, 2**17, 3, screen, counted, 10_000)
    assert sum(sizes) == 10_000
    assert max(sizes) <= CHUNK
    assert len(kept) > 2
    assert max(kept) <= 2 * 10_000 + CHUNK  # whatever was drawn
