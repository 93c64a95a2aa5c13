"""The fastest way to run a network here: which backend it is, and that its logits are the network's."""

import subprocess
import sys
import threading

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.inference import optimize as inference
from fbnetv3.inference.optimize import BACKENDS, optimize_for_inference, time_calls
from tests.inference.examples import ARCH, NO_HEAD, images, logits, trained_like
from tests.places import ROOT


@pytest.mark.parametrize(
    "backend", ["eager", "onnxruntime", "openvino", pytest.param("inductor", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("arch", [ARCH, NO_HEAD], ids=lambda arch: arch.name)
def test_every_backend_gives_the_logits_of_the_network(arch, backend):
    for module in BACKENDS[backend].needs:
        pytest.importorskip(module)
    model, before = trained_like(arch), trained_like(arch).state_dict()
    fast = optimize_for_inference(model, images(2), backend)
    assert model.training
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (fast.backend, fast.threads, fast.seconds) == (backend, 1, {})
    assert backend in repr(fast)
    first = fast(images(2))
    kept = first.clone()
    for n in (1, 2, 5):
        x = images(n, seed=n)
        for layout in (x, x.contiguous(memory_format=torch.channels_last), x.flip(3).flip(3).requires_grad_()):
            out = fast(layout)
            assert not out.requires_grad
            torch.testing.assert_close(out, logits(model, x), rtol=1e-4, atol=1e-5)
    assert torch.equal(first, kept), "a later call wrote into what an earlier one returned"


def test_auto_takes_the_fastest(monkeypatch):
    def slow(network, example):
        return lambda x: (threading.Event().wait(0.05), network(x))[1]

    quick = inference.Backend((), lambda network, example: network)
    monkeypatch.setitem(BACKENDS, "openvino", quick)
    for name in ("eager", "onnxruntime"):
        monkeypatch.setitem(BACKENDS, name, inference.Backend((), slow))
    fast = optimize_for_inference(trained_like(), images(1))
    assert fast.backend == "openvino"
    assert set(fast.seconds) == {"eager", "onnxruntime", "openvino"}
    assert fast.seconds["openvino"] < 0.05 <= fast.seconds["eager"]
    assert "fastest of: eager " in repr(fast)


def test_auto_leaves_out_what_is_missing_broken_or_wrong(monkeypatch):
    def broken(network, example):
        raise ImportError("libgomp.so.1")

    monkeypatch.setitem(BACKENDS, "onnxruntime", inference.Backend((), broken))
    wrong = inference.Backend((), lambda network, example: lambda x: network(x) + 1)
    monkeypatch.setitem(BACKENDS, "openvino", wrong)
    model = trained_like()
    assert set(optimize_for_inference(model, images(1)).seconds) == {"eager"}
    with pytest.raises(InputError, match=r"backend 'openvino': logits differ from the network's by .*; allowed: 1e-03"):
        optimize_for_inference(model, images(1), "openvino")
    monkeypatch.setitem(BACKENDS, "eager", wrong)
    with pytest.raises(InputError, match="no backend gives the logits of this network here"):
        optimize_for_inference(model, images(1))


def test_mistakes(monkeypatch):
    model = trained_like()
    with pytest.raises(
        InputError, match="unknown backend 'tvm'; available: auto, eager, inductor, onnxruntime, openvino"
    ):
        optimize_for_inference(model, images(1), "tvm")
    with pytest.raises(InputError, match="which the network does not accept"):
        optimize_for_inference(model, images(1)[:, :1], "eager")
    fast = optimize_for_inference(model, images(1), "eager")
    for bad in (images(1)[..., :31], images(1).double(), images(1)[0], images(1).to("meta")):
        with pytest.raises(InputError, match=r"optimized for float32 \[N, 3, 32, 32\] on cpu"):
            fast(bad)
    with pytest.raises(
        InputError, match=r"'cuda-graph' does not run on cpu, .*; give auto, eager, .* or an example on cuda"
    ):
        optimize_for_inference(model, images(1), "cuda-graph")
    monkeypatch.setattr("fbnetv3.inference.runtimes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"backend 'openvino' needs openvino; run: pip install \"fbnetv3\[export\]\""):
        optimize_for_inference(model, images(1), "openvino")


def test_on_a_gpu_the_image_s_type_and_device_are_those_of_the_example():
    gpu = inference.OptimizedModel("cuda-graph", None, (3, 32, 32), 1, {}, torch.device("cuda:1"), torch.bfloat16)
    assert repr(gpu) == "OptimizedModel(cuda-graph, bfloat16, cuda:1, image=[3, 32, 32])"
    with pytest.raises(InputError, match=r"float32 \[1, 3, 32, 32\] on cpu; .* bfloat16 \[N, 3, 32, 32\] on cuda:1"):
        gpu(images(1))


def test_it_works_with_torch_alone():
    script = """
import sys
for name in ("numpy", "onnx", "onnxscript", "onnxruntime", "openvino", "timm", "scipy", "yaml", "pydantic"):
    sys.modules[name] = None
import torch, fbnetv3
from fbnetv3.inference.optimize import optimize_for_inference
print(optimize_for_inference(fbnetv3.build_model("fbnetv3_a0"), torch.zeros(1, 3, 64, 64)).backend)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "eager"


def test_time_calls_runs_all_in_turn():
    calls = []
    times = time_calls({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "a", "b", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert min(*times["a"], *times["b"]) >= 0
