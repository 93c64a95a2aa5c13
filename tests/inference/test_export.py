"""Files of other runtimes: they give the network's logits, or they do not appear."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.inference import export
from fbnetv3.inference.export import FORMATS, check_target, export_model
from tests.inference.examples import ARCH, images, logits, trained_like


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


def test_the_files_of_an_export_are_known_before(tmp_path):
    assert check_target(tmp_path / "a.pt2", "torch-export") == (tmp_path / "a.pt2",)
    with pytest.raises(InputError, match=r"a file of format 'torch-export' ends in \.pt2"):
        check_target(tmp_path / "a.onnx", "torch-export")
    with pytest.raises(InputError, match="unknown format 'torch'; "):
        check_target(tmp_path / "a.pt2", "torch")
    pytest.importorskip("openvino")
    assert check_target(tmp_path / "a.xml", "openvino") == (tmp_path / "a.xml", tmp_path / "a.bin")


SLOW = ("openvino", "executorch")  # to import and to write


@pytest.mark.parametrize(
    "format", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FORMATS]
)
def test_feature_maps_are_exported_too(tmp_path, format):
    for module in FORMATS[format].needs:
        pytest.importorskip(module)
    network = build_model(ARCH, features_only=True)
    network.load_state_dict(trained_like().state_dict(), strict=False)
    path = tmp_path / f"maps{FORMATS[format].suffix}"
    assert export_model(network, images(1), path, format).difference < 1e-4
    run = FORMATS[format].load(path, images(1))
    for n in (1, 3):
        found, expected = run(images(n)), logits(network, images(n))
        assert [list(value.shape) for value in found] == [[n, 8, 16, 16], [n, 16, 7, 7]]
        torch.testing.assert_close(list(found), expected, rtol=1e-4, atol=1e-5)


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


def test_mistakes(tmp_path, monkeypatch):
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
        InputError, match=r"example is float32 \[1, 2, 32, 32\] on cpu, which the network does not accept"
    ):
        export_model(model, images(1)[:, :2], good, "torch-export")
    for bad in (images(1)[0], images(1).double(), images(0), images(1).to("meta")):
        with pytest.raises(InputError, match=r"allowed: float32 images \[N, C, H, W\] on cpu"):
            export_model(model, bad, good, "torch-export")
    with torch.device("meta"):
        nowhere = build_model(ARCH)
    with pytest.raises(InputError, match="which the network does not accept: Cannot copy out of meta tensor"):
        export_model(nowhere, images(1), good, "torch-export")
    monkeypatch.setattr("fbnetv3.inference.runtimes.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"needs onnx, onnxscript, onnxruntime; run: pip install \"fbnetv3\[export\]\""
    ):
        export_model(model, images(1), tmp_path / "net.onnx", "onnx")
    assert names(tmp_path) == ["file"]
