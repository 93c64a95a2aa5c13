"""The card of a collection: of a table whose accuracies are known to the last point."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from fbnetv3 import InputError
from fbnetv3.benchmarks.search import collection as benchmark
from fbnetv3.benchmarks.search.collection import BENCHMARK, card, trials_of
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.table_archive import write_archive
from tests.search.collect.made_up import additive
from tests.search.scripted import config

NOISE = 1.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Context, table and true accuracies of a collection in which FLOPs and mixup alone count."""
    folder = tmp_path_factory.mktemp("collection")
    table, truth = additive(folder, NOISE)
    return Context.of(config(folder)), table, truth


@pytest.fixture(scope="module")
def found(made):
    return card(made[0], made[1])


def test_the_card_counts_the_table(made, found):
    _, table, _ = made
    assert (found["pairs"], found["trainings"]) == (len(table.table), table.trainings.sum())
    assert found["several"] == (table.trainings > 1).sum()
    assert found["judged"]["mean"] == pytest.approx(table.accuracy(table.table).mean(), abs=1e-4)
    assert found["judged"]["best"] <= table.accuracy(table.table).max()
    assert found["epochs"] == 1
    assert found["hours"] == pytest.approx(np.nansum(table.seconds) / 3600, abs=1e-4)


def test_noise_and_ceilings_are_those_of_repeated_trainings(made, found):
    _, table, _ = made
    several = np.where(table.exists(np.arange(len(table.table))), table.final, np.nan)[table.trainings > 1]
    assert found["noise"] == pytest.approx(
        np.sqrt(several.var(axis=1, ddof=1, where=~np.isnan(several)).mean()), abs=1e-4
    )
    assert 0.5 < found["noise"] < 1.5  # few pairs have several trainings
    assert found["ceiling"] == pytest.approx(spearmanr(several[:, 0], several[:, 1]).statistic, abs=1e-4)
    assert found["validation"] == 1.0  # without test images it is the same accuracy


def test_the_variance_is_divided_as_it_was_made(made, found):
    """Architecture and recipe add up, so that nothing is due to both together."""
    shares = found["variance"]
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.05)  # medians
    assert shares["both together"] < 0.1
    assert shares["recipe"] > 0.3
    assert shares["architecture"] > 0.1
    assert "noise of a training" not in found["better_half"]


def test_the_trials_have_the_accuracies_that_searches_are_judged_by(made):
    context, table, _ = made
    tested = dataclasses.replace(table, test_acc1=table.acc1 / 2)
    trials = trials_of(context.space, tested)
    assert len(trials) == table.trainings.sum()
    assert trials[0].acc1 == (table.acc1[0, 0] / 2).tolist()
    curves = table.acc1.copy()
    curves[0, 0] = np.nan
    lost = trials_of(context.space, dataclasses.replace(table, acc1=curves))[0]
    assert (lost.status, lost.acc1) == ("diverged", [])


def test_a_table_without_repeats_is_refused(made):
    context, table, _ = made
    once = dataclasses.replace(table, trainings=np.ones_like(table.trainings), acc1=table.acc1[:, :1])
    with pytest.raises(InputError, match="has no pair with several trainings"):
        card(context, once)


def test_the_command_reads_a_file(made, tmp_path, monkeypatch, found):
    context, table, _ = made
    write_archive(table, tmp_path / "table.npz")
    monkeypatch.setattr(benchmark, "load_preset", lambda name: context.config)
    result = BENCHMARK.run(write_to=tmp_path / "out.json", table=tmp_path / "table.npz")
    assert result.values == found
    what, shares = benchmark.tables(result).values()
    assert what.rows[0] == (
        "trainings",
        f"{found['trainings']} of {found['pairs']} pairs, {found['several']} of them several times",
    )
    assert [row[0] for row in shares.rows] == list(benchmark.PARTS)
    assert shares.rows[3][2] == "-"
