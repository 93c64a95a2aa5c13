"""What cannot run is one line before the first step, and what can run is left as it is."""

import copy
import re

import pytest
import torch
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.training.data.load import load_data
from fbnetv3.training.dry_run import check_network
from fbnetv3.training.engine import Engine
from fbnetv3.training.loop import fit
from tests.training.data.examples import make_folder
from tests.training.examples import DATA, RECIPE, new_model, same

CPU = torch.device("cpu")


def test_a_network_is_left_as_it_is():
    model = new_model()
    before, generator = copy.deepcopy(model), torch.get_rng_state()
    check_network(model, DATA, 50, CPU)
    assert same(model, before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training == before.training


def test_images_that_are_too_small_for_the_network(tmp_path):
    data = load_data(str(make_folder(tmp_path / "set", (("train", 2), ("val", 1)))), resolution=16)
    message = (
        r"cannot train on 4 images at once, of 3 x 16 x 16 values \(.*\); give another resolution, or a network for"
    )
    with pytest.raises(InputError, match=message):
        check_network(build_model("fbnetv3_f", 3), data, 4, CPU)


def test_images_with_other_channels():
    with pytest.raises(InputError, match=r"of 1 x 28 x 28 values \(.*expected.* 3 channels, but got 1 channels"):
        check_network(build_model("fbnetv3_a0", 10), DATA, 4, CPU)


def one_value():
    return nn.Sequential(nn.Conv2d(1, 4, 28), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize(("batch", "parts"), [(4, 4), (50, 50)])
def test_a_batch_norm_with_one_value_per_channel(tmp_path, batch, parts):
    recipe = RECIPE.replace(batch_size=batch, dropout=0.0, stochastic_depth=0.0)
    words = (
        "the network cannot train on 1 images at once, of 1 x 28 x 28 values (Expected more than 1 value per channel"
    )
    with pytest.raises(
        InputError, match=re.escape(words) + ".*give a larger batch_size, a smaller accumulate, or larger"
    ):
        fit(one_value(), recipe, DATA, out=tmp_path / "out", engine=Engine(accumulate=parts))
    assert not (tmp_path / "out").exists()
    check_network(one_value(), DATA, 2, CPU)


def test_what_cannot_be_copied_is_not_checked():
    class Single(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("there is only one")

    check_network(Single(), DATA, 4, CPU)


def test_mistakes_in_the_code_of_a_network_keep_their_traceback():
    class Wrong(nn.Module):
        def forward(self, x):
            return x.nothing

    with pytest.raises(AttributeError):
        check_network(Wrong(), DATA, 4, CPU)


def test_an_operation_that_is_not_deterministic_is_no_fault_of_the_images():
    model = new_model()

    def refuse(*_):
        raise RuntimeError("put_ does not have a deterministic implementation, but you set ...")

    model.register_forward_pre_hook(refuse)
    with pytest.raises(InputError, match="deterministic is on, but put_ does not have"):
        fit(model, RECIPE, DATA, engine=Engine(deterministic=True))


def test_the_default_device_of_the_user_does_not_matter():
    model = new_model()
    with torch.device("meta"):
        check_network(model, DATA, 50, CPU)
