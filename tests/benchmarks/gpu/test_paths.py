"""The networks that are compared are one function, and a path that computes another one is refused."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from fbnetv3.benchmarks.gpu import paths
from fbnetv3.benchmarks.gpu.paths import PATHS, Side

CPU = torch.device("cpu")
SIDE = Side("ours", nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), 8)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("fbnetv3_a", ["ours", "ours_folded", "tf_efficientnet_b0"]),
        ("fbnetv3_d", ["ours", "ours_folded", "timm"]),
    ],
)
def test_the_networks_of_a_case(network, names):
    found = paths.sides(network, 64, CPU)
    assert [side.name for side in found] == names
    assert {side.resolution for side in found} == {64}
    assert not any(side.network.training for side in found)
    folded = [module for module in found[1].network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert folded == []


def test_networks_of_different_functions_are_noticed(monkeypatch):
    def wrong(network):
        network.classifier.bias.data += 1

    monkeypatch.setattr(paths, "fold_batch_norms", wrong)
    paths.sides.cache_clear()
    with pytest.raises(RuntimeError, match="ours_folded: logits differ"):
        paths.sides("fbnetv3_a", 64, CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("path", PATHS)
def test_every_path_has_the_logits_of_float64(path, precision):
    images = paths.inputs(SIDE, 2, path, precision, CPU)
    assert len({float(batch.float().sum()) for batch in images}) == paths.BUFFERS
    last = images[0].is_contiguous(memory_format=torch.channels_last)
    assert last == (path != "eager")
    run = paths.build_run(SIDE, path, precision, images[0], "eager")
    error = paths.path_error(SIDE, run, images[0], precision)
    assert error < (1e-6 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize("wrong", [lambda out: out * 1.2, lambda out: out * float("nan")])
def test_wrong_logits_are_refused(wrong):
    images = paths.inputs(SIDE, 2, "eager", "fp32", CPU)[0]
    with pytest.raises(RuntimeError, match="ours in fp32: logits differ"):
        paths.path_error(SIDE, lambda batch: wrong(SIDE.network(batch).detach()), images, "fp32")


def test_settings_are_restored():
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    with paths.gpu_settings("tf32"):
        assert torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
        with paths.gpu_settings("fp32", tries=False):
            assert not torch.backends.cudnn.benchmark
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.benchmark
    assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == before


def test_functions_take_turns_and_inputs_rotate():
    seen = []
    runs = {name: lambda batch, name=name: seen.append((name, int(batch))) for name in "ab"}
    images = {name: [torch.tensor(number) for number in range(3)] for name in "ab"}
    times = paths.times_in_turns(runs, images, CPU, seconds=0.0)
    assert [len(series) for series in times.values()] == [paths.LEAST_ROUNDS] * 2
    measured = seen[2 * paths.WARM_UP :]
    assert measured == [(name, number % 3) for number in range(paths.LEAST_ROUNDS) for name in "ab"]


def test_a_side_is_not_changed_by_a_path():
    images = paths.inputs(SIDE, 1, "graph", "bf16", CPU)[0]
    paths.build_run(SIDE, "graph", "bf16", images, "eager")
    assert next(SIDE.network.parameters()).dtype == torch.float32
    assert dataclasses.replace(SIDE, name="other").network is SIDE.network


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", ["eager", "channels_last", "graph"])
def test_a_path_on_a_card_has_the_logits_of_float64(path):
    device = torch.device("cuda")
    side = dataclasses.replace(SIDE, network=copy.deepcopy(SIDE.network).to(device))
    with paths.gpu_settings("bf16"):
        images = paths.inputs(side, 8, path, "bf16", device)
        run = paths.build_run(side, path, "bf16", images[0], "inductor")
        assert paths.path_error(side, run, images[0], "bf16") < 5e-2
        times = paths.times_in_turns({"ours": run}, {"ours": images}, device, seconds=0.0)
    assert min(times["ours"]) > 0
