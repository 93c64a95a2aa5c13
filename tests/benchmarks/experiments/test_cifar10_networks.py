"""The networks of the CIFAR-10 benchmark by hand: sizes, strides, maps and costs."""

import pytest
from torch import nn

from fbnetv3.arch import ARCHS, find_arch
from fbnetv3.benchmarks.experiments import cifar10_networks as networks
from fbnetv3.complexity import parts
from fbnetv3.errors import InputError


def test_resolutions_by_hand():
    assert networks.scaled_resolution(176) == 32  # never below the base
    # 32 x 248 / 224 = 35.43, 264: 37.71, 272: 38.86, 320: 45.71
    found = {name[-1]: networks.cifar_arch(name).resolution for name in ARCHS}
    assert found == {"a": 32, "b": 35, "c": 35, "d": 35, "e": 38, "f": 39, "g": 46}


@pytest.mark.parametrize("name", [*ARCHS, "fbnetv3_a0"])
def test_only_the_first_strided_block_after_the_stem_loses_its_stride(name):
    released, found = find_arch(name), networks.cifar_arch(name)
    assert found.name == f"{name}_cifar"
    assert [row.s for row in found.rows if row.s > 1] == [2, 2, 2]
    assert (found.stem.s, found.stages[1][0].s, released.stages[1][0].s) == (2, 1, 2)
    assert found.stages[1][1:] == released.stages[1][1:]
    assert (found.stages[0], *found.stages[2:]) == (released.stages[0], *released.stages[2:])


def test_maps_by_hand():
    # 5x5 with padding 1 and stride 2: (8 + 2 - 5) // 2 + 1 = 3; 3x3 with padding 0: (3 - 3) // 2 + 1 = 1
    assert [part.side for part in parts(networks.cifar_arch("fbnetv3_a"))][:6] == [16, 16, 16, 8, 3, 1]
    assert [part.side for part in parts(networks.cifar_arch("fbnetv3_a_same_padding"))][:6] == [16, 16, 16, 8, 4, 2]


def test_a_baseline_loses_its_second_stride_and_no_other():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, 2))
    networks.without_second_stride(model)
    assert [layer.stride for layer in model] == [(2, 2), (1, 1), 1, (2, 2)]
    with pytest.raises(InputError, match="1 layers of stride two"):
        networks.without_second_stride(nn.Sequential(nn.Conv2d(3, 4, 3, 2)))


@pytest.mark.parametrize(
    ("name", "side"),
    [("torchvision:resnet18", 32), ("torchvision:efficientnet_b1", 34), ("timm:tf_efficientnet_b1", 34)],
)
def test_baselines_are_scaled_by_their_own_inputs(name, side):
    network = networks.find_network(name)
    assert (network.name, network.resolution) == (name, side)


def test_resnet18_by_hand():
    # Stem 7x7: 16 x 16. Stages of 64..512 channels on 16, 8, 4, 2: each later one has half of its first convolution's
    # inputs and a 1x1 shortcut, which together are (0.5 + 3 + 0.5 / 9) x 9 x c x c x side x side.
    conv = 3 * 64 * 49 * 16**2 + 4 * 9 * 64 * 64 * 16**2
    conv += sum(
        9 * c * c * side * side * 7 // 2 + c * c // 2 * side * side for c, side in ((128, 8), (256, 4), (512, 2))
    )
    flops, params = networks.count_flops(networks.find_network("torchvision:resnet18"), 10)
    assert flops == conv + 512 * 10
    assert params == 11_689_512 - 513_000 + 5_130  # torchvision's count for 1000 classes, with a classifier of 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fbnetv3_z", "unknown model 'fbnetv3_z'"),
        ("torchvision:no_such", "unknown model 'no_such'"),
        ("torchvision:regnet_y_400mf", "does not run at 32 pixels"),
        ("torchvision:vit_b_16", "0 layers of stride two"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        networks.find_network(name)
