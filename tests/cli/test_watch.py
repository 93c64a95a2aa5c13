"""`fbnetv3 search status | watch | top | diff` as a user meets them."""

import json

import pytest

from fbnetv3.cli import watch
from fbnetv3.files import lock_folder
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line
from tests.search.made_up import make_config, make_result, make_trials, write_search, write_trials

CONFIG = make_config(finalists=2)
TRIALS = make_trials(CONFIG, load_space("micro"), 3)


@pytest.fixture
def stopped(tmp_path):
    """The folder of a search that was stopped in its second round."""
    write_trials(tmp_path / "[b]", CONFIG, TRIALS[:7])
    return tmp_path / "[b]"


def test_the_status_is_one_screen(run, stopped):
    code, out, err = run("search", "status", stopped)
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [line[0] for line in lines] == ["search", "state", "trainings", "best", "time", "next"]
    assert lines[0][1].rstrip() == f"quickstart in {stopped}"
    assert lines[-1][1].rstrip() == f"fbnetv3 search resume {stopped}"


def test_the_status_is_json_for_programs(run, stopped):
    code, out, _ = run("search", "status", stopped, "--json")
    found = json.loads(out)
    assert (code, found["state"], found["methods"][0]["trainings"]) == (0, "stopped", 7)


@pytest.mark.parametrize("command", ["status", "watch", "top"])
def test_no_search_is_one_line(run, tmp_path, command):
    one_line(run("search", command, tmp_path), "no search in")


def test_watching_ends_with_the_search(run, stopped, monkeypatch):
    """Two looks while it runs, with a new training between them; then it has stopped."""
    looks, status = [], watch._status

    def look(folder):
        looks.append(status(folder))
        return looks[-1]

    lock = lock_folder(stopped, "search")
    lock.__enter__()

    def wait(seconds):
        assert seconds == 2.0
        if len(looks) == 1:
            write_trials(stopped, CONFIG, TRIALS[:8])
        else:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(watch, "_status", look)
    monkeypatch.setattr(watch.time, "sleep", wait)
    code, out, _ = run("search", "watch", stopped, "--every", 2)
    assert code == 0
    assert [look.state for look in looks] == ["running", "running", "stopped"]
    assert [look.methods[0].trainings for look in looks] == [7, 8, 8]
    assert "8 of 17 (47%)" in out


def test_ctrl_c_ends_the_watching_silently(run, stopped, monkeypatch):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    with lock_folder(stopped, "search"):
        code, out, err = run("search", "watch", stopped)
    assert (code, err) == (0, "")
    assert "running" in out


def test_the_best_candidates_are_a_table(run, stopped):
    code, out, _ = run("search", "top", stopped, "--measured", "--n", 2)
    assert code == 0
    head, first, second = (line.split() for line in (out.splitlines()[i].strip("┃│") for i in (1, 3, 4)))
    assert [cell for cell in head if cell != "┃"][:4] == ["trial", "measured", "FLOPs", "params"]
    assert [first[0], first[2], second[0], second[2]] == ["1.4", "65.00", "1.2", "64.00"]
    assert "validation accuracies after 2 epochs" in out
    assert "Believed" not in out


def test_the_best_candidates_are_json_for_programs(run, stopped):
    code, out, _ = run("search", "top", stopped, "--n", 3, "--json")
    rows = json.loads(out)
    assert (code, len(rows)) == (0, 3)
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)


def test_before_the_first_training_there_is_no_best_one(run, tmp_path):
    write_trials(tmp_path, CONFIG, [])
    assert run("search", "top", tmp_path)[:2] == (0, "No training has succeeded yet.\n")
    assert json.loads(run("search", "top", tmp_path, "--json")[1]) == []


def test_two_trials_are_compared(run, stopped):
    code, out, _ = run("search", "diff", stopped, "1.4", "2.1")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert code == 0
    assert ["result", "val accuracy", "94", "60"] in cells
    assert ["result", "epochs", "3", "2"] in cells
    assert "other values of architecture and recipe are equal." in out


def test_a_trial_is_compared_with_the_answer(run, tmp_path):
    write_search(tmp_path, CONFIG, [make_result(CONFIG, load_space("micro"), TRIALS)])
    found = json.loads(run("search", "diff", tmp_path, "3.3", "--json")[1])
    assert (found["a"], found["b"]) == ("trial 3.3", "answer")
    assert {"kind": "result", "what": "test accuracy", "a": None, "b": 81.25} in found["rows"]
    assert found["same"] < len(TRIALS[0].candidate) + 20


def test_answers_of_two_searches_are_compared(run, tmp_path):
    for name, count in (("one", 15), ("two", 14)):
        write_search(tmp_path / name, CONFIG, [make_result(CONFIG, load_space("micro"), TRIALS[:count])])
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    found = json.loads(run("search", "diff", one, two, "--json")[1])
    assert (found["a"], found["b"]) == (one, two)
    assert {row["kind"] for row in found["rows"]} == {"result", "architecture", "recipe"}
    one_line(run("search", "diff", one, two, "1.0"), "is a folder, so the answers of both searches are compared")


def test_mistakes_with_a_comparison_are_one_line(run, stopped):
    one_line(
        run("search", "diff", stopped, "1.5", "1.0"),
        "has no trial 1.5; rounds and their indices: 1 (0 to 4), 2 (0 to 1)",
    )
    one_line(
        run("search", "diff", stopped, "best"),
        "'best' is no trial; give ROUND.INDEX, such as 2.0, answer, or the folder",
    )
    one_line(run("search", "diff", stopped, "1.0"), "has not ended: result.json is missing")
