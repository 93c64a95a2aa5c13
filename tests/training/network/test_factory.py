"""Which network a name means, modules instead of names, and mistakes."""

import pytest
import torch
from torch import nn

from fbnetv3 import InputError
from fbnetv3.training.network.factory import build
from fbnetv3.training.network.stochastic_depth import stochastic_depth_rates
from tests.training.network.examples import Counted, Net, hooks, lin, rates


def test_a_bare_name_is_looked_up_in_order_and_the_summary_says_so():
    with torch.device("meta"):
        ours, timms = build("fbnetv3_b", rates(), 7), build("resnet18", rates(), 7)
        theirs = build("mnasnet0_5", rates(), 7)
    assert (ours.name, timms.name, theirs.name) == ("fbnetv3:fbnetv3_b", "timm:resnet18", "torchvision:mnasnet0_5")
    assert ours.notes == ("timm has a network of this name too: timm:fbnetv3_b",)
    assert "note: torchvision has a network of this name too: torchvision:resnet18" in timms.summary()
    assert theirs.notes == ()


def test_case_does_not_matter_in_names_of_this_package():
    with torch.device("meta"):
        assert build("FBNetV3_A", rates(), 7).name == "fbnetv3:FBNetV3_A"


def test_a_module_is_changed_in_place_and_keeps_its_classes():
    model = Counted()
    built = build(model, rates(0.25, 0.4))
    assert built.model is model
    assert (built.name, built.dropout) == ("Counted", "0.25, wrapper before fc")
    assert max(stochastic_depth_rates(model).values()) == pytest.approx(0.3)
    assert build(model, rates(0.1, 0.4), 1000, 1).model(torch.zeros(2, 4, 1, 1)).shape == (2, 4)
    build(model, rates())
    assert not hooks(model)
    with pytest.raises(InputError, match="width given with a module, which is built already; leave them out"):
        build(model, rates(), width=3)


def test_strict_holds_for_names_and_modules():
    plain = Net(lambda s, x: s.fc(s.f(x)), f=lin(), fc=lin())
    with pytest.raises(InputError, match="stochastic depth: not applied: no residual branch found"):
        build(plain, rates(0.0, 0.1), strict=True)
    with torch.device("meta"), pytest.raises(InputError, match="cannot be applied to this model completely"):
        build("torchvision:alexnet", rates(0.0, 0.1), 7, strict=True)
    assert not build(nn.Sequential(nn.Linear(4, 2)), rates(0.2, 0.1)).complete


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnet51"}, "unknown model 'resnet51' in fbnetv3, timm, torchvision; did you mean .*resnet50"),
        ({"model": "timm:resnet5O"}, "unknown model 'resnet5O' in timm; did you mean .*resnet50"),
        ({"model": "torchvision:qqqqq"}, "in torchvision; give timm:NAME, torchvision:NAME or MODULE:CALLABLE"),
        ({"model": "resnet18_wid"}, "did you mean resnet18_wide"),
        ({"model": 3}, r"model is 3; give the name of a network, or a torch\.nn\.Module"),
        (
            {"model": "resnet18", "num_classes": None},
            "num_classes is missing; give the number of classes for resnet18",
        ),
        ({"model": "timm:resnet18", "widht": 2}, "timm:resnet18 does not take an argument that was given: .*'widht'"),
        ({"model": "torchvision:resnet18", "widht": 2}, "does not take an argument that was given: .*'widht'"),
        ({"model": "torchvision:resnet18", "in_chans": 0}, "in_chans is 0; allowed"),
    ],
)
def test_mistakes(arguments, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        build(**{"recipe": rates(), "num_classes": 7} | arguments)
