import json
import multiprocessing

import pytest

from fbnetv3 import InputError
from fbnetv3.search.trial import Ledger, Trial, comparable, read_ledger


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
    path = tmp_path / "run" / "ledger.jsonl"
    with Ledger.open(path, "config") as ledger:
        for i in range(3):
            ledger.append(trial(index=i))
    return path


def test_what_is_appended_is_read_again(path):
    assert read_ledger(path) == [trial(index=i) for i in range(3)]
    with Ledger.open(path, "config") as ledger:
        assert ledger.trials == read_ledger(path)
        ledger.append(trial(2, 0, predicted=[80.0, 1.0], status="diverged", acc1=[]))
    assert read_ledger(path)[-1].predicted == [80.0, 1.0]


def test_a_line_cut_anywhere_by_a_crash_is_dropped_and_nothing_else(path):
    whole = path.read_bytes()
    start = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert len(read_ledger(path)) == 2
        with Ledger.open(path, "config") as ledger:
            assert len(ledger.trials) == 2
            ledger.append(trial(index=2))
        assert path.read_bytes() == whole


def test_a_cut_header_begins_anew(path):
    path.write_bytes(path.read_bytes()[:7])
    with Ledger.open(path, "config") as ledger:
        assert ledger.trials == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: [*lines[:2], b"garbage\n", *lines[3:]], "line 3 is damaged; restore the file"),
        (lambda lines: [*lines, lines[-1]], "line 5 repeats trial 2 of round 1"),
        (lambda lines: [*lines, b'{"round": 1}\n'], "line 5: missing key 'index'"),
        (lambda lines: [lines[0], lines[1].replace(b'"seed": 3', b'"seed": "3"'), *lines[2:]], "line 2: seed is '3'"),
        (lambda lines: [b"\xff\xfe\n", *lines[1:]], "another configuration, or is damaged"),
    ],
)
def test_damage_is_refused_and_the_file_left_alone(path, damage, words):
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(InputError, match=words), Ledger.open(path, "config"):
        pass
    assert path.read_bytes() == before


def test_another_configuration_is_refused(path):
    with pytest.raises(InputError, match="another configuration"), Ledger.open(path, "other"):
        pass


def hold(path, ready, done):
    with Ledger.open(path, "config"):
        ready.set()
        done.wait()


def test_a_second_driver_is_refused_and_a_dead_one_holds_nothing(path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, ready, done))
    process.start()
    assert ready.wait(60)
    with pytest.raises(InputError, match="in use by another search"), Ledger.open(path, "config"):
        pass
    process.kill()
    process.join()
    with Ledger.open(path, "config") as ledger:
        assert len(ledger.trials) == 3


def test_a_full_disk_keeps_what_was_written(path, monkeypatch):
    with Ledger.open(path, "config") as ledger:

        def full(_handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fbnetv3.search.trial.os.fsync", full)
        with pytest.raises(InputError, match="No space left on device; make room and resume"):
            ledger.append(trial(index=3))
        assert len(ledger.trials) == 3


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="give a folder that can be written"),
        Ledger.open(tmp_path / "file" / "x", "c"),
    ):
        pass


def test_comparison_ignores_order_and_time_only():
    a, b = [trial(1, 0), trial(1, 1)], [trial(1, 1, seconds=9.0), trial(1, 0)]
    assert comparable(a) == comparable(b)
    assert comparable(a) != comparable([trial(1, 0), trial(1, 1, acc1=[10.0, 20.6])])
    assert json.dumps(comparable(a))
