"""Trainings on CUDA, with one device or two."""

import pytest
import torch

from fbnetv3.training.engine import Engine
from fbnetv3.training.loop import fit
from tests.training.examples import DATA, PLAIN, RECIPE, new_model
from tests.whole.training_worker import finish, result, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
two_devices = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_epoch_is_nearly_that_of_the_cpu(precision):
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0)
    cpu = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1)
    gpu = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, engine=Engine("cuda:0", precision))
    assert gpu.metrics[0].train_loss == pytest.approx(
        cpu.metrics[0].train_loss, rel=1e-3 if precision == "fp32" else 0.1
    )


@two_devices
@pytest.mark.parametrize("sync_bn", [True, False])
def test_two_devices_equal_one_of_the_doubled_batch(tmp_path, sync_bn):
    options = {"device": "cuda", "freeze": not sync_bn, "recipe": PLAIN | {"epochs": 1, "sync_bn": sync_bn}}
    finish(start(tmp_path / "one", options))
    finish(start(tmp_path / "two", options, processes=2))
    one, two = result(tmp_path / "one"), result(tmp_path / "two")
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-3, atol=1e-4, msg=key)
