"""What every source of networks does with the rates, modules instead of names, and mistakes. Most networks have no memory."""

import math
import sys

import pytest
import torch
from torch import nn

from fbnetv3 import InputError
from fbnetv3.training.network.factory import build
from fbnetv3.training.network.stochastic_depth import stochastic_depth_rates
from tests.training.network.examples import Counted, Net, hooks, lin, rates

# (name, dropout, stochastic depth, its largest rate)

BY_NAME = [
    ("fbnetv3_a", "0.2, the model's argument dropout", "0.3, the model's argument stochastic_depth", 0.3 * 27 / 29),
    ("resnet18_deep", "0.2, wrapper before fc", "0.3, wrapper on 16 residual branches", 0.3 * 15 / 16),
    ("timm:resnet18", "0.2, the model's argument drop_rate", "0.3, the model's argument drop_path_rate", 0.3),
    (
        "timm:efficientnet_b0",
        "0.2, the model's argument drop_rate",
        "0.3, the model's argument drop_path_rate",
        0.28125,
    ),
    (
        "timm:vit_tiny_patch16_224",
        "0.2, the model's argument drop_rate",
        "0.3, the model's argument drop_path_rate",
        0.3,
    ),
    ("timm:convnext_atto", "0.2, the model's argument drop_rate", "0.3, the model's argument drop_path_rate", 0.3),
    ("timm:densenet121", "0.2, the model's argument drop_rate", "not applied: no residual branch found", None),
    ("timm:convmixer_768_32", "0.2, the model's argument drop_rate", "0.3, wrapper on 32 residual", 0.3 * 31 / 32),
    ("torchvision:resnet18", "0.2, wrapper before fc", "0.3, wrapper on 8 residual branches", 0.3 * 7 / 8),
    ("torchvision:resnext50_32x4d", "0.2, wrapper before fc", "0.3, wrapper on 16 residual branches", 0.3 * 15 / 16),
    ("torchvision:mobilenet_v2", "0.2, the model's argument dropout", "0.3, wrapper on 10 residual branches", 0.27),
    # Takes stochastic_depth_prob, and ignores it:
    ("torchvision:mobilenet_v3_small", "0.2, the model's argument dropout", "0.3, wrapper on 6 residual", 0.25),
    ("torchvision:densenet121", "0.2, wrapper before classifier", "not applied: no residual branch found", None),
    ("torchvision:alexnet", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    ("torchvision:squeezenet1_1", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    ("torchvision:googlenet", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    (
        "torchvision:efficientnet_b0",
        "0.2, the model's argument dropout",
        "0.3, the model's argument stochastic_depth_prob",
        0.28125,
    ),
    # Takes dropout, and ignores it:
    ("torchvision:convnext_tiny", "0.2, wrapper before classifier.2", "0.3, the model's argument stochastic_dep", 0.3),
    # Its presets fix the argument, and its dropout is another:
    ("torchvision:swin_t", "0.2, wrapper before head", "0.3, set on 12 stochastic depths of the model", 0.275),
    ("torchvision:vit_b_32", "0.2, wrapper before heads.head", "0.3, wrapper on 24 residual branches", 0.3 * 23 / 24),
]


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


@pytest.mark.parametrize(("name", "dropout", "depth", "largest"), BY_NAME)
def test_what_a_model_gets(name, dropout, depth, largest):
    with torch.device("meta"):
        built = build(name, rates(0.2, 0.3), 7)
    assert built.dropout == dropout
    assert built.stochastic_depth.startswith(depth)
    branch_rates = stochastic_depth_rates(built.model).values()
    assert max(branch_rates, default=0.0) == pytest.approx(largest or 0.0)
    dropouts = {m.p for m in built.model.modules() if isinstance(m, nn.Dropout)}
    assert dropouts <= ({0.0} if "wrapper" in dropout else {0.0, 0.2})  # not also inside the blocks
    assert built.summary().splitlines()[0] == f"model: {built.name}"


@pytest.mark.parametrize(
    "name", ["timm:convnext_atto", "torchvision:alexnet", "torchvision:convnext_tiny", "torchvision:swin_t"]
)
def test_a_rate_of_zero_switches_the_models_default_off(name):
    with torch.device("meta"):
        built = build(name, rates(), 7)
    assert (built.dropout, built.stochastic_depth) == ("off", "off")
    assert not any(stochastic_depth_rates(built.model).values())
    assert not any(m.p for m in built.model.modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize(
    "name", ["timm:resnet10t", "torchvision:resnet18", "resnet18_wide", "torchvision:shufflenet_v2_x0_5"]
)
def test_models_train_on_other_classes_and_channels(name):
    built = build(name, rates(0.2, 0.3), 7, 1)
    out = built.model.train()(torch.rand(2, 1, 32, 32))
    assert out.shape == (2, 7)
    out.sum().backward()
    if name.startswith("torchvision"):
        assert "conv1" in built.notes[0]
        assert "replaced by one for 1 channels" in built.notes[0]


def test_the_new_stem_has_the_std_of_the_old_one():
    stem = build("torchvision:resnet18", rates(), 7, 5).model.conv1
    assert (stem.in_channels, stem.stride, stem.padding, stem.bias) == (5, (2, 2), (3, 3), None)
    assert stem.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)


def test_torchvisions_classifiers_beside_the_main_one_are_left_out():
    with torch.device("meta"):
        built = build("torchvision:googlenet", rates(), 7)
        assert built.model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    assert built.notes == ("without its auxiliary classifiers, so that it returns logits alone",)


def make_custom(num_classes, width=4):
    return Counted(width)


def not_a_model(num_classes):
    return num_classes


def with_a_bug(num_classes):
    raise TypeError("a bug in the user's code")


@pytest.fixture
def custom_models(monkeypatch):
    monkeypatch.setitem(sys.modules, "custom_models", sys.modules[__name__])


def test_a_custom_model_by_module_and_name(custom_models):
    built = build("custom_models:make_custom", rates(stochastic_depth=0.3), 7, 1, width=3)
    assert built.name == "custom_models:make_custom"
    assert built.stochastic_depth == "0.3, wrapper on 3 residual branches (linear in depth up to 0.2)"
    assert built.notes == ("custom_models:make_custom has no argument in_chans: the callable decides",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("custom_models:nothing", "no attribute 'nothing'"),
        ("no_such_module:net", "No module named 'no_such_module'"),
        ("custom_models:not_a_model", r"returned a int, not a torch\.nn\.Module"),
        ("custom_models:Counted.forward", "missing a required argument"),
    ],
)
def test_a_custom_model_that_cannot_be_built(custom_models, name, message):
    with pytest.raises(InputError, match=message):
        build(name, rates(), 7)


def test_a_bug_in_a_custom_model_keeps_its_traceback(custom_models):
    with pytest.raises(TypeError, match="a bug in the user's code"):
        build("custom_models:with_a_bug", rates(), 7)
