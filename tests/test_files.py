"""Files are complete or not there at all, and reading them runs no code."""

import argparse
import errno
import fcntl
import pickle
import subprocess
import sys
import threading

import pytest
import torch

from fbnetv3.errors import InputError
from fbnetv3.files import (
    is_file,
    is_locked,
    load_torch,
    lock_folder,
    make_folder,
    refuse_to_overwrite,
    save_torch,
    write_atomically,
)


@pytest.mark.parametrize("content", ["text äöü\n", b"\x00bytes"])
def test_what_is_written_is_there(tmp_path, content):
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.files.os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*file: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_any_text_may_be_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    assert is_file(tmp_path / "file")
    for name in (tmp_path, tmp_path / "absent", "x" * 5000, "a\0b", ""):
        assert not is_file(name)


def test_a_folder_that_cannot_be_written_is_found_at_once(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into .*file: .*; give a folder that can be written"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot write .*give a folder that can be written"):
        write_atomically(tmp_path / "file" / "below", "text")


def test_tensors_come_back(tmp_path):
    save_torch(tmp_path / "good.pt", {"model": torch.arange(3), "epoch": 2})
    content = load_torch(tmp_path / "good.pt", "checkpoint", ("model", "epoch"))
    assert torch.equal(content["model"], torch.arange(3))


class Evil:
    def __reduce__(self):
        return (print, ("evil",))


def test_loading_runs_no_code(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "bare.pt"):
        with pytest.raises(InputError, match="holds more than tensors and plain data"):
            load_torch(tmp_path / name, "checkpoint", ("model",))
    assert capsys.readouterr().out == ""
    load_torch(tmp_path / "evil.pt", "checkpoint", trust=True)
    assert capsys.readouterr().out == "evil\n"


def test_arguments_of_a_training_are_plain_data(tmp_path):
    torch.save({"args": argparse.Namespace(lr=0.1), "w": torch.zeros(1)}, tmp_path / "last.pth.tar")
    assert load_torch(tmp_path / "last.pth.tar", "checkpoint")["args"].lr == 0.1
    torch.save({"args": argparse.Namespace(lr=Evil())}, tmp_path / "evil.pt")
    torch.save({"where": tmp_path}, tmp_path / "path.pt")
    for name, found in (("evil.pt", r"print"), ("path.pt", r"pathlib\.\w*Path")):
        with pytest.raises(InputError, match=rf"{name} holds more than tensors and plain data \(.*{found}\)"):
            load_torch(tmp_path / name, "checkpoint")


def test_the_suffix_does_not_matter(tmp_path):
    for name in ("a.safetensors", "a", "a.pth.tar"):
        save_torch(tmp_path / name, {"w": torch.ones(1)})
        assert load_torch(tmp_path / name, "checkpoint") == {"w": torch.ones(1)}


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(InputError, match="is no checkpoint or is damaged"):
        load_torch(tmp_path / "text.pt", "checkpoint")
    for content in ({"other": 1}, [1]):
        save_torch(tmp_path / "other.pt", content)
        with pytest.raises(InputError, match="is no checkpoint: it needs the entries model"):
            load_torch(tmp_path / "other.pt", "checkpoint", ("model",))
    with pytest.raises(InputError, match=r"no checkpoint at .*absent.pt: no such file"):
        load_torch(tmp_path / "absent.pt", "checkpoint")


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path):
    refuse_to_overwrite(tmp_path / "new", overwrite=False)
    (tmp_path / "old").touch()
    with pytest.raises(InputError, match=r"old exists already; give --overwrite to replace it, or another path"):
        refuse_to_overwrite(tmp_path / "old", overwrite=False)
    refuse_to_overwrite(tmp_path / "old", overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=f"{tmp_path} is a folder; give the path of a file to write"):
            refuse_to_overwrite(tmp_path, overwrite)


HOLD = "import sys; from fbnetv3.files import lock_folder\nwith lock_folder(sys.argv[1], 'run'): print('in'); sys.stdin.read()"


def hold(folder):
    """Start a process that holds the lock of a folder until its input ends, and wait until it has it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    return process


def test_a_folder_that_another_process_uses_is_refused(tmp_path):
    process = hold(tmp_path / "new")
    try:
        message = r"new is in use by another search; wait until that has ended, or give another folder"
        with pytest.raises(InputError, match=message), lock_folder(tmp_path / "new", "search"):
            pass
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]
    finally:
        process.kill()
        process.wait()
    # What a killed process leaves behind is no lock any more.
    assert (tmp_path / "new" / ".lock").exists()
    with lock_folder(tmp_path / "new", "search"):
        pass


def test_a_lock_leaves_nothing_behind(tmp_path):
    with lock_folder(tmp_path / "a" / "b", "search"):
        assert (tmp_path / "a" / "b" / ".lock").is_file()
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "old", tmp_path / "new"):
        with lock_folder(folder, "search"):
            (folder / "file").write_text("")
        assert [path.name for path in folder.iterdir()] == ["file"]
    (tmp_path / "old" / "file").unlink()
    with lock_folder(tmp_path / "old", "search"):
        pass
    assert (tmp_path / "old").is_dir()  # an empty folder of the user stays


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(ValueError, match="wrong"), lock_folder(tmp_path, "search"):
        raise ValueError("wrong")
    with lock_folder(tmp_path, "search"):
        pass


def test_a_lock_that_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def removed_first(handle, how):
        if not calls:  # the process before ends between the opening of its file and the lock
            (tmp_path / ".lock").unlink()
        calls.append(how)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with lock_folder(tmp_path, "search"):
        assert len(calls) == 2
        assert (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def no_locks(_handle, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock_folder(tmp_path, "search"):
        (tmp_path / "file").write_text("")
    assert "cannot be locked (No locks available)" in caplog.text


def test_a_lock_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match=r"cannot lock .*\.lock: Is a directory; remove it"):
        lock_folder(tmp_path, "search").__enter__()


def test_others_see_whether_a_folder_is_locked(tmp_path):
    assert is_locked(tmp_path / "absent") is False
    with lock_folder(tmp_path, "search"):
        assert is_locked(tmp_path) is True
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert is_locked(tmp_path) is False
    (tmp_path / ".lock").write_text("")  # of a process that was killed
    assert is_locked(tmp_path) is False


def test_a_look_at_a_lock_keeps_nobody_out(tmp_path):
    (tmp_path / ".lock").write_text("")
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.01, looking.close).start()
        with lock_folder(tmp_path, "search"):
            assert is_locked(tmp_path) is True


def test_without_locks_nobody_can_say_whether_a_folder_is_used(tmp_path, monkeypatch):
    def no_locks(_handle, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".lock").write_text("")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert is_locked(tmp_path) is None
