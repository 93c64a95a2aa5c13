"""The time to a regret: by hand, on a made-up table, and what the documents say of the committed file."""

import functools

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import early_stopping as benchmark
from fbnetv3.benchmarks.search.budgeted import Ended
from fbnetv3.benchmarks.search.early_stopping import BENCHMARK, METHODS, OURS, reached
from fbnetv3.search.nars.context import Context
from tests.search.tables import whole_grid


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A grid of 125 candidates from 50% to 74%, with trainings of one epoch."""
    return whole_grid(tmp_path_factory.mktemp("table") / "grid.csv", (5, 5, 5))


def test_the_regret_by_hand(table):
    context = Context.of(benchmark.base_config(benchmark.Path(table)))

    def ended(total, accuracy, epochs=1):
        """A training of a candidate whose indices add up to `total`; it has 50 + 2 * total percent."""
        row = (min(total, 4), max(min(total - 4, 4), 0), max(total - 8, 0))
        return Ended(row, 0, epochs, accuracy)

    chance = 74 - context.chance
    curve = benchmark.regrets(context, [ended(3, 56.0), ended(9, None), ended(6, 62.0, 2), ended(12, 50.0)], 6)
    # The second is stopped. The third needs two epochs. The fourth is the best, but did not look like it.
    assert curve == pytest.approx([18, 18, 18, 12, 12, 12])
    assert benchmark.regrets(context, [ended(9, None), ended(12, 74.0)], 3) == pytest.approx([chance, 0, 0])
    assert benchmark.regrets(context, [ended(3, 56.0, 2), ended(12, 74.0, 2)], 3) == pytest.approx([chance, 18, 18])


@pytest.mark.parametrize(("level", "expected"), [(3.0, 1), (2.0, 2), (1.5, 4), (1.0, 5), (0.5, None)])
def test_a_regret_is_reached_where_it_stays(level, expected):
    assert reached([3.0, 2.0, 2.0, 1.5, 1.0], level) == expected


def rows(*curves):
    return [{"curve": list(curve), "begun": 4, "completed": 3} for curve in curves]


@pytest.fixture
def whole(monkeypatch):
    """Nothing of a curve is its beginning."""
    monkeypatch.setattr(benchmark, "BEGINNING", 1)


def test_what_searches_say_together_by_hand(whole):
    found = {OURS: rows([4, 1], [2, 0]), "nars": rows([4, 4], [2, 2]), "tpe": rows([4, 2], [2, 1])}
    values = {"trainings": 2, "methods": benchmark.summary(found)}
    ours, tpe = values["methods"][OURS], values["methods"]["tpe"]
    assert (ours["curve"], ours["regret"], ours["over_time"]) == ([3.0, 0.5], 0.5, 1.75)
    assert ours["time"] == {"1": 2, "0.5": 2, "0.25": None}
    assert ours["by_seed"] == [2.5, 1.0]
    assert "difference" not in ours
    assert tpe["difference"]["mean"] == pytest.approx(0.5)  # 3 - 2.5 and 1.5 - 1
    assert values["methods"]["nars"]["difference"]["mean"] == pytest.approx(1.25)
    targets = benchmark.targets(values)
    # The others do not get there, which counts as three trainings.
    assert targets["time_share_of_best_rival"].value == targets["time_share_of_never_stopped"].value == 0.667
    assert targets["surely_better_than_the_model"].value == 0


def test_a_method_that_is_surely_better_than_the_model_is_counted(whole):
    found = {OURS: rows([4, 4], [2, 2]), "nars": rows([4, 4], [2, 2]), "tpe": rows([3, 0], [2, 2])}
    targets = benchmark.targets({"trainings": 2, "methods": benchmark.summary(found)})
    assert (targets["surely_better_than_the_model"].value, targets["surely_better_than_the_model"].met) == (0, True)
    found["tpe"] = rows([3, 3], [1, 1.01])
    targets = benchmark.targets({"trainings": 2, "methods": benchmark.summary(found)})
    assert (targets["surely_better_than_the_model"].value, targets["surely_better_than_the_model"].met) == (1, False)
    assert targets["time_share_of_never_stopped"].value == 1.0


def test_the_beginning_does_not_count():
    ours, other = ([9] * 9 + [1] * 3, [8] * 9 + [1] * 3), ([0] * 9 + [2] * 3, [0] * 9 + [2] * 3)
    found = benchmark.summary({OURS: rows(*ours), "nars": rows(*other)})
    assert (found[OURS]["over_time"], found["nars"]["difference"]["mean"]) == (1.0, 1.0)


@pytest.fixture
def scripted(monkeypatch):
    """Searches that train the first rows of the table."""

    def search(context, epochs):
        table = context.space.known()[:epochs].tolist()
        return [Ended(tuple(row), 0, 1, float(context.space.accuracy(np.array([row]))[0])) for row in table]

    made = {name: benchmark.Method(method.words, search, method.change) for name, method in METHODS.items()}
    monkeypatch.setattr(benchmark, "METHODS", made)


def test_a_run_writes_a_complete_result_and_is_continued(scripted, table, tmp_path):
    run = functools.partial(
        BENCHMARK.run, write_to=tmp_path / "early_stopping.json", table=benchmark.Path(table), out=tmp_path / "out"
    )
    result = run(seeds=2, trainings=12)
    assert load_result("early_stopping", tmp_path) == result
    assert "2 seeds" in result.method
    (tmp_path / "out" / "tpe_1001.json").unlink()
    assert run(seeds=2, trainings=12).values == result.values
    with pytest.raises(InputError, match=r"nars_model_1000\.json is of another configuration; give another --out"):
        run(seeds=2, trainings=11)
    assert BENCHMARK.all_tables(result)["time to a regret"].markdown().count("\n") == len(METHODS) + 1
    assert BENCHMARK.plot(result)[:4] == b"\x89PNG"
