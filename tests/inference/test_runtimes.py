"""Functions that run exported networks: threads, precision, calls from several threads, missing libraries."""

import threading

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.inference.optimize import optimize_for_inference
from fbnetv3.inference.runtimes import relative_difference, require
from fbnetv3.training.engine import cpu_threads
from tests.inference.examples import NO_HEAD, images, logits, trained_like


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 4.0], [1.0, 4.0], 0.0),
        ([1.0, 4.0], [2.0, 4.0], 0.25),
        ([0.0], [0.0], 0.0),
        ([1.0], [1.0, 4.0], float("inf")),
        ([float("nan"), 4.0], [1.0, 4.0], float("inf")),
    ],
)
def test_relative_difference_by_hand(found, expected, difference):
    assert relative_difference(torch.tensor(found), torch.tensor(expected)) == difference


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    require((), "nothing")
    require(("json", "math"), "this")
    with pytest.raises(InputError, match=r'^int8 needs no_such_module; run: pip install "fbnetv3\[export\]"$'):
        require(("json", "no_such_module"), "int8")


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
    model = trained_like(NO_HEAD)
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
