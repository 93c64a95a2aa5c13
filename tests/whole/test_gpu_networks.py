"""The networks on a GPU: values and gradients, layouts and precisions, weights, the predictor, inference, exports, latency."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fbnetv3 import build_model
from fbnetv3.device import tf32_units
from fbnetv3.inference.export import FORMATS, export_model
from fbnetv3.inference.optimize import optimize_for_inference
from fbnetv3.layers import StochasticDepth, use_channels_last
from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file
from fbnetv3.progress import silent
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import distinct_parts
from fbnetv3.search.space.measure_latency import Conditions, measure_networks, measure_table
from fbnetv3.search.space.reader import load_space
from fbnetv3.transforms import Transforms
from tests.places import ROOT
from tests.search.predictor.examples import ARCH as ARCH_COLUMNS
from tests.search.predictor.examples import QUICK, AccuracyPredictor, statistics, table
from tests.test_arch import TINY
from tests.test_model import HEADLESS, images, lively
from tests.whole.compiler import needs_compiler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = "cuda"
HALF = [torch.float16, torch.bfloat16]
DEEP = "fbnetv3_a"  # the other networks have the same kinds of blocks


def away(found, expected):
    """Return how far a tensor is from the expected one, as a share of that."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm())


def steps(model, x):
    """Return the logits of a training step, and its gradients by name."""
    logits = model.train()(x)
    cross_entropy(logits, torch.arange(len(x), device=x.device) % 5).backward()
    return logits, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("arch", [TINY, HEADLESS, DEEP], ids=str)
def test_values_and_gradients_are_those_of_float64(arch, channels_last):
    model = lively(arch)
    expected, gradients = steps(copy.deepcopy(model).double(), images(8, 64).double())
    network, x = copy.deepcopy(model).to(GPU), images(8, 64).to(GPU)
    if channels_last:
        network, x = use_channels_last(network), x.contiguous(memory_format=torch.channels_last)
    with tf32_units(False):
        found, found_gradients = steps(network, x)
        evaluated = network.eval()(x)
    assert away(found, expected) < 1e-3
    for name, gradient in gradients.items():
        # A gradient that is zero but for rounding, such as that of a bias before a norm, has no relative error.
        assert float((found_gradients[name].cpu() - gradient).norm()) < 1e-2 * float(gradient.norm()) + 1e-4, name
    assert evaluated.isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("arch", [TINY, DEEP], ids=str)
def test_half_precision_and_autocast_are_near_float32(arch, dtype):
    model, x = lively(arch).to(GPU).eval(), images(8, 64).to(GPU)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cuda", dtype):
            cast = model(x)
        half = use_channels_last(copy.deepcopy(model).to(dtype))(x.to(dtype))
    assert (cast.dtype, half.dtype) == (dtype, dtype)
    assert away(cast, expected) < 0.1
    assert away(half, expected) < 0.1


@needs_compiler
def test_compiled_it_is_the_same():
    model, x = lively(TINY).to(GPU).eval(), images().to(GPU)
    with torch.no_grad():
        assert away(torch.compile(model, fullgraph=True)(x), model(x)) < 1e-2  # TF32


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_stochastic_depth_meets_its_rate(dtype):
    found = StochasticDepth(0.25).train()(torch.ones(20_000, 2, 1, 1, device=GPU, dtype=dtype))
    assert torch.equal(found[:, 0], found[:, 1])
    assert float((found[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(found.max()) == pytest.approx(4 / 3, rel=1e-2)


def test_recomputed_activations_give_the_same_gradients():
    model, x = lively(TINY, stochastic_depth=0.5).to(GPU), images(8, 64).to(GPU)
    found = []
    for recompute in (False, True):
        network = copy.deepcopy(model)
        network.set_grad_checkpointing(recompute)
        torch.manual_seed(3)
        with tf32_units(False):
            found.append((steps(network, x)[1], dict(network.named_buffers())))
    for plain, again in zip(*found, strict=True):
        for name, value in plain.items():
            torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_go_to_a_file_and_back_on_both_devices(tmp_path, suffix):
    model = lively(TINY).to(GPU).eval()
    file = WeightFile.of(model, tuple("abcde"), Transforms(32, 32, (0.5,) * 3, (0.5,) * 3))
    write_weight_file(tmp_path / f"net{suffix}", file)
    with torch.device(GPU):
        read = read_weight_file(tmp_path / f"net{suffix}")
        there = read.build()
    here = read.build()
    for key, value in model.state_dict().items():
        assert read.state[key].device.type == "cpu"
        assert there.state_dict()[key].device.type == GPU
        assert torch.equal(there.state_dict()[key], value)
        assert torch.equal(here.state_dict()[key], value.cpu())


def test_a_state_dict_of_the_gpu_is_loaded_without_one_in_another_way(tmp_path):
    model = lively(TINY).to(GPU)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    state = torch.load(tmp_path / "net.pt", map_location="cpu", weights_only=True)
    with torch.device("meta"):
        empty = build_model(TINY, 5)
    empty.load_state_dict(state, assign=True)
    assert away(empty.eval()(images()), model.eval()(images().to(GPU))) < 1e-2  # TF32


def test_torch_hub_gives_a_network_for_the_gpu():
    model = torch.hub.load(str(ROOT), "fbnetv3_a", source="local", num_classes=5).to(GPU).eval()
    with torch.inference_mode():
        assert model(images(2, 64).to(GPU)).shape == (2, 5)


def test_a_default_gpu_leaves_the_predictor_on_the_cpu():
    def predictions():
        predictor = AccuracyPredictor(ARCH_COLUMNS, seed=0, settings=QUICK)
        x, y = table(30, 0)
        predictor.pretrain(x[:, :6], statistics(x[:, :6]))
        predictor.fit(x, y)
        return predictor.predict(x)

    expected, state = predictions(), torch.cuda.get_rng_state()
    torch.set_default_device(GPU)
    try:
        found = predictions()
    finally:
        torch.set_default_device(None)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "auto"])
def test_optimised_it_gives_the_same_logits(backend, dtype):
    model, x = lively(DEEP).to(GPU, dtype), images(4, 64).to(GPU, dtype)
    fast = optimize_for_inference(model, x, backend)
    assert (fast.device, fast.dtype) == (x.device, dtype)
    assert set(fast.seconds) == ({"eager", "cuda-graph"} if backend == "auto" else set())
    first = fast(x)
    kept = first.clone()
    with torch.no_grad():
        for other in (x.flip(3), x[:2], x.contiguous(memory_format=torch.channels_last)):
            assert away(fast(other), model.eval()(other)) < 0.1
    assert torch.equal(first, kept), "a later call wrote into what an earlier one returned"


def test_feature_maps_are_optimised_too():
    network, x = build_model(TINY, features_only=True).to(GPU), images().to(GPU)
    found = optimize_for_inference(network, x, "cuda-graph")(x)
    assert [part.shape for part in found] == [part.shape for part in network.eval()(x)]


@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_a_network_on_the_gpu_is_exported(tmp_path, format):
    for module in FORMATS[format].needs:
        pytest.importorskip(module)
    path = tmp_path / f"net{FORMATS[format].suffix}"
    assert export_model(lively(TINY).to(GPU), images().to(GPU), path, format).difference < 1e-3
    if format == "torch-export":
        there = torch.export.load(path).module().to(GPU)
        assert there(images(3).to(GPU)).shape == (3, 5)


@pytest.mark.parametrize(("batch", "precision"), [(1, "fp32"), (32, "bf16")])
def test_a_latency_table_predicts_whole_networks(tmp_path, batch, precision):
    space, conditions = load_space("micro"), Conditions(GPU, batch, precision)
    rows = random_rows(space, 1, np.random.default_rng(0))
    wanted = distinct_parts(space, rows)
    found = measure_table(space, wanted, tmp_path / "table.json", silent, 5, conditions)
    (whole,) = measure_networks([space.arch(rows[0].tolist(), "x")], space, 5, conditions)
    assert found.machine["gpu"] == torch.cuda.get_device_name()
    assert all(ms > 0 for ms in found.ms.values())
    assert 0.5 < float(found.latency(space, rows)[0]) / whole < 2.0
