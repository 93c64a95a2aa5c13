import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.inference import export
from fbnetv3.inference.export import FORMATS, export_model
from fbnetv3.inference.runtimes import relative_difference

# One of each kind of block: plain convolution, residual, squeeze-and-excitation, an odd padding, ReLU.
ARCH = Arch(
    "tiny",
    32,
    Block("conv", 8, k=3, s=2),
    (
        (Block("conv", 8, k=3), Block("ir", 8, k=3, n=2, e=2)),
        (Block("ir", 16, k=5, e=2, s=2, se=True, pad=1), Block("ir", 16, k=3, e=2, se=True, act="relu")),
    ),
    Block("pool", 24, e=2),
)


def trained_like(seed=0, in_chans=3):
    """A network in train mode whose batch norms do something."""
    torch.manual_seed(seed)
    model = build_model(ARCH, 10, in_chans, dropout=0.5, stochastic_depth=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def images(n, side=32, seed=1):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def logits(model, x):
    with torch.no_grad():
        return model.eval()(x)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_gives_the_logits_of_the_network_at_any_batch_size(tmp_path, format):
    for module in FORMATS[format].needs:
        pytest.importorskip(module)
    model, before = trained_like(), trained_like().state_dict()
    path = tmp_path / "new" / f"net{FORMATS[format].suffix}"
    written = export_model(model, images(1), path, format)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert written.paths[0] == path
    assert names(path.parent) == sorted(file.name for file in written.paths)
    assert written.bytes == sum(file.stat().st_size for file in written.paths) > 0
    assert written.difference < 1e-4
    run = FORMATS[format].load(path, images(1))
    for n in (1, 2, 5):
        x = images(n, seed=n)
        torch.testing.assert_close(run(x), logits(model, x), rtol=1e-4, atol=1e-5)


def test_an_onnx_file_is_one_file_of_folded_operators(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    export_model(trained_like(), images(2), tmp_path / "net.onnx", "onnx")
    assert names(tmp_path) == ["net.onnx"]
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["images", "logits"]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_a_file_works_without_this_package(tmp_path):
    export_model(trained_like(), images(2), tmp_path / "net.pt2", "torch-export")
    script = (
        f"import sys, torch; net = torch.export.load({str(tmp_path / 'net.pt2')!r}).module();"
        "assert 'fbnetv3' not in sys.modules; print(list(net(torch.zeros(4, 3, 32, 32)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[4, 10]"


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_with_other_logits_never_appears(tmp_path, monkeypatch, old):
    path = tmp_path / "net.pt2"
    if old:
        path.write_text(old)

    def wrong(network, example, path):
        other = trained_like(seed=9).eval()
        FORMATS["torch-export"].write(other, example, path)

    monkeypatch.setitem(export.FORMATS, "wrong", dataclasses.replace(FORMATS["torch-export"], write=wrong))
    with pytest.raises(InputError, match=r"format 'wrong': logits of 2 images differ .* allowed: 1e-03"):
        export_model(trained_like(), images(2), path, "wrong")
    assert names(tmp_path) == (["net.pt2"] if old else [])
    assert not old or path.read_text() == old


def test_a_file_that_is_right_for_one_batch_size_alone_is_refused(tmp_path, monkeypatch):
    def fixed(path, example):
        run = FORMATS["torch-export"].load(path, example)
        return lambda x: run(x)[: len(example)]

    monkeypatch.setitem(export.FORMATS, "fixed", dataclasses.replace(FORMATS["torch-export"], load=fixed))
    with pytest.raises(InputError, match="format 'fixed': logits of 3 images differ"):
        export_model(trained_like(), images(2), tmp_path / "net.pt2", "fixed")
    assert not names(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.pt2"
    path.write_text("old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.inference.export.os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*net\.pt2: No space left on device"):
        export_model(trained_like(), images(2), path, "torch-export")
    assert names(tmp_path) == ["net.pt2"]
    assert path.read_text() == "old"


def test_what_the_user_can_mend_is_said(tmp_path, monkeypatch):
    model = trained_like()
    good = tmp_path / "net.pt2"
    with pytest.raises(
        InputError, match="unknown format 'tflite'; available: onnx, torch-export, openvino, executorch"
    ):
        export_model(model, images(1), good, "tflite")
    with pytest.raises(InputError, match=r"net\.onnx; a file of format 'torch-export' ends in \.pt2"):
        export_model(model, images(1), tmp_path / "net.onnx", "torch-export")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        export_model(model, images(1), tmp_path / "file" / "net.pt2", "torch-export")
    with pytest.raises(
        InputError, match=r"example is float32 \[1, 2, 32, 32\] on cpu, which the network does not take"
    ):
        export_model(model, images(1)[:, :2], good, "torch-export")
    for bad in (images(1)[0], images(1).double(), images(0), images(1).to("meta")):
        with pytest.raises(InputError, match=r"allowed: float32 images \[N, C, H, W\] on cpu"):
            export_model(model, bad, good, "torch-export")
    monkeypatch.setattr("fbnetv3.inference.runtimes.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"needs onnx, onnxscript, onnxruntime; run: pip install \"fbnetv3\[export\]\""
    ):
        export_model(model, images(1), tmp_path / "net.onnx", "onnx")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("found", "expected", "share"),
    [
        ([1.0, 4.0], [1.0, 4.0], 0.0),
        ([1.0, 4.0], [2.0, 4.0], 0.25),
        ([0.0], [0.0], 0.0),
        ([1.0], [1.0, 4.0], float("inf")),
        ([float("nan"), 4.0], [1.0, 4.0], float("inf")),
    ],
)
def test_relative_difference_by_hand(found, expected, share):
    assert relative_difference(torch.tensor(found), torch.tensor(expected)) == share
