"""The paths compute timm's function, and one that does not is refused. A rehearsal of the whole benchmark (slow)."""

import pytest
import torch
from torch import nn

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import inference_paths as paths
from fbnetv3.benchmarks.speed.inference import BENCHMARK, QUICK


def test_another_function_is_refused():
    with pytest.raises(RuntimeError, match=r"path: logits differ from timm's by 1\.0e-01 of the largest"):
        paths.check_same(torch.tensor([10.0]), torch.tensor([9.0]), "path")


def test_timms_network_gets_our_weights():
    ours, theirs = paths.same_networks("fbnetv3_d", 96)
    assert type(ours) is not type(theirs)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        paths.check_same(theirs(x), ours(x), "ours")
        nn.init.zeros_(theirs.conv_head.weight)
        with pytest.raises(RuntimeError, match="differ"):
            paths.check_same(theirs(x), ours(x), "ours")


def test_a_path_without_gradients_makes_none():
    network = nn.Linear(2, 2)
    assert not paths.without_gradients(network)(torch.ones(1, 2)).requires_grad


def test_the_products_are_square_and_named():
    products = paths.matrix_products()
    assert set(products) == {"matmul_torch", "matmul_openvino"}
    assert products["matmul_torch"]().shape == (paths.MATRIX, paths.MATRIX)


@pytest.mark.slow
def test_a_rehearsal_writes_a_complete_result(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "speed.json", quick=True, rounds=2)
    assert load_result("speed", tmp_path) == result
    assert result.command == "fbnetv3 benchmark inference --quick --rounds 2"
    row = result.values["threads_1"]["batch_1"]
    assert {"timm_eager", "matmul_torch", "matmul_openvino", *QUICK["paths"]} < set(row)
    assert row["timm_eager"]["ratio"] == 1.0
    for name in QUICK["paths"]:
        assert row[name]["ms"] > 0
        assert row[name]["low"] <= row[name]["ratio"] <= row[name]["high"]
    assert 0 < row["peak_share"] < 1
    assert 0 <= result.number("int8_accuracy.mean.int8") <= 100
    assert "timm_openvino" in BENCHMARK.all_tables(result)["threads 1: milliseconds"].markdown()
