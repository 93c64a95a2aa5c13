"""Two searches in equal time on a clock that the trainings move: their sizes fit the seconds, whatever the card's rate."""

import dataclasses
import math

import pytest

from fbnetv3.benchmarks.gpu import search_study, trainings
from fbnetv3.benchmarks.gpu.search import CONSTRAINT
from fbnetv3.benchmarks.gpu.search_study import (
    EVERY,
    SideBySide,
    Study,
    final_epochs,
    largest_search,
    with_trainings,
)
from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.trial import Outcome

CONFIG = load_preset("cifar10").replace(
    constraint=dataclasses.asdict(CONSTRAINT), pool=200, repeats=0, recipe="cifar10/minutes"
)


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class Card:
    """A pool of processes on a card on which `at_once` trainings take `seconds`, and which is full with `full` of them.

    The study gives it one training at a time, so each moves the clock by its share of the time of those at once.
    """

    limit = None

    def __init__(self, clock, seconds, full):
        self.clock, self.seconds, self.full, self.trained, self.at_once = clock, seconds, full, [], 1

    def run(self, jobs):
        ((key, job),) = jobs.items()
        training, epochs, seed = job.candidate, job.epochs, job.seed
        self.trained.append(training)
        whole = self.seconds * epochs / 5 * EVERY / training.every
        self.clock.now += whole / min(self.at_once, self.full)
        accuracy = 40.0 + 10 * training.recipe.lr + seed % 7
        # Earlier epochs say nothing about the last one, so that NARS does not stop its trials early.
        early = tuple(30.0 + seed * (i + 1) % 17 for i in range(epochs - 1))
        # What the process sees: those side by side slow it down once the card is full.
        yield key, Outcome((*early, accuracy), "ok", whole * max(1.0, self.at_once / self.full))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (search_study, trainings):
        monkeypatch.setattr(module, "time", clock)
    return clock


def study_of(clock, tmp_path, monkeypatch, seconds=2.0, full=4, end=170.0):
    card = Card(clock, seconds, full)
    study = Study(Context.of(CONFIG), card, tmp_path, end, 5.0, 60, 1000)
    made = Study.executor

    def executor(self, at_once, seconds=math.inf):
        card.at_once = at_once
        # One thread, so that the clock moves in a fixed way.
        return dataclasses.replace(made(self, at_once, seconds), at_once=1)

    monkeypatch.setattr(Study, "executor", executor)
    assert made(study, 3) == SideBySide(card, 3, end)
    return study, card


def test_the_rates(clock, tmp_path, monkeypatch):
    study, card = study_of(clock, tmp_path, monkeypatch)
    rows = {n: study.rate(n) for n in (1, 2, 4, 8)}
    # Two epochs of five are trained, which take 0.8 of 2 seconds: what was measured is written, not what five would take.
    assert rows[1] == {"trials": 1, "epochs": 2, "seconds": 0.8, "trainings_a_minute": 75.0}
    assert rows[4] == {"trials": 4, "epochs": 2, "seconds": 0.8, "trainings_a_minute": 300.0}
    assert rows[8]["trainings_a_minute"] == 300.0
    assert study.walls == pytest.approx({1: 2.0, 2: 2.0, 4: 2.0, 8: 4.0})
    # As in a search, no process has trained the candidate before: libraries choose their algorithms in the time.
    assert len({training.network.stages for training in card.trained}) > 10
    assert len(card.trained) == 15


def test_the_largest_search_runs_no_more_at_once_than_its_batches_have():
    walls = {1: 2.0, 4: 4.0, 16: 8.0}  # 0.5, 1 and 2 trainings a second
    at_once, config = largest_search(CONFIG, 50.0, walls, 1000)
    assert (at_once, config.batch) == (16, 22)  # of 100 trainings
    at_once, config = largest_search(CONFIG, 20.0, walls, 1000)
    assert (at_once, config.batch) == (4, 4)  # 16 at once would give 40 trainings, whose batches have 8
    assert largest_search(CONFIG, 20.0, {16: 8.0}, 1000)[0] == 16  # nothing else was measured
    assert largest_search(CONFIG, 50.0, walls, 9)[1].trainings == 9
    with pytest.raises(InputError, match="no rate was measured"):
        largest_search(CONFIG, 20.0, {}, 1000)


@pytest.mark.parametrize("seconds", [2.0, 6.0])
def test_both_searches_and_the_trainings_of_their_answers_fit_the_time(clock, tmp_path, monkeypatch, seconds):
    study, card = study_of(clock, tmp_path, monkeypatch, seconds)
    for count in (1, 2, 4):
        study.rate(count)
    begin = clock.now
    nars = study.nars()
    assert nars["at_once"] == 4
    assert nars["trainings"] == len(card.trained) - 7  # those of the rates
    share = (170 - begin) * 0.9 * 0.8 / 2
    assert 0.6 * (share - 5.0) < nars["seconds"] <= share
    random = study.random()
    assert nars["seconds"] <= random["seconds"] <= nars["seconds"] + seconds  # the last training began before the end
    assert random["trainings"] == pytest.approx(nars["trainings"], abs=2)  # on a clock that the predictor does not move
    assert (nars["not_ok"], random["not_ok"]) == (0, 0)
    again = study.retrain()
    assert set(again) == {"epochs", "nars", "random", "seconds"}
    assert [(t.split, t.every, t.recipe.epochs) for t in card.trained[-2:]] == [("test", 1, again["epochs"])] * 2
    assert {t.split for t in card.trained[:-2]} == {None}
    assert {t.every for t in card.trained[:-2]} == {EVERY}
    assert clock.now <= 170


def test_what_needs_an_answer_says_so(clock, tmp_path, monkeypatch):
    study, _ = study_of(clock, tmp_path, monkeypatch)
    for call in (study.random, study.retrain):
        with pytest.raises(InputError, match="nars has found no answer"):
            call()


def test_trainings_that_fail_are_no_rate(clock, tmp_path, monkeypatch):
    study, card = study_of(clock, tmp_path, monkeypatch)
    monkeypatch.setattr(card, "run", lambda jobs: iter([(0, Outcome((), "failed", 1.0, "no memory"))]))
    with pytest.raises(InputError, match="2 of 2 trainings failed: no memory"):
        study.rate(2)
    study.warm(1)  # nothing is lost: fewer trainings side by side may work
    assert study.walls == {}


@pytest.mark.parametrize(("trainings", "batch", "finalists"), [(9, 2, 1), (50, 11, 6), (100, 22, 12)])
def test_sizes_of_a_search(trainings, batch, finalists):
    config = with_trainings(CONFIG, trainings)
    assert (config.batch, config.rounds, config.finalists) == (batch, 4, finalists)
    assert config.trainings == trainings


def test_too_few_trainings_are_refused():
    with pytest.raises(InputError, match="there is time for 8 trainings, which are too few; give more --seconds"):
        with_trainings(CONFIG, 8)


def test_the_epochs_of_the_answers():
    # Two trainings of 5 epochs on a quarter of the images took 10 seconds: an epoch on all takes 8.
    assert final_epochs(40.0, {1: 9.0, 2: 10.0}, 5, 60) == 5
    assert final_epochs(1.0, {2: 10.0}, 5, 60) == 2
    assert final_epochs(1e6, {2: 10.0}, 5, 60) == 60
    assert final_epochs(40.0, {1: 10.0}, 5, 60) == 5
