"""Widths, depths and costs of the two networks of Table 1, and that they are torchvision's otherwise."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fbnetv3 import InputError
from fbnetv3.networks import resnets
from fbnetv3.networks.resnets import build_resnet

COSTS = {"resnet18_wide": (22_738_992, 3_437_261_696), "resnet18_deep": (24_230_952, 3_663_761_408)}


def conv_widths(model):
    return [stage[-1].conv2.out_channels for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]


def test_widths_and_depths():
    wide, deep = build_resnet("resnet18_wide"), build_resnet("resnet18_deep")
    assert [wide.conv1.out_channels, *conv_widths(wide)] == [88, 88, 176, 360, 720]
    assert [deep.conv1.out_channels, *conv_widths(deep)] == [64, 64, 128, 256, 512]
    assert [[len(m.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] for m in (wide, deep)] == [[2] * 4, [4] * 4]


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_those_of_the_docstring(name):
    with torch.device("meta"):
        model = build_resnet(name)
        counter = FlopCounterMode(display=False)
        with counter:
            model.eval()(torch.rand(1, 3, 224, 224))
    params, multiply_adds = sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
    assert (params, multiply_adds) == COSTS[name]
    assert f"{name} has {params:,} parameters and {multiply_adds:,} multiply-adds" in " ".join(resnets.__doc__.split())


@pytest.mark.parametrize("base_width", [8, 16, 128])
@pytest.mark.parametrize("name", COSTS)
def test_a_narrower_one_has_every_width_in_proportion(name, base_width):
    with torch.device("meta"):
        full, narrow = build_resnet(name), build_resnet(name, base_width=base_width)
    assert [len(narrow.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [
        len(full.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)
    ]
    pairs = zip(
        [full.conv1.out_channels, *conv_widths(full)], [narrow.conv1.out_channels, *conv_widths(narrow)], strict=True
    )
    assert all(64 * after == base_width * before for before, after in pairs)
    assert narrow.fc.in_features == conv_widths(narrow)[-1]


def test_narrow_ones_by_hand():
    quarter = [22, 44, 90, 180]  # of 88, 176, 360, 720
    assert conv_widths(build_resnet("resnet18_wide", base_width=16)) == quarter
    deep = build_resnet("resnet18_deep", 10, 1, base_width=16)
    assert conv_widths(deep) == [16, 32, 64, 128]
    assert deep(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_at_width_one_and_two_blocks_it_is_torchvisions_resnet18(monkeypatch):
    from torchvision.models import resnet18

    monkeypatch.setitem(resnets.RESNETS, "plain", resnets.ResNetShape(1.0, (2, 2, 2, 2)))
    model, wanted = build_resnet("plain", 10), resnet18(num_classes=10)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in wanted.state_dict().items()}
    model.load_state_dict(wanted.state_dict())
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.eval()(x), wanted.eval()(x))


def test_initialisation_is_torchvisions():
    model = build_resnet("resnet18_wide")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()


def test_other_channels_and_classes():
    assert build_resnet("resnet18_wide", 7, 1)(torch.rand(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18_narrow",), "unknown ResNet 'resnet18_narrow'; .*resnet18_wide"),
        (("resnet18_wide", 0), "num_classes is 0; allowed"),
        (("resnet18_wide", 10, 0.5), "in_chans is 0.5; allowed"),
        (("resnet18_wide", 10, 1, 12), "base_width is 12; allowed: multiples of 8"),
        (("resnet18_wide", 10, 1, 0), "base_width is 0; allowed"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(InputError, match=message):
        build_resnet(*arguments)
