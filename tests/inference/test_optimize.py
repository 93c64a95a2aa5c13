import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.inference import optimize as inference
from fbnetv3.inference.optimize import BACKENDS, optimize_for_inference, time_calls
from fbnetv3.training.engine import cpu_threads
from tests.places import ROOT

ARCH = Arch(
    "tiny",
    32,
    Block("conv", 8, k=3, s=2),
    (
        (Block("conv", 8, k=3), Block("ir", 8, k=3, n=2, e=2)),
        (
            Block("ir", 16, k=5, e=2, s=2, se=True, pad=1),
            Block("ir", 16, k=3, e=2, se=True, act="relu", se_from="expanded"),
            Block("ir", 16, k=3, e=2, dw_norm_act=False),
        ),
    ),
    Block("pool", 24, e=2),
)
NO_HEAD = Arch("bare", 32, Block("conv", 8, k=3, s=2, act="relu"), ((Block("ir", 8, k=3, n=2, se=True),),), None)


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


def trained_like(arch=ARCH):
    """A network in train mode whose batch norms do something."""
    torch.manual_seed(0)
    model = build_model(arch, 10, dropout=0.5, stochastic_depth=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def images(n, seed=1):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def logits(model, x):
    with torch.no_grad():
        return model.eval()(x)


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


def test_without_onednn_batch_norms_are_folded_all_the_same(monkeypatch):
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    monkeypatch.setattr("fbnetv3.inference.fusion.FusedConv", None)  # must not be asked for
    model = trained_like()
    fast = optimize_for_inference(model, images(2), "eager")
    torch.testing.assert_close(fast(images(3)), logits(model, images(3)), rtol=1e-4, atol=1e-5)


def test_the_eager_backend_has_no_norms_and_no_activations_of_its_own():
    network = inference.frozen_copy(trained_like(), images(1))
    fused = inference.fuse_network(network, images(1))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    left = [name for name, module in fused.named_modules() if isinstance(module, nn.Hardswish | nn.ReLU)]
    assert all(".se." in name or name.startswith("head.") for name in left), left


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


def test_what_the_user_can_mend_is_said(monkeypatch):
    model = trained_like()
    with pytest.raises(
        InputError, match="unknown backend 'tvm'; available: auto, eager, inductor, onnxruntime, openvino"
    ):
        optimize_for_inference(model, images(1), "tvm")
    with pytest.raises(InputError, match="which the network does not take"):
        optimize_for_inference(model, images(1)[:, :1], "eager")
    fast = optimize_for_inference(model, images(1), "eager")
    for bad in (images(1)[..., :31], images(1).double(), images(1)[0], images(1).to("meta")):
        with pytest.raises(InputError, match=r"optimized for float32 \[N, 3, 32, 32\] on cpu"):
            fast(bad)
    monkeypatch.setattr("fbnetv3.inference.runtimes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"backend 'openvino' needs openvino; run: pip install \"fbnetv3\[export\]\""):
        optimize_for_inference(model, images(1), "openvino")


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


@pytest.mark.parametrize("threads", [1, 2])
def test_runtimes_get_the_threads_of_torch(monkeypatch, threads):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    given = []

    def session(content, options, providers):
        given.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return genuine(content, options, providers=providers)

    genuine = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with cpu_threads(threads):
        optimize_for_inference(trained_like(NO_HEAD), images(1), "onnxruntime")
        fast = optimize_for_inference(trained_like(NO_HEAD), images(1), "openvino")
    assert given == [(threads, 1)]
    fast(images(3))
    for request in (fast.run.fixed, fast.run.free):
        assert request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == threads
        assert "float32" in str(request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT"))
    assert fast.threads == threads


def test_one_openvino_network_serves_several_threads():
    pytest.importorskip("openvino")
    model = trained_like()
    fast = optimize_for_inference(model, images(1), "openvino")
    inputs = [images(1 + i % 2, seed=i) for i in range(20)]
    found = {}
    workers = [threading.Thread(target=lambda i=i: found.update({i: fast(inputs[i])})) for i in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, x in enumerate(inputs):
        torch.testing.assert_close(found[i], logits(model, x), rtol=1e-4, atol=1e-5)


def test_time_calls_runs_all_in_turn():
    calls = []
    times = time_calls({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "a", "b", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert min(*times["a"], *times["b"]) >= 0
