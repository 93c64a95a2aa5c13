"""Checkpoints of a detector's training: one at a time, complete, and of this training only. No training is needed."""

import math

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError
from fbnetv3.detection import checkpoint
from fbnetv3.detection.checkpoint import LAST, Checkpointer
from tests.detection import coco_data


@pytest.fixture
def make(shared_data, pair, tmp_path):
    """Make a checkpointer of a small model and its optimizer, with changes of the config."""

    def make(value=0.0, **changes):
        model = nn.Linear(2, 1)
        nn.init.constant_(model.weight, value)
        optimizer = torch.optim.SGD(model.parameters(), lr=1 + value, momentum=0.9)
        cfg = coco_data.config(shared_data, pair, tmp_path / "out", **changes)
        return Checkpointer(cfg, model, ("disc", "box"), {"optimizer": optimizer})

    (tmp_path / "out").mkdir()
    return make


def test_the_newest_checkpoint_replaces_the_one_before(make, tmp_path):
    writer = make(value=2.0)
    for step in (2, 4):
        writer.write(step)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {LAST, f"model_{step:07d}.pth"}
        assert (tmp_path / "out" / LAST).read_text() == f"model_{step:07d}.pth"
    content = torch.load(tmp_path / "out" / "model_0000004.pth", weights_only=True)
    assert (content["step"], content["classes"]) == (4, ["disc", "box"])


def test_resuming_restores_everything(make):
    writer = make(value=2.0)
    assert writer.resume(allowed=False) == 0  # there is nothing yet
    writer.write(3)
    reader = make()
    assert reader.resume(allowed=True) == 3
    assert coco_data.same(dict(reader.model.state_dict()), dict(writer.model.state_dict()))
    assert reader.parts["optimizer"].param_groups[0]["lr"] == 3.0


def test_a_training_is_not_overwritten_by_accident(make, tmp_path):
    make().write(3)
    with pytest.raises(InputError, match=r"out already holds a training; resume it, or give another folder"):
        make().resume(allowed=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SOLVER__BASE_LR": 0.02}, "SOLVER.BASE_LR was 0.01 and is 0.02 now"),
        ({"MODEL__FBNETV3__NORM": "SyncBN"}, "MODEL.FBNETV3.NORM was 'BN' and is 'SyncBN' now"),
        ({"SOLVER__STEPS": "(1, 2)"}, r"SOLVER.STEPS was \[30000\] and is \[1, 2\] now"),
    ],
    ids=["rate", "norm", "list"],
)
def test_a_checkpoint_of_another_config_is_refused(make, changes, words):
    make().write(3)
    with pytest.raises(InputError, match=words):
        make(**changes).resume(allowed=True)


@pytest.mark.parametrize(
    "changes",
    [{"DATALOADER__NUM_WORKERS": 3}, {"SOLVER__CHECKPOINT_PERIOD": 7}, {"TEST__EVAL_PERIOD": 5}],
    ids=["workers", "period", "evaluation"],
)
def test_what_does_not_change_the_weights_may_change(make, changes):
    make().write(3)
    assert make(**changes).resume(allowed=True) == 3


def test_a_crash_between_the_two_files_leaves_the_one_before(make, tmp_path, monkeypatch):
    writer = make(value=2.0)
    writer.write(2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.write(4)
    assert make().resume(allowed=True) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": -1}, "it names no step or no config"),
        ({"step": "3"}, "it names no step or no config"),
        ({"identity": "[1]"}, "it names no step or no config"),
        ({"identity": 5}, "is no checkpoint, or is damaged"),
        ({"identity": "{"}, "is no checkpoint, or is damaged"),
        ({"model": 5}, "is no checkpoint, or is damaged"),
        ({"model": {"weight": torch.zeros(7)}}, r"is no checkpoint, or is damaged \(RuntimeError\)"),
        ({"model": {"weight": torch.full((1, 2), math.nan), "bias": torch.zeros(1)}}, "are not finite: weight has NaN"),
        ({"optimizer": [1]}, "is no checkpoint, or is damaged"),
        ({"optimizer": {"state": {}, "param_groups": []}}, r"is no checkpoint, or is damaged \(ValueError\)"),
    ],
)
def test_a_checkpoint_that_was_changed_is_one_line(make, tmp_path, change, words):
    make().write(2)
    path = tmp_path / "out" / "model_0000002.pth"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(InputError, match=words) as error:
        make().resume(allowed=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../other.pth", "/etc/passwd", "", "model_0000002.pth\nx", "x" * 2000])
def test_a_checkpoint_is_a_file_of_its_folder(make, tmp_path, name):
    (tmp_path / "out" / LAST).write_text(name)
    with pytest.raises(InputError, match="last_checkpoint"):
        make().resume(allowed=True)


def test_a_damaged_or_missing_checkpoint_is_one_line(make, tmp_path):
    make().write(2)
    path = tmp_path / "out" / "model_0000002.pth"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model_0000002\.pth is no checkpoint or is damaged") as error:
        make().resume(allowed=True)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="no checkpoint at"):
        make().resume(allowed=True)
