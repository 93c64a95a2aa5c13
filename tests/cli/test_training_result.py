"""What a training leaves behind. tests/cli/test_train.py measures it through the command."""

import dataclasses

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.cli.training_plan import Plan
from fbnetv3.cli.training_result import keep_other_weights, measured, memory_advice, save_weights, weights_path
from fbnetv3.files import load_torch
from fbnetv3.training.accuracy import measure
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.weight_file import read_weight_file
from tests.training.examples import ARCH, DATA, RECIPE, first, new_model

FEW = dataclasses.replace(DATA, test=first(DATA.val, 20))


def plan(out):
    return Plan(new_model, RECIPE, FEW, "fashion_mnist", "fbnetv3_a", 0, out)


def test_weights_of_another_command_are_kept(tmp_path):
    keep_other_weights(tmp_path)
    weights_path(plan(tmp_path)).touch()
    with pytest.raises(InputError, match=r"weights.pt is not of a training in this folder, and would be overwritten"):
        keep_other_weights(tmp_path)
    (tmp_path / "checkpoint.pt").touch()  # the weights are of this training
    keep_other_weights(tmp_path)


def test_networks_of_this_package_are_described_and_others_are_not(tmp_path):
    file = read_weight_file(save_weights(new_model(), plan(tmp_path)))
    assert (file.arch, file.classes) == (ARCH, DATA.classes)
    other = torch.nn.Linear(2, 2)
    state = load_torch(save_weights(other, plan(tmp_path)), "weights")
    assert torch.equal(state["weight"], other.weight)


def test_the_accuracy_is_that_of_the_test_images(tmp_path):
    model = new_model()
    row = measured(model, plan(tmp_path), tmp_path / "weights.pt", None, ProcessRank(), "cpu")
    expected = measure(model, FEW, "test")
    assert row == {"test_acc1": expected.acc1, "test_acc5": expected.acc5}


def test_what_needs_less_memory():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
    )
    assert memory_advice(error, "cuda:0").startswith(
        "the training needs more memory than cuda:0 has (CUDA out of memory); give a larger --accumulate"
    )
