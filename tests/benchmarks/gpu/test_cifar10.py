"""Figure 7 on one card: equal trainings for all networks, which fit the time, and nothing lost when it ends early."""

import json

import pytest

from fbnetv3.benchmarks.gpu import cifar10, cifar10_lanes, trainings
from fbnetv3.benchmarks.gpu.cifar10 import BENCHMARK, RATES, recipe_of_all, tables, train_all, with_rate
from fbnetv3.benchmarks.gpu.cifar10_lanes import Lane
from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.errors import InputError
from fbnetv3.recipes import load_recipe
from fbnetv3.search.trial import Outcome
from tests.benchmarks.gpu.clock import Card

SPEEDS = {"a": 1.0, "b": 2.0, "c": 0.5}  # seconds of an epoch
COSTS = {name: {"resolution": 32, "flops": 2e7, "params": 3e6} for name in SPEEDS}
VALUES = {"costs": COSTS, "data": {"train": 9, "val": 1, "test": 5, "jpeg": True}, "rates": list(RATES)}


def best_at(rate):
    return lambda training, epochs: 90.0 + epochs / 10 - abs(training.recipe.lr - rate)


def train(card, monkeypatch, seconds, names=SPEEDS):
    """All that `train_all` yields on a card, with lanes that end after so many seconds."""
    for module in (cifar10, cifar10_lanes, trainings):
        monkeypatch.setattr(module, "time", card)
    lanes = [Lane(name, card.pool(name), seconds) for name in names]
    return train_all(lanes, load_recipe("cifar10/small"), VALUES, 1000)


def result_of(values):
    return Result("2026-01-01", "command", "method", {"python": "3.11"}, {"seconds": 1.0} | values)


@pytest.mark.parametrize("seconds", [40, 170, 600])
def test_all_networks_get_equal_trainings_that_fit_the_time(monkeypatch, seconds):
    card = Card(SPEEDS, fixed=0.2, accuracy=best_at(0.15))
    *_, last = train(card, monkeypatch, seconds)
    assert 0.8 * seconds < card.now <= seconds  # the spare time is left, and little more
    plan = last["plan"]
    for name in SPEEDS:
        # After the warm-up and the two trainings for the pace, each alone and side by side.
        made = [row[1:] for row in card.trained if row[0] == name][5:]
        assert made == [*((rate, plan["sweep"], "val") for rate in RATES), (0.15, plan["epochs"], "test")]
        row = last["cases"][name]
        assert (row["lr"], row["epochs"]) == (0.15, plan["epochs"])
        assert list(row["sweep"]) == ["0.05", "0.15", "0.45"]
        assert row["acc1"] == pytest.approx(90 + plan["epochs"] / 10)
    assert (last["failed"], last["not_reached"]) == ({}, [])


def test_what_was_trained_is_yielded_network_by_network(monkeypatch):
    found = list(train(Card(SPEEDS, accuracy=best_at(0.05)), monkeypatch, 100))
    assert [len(values["cases"]) for values in found] == [0, 1, 2, 3]
    assert [len(values["not_reached"]) for values in found] == [3, 2, 1, 0]
    json.dumps(found)


def test_the_speed_is_kept_when_there_is_no_time_for_more(monkeypatch):
    kept = []
    run = train(Card(SPEEDS, accuracy=best_at(0.05)), monkeypatch, 20)
    with pytest.raises(InputError, match="give more --seconds"):
        kept.extend(run)
    (values,) = kept
    assert values["not_reached"] == list(SPEEDS)
    assert next(iter(tables(result_of(values)))) == "seconds of an epoch"


def test_ctrl_c_keeps_the_networks_that_were_trained(monkeypatch):
    def accuracy(training, epochs):
        if training.network == "b" and training.split == "test":
            raise KeyboardInterrupt
        return 91.0

    kept = []
    run = train(Card(SPEEDS, accuracy=accuracy), monkeypatch, 100)
    with pytest.raises(KeyboardInterrupt):
        kept.extend(run)  # what was yielded before the error stays
    assert list(kept[-1]["cases"]) == ["a"]


def test_a_training_that_was_stopped_by_the_time_is_not_reached_and_no_failure(monkeypatch):
    card = Card(dict(SPEEDS))

    def accuracy(training, epochs):
        if training.split == "test":
            card.epochs["b"] = 1000.0  # slower than it was when the plan was made
        return 91.0

    card.accuracy = accuracy
    *_, last = train(card, monkeypatch, 100)
    assert list(last["cases"]) == ["a"]
    assert (last["failed"], last["not_reached"]) == ({}, ["b", "c"])


def test_a_network_without_memory_leaves_its_time_to_the_others(monkeypatch):
    card = Card(SPEEDS, accuracy=lambda training, epochs: None if training.network == "b" else 91.0)
    *_, last = train(card, monkeypatch, 100)
    assert last["failed"] == {"b": "no memory"}
    assert list(last["cases"]) == ["a", "c"]
    assert "b" not in last["pace"][0]["networks"]
    assert card.now > 80


def test_a_rate_that_diverges_loses(monkeypatch):
    made = cifar10_lanes.Lane.train

    def train_or_diverge(self, recipe, epochs, split="val", every=1):
        outcome = made(self, recipe, epochs, split, every)
        return Outcome((), "diverged", 1.0) if recipe.lr == 0.45 else outcome

    monkeypatch.setattr(cifar10_lanes.Lane, "train", train_or_diverge)
    *_, last = train(Card(SPEEDS, accuracy=best_at(0.15)), monkeypatch, 100)
    assert last["cases"]["a"]["sweep"]["0.45"] == 0.0
    assert last["cases"]["a"]["lr"] == 0.15


def test_no_network_at_all_is_an_error(monkeypatch):
    with pytest.raises(InputError, match="no network can be trained: no memory"):
        list(train(Card(SPEEDS, accuracy=lambda training, epochs: None), monkeypatch, 100))


def test_the_schedule_ends_with_the_epochs():
    recipe = with_rate(recipe_of_all(512), 0.15, 32)
    assert (recipe.lr, recipe.epochs, recipe.warmup_epochs, recipe.schedule) == (0.15, 32, 4.0, "cosine")
    given = {"lr": 0.15, "epochs": 32, "warmup_epochs": 4.0, "batch_size": 512, "label_smoothing": 0.1}
    assert recipe == load_recipe("cifar10/small").replace(
        **given
    )  # and nothing else differs from what the method names


def test_targets_tables_and_plot(monkeypatch):
    *_, last = train(Card(SPEEDS, accuracy=best_at(0.05)), monkeypatch, 100)
    targets = cifar10.targets(last)
    assert targets["a"].as_dict() == {"value": last["cases"]["a"]["acc1"], "above": 90.0, "met": True}
    trained, sweeps, pace, *_ = tables(result_of(last)).values()
    headings = [table.columns[0] for table in (sweeps, pace)]
    assert headings == [f"validation top-1 (%) after {last['plan']['sweep']} epochs", "seconds of an epoch"]
    assert trained.columns[-1] == "test top-1 (%), on images that were stored as JPEG"
    exact = tables(result_of(last | {"data": last["data"] | {"jpeg": False}}))["trained networks"]
    assert exact.columns[-1] == "test top-1 (%)"
    assert trained.rows[0][:5] == ("`a`", "32", "20.0", "3.00", "0.05")
    assert len(sweeps.columns) == 1 + len(RATES)
    assert pace.rows[0] == ("`a`", "1.00", "1.00")
    assert pace.rows[-1][0] == "all"
    assert cifar10.plot(result_of(last))[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_rehearsal(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "found.json", quick=True, device="cpu", seconds=600)
    assert load_result("found", tmp_path) == result
    assert set(result.values["cases"]) == set(BENCHMARK.quick["networks"])
    assert result.values["data"] == {"train": 100, "val": 20, "test": 40, "jpeg": True}
    assert "The images were stored as JPEG" in result.method
