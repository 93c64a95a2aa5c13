"""Files are complete or not there at all, and reading them runs no code."""

import pickle

import pytest
import torch

from fbnetv3.errors import InputError
from fbnetv3.files import is_file, load_torch, make_folder, save_torch, write_atomically


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
