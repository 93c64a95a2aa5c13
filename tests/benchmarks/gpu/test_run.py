"""The driver of the parts: time limits, what is kept of a stopped part, exit codes, and the table at the end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fbnetv3.benchmarks.gpu import run
from fbnetv3.benchmarks.gpu.run import PARTS, main
from tests.places import ROOT

VALUES = {"cases": {"a": {}, "b": {}}, "failed": {}, "not_reached": ["c"]}


@pytest.fixture
def part(monkeypatch):
    """Replace the command of a part by a Python script. FILE in it is the result file, VALUES good values."""

    def replace(script):
        def command(name, file, options):
            text = script.replace("WRITE", "open(FILE, 'w').write(json.dumps({'values': VALUES}))")
            head = f"import json, sys, time\nFILE, VALUES = {str(file)!r}, {VALUES!r}\n"
            return [sys.executable, "-c", head + text]

        monkeypatch.setattr(run, "command_of_part", command)

    monkeypatch.setattr(run, "START", 0.5)
    return replace


def call(tmp_path, *more, seconds="60"):
    return main(["tests", "--seconds", seconds, "--out", str(tmp_path), *more])


def test_a_part_that_ends(part, tmp_path, capsys):
    part("WRITE")
    assert call(tmp_path) == 0
    assert "done; 2 cases, 1 not reached" in capsys.readouterr().out
    # The same command does not replace the file that is there now.
    assert call(tmp_path) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert call(tmp_path, "--overwrite") == 0


def test_a_part_that_fails_is_told_by_its_exit_code(part, tmp_path, capsys):
    part("WRITE; sys.exit(3)")
    assert call(tmp_path) == 1
    assert "failed, exit code 3; 2 cases" in capsys.readouterr().out


def test_a_part_with_failed_cases(part, tmp_path, capsys):
    part("VALUES['failed'] = {'b': 'out of memory'}; WRITE")
    assert call(tmp_path) == 1
    assert "failed cases; 2 cases, 1 failed" in capsys.readouterr().out


def test_an_old_file_is_no_result(part, tmp_path, capsys):
    (tmp_path / "gpu_tests.json").write_text(json.dumps({"values": VALUES}))
    part("pass")
    assert call(tmp_path, "--overwrite") == 1
    assert "no case was measured" in capsys.readouterr().out


def test_a_part_is_stopped_by_the_time_limit_and_keeps_its_file(part, tmp_path, capsys):
    part("WRITE; time.sleep(60)")
    begin = time.monotonic()
    assert call(tmp_path, seconds="2") == 0
    assert time.monotonic() - begin < 20
    assert "stopped by the time limit; 2 cases" in capsys.readouterr().out


def test_a_part_that_does_not_hear_is_killed(part, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LAST_WORD", 0.2)
    part("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); WRITE; time.sleep(60)")
    begin = time.monotonic()
    assert call(tmp_path, seconds="2") == 0
    assert time.monotonic() - begin < 20


STOPPED = """
import sys
from fbnetv3.benchmarks.gpu import run

CHILD = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(60)"
run.command_of_part = lambda name, file, options: [sys.executable, "-c", CHILD, sys.argv[1]]
sys.exit(run.main(["tests", "--seconds", "60", "--out", sys.argv[2]]))
"""


def test_a_stopped_run_leaves_nothing_running(tmp_path):
    """In a process of its own: the signal would end the test."""
    pid, environment = tmp_path / "pid", os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STOPPED, str(pid), str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)  # `timeout` sends it; it is treated as Ctrl-C
        assert process.wait(30) == 130
        assert b"stopped; no case was measured" in process.stdout.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_command_of_a_part(tmp_path):
    options = run._parser().parse_args(["tests", "--seconds", "60", "--device", "cpu", "--tiny", "--data", "DIR"])
    words = run.command_of_part("tests", tmp_path / "a.json", options)
    assert words[1:] == [
        *("-m", "fbnetv3", "benchmark", "gpu-tests", "--seconds", "60", "--device", "cpu"),
        *("--out", str(tmp_path / "a.json"), "--overwrite", "--quick"),
    ]
    assert run.command_of_part("search", tmp_path / "a.json", options)[-2:] == ["--data", "DIR"]


@pytest.mark.slow  # every part imports the package
def test_a_rehearsal_of_all_parts(tmp_path):
    command = [
        "bash",
        str(ROOT / "benchmarks" / "gpu" / "run.sh"),
        *PARTS,
        "--seconds",
        "120",
        "--device",
        "cpu",
        "--tiny",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"gpu_{part}.json" for part in PARTS)
