"""What trainings run on, asked in another process where there is a GPU."""

import json
import subprocess
import sys

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.search.execution import machine
from fbnetv3.search.execution.machine import Machine, answer, find_machine


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs that nobody may use in this process. Holds the answer of the other process, and what it was asked."""
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(
            command, asked.code, "words of a library\n" + json.dumps(asked.answer), "no\nluck"
        )

    class Asked(list):
        answer, code = {"precision": "bf16", "words": "cuda (NVIDIA H200)"}, 0

    asked = Asked()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine.subprocess, "run", run)
    machine._ask.cache_clear()
    yield asked
    machine._ask.cache_clear()


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize(("precision", "found"), [("auto", "fp32"), ("bf16", "bf16")])
def test_without_a_gpu_trainings_run_on_the_cpu(monkeypatch, device, precision, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_machine(device, precision) == Machine("cpu", found, "cpu")


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [
        ("cuda:7", "fp32", "--device cuda:7 cannot be used"),
        ("warp", "fp32", "--device warp cannot"),
        ("cpu", "fp8", "fp8"),
    ],
)
def test_what_is_not_there_is_refused(device, precision, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=words):
        find_machine(device, precision)


def test_another_process_is_asked_about_gpus_once(gpus):
    assert find_machine("auto", "auto") == Machine("cuda", "bf16", "cuda (NVIDIA H200)")
    assert find_machine("cuda", "auto") == find_machine("auto", "auto")
    assert gpus == [[sys.executable, "-m", "fbnetv3.search.execution.machine", "cuda", "auto"]]


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "^no such GPU; give another$"), (1, r"--device cuda cannot be used \(luck\); give auto, cpu")],
)
def test_the_error_of_the_other_process_is_one_line(gpus, code, words):
    gpus.answer, gpus.code = {"error": "no such GPU; give another"}, code
    with pytest.raises(InputError, match=words):
        find_machine("cuda", "auto")


def test_a_cluster_may_have_gpus_that_this_process_has_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_machine("cuda", "auto", elsewhere=True) == Machine("cuda", "fp32", "cuda (GPUs of the Ray cluster)")
    assert find_machine("cuda", "bf16", elsewhere=True).precision == "bf16"
    assert find_machine("auto", "auto", elsewhere=True) == Machine("cpu", "fp32", "cpu")


@pytest.mark.parametrize(
    ("modern", "expected"),
    [
        ({"cuda:0", "cuda:1"}, {"precision": "bf16", "words": "cuda (H200, V100)"}),
        ({"cuda:0"}, {"precision": "fp32", "words": "cuda (H200, V100)"}),
    ],
    ids=["all compute bf16", "one does not"],
)
def test_one_precision_fits_all_gpus(monkeypatch, modern, expected):
    monkeypatch.setattr(machine, "find_device", lambda name: name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(machine, "find_precision", lambda name, card: "bf16" if card in modern else "fp32")
    monkeypatch.setattr(
        machine, "device_words", lambda card: f"{card} ({ {'cuda:0': 'H200', 'cuda:1': 'V100'}[card] })"
    )
    assert answer("cuda", "auto") == expected
    assert answer("cuda:1", "auto")["words"] == "cuda:1 (V100)"


def test_a_real_process_answers():
    """On a machine without a GPU it says why."""
    command = [sys.executable, "-m", "fbnetv3.search.execution.machine", "cuda:77", "auto"]
    environment = {"PYTHONPATH": machine.import_path()}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "--device cuda:77 cannot be used" in json.loads(done.stdout)["error"]
