"""What a search notes about its time is read by others, and never stops it."""

import json

import pytest

from fbnetv3.files import write_atomically
from fbnetv3.progress import silent
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.runs import clock
from fbnetv3.search.runs.clock import CLOCK, Clock, Session, epochs_trained, read_clock, timed
from fbnetv3.search.space.reader import load_space
from tests.search.made_up import make_config, make_result, make_trials, write_search


@pytest.fixture
def times(monkeypatch):
    """The hands of the clock: [seconds since 1970, monotonic seconds]."""
    hands = [1000.0, 5.0]
    monkeypatch.setattr(clock.time, "time", lambda: hands[0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: hands[1])
    return hands


@pytest.fixture
def folder(tmp_path):
    save_config(make_config(), tmp_path / "config.yaml")
    return tmp_path


def test_a_session_lasts_from_its_start_to_its_last_report(folder, times):
    said = []
    report = timed(lambda *words: said.append(words), folder)
    times[1] += 3
    report(0, 1, "stage 1")
    assert read_clock(folder) == Clock((Session(1000.0, 1003.0, 0),), "stage 1")
    times[1] += 4
    report(1, 9, "round 1")
    assert read_clock(folder) == Clock((Session(1000.0, 1007.0, 0),), "round 1")
    assert said == [(0, 1, "stage 1"), (1, 9, "round 1")]


def test_the_same_words_are_noted_again_after_some_seconds_alone(folder, times):
    report = timed(silent, folder)
    for wait, loss in ((0, 2.5), (9.9, 2.4), (0.2, 2.3)):
        times[1] += wait
        report(1, 9, f"epoch 1/3, loss {loss}")
        assert read_clock(folder).doing == "epoch 1/3"
        assert read_clock(folder).sessions[0].last == (1000.0 if loss > 2.3 else 1010.1)


def test_a_clock_that_is_set_back_changes_no_duration(folder, times):
    report = timed(silent, folder)
    times[:] = [400.0, 65.0]
    report(0, 1, "late")
    assert read_clock(folder).wall() == 60.0


def test_sessions_add_up_and_the_last_one_may_be_running(folder, times):
    timed(silent, folder)(0, 1, "first")
    times[:] = [2000.0, 50.0]
    report = timed(silent, folder)
    times[1] += 30
    report(0, 1, "second")
    assert read_clock(folder).sessions == (Session(1000.0, 1000.0, 0), Session(2000.0, 2030.0, 0))
    assert read_clock(folder).wall() == 30.0
    assert read_clock(folder).wall(2040.0) == 40.0
    assert Clock().wall(2040.0) == 0.0


def test_a_session_knows_what_was_trained_before_it(tmp_path):
    config = make_config()
    trials = make_trials(config, load_space("micro"), 2)  # 5 of 3 epochs and 5 of 2
    both = [make_result(config, load_space("micro"), trials, method) for method in ("nars", "random")]
    write_search(tmp_path, config, both)
    assert epochs_trained(tmp_path) == 2 * 25
    timed(silent, tmp_path)(0, 1, "again")
    assert read_clock(tmp_path).sessions[0].epochs == 50


def test_before_there_is_a_search_nothing_is_written(tmp_path):
    timed(silent, tmp_path / "absent")(0, 1, "stage 1")
    assert list(tmp_path.iterdir()) == []


NO_NUMBER = '{"sessions": [{"began": 1, "last": "x", "epochs": 0}], "doing": ""}'


@pytest.mark.parametrize("content", ["", "{}", NO_NUMBER, '{"sessions": 3, "doing": ""}'])
def test_a_damaged_file_is_no_error(folder, content):
    write_atomically(folder / CLOCK, content)
    assert read_clock(folder) == Clock()
    timed(silent, folder)(0, 1, "on")
    assert json.loads((folder / CLOCK).read_text())["doing"] == "on"


def test_a_full_disk_stops_no_search(folder, monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    report = timed(silent, folder)
    monkeypatch.setattr("fbnetv3.files.os.fsync", full)
    report(0, 1, "one")
    report(0, 1, "two")
    assert caplog.text.count("No space left on device") == 1
    assert not (folder / CLOCK).exists()
