"""Trials and the ledger: what is written survives a crash, and a damaged or foreign file is refused."""

import dataclasses
import json
import math
import multiprocessing
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fbnetv3.errors import InputError
from fbnetv3.search.trial import (
    REPEATS,
    Ledger,
    Planned,
    Trial,
    comparable,
    completed,
    evaluated,
    fault_of,
    in_rounds,
    ledger_config,
    read_ledger,
    until_stopped,
)

NAN, INF = math.nan, math.inf


def trial(round=1, index=0, **changes):
    values = {
        "round": round,
        "index": index,
        "candidate": [1, 2],
        "seed": 3,
        "epochs": 2,
        "flops": 4,
        "params": 5,
        "predicted": None,
        "acc1": [10.0, 20.5],
        "status": "ok",
        "seconds": 1.5,
    }
    return Trial(**values | changes)


@pytest.fixture
def path(tmp_path):
    """A ledger of three trials."""
    path = tmp_path / "run" / "ledger.jsonl"
    with Ledger.open(path, "config") as ledger:
        for i in range(3):
            ledger.append(trial(index=i))
    return path


def test_a_trial_is_identified_by_round_and_index():
    assert trial(2, 5).place == (2, 5)


def test_failed_trials_say_nothing_about_their_candidate():
    trials = [trial(status="ok"), trial(status="failed", acc1=[]), trial(status="diverged", acc1=[])]
    assert evaluated(trials) == [trials[0], trials[2]]


def test_the_order_of_a_search_has_repeats_after_the_first_round():
    places = [(1, 0), (1, 1), (0, 0), (0, 1), (2, 0), (10, 0)]
    trials = [dataclasses.replace(trial(), round=round, index=index) for round, index in places]
    assert in_rounds([trials[i] for i in (5, 2, 4, 1, 3, 0)]) == trials


def test_equal_searches_may_differ_in_order_times_and_error_texts():
    a = [trial(1, 0), trial(1, 1), trial(REPEATS, 0)]
    b = [trial(1, 1, seconds=9.0), trial(REPEATS, 0, error="x"), trial(1, 0)]
    assert comparable(a) == comparable(b)
    assert [(row["round"], row["index"]) for row in comparable(a)] == [(0, 0), (1, 0), (1, 1)]
    assert json.dumps(comparable(a))


@pytest.mark.parametrize(
    "change", [{"acc1": [10.0, 20.6]}, {"candidate": [1, 3]}, {"seed": 4}, {"predicted": [1.0, 2.0]}, {"flops": 5}]
)
def test_equal_searches_agree_on_everything_else(change):
    assert comparable([trial()]) != comparable([trial(**change)])


def test_what_is_appended_is_read_again(path):
    assert read_ledger(path) == [trial(index=i) for i in range(3)]
    with Ledger.open(path, "config") as ledger:
        assert ledger.trials == read_ledger(path)
        ledger.append(trial(2, 0, predicted=[80.0, 1.0], status="diverged", acc1=[]))
    assert read_ledger(path)[-1].predicted == [80.0, 1.0]


@settings(max_examples=25, deadline=None)  # each example is written to the disk; a busy machine is no failure
@given(
    st.lists(st.floats(0, 100), min_size=2, max_size=2),
    st.floats(0, 1e9),
    st.text(max_size=20),
    st.one_of(st.none(), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2)),
)
def test_every_value_survives_the_file(tmp_path_factory, acc1, seconds, error, predicted):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    written = trial(acc1=acc1, seconds=seconds, error=error, predicted=predicted)
    with Ledger.open(path, "config") as ledger:
        ledger.append(written)
    assert read_ledger(path) == [written]


def test_a_new_ledger_has_no_trials(tmp_path):
    with Ledger.open(tmp_path / "ledger.jsonl", "config") as ledger:
        assert ledger.trials == []
    assert read_ledger(tmp_path / "ledger.jsonl") == []


def test_a_line_cut_anywhere_by_a_crash_is_dropped_and_nothing_else(path):
    complete = path.read_bytes()
    start = len(complete) - len(complete.splitlines(keepends=True)[-1])
    for end in range(start, len(complete)):
        path.write_bytes(complete[:end])
        assert len(read_ledger(path)) == 2
        with Ledger.open(path, "config") as ledger:
            assert len(ledger.trials) == 2
            ledger.append(trial(index=2))
        assert path.read_bytes() == complete


def test_a_ledger_names_its_configuration(path):
    assert ledger_config(path) == "config"
    for header in ("", '{"ledger": 2', '{"ledger": 2, "config": 5}', "[]"):
        path.write_text(header)
        assert ledger_config(path) is None
    assert ledger_config(path.parent / "absent") is None


def test_a_ledger_with_a_cut_header_starts_again(path):
    path.write_bytes(path.read_bytes()[:7])
    with Ledger.open(path, "config") as ledger:
        assert ledger.trials == []


def test_an_outcome_is_right_by_hand():
    assert fault_of("ok", (0.0, 100), 0, 2) == ""
    assert fault_of("ok", np.array([1.0, 2.0], np.float32), 1.5, 2) == ""
    assert fault_of("diverged", None, 0.0, 2) == fault_of("failed", (1.0,), 0.0, 2) == ""


def test_a_training_that_was_stopped_has_some_of_its_epochs():
    assert fault_of("ok", (1.0,), 0.0, 3, stopped=True) == fault_of("ok", (1.0, 2.0), 0.0, 3, stopped=True) == ""
    for wrong in ((), (1.0, 2.0, 3.0)):
        assert fault_of("ok", wrong, 0.0, 3, stopped=True).startswith(f"there are {len(wrong)} accuracies for 3 epochs")


def test_a_rule_is_asked_after_every_epoch_but_the_last():
    asked = []

    def third(acc1):
        asked.append(acc1)
        return len(acc1) == 3

    assert until_stopped([5.0, 6.0, 7.0, 8.0], None) == (5.0, 6.0, 7.0, 8.0)
    assert until_stopped([5.0, 6.0, 7.0, 8.0], third) == (5.0, 6.0, 7.0)
    assert asked == [[5.0], [5.0, 6.0], [5.0, 6.0, 7.0]]
    assert until_stopped([5.0, 6.0, 7.0], third) == (5.0, 6.0, 7.0)
    assert len(asked) == 5


def test_a_stopped_trial_comes_back_from_the_ledger(path):
    with Ledger.open(path, "config") as ledger:
        ledger.append(trial(index=3, epochs=3, acc1=[1.0, 2.0], stopped=True))
        ledger.append(trial(index=4, epochs=3, acc1=[1.0, 2.0, 3.0]))
    stopped, whole = read_ledger(path)[3:]
    assert (stopped.status, stopped.stopped, stopped.acc1, stopped.trained) == ("ok", True, [1.0, 2.0], 2)
    assert completed([stopped, whole]) == [whole]
    write_line(path, stopped=True)
    assert read_ledger(path)[1].status == "failed"


def planned(index, **changes):
    """The training of `trial(2, index)` before it is made."""
    names = [field.name for field in dataclasses.fields(Planned)]
    return Planned(**{name: getattr(trial(2, index), name) for name in names} | changes)


def test_accuracies_on_test_images_come_back_and_leave_no_trace_where_there_are_none(path):
    with Ledger.open(path, "config") as ledger:
        ledger.append(trial(index=3, acc1=[1.0, 2.0], epochs=2, test_acc1=[3.0, 4.0]))
        ledger.append(trial(index=4))
    first, second = read_ledger(path)[3:]
    assert (first.test_acc1, second.test_acc1) == ([3.0, 4.0], [])
    assert ["test_acc1" in line for line in path.read_text().splitlines()] == [False] * 4 + [True, False]
    assert fault_of("ok", (1.0, 2.0), 0.0, 2, test_acc1=(3.0, 4.0)) == ""
    assert fault_of("ok", (1.0, 2.0), 0.0, 2, test_acc1=(3.0,)).startswith("there are 1 accuracies for 2 epochs")
    assert fault_of("ok", (1.0, 2.0), 0.0, 2, test_acc1=(3.0, 101)).startswith("the accuracy after epoch 2 is 101")


def test_a_training_that_was_planned_comes_back_before_and_after_it_has_ended(path):
    before = path.read_bytes()
    with Ledger.open(path, "config") as ledger:
        ledger.plan(planned(0, predicted=[80.0, 1.0]))
        ledger.plan(planned(1))
        ledger.append(trial(2, 1))
        assert ledger.planned == [planned(0, predicted=[80.0, 1.0]), planned(1)]
    assert read_ledger(path) == [*(trial(index=i) for i in range(3)), trial(2, 1)]
    with Ledger.open(path, "config") as ledger:
        assert ledger.planned == [planned(0, predicted=[80.0, 1.0]), planned(1)]
        assert ledger.pending == [planned(0, predicted=[80.0, 1.0])]
        assert ledger.trials == read_ledger(path)
    assert path.read_bytes().startswith(before)  # trials are written as before


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (planned(0), "line 6 repeats trial 0 of round 2"),
        (planned(1, candidate=[9, 9]), r"line 6: candidate \[9, 9\] is unknown"),
    ],
)
def test_a_second_plan_for_a_place_and_a_plan_of_another_search_are_refused(path, second, words):
    with Ledger.open(path, "config") as ledger:
        ledger.plan(planned(0))
        ledger.plan(second)

    def fault(one):
        return "candidate [9, 9] is unknown" if one.candidate == [9, 9] else ""

    with pytest.raises(InputError, match=words), Ledger.open(path, "config", fault):
        pass


@pytest.mark.parametrize(
    ("plan", "words"),
    [(5, "line 5"), ({"round": 2}, "line 5: missing key 'index'"), ({"speed": 1}, "line 5: unknown key 'speed'")],
)
def test_a_damaged_plan_is_refused_with_its_line(path, plan, words):
    path.write_text(path.read_text() + json.dumps({"planned": plan}) + "\n")
    with pytest.raises(InputError, match=words):
        read_ledger(path)


@pytest.mark.parametrize(
    ("status", "acc1", "seconds", "words"),
    [
        ("done", (1.0, 2.0), 0.0, "the status is 'done'; allowed: ok, diverged, failed"),
        (["ok"], (1.0, 2.0), 0.0, "the status is ['ok']"),
        (None, (1.0, 2.0), 0.0, "the status is None"),
        ("ok", (1.0, 2.0), NAN, "the seconds are nan; allowed: a number of at least 0"),
        ("ok", (1.0, 2.0), -1, "the seconds are -1"),
        ("ok", (1.0, 2.0), None, "the seconds are None"),
        ("failed", (), INF, "the seconds are inf"),
        ("ok", None, 0.0, "the accuracies are None; allowed: a tuple with a number for every epoch"),
        ("ok", 50.0, 0.0, "the accuracies are 50.0"),
        ("ok", "ab", 0.0, "the accuracies are 'ab'"),
        ("ok", {1: 1.0, 2: 2.0}, 0.0, "the accuracies are {1: 1.0, 2: 2.0}"),
        ("ok", (), 0.0, "there are 0 accuracies for 2 epochs; allowed: one for every epoch"),
        ("ok", (1.0,), 0.0, "there are 1 accuracies for 2 epochs"),
        ("ok", (1.0, 2.0, 3.0), 0.0, "there are 3 accuracies for 2 epochs"),
        ("ok", (1.0, NAN), 0.0, "the accuracy after epoch 2 is nan; allowed: percent, from 0 to 100"),
        ("ok", (INF, 2.0), 0.0, "the accuracy after epoch 1 is inf"),
        ("ok", (1.0, 100.1), 0.0, "the accuracy after epoch 2 is 100.1"),
        ("ok", (-0.1, 2.0), 0.0, "the accuracy after epoch 1 is -0.1"),
        ("ok", (1.0, "2"), 0.0, "the accuracy after epoch 2 is '2'"),
        ("ok", (1.0, None), 0.0, "the accuracy after epoch 2 is None"),
        ("ok", (1.0, True), 0.0, "the accuracy after epoch 2 is True"),
    ],
    ids=str,
)
def test_what_no_training_of_two_epochs_can_give_is_named(status, acc1, seconds, words):
    assert fault_of(status, acc1, seconds, 2).startswith(words)


def write_line(path, **changes):
    """Replace the second trial of a ledger by one with other values, as JSON with NaN and infinities."""
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = json.dumps(json.loads(lines[2]) | changes) + "\n"
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acc1": [NAN, NAN]}, "the accuracy after epoch 1 is nan"),
        ({"acc1": [1.0, -INF]}, "the accuracy after epoch 2 is -inf"),
        ({"acc1": [1.0, 200.0]}, "the accuracy after epoch 2 is 200.0"),
        ({"acc1": []}, "there are 0 accuracies for 2 epochs"),
        ({"acc1": [1.0, 2.0, 3.0]}, "there are 3 accuracies for 2 epochs"),
        ({"seconds": NAN}, "the seconds are nan"),
    ],
    ids=str,
)
def test_a_wrong_outcome_of_an_older_version_is_a_failed_trial_that_may_be_repeated(path, changes, words):
    write_line(path, **changes)
    _, wrong, _ = read_ledger(path)
    assert (wrong.status, wrong.acc1, wrong.seconds) == ("failed", [], 0.0)
    assert wrong.error.startswith(f"recorded wrongly: {words}")
    with Ledger.open(path, "config") as ledger:
        assert ledger.trials == read_ledger(path)
        ledger.append(trial(index=1))
    assert read_ledger(path) == [trial(index=i) for i in range(3)]


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_only_a_training_that_succeeded_has_accuracies(path, status):
    write_line(path, status=status, acc1=[1.0, NAN])
    assert read_ledger(path)[1] == trial(index=1, status=status, acc1=[])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": -1}, "round is -1"),
        ({"index": 2**63}, "index is 9223372036854775808"),
        ({"epochs": 0}, "epochs is 0"),
        ({"candidate": [0, -1]}, "candidate.1 is -1"),
        ({"candidate": [0, 1.0]}, "candidate.1 is 1.0"),
        ({"candidate": 5}, "candidate is 5"),
        ({"flops": 10**400}, "flops is a whole number of 1329 bits"),
        ({"params": -1}, "params is -1"),
        ({"predicted": [1.0]}, r"predicted is \[1.0\]"),
        ({"predicted": [1.0, NAN]}, "predicted.1 is nan"),
        ({"acc1": ["a", 1.0]}, "acc1.0 is 'a'"),
        ({"acc1": [True, 1.0]}, "acc1.0 is True"),
        ({"acc1": None}, "acc1 is None"),
        ({"status": "done"}, "status is 'done'"),
        ({"error": 5}, "error is 5"),
        ({"seconds": "1"}, "seconds is '1'"),
    ],
    ids=str,
)
def test_a_value_that_no_version_wrote_is_refused_with_its_line(path, changes, words):
    write_line(path, **changes)
    with pytest.raises(InputError, match=rf"ledger.jsonl: line 3: {words}"):
        read_ledger(path)
    with pytest.raises(InputError, match=rf"ledger.jsonl: line 3: {words}"), Ledger.open(path, "config"):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([field.name for field in dataclasses.fields(Trial)]), JSON)
def test_any_value_in_a_ledger_gives_trials_that_can_be_used_or_one_line(path, name, value):
    before, refused = path.read_bytes(), None
    try:
        write_line(path, **{name: value})
        trials = read_ledger(path)
    except InputError as error:
        refused = str(error)
    finally:
        path.write_bytes(before)
    if refused is None:
        assert all(fault_of(one.status, one.acc1, one.seconds, one.epochs) == "" for one in trials)
    else:
        # Line 4 is named if line 3 has taken its place.
        assert re.match(rf"{path}: line [34][^\n]*$", refused)


def test_a_trial_of_another_search_is_refused_with_its_line(path):
    def fault(one):
        return f"index {one.index} is too much" if one.index == 2 else ""

    words = r"ledger.jsonl: line 4: index 2 is too much; restore the file, or start in another folder"
    with pytest.raises(InputError, match=words):
        read_ledger(path, fault)
    with pytest.raises(InputError, match=words), Ledger.open(path, "config", fault):
        pass


@pytest.mark.parametrize("header", ["", "{}", '{"ledger": 1, "config": "config"}', "[]"])
def test_a_reader_too_wants_a_header(path, header):
    _, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(f"{header}\n{''.join(rest)}")
    with pytest.raises(InputError, match=r"has another schema|or is damaged"):
        read_ledger(path)


def test_a_failed_trial_is_replaced_at_its_place(path):
    with Ledger.open(path, "config") as ledger:
        ledger.append(trial(2, 0, status="failed", acc1=[], error="lost"))
        ledger.append(trial(2, 1))
        ledger.append(trial(2, 0))
        assert ledger.trials[-2:] == [trial(2, 0), trial(2, 1)]
    assert read_ledger(path)[-2:] == [trial(2, 0), trial(2, 1)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: [*lines[:2], b"garbage\n", *lines[3:]], "line 3 is damaged; restore the file"),
        (lambda lines: [*lines, lines[-1]], "line 5 repeats trial 2 of round 1"),
        (lambda lines: [*lines, b'{"round": 1}\n'], "line 5: missing key 'index'"),
        (lambda lines: [lines[0], lines[1].replace(b'"seed": 3', b'"seed": "3"'), *lines[2:]], "line 2: seed is '3'"),
        (lambda lines: [*lines, b'{"size": 1}\n'], "line 5: unknown key 'size'"),
        (
            lambda lines: [b"\xff\xfe\n", *lines[1:]],
            "another configuration, or is damaged; restore it or the configuration",
        ),
        (
            lambda lines: [lines[0].replace(b"2", b"1", 1), *lines[1:]],
            "another schema, this version reads schema 2; resume",
        ),
    ],
    ids=["no JSON", "repeated", "missing key", "wrong type", "unknown key", "no text", "schema"],
)
def test_a_damaged_ledger_is_refused_and_left_alone(path, damage, words):
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(InputError, match=words), Ledger.open(path, "config"):
        pass
    assert path.read_bytes() == before


def test_another_configuration_is_refused(path):
    with pytest.raises(InputError, match="another configuration"), Ledger.open(path, "other"):
        pass


def test_a_ledger_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(
        InputError, match=r"cannot read the ledger .*absent.*No such file.*; give the folder of a search"
    ):
        read_ledger(tmp_path / "absent")


def hold(path, ready, done):
    """Keep a ledger open. A process of its own runs this."""
    with Ledger.open(path, "config"):
        ready.set()
        done.wait()


def test_a_second_search_is_refused_and_a_killed_one_blocks_nothing(path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(InputError, match="in use by another search"), Ledger.open(path, "config"):
            pass
    finally:
        process.kill()
        process.join()
    with Ledger.open(path, "config") as ledger:
        assert len(ledger.trials) == 3


def test_a_running_search_can_be_watched(path):
    with Ledger.open(path, "config") as ledger:
        ledger.append(trial(2, 0))
        assert read_ledger(path) == ledger.trials


def test_a_full_disk_keeps_what_was_written(path, monkeypatch):
    with Ledger.open(path, "config") as ledger:

        def full(_handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fbnetv3.search.trial.os.fsync", full)
        with pytest.raises(InputError, match="No space left on device; free some space and resume"):
            ledger.append(trial(index=3))
        assert len(ledger.trials) == 3


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="give a folder that can be written"),
        Ledger.open(tmp_path / "file" / "x", "c"),
    ):
        pass
