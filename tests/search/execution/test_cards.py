"""Which GPUs there are, and which of them each trial sees."""

import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.search.execution.cards import VISIBLE, device_of, environment, import_path, placements, visible_cards


@pytest.fixture
def cards(monkeypatch):
    """A machine with so many GPUs, of which CUDA_VISIBLE_DEVICES has a value. To use one would fail."""

    def prepare(count, visible=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv(VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)

    return prepare


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [
        (0, None, []),
        (0, "", []),
        (3, None, ["0", "1", "2"]),
        (2, "5,2", ["5", "2"]),
        (1, "4, -1, 2", ["4"]),  # CUDA ignores what follows a wrong number
        (2, "GPU-8932f937-aaaa, GPU-1111", ["GPU-8932f937-aaaa", "GPU-1111"]),
        (1, "MIG-a,MIG-b,MIG-c", ["MIG-a", "MIG-b", "MIG-c"]),  # CUDA shows a process the first part alone
    ],
)
def test_the_gpus_are_those_that_the_user_made_visible(cards, count, visible, expected):
    cards(count, visible)
    assert visible_cards() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "cpu"),
        ({"device": "cpu"}, "cpu"),
        ({"device": "auto"}, "cuda"),
        ({"device": "cuda"}, "cuda"),
        ({"device": torch.device("cuda:1")}, "cuda:1"),
        ({"device": "meta"}, "cpu"),
        ({"device": "the second shelf"}, "cpu"),
    ],
    ids=str,
)
def test_the_device_of_an_evaluator_is_its_attribute(cards, given, expected):
    cards(2)
    assert device_of(SimpleNamespace(**given)) == expected


def test_every_trial_has_a_gpu_of_its_own(cards):
    cards(3, "7,GPU-b,5")
    assert placements("cuda", 1) == [{VISIBLE: "7"}, {VISIBLE: "GPU-b"}, {VISIBLE: "5"}]


def test_processes_that_train_together_have_a_gpu_each(cards):
    cards(5)
    assert placements("cuda", 2) == [{VISIBLE: "0,1"}, {VISIBLE: "2,3"}]
    with pytest.raises(InputError, match="the 6 processes of a trial need 6 GPUs, and there are 5; give --device cpu"):
        placements("cuda", 6)


def test_a_gpu_with_a_number_has_all_trials(cards):
    """The evaluator names the GPU by the number that the search sees, so the process must see the same GPUs."""
    cards(3)
    assert placements("cuda:1", 1) == [{}]
    with pytest.raises(InputError, match="--device cuda:1 is one GPU for 2 processes of a trial; give --device cuda"):
        placements("cuda:1", 2)


@pytest.mark.parametrize(("device", "count"), [("cpu", 4), ("cuda", 0)])
def test_without_a_gpu_there_are_no_places(cards, device, count):
    cards(count)
    assert placements(device, 1) == []


def test_a_process_inherits_another_environment_and_this_one_keeps_its_own(monkeypatch):
    monkeypatch.setenv("FBNETV3_A", "kept")
    monkeypatch.delenv("FBNETV3_B", raising=False)
    with environment({"FBNETV3_A": "new", "FBNETV3_B": "also"}):
        assert (os.environ["FBNETV3_A"], os.environ["FBNETV3_B"]) == ("new", "also")
    assert os.environ["FBNETV3_A"] == "kept"
    assert "FBNETV3_B" not in os.environ
    assert multiprocessing.parent_process() is None


def test_an_error_restores_the_environment(monkeypatch):
    monkeypatch.setenv("FBNETV3_A", "kept")
    with pytest.raises(OSError, match="no process"), environment({"FBNETV3_A": "new"}):
        raise OSError("no process")
    assert os.environ["FBNETV3_A"] == "kept"


def test_other_processes_find_the_same_modules(monkeypatch):
    monkeypatch.setattr("sys.path", ["", "/somewhere"])
    assert import_path() == f"{os.getcwd()}:/somewhere"  # noqa: PTH109
