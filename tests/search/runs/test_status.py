"""How far a search is, counted by hand: three rounds of five trainings, whose first round has 3 epochs and the others 2."""

import dataclasses
import json

import pytest

from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder
from fbnetv3.pair_file import save_pair
from fbnetv3.search.runs.clock import CLOCK
from fbnetv3.search.runs.folder import SearchFolder, load_search
from fbnetv3.search.runs.status import duration, status_of
from fbnetv3.search.space.reader import load_space
from tests.search.made_up import (
    diverged,
    failed,
    make_config,
    make_result,
    make_trials,
    repeats,
    write_search,
    write_trials,
)

SPACE = load_space("micro")
# Trials of 2 epochs take 6 seconds too, see made_up.py. The recipe has 3 epochs, the final training 6.
CONFIG = make_config(finalists=2)


@pytest.fixture
def trials():
    return make_trials(CONFIG, SPACE, 3)


def note(folder, began, last, epochs=0, doing="round 2: 1 of 5 candidates trained"):
    session = {"began": began, "last": last, "epochs": epochs}
    (folder / CLOCK).write_text(json.dumps({"sessions": [session], "doing": doing}))


def test_before_the_first_training_there_is_nothing_to_estimate_from(tmp_path):
    write_trials(tmp_path, CONFIG, [])
    found = status_of(load_search(tmp_path))
    (nars,) = found.methods
    assert (nars.trainings, nars.total, nars.best, found.left) == (0, 17, None, None)
    assert nars.round == "round 1 of 3: 0 of 5 trained"
    assert dict(found.lines())["time"] == "0 s of trainings, time left unknown"


def test_a_search_without_a_process_was_stopped_and_can_be_resumed(tmp_path, trials):
    write_trials(tmp_path, CONFIG, trials[:7])
    found = status_of(load_search(tmp_path))
    assert (found.state, found.next) == ("stopped", f"fbnetv3 search resume {tmp_path}")
    assert found.methods[0].round == "round 2 of 3: 2 of 5 trained"
    assert found.wall is None
    assert found.seconds == 42.0


def test_a_search_is_running_while_a_process_has_its_lock(tmp_path, trials):
    write_trials(tmp_path, CONFIG, trials[:7])
    note(tmp_path, 1000.0, 1030.0)
    with lock_folder(tmp_path, "search"):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        found = status_of(load_search(tmp_path), now=1038.0)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (found.state, found.next) == ("running", f"fbnetv3 search watch {tmp_path}")
    assert found.wall == 38.0
    assert dict(found.lines())["doing"] == "round 2: 1 of 5 candidates trained"
    found = status_of(load_search(tmp_path), now=1038.0)
    assert (found.state, found.wall) == ("stopped", 30.0)
    assert "doing" not in dict(found.lines())


def test_the_time_left_is_that_of_the_remaining_epochs(tmp_path, trials):
    """7 trainings had 5 * 3 + 2 * 2 = 19 epochs in 42 s. Left are 8 of 2 epochs, 2 of 3, and a final one of 6 epochs."""
    write_trials(tmp_path, CONFIG, trials[:7])
    assert status_of(load_search(tmp_path)).left == pytest.approx((8 * 2 + 2 * 3 + 6) * 42 / 19)
    note(tmp_path, 1000.0, 1006.0, epochs=15)
    with lock_folder(tmp_path, "search"):
        # This session has trained 4 epochs in 8 s, several at a time. The final training runs alone.
        found = status_of(load_search(tmp_path), now=1008.0)
    assert found.left == pytest.approx(22 * 2 + 6 * 42 / 19)
    assert dict(found.lines())["time"] == "8 s, with 42 s of trainings, about 57 s left"


def test_random_search_and_more_seeds_take_time_too(tmp_path, trials):
    config = CONFIG.replace(baseline=True, confirm=3)
    write_trials(tmp_path, config, trials[:5])
    # 10 of 3 epochs in stage 2, since nothing is known of early stopping yet, 2 finalists, 17 of random search; two final
    # trainings; two more seeds of both, and all three of the base recipe.
    epochs = 3 * (10 + 2 + 17) + 2 * 6 + 6 * 7
    assert status_of(load_search(tmp_path)).left == pytest.approx(epochs * 30 / 15)


def test_a_search_that_has_ended_has_an_answer(tmp_path, trials):
    config = CONFIG.replace(finalists=0)
    write_search(tmp_path, config, [make_result(config, SPACE, trials)])
    found = status_of(load_search(tmp_path))
    assert (found.state, found.left) == ("ended", 0.0)
    assert found.next == f"fbnetv3 search confirm {tmp_path} --seeds 5"
    lines = dict(found.lines())
    assert lines["trainings"] == "15 of 15 (100%)"
    assert lines["answer"] == "81.25% on the test images after 6 epochs"
    assert lines["time"] == "2 min of trainings"  # 15 * 6 s are 90 s
    (tmp_path / "confirmed.json").write_text('{"split": "test", "epochs": 6, "accuracies": {}}')
    assert status_of(load_search(tmp_path)).next == f"fbnetv3 search top {tmp_path}"


def test_a_search_that_repeats_trainings_after_its_answer_is_running(tmp_path, trials):
    write_search(tmp_path, CONFIG, [make_result(CONFIG, SPACE, trials)])
    with lock_folder(tmp_path, "search"):
        assert status_of(load_search(tmp_path)).state == "running"


def test_the_best_training_is_compared_after_equal_epochs_with_its_prediction(tmp_path, trials):
    """After 2 epochs, index 4 of every round has 65%. That of round 1 came first, but all of its epochs do not count."""
    trials[14] = dataclasses.replace(trials[14], acc1=[50.0, 65.5], predicted=[64.0, 2.0])
    write_trials(tmp_path, CONFIG, trials)
    best = status_of(load_search(tmp_path)).methods[0].best
    assert (best.trial, best.acc1, best.epochs) == ("3.4", 65.5, 2)
    assert (best.low, best.high) == pytest.approx((64 - 3.2897, 64 + 3.2897), abs=1e-4)
    text = dict(status_of(load_search(tmp_path)).lines())["best so far"]
    assert text.startswith("65.50% after 2 epochs (trial 3.4; predicted before it: 60.7 to 67.3%), 0.")
    write_trials(tmp_path, CONFIG, trials[:4])  # the first round has not ended: all of its epochs count
    best = status_of(load_search(tmp_path)).methods[0].best
    assert (best.trial, best.acc1, best.epochs, best.low) == ("1.3", 93.0, 3, None)


def test_what_went_wrong_is_counted(tmp_path, trials):
    trials[5], trials[6] = diverged(trials[5]), failed(trials[6], "OSError")
    trials[7] = dataclasses.replace(trials[7], stopped=True, acc1=[50.0])
    write_trials(tmp_path, CONFIG, trials[:8])
    words = "8 of 17 (47%); round 2 of 3: 3 of 5 trained, 1 diverged, 1 failed, 1 stopped early"
    assert dict(status_of(load_search(tmp_path)).lines())["trainings"] == words


@pytest.mark.parametrize(
    ("count", "again", "words"),
    [
        (5, 1, "repeats: 1 of 2 trained"),
        (9, 2, "round 2 of 3: 4 of 5 trained"),
        (15, 2, "finalists: 0 of 2 trained"),
    ],
)
def test_a_round_is_named(tmp_path, trials, count, again, words):
    config = CONFIG.replace(repeats=2)
    write_trials(tmp_path, config, [*trials[:count], *repeats(trials, *[90.0] * again)])
    assert status_of(load_search(tmp_path)).methods[0].round == words


def test_random_search_is_told_apart(tmp_path, trials):
    config = make_config(baseline=True)
    results = [make_result(config, SPACE, trials), make_result(config, SPACE, trials, "random", 80.0)]
    write_search(tmp_path, config, results)
    lines = dict(status_of(load_search(tmp_path)).lines())
    assert lines["NARS: answer"].startswith("81.25%")
    assert lines["random search: answer"].startswith("80.00%")


def test_a_line_that_is_being_written_does_not_count(tmp_path, trials):
    search = write_trials(tmp_path, CONFIG, trials[:7])
    content = search.ledger().read_bytes()
    for cut in (1, 20, 100):
        search.ledger().write_bytes(content[:-cut])
        assert status_of(load_search(tmp_path)).methods[0].trainings == 6
    search.ledger().write_bytes(content.replace(b'"acc1"', b'"acc2"', 1))
    with pytest.raises(InputError, match="line 2"):
        status_of(load_search(tmp_path))


def test_a_file_system_without_locks_is_named(tmp_path, trials, monkeypatch):
    write_trials(tmp_path, CONFIG, trials[:7])
    monkeypatch.setattr("fbnetv3.search.runs.status.is_locked", lambda folder: None)
    found = status_of(load_search(tmp_path))
    assert found.state == "unknown"
    assert "has no locks" in dict(found.lines())["state"]


def test_an_answer_without_a_final_training_is_none(tmp_path, trials):
    config = CONFIG.replace(final_training=False)
    result = make_result(config, SPACE, trials)
    write_trials(tmp_path, config, trials)
    save_pair(dataclasses.replace(result.pair, measured={}), SearchFolder(tmp_path, config).pair())
    assert "answer" not in dict(status_of(load_search(tmp_path)).lines())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (90, "2 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min"), (200_000, "2 d 7 h")],
)
def test_durations_have_two_units(seconds, words):
    assert duration(seconds) == words
