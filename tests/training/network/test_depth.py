"""The layers of networks against timm's, by hand, and the stages that can be frozen."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torchvision.models import resnet18, vgg11
from torchvision.models.vision_transformer import VisionTransformer

from fbnetv3 import InputError, build_model
from fbnetv3.training.network.depth import freeze_stages, learning_rate_scales
from tests.training.examples import ARCH


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)


def plain():
    stages = (nn.Sequential(Block(), Block()), nn.Sequential(Block()))
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), *stages, nn.Flatten(), nn.Linear(2, 2))


@pytest.mark.parametrize("make", [lambda: build_model(ARCH, 10), lambda: timm.create_model("test_efficientnet")])
def test_scales_are_timms_where_a_network_says_what_its_layers_are(make):
    model = make()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    theirs = {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    assert learning_rate_scales(model, 0.7) == pytest.approx(theirs)
    assert len(set(theirs.values())) > 3


def test_scales_of_another_network_by_hand():
    scales = learning_rate_scales(plain(), 0.5)
    by_layer = {name.rpartition(".")[0]: scale for name, scale in scales.items()}
    assert by_layer == {
        "0": 1 / 16,
        "1": 1 / 16,  # a norm belongs to the layer before it
        "2.0.conv": 1 / 8,
        "2.0.norm": 1 / 8,
        "2.1.conv": 1 / 4,
        "2.1.norm": 1 / 4,
        "3.0.conv": 1 / 2,
        "3.0.norm": 1 / 2,
        "5": 1.0,
    }
    assert set(scales) == set(dict(plain().named_parameters()))


def test_layers_of_torchvisions_networks():
    scales = learning_rate_scales(resnet18(), 0.5)
    assert (scales["conv1.weight"], scales["bn1.weight"]) == (0.5**9, 0.5**9)
    assert (scales["layer1.0.conv1.weight"], scales["layer4.1.bn2.bias"], scales["fc.bias"]) == (0.5**8, 0.5, 1.0)
    with torch.device("meta"):
        transformer = VisionTransformer(32, 8, 3, 2, 64, 64, num_classes=5)
    scales = learning_rate_scales(transformer, 0.5)  # its encoder is most of it, and no layer
    before = ("class_token", "conv_proj.weight", "encoder.pos_embedding")
    assert {scales[name] for name in before} == {0.5**4}
    assert scales["encoder.layers.encoder_layer_0.mlp.0.weight"] == 0.5**3
    assert (scales["encoder.ln.weight"], scales["heads.head.weight"]) == (0.5, 1.0)


def test_one_layer_has_no_layer_decay():
    with pytest.raises(
        InputError, match=r"layer_decay is 0\.5, but Linear has one layer only; set layer_decay to 1\.0"
    ):
        learning_rate_scales(nn.Linear(2, 2), 0.5)


@pytest.mark.parametrize(
    ("make", "count", "names", "open_name"),
    [
        (lambda: build_model("fbnetv3_a0", 5), 2, ("stem", "stages.0", "stages.1"), "stages.2.0.expand.conv.weight"),
        (
            lambda: timm.create_model("test_efficientnet"),
            1,
            ("conv_stem", "bn1", "blocks.0"),
            "blocks.1.0.conv_exp.weight",
        ),
        (resnet18, 1, ("conv1", "bn1", "layer1"), "layer2.0.conv1.weight"),
        (plain, 2, ("0", "1", "2", "3"), "5.weight"),
    ],
)
def test_the_stem_and_the_first_stages_are_frozen(make, count, names, open_name):
    model = make()
    frozen = freeze_stages(model, count)
    assert frozen.names == names
    assert frozen.modules == tuple(model.get_submodule(name) for name in names)
    held = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert held == {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{n}." for n in names))}
    assert open_name not in held
    assert frozen.parameters == sum(parameter.numel() for module in frozen.modules for parameter in module.parameters())


def test_what_is_frozen_is_said_in_one_line():
    assert str(freeze_stages(plain(), 1)) == "0, 1, 2 (66.7% of 48 parameters)"


@pytest.mark.parametrize(
    ("make", "count", "message"),
    [
        (lambda: build_model("fbnetv3_a0"), 9, "frozen_stages is 9, but FBNetV3 has 5 stages .*; allowed: 0 to 5"),
        (plain, 3, "frozen_stages is 3, but Sequential has 2 stages before its classifier; allowed: 0 to 2"),
        (vgg11, 1, "VGG has no stages that could be told apart; allowed: 0 to 0"),
    ],
)
def test_a_network_with_fewer_stages_is_refused_and_not_changed(make, count, message):
    with torch.device("meta"):
        model = make()
    with pytest.raises(InputError, match=message):
        freeze_stages(model, count)
    assert all(parameter.requires_grad for parameter in model.parameters())
