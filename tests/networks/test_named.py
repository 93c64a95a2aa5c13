"""Networks by name: what a name means, what is built, what it costs, and how files describe it."""

import subprocess
import sys

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.arch import find_arch
from fbnetv3.networks.named import (
    CUSTOM,
    NamedNetwork,
    arch_of,
    find_network,
    has_network,
    network_from_dict,
    network_to_dict,
)


@pytest.mark.parametrize(
    ("name", "source", "model"),
    [
        ("fbnetv3_a", "fbnetv3", "fbnetv3_a"),
        ("resnet18_wide", "fbnetv3", "resnet18_wide"),
        ("resnet18", "timm", "resnet18"),  # torchvision has it too; timm comes first
        ("mnasnet0_5", "torchvision", "mnasnet0_5"),
        ("torchvision:resnet18", "torchvision", "resnet18"),
        ("my.module:Net", CUSTOM, "my.module:Net"),
    ],
)
def test_what_a_name_means(name, source, model):
    network = find_network(name)
    assert (network.source, network.model) == (source, model)
    assert find_network(network.name) == network


def test_what_has_a_network():
    assert has_network("fbnetv3", "fbnetv3_a")
    assert not has_network("fbnetv3", "resnet18")
    assert has_network("timm", "resnet18")
    assert arch_of("fbnetv3:fbnetv3_a") == find_arch("fbnetv3_a")
    assert arch_of("timm:resnet18") is None


def test_the_cost_of_a_network_by_hand():
    # torchvision's AlexNet has 61.1 million parameters and 714 million multiply-adds (its documentation: 0.71 GFLOPs).
    found = find_network("torchvision:alexnet").cost(1000, 3, 224)
    assert found["params"] == 61_100_840
    assert 0.71e9 < found["flops"] < 0.72e9
    # A first convolution for one channel instead of three: 11 x 11 x 64 weights for each channel less.
    grey = find_network("torchvision:alexnet").cost(1000, 1, 224)
    assert found["params"] - grey["params"] == 2 * 11 * 11 * 64


@pytest.mark.parametrize(
    "network",
    [
        find_arch("fbnetv3_a"),
        NamedNetwork("timm", "resnet18", {"block_args": {"attn_layer": "se"}}),
        NamedNetwork("torchvision", "mobilenet_v2"),
        NamedNetwork(CUSTOM, "my.module:Net", {"width": 3}),
    ],
)
def test_a_description_gives_the_network_again(network):
    assert network_from_dict(network_to_dict(network), "file") == network


@pytest.mark.parametrize(
    "data",
    [{"model": 3}, {"model": "resnet18"}, {"model": "timm:resnet18", "arguments": [1]}, "timm:resnet18", None],
)
def test_a_wrong_description_is_refused(data):
    with pytest.raises(InputError, match="file"):
        network_from_dict(data, "file")


def test_reading_a_description_runs_no_code(tmp_path):
    (tmp_path / "malice.py").write_text("open('ran', 'w').close()")
    script = "from fbnetv3.networks.named import *; print(network_from_dict({'model': 'malice:Net'}, 'file').name)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "malice:Net"
    assert not (tmp_path / "ran").exists()


def test_arguments_reach_the_constructor():
    with torch.device("meta"):
        narrow = find_network("resnet18_wide", {"base_width": 16}).construct(10, 1).model
    assert narrow.conv1.weight.shape == (22, 1, 7, 7)  # 64 x 1.4, rounded to 88, by 16 / 64
    with pytest.raises(InputError, match=r"torchvision:alexnet does not take an argument that was given: .*'width'"):
        find_network("torchvision:alexnet", {"width": 2}).construct(10, 3)
