"""Weights that describe themselves, in both formats, and what is refused."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.files import load_torch, save_torch
from fbnetv3.networks.named import find_network
from fbnetv3.networks.weight_file import (
    IMAGENET,
    WeightFile,
    check_state,
    check_suffix,
    described,
    read_tensors,
    read_weight_file,
    write_tensors,
    write_weight_file,
)
from fbnetv3.transforms import Transforms
from tests.test_arch import TINY

TRANSFORMS = Transforms(20, 16, (0.5,), (0.25,))
CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def model():
    model = build_model(TINY, 3, 1)
    model.derived_from = ("fbnetv3_a:fb",)
    return model


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_everything_comes_back(tmp_path, model, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"net{suffix}"
    write_weight_file(path, WeightFile.of(model, CLASSES, TRANSFORMS))
    file = read_weight_file(path)
    assert (file.arch, file.classes, file.transforms, file.derived_from) == (
        TINY,
        CLASSES,
        TRANSFORMS,
        ("fbnetv3_a:fb",),
    )
    built, x = file.build(), torch.randn(2, 1, 16, 16)
    assert not built.training
    assert torch.equal(built(x), model.eval()(x))
    assert built.derived_from == ("fbnetv3_a:fb",)


def test_imagenet_stands_for_its_classes(tmp_path):
    model = build_model(TINY)
    write_weight_file(tmp_path / "net.pt", WeightFile.of(model, IMAGENET, Transforms(20, 16, (0.5,) * 3, (1.0,) * 3)))
    file = read_weight_file(tmp_path / "net.pt")
    assert file.classes == IMAGENET
    assert file.build().num_classes == 1000


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_holds_tensors_of_the_cpu_wherever_they_were(tmp_path, model, monkeypatch, suffix):
    moved = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: moved.append(tensor) or tensor)
    write_weight_file(tmp_path / f"net{suffix}", WeightFile.of(model, CLASSES, TRANSFORMS))
    assert len(moved) == len(model.state_dict())


def test_a_file_that_was_saved_on_a_gpu_is_read_without_one(tmp_path, model, monkeypatch):
    with monkeypatch.context() as pretended:
        pretended.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        save_torch(tmp_path / "net.pt", model.state_dict())
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "net.pt")
    state, _ = read_tensors(tmp_path / "net.pt")
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_default_device_does_not_change_what_is_read(tmp_path, model, suffix):
    write_weight_file(tmp_path / f"net{suffix}", WeightFile.of(model, CLASSES, TRANSFORMS))
    with torch.device("meta"):
        file = read_weight_file(tmp_path / f"net{suffix}")
        with pytest.raises(InputError, match="the network is on the meta device, which holds no numbers"):
            file.build()
    assert all(torch.equal(file.state[key], value) for key, value in model.state_dict().items())


def test_weights_with_channels_last_are_written_too(tmp_path, model):
    pytest.importorskip("safetensors")
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    write_tensors(tmp_path / "net.safetensors", model.to(memory_format=torch.channels_last).state_dict(), {})
    state, header = read_tensors(tmp_path / "net.safetensors")
    assert header is None
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_without_a_description_it_is_a_state_dict(tmp_path, model):
    write_tensors(tmp_path / "plain.pt", model.state_dict(), {})
    assert list(load_torch(tmp_path / "plain.pt", "state dict")) == list(model.state_dict())
    assert read_tensors(tmp_path / "plain.pt")[1] is None
    with pytest.raises(InputError, match="does not say which network it is for"):
        read_weight_file(tmp_path / "plain.pt")


def test_schema_1_is_read():
    model = build_model(TINY, 3, 2)
    header = {
        "schema": 1,
        "arch": TINY.to_dict(),
        "classes": list(CLASSES),
        "in_chans": 2,
        "mean": 0.3,
        "std": 0.2,
    }
    file = described(model.state_dict(), header, "old.pt")
    assert file.transforms == Transforms(16, 16, (0.3, 0.3), (0.2, 0.2))
    assert file.derived_from == ()
    assert file.build().in_chans == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 9}, "net.pt: schema is 9; this version reads 1 to 3: update fbnetv3"),
        ({"classes": "mine"}, "classes is 'mine'; allowed: a list of names, or imagenet1k"),
        ({"transforms": None}, "net.pt: transforms: expected a mapping"),
        ({"arch": {"name": "x"}}, "net.pt: arch: missing key 'resolution'"),
        ({"derived_from": ...}, "is no weight file: it lacks 'derived_from'"),
        ({"derived_from": 5}, "net.pt: derived_from is 5; allowed: a list of names of weights"),
        ({"derived_from": [5]}, r"net.pt: derived_from is \[5\]; allowed: a list of names of weights"),
        ({"schema": 1}, "net.pt is no weight file: it lacks 'in_chans'"),
        ({"schema": "2"}, "net.pt: schema is '2'; this version reads 1 to 3"),
        ({"schema": torch.zeros(2)}, r"net.pt: schema is tensor\(\[0., 0.\]\); this version reads 1 to 3"),
        (
            {"schema": 1, "in_chans": 10**12, "mean": 0.5, "std": 0.5},
            "in_chans is 1000000000000; allowed: whole numbers",
        ),
        ({"schema": 1, "in_chans": 1, "mean": "x", "std": 0.5}, r"net.pt: transforms.*: mean is \('x',\)"),
        ({"classes": [1, 2, 3]}, r"classes is \[1, 2, 3\]; allowed: a list of names"),
        ({"classes": torch.zeros(3)}, r"classes is tensor\(.*; allowed: a list of names"),
        ({"classes": ["x" * 10**6, 1]}, r"classes is \['x{70,}\.\.\.; allowed"),
        ({"state_dict": 5}, "state_dict is 'int'; allowed: a mapping of names to tensors"),
        ({"state_dict": {"a": 5}}, "state_dict is 'dict'; allowed: a mapping of names to tensors"),
        (
            {"transforms": TRANSFORMS.to_dict() | {"crop": 1e9}},
            r"crop is 1000000000\.0; allowed: whole numbers from 1 to",
        ),
        (
            {"transforms": TRANSFORMS.to_dict() | {"crop": 10**9}},
            "crop is 1000000000; allowed: whole numbers from 1 to",
        ),
        ({"transforms": TRANSFORMS.to_dict() | {"std": [float("nan")]}}, r"std is \(nan,\); allowed: one number"),
        ({"arch": TINY.to_dict() | {"schema": [1]}}, r"net.pt: arch: schema is \[1\]; this version reads 1"),
        ({"arch": TINY.to_dict() | {"resolution": 10**9}}, "resolution is 1000000000; allowed: whole numbers from 1"),
    ],
)
def test_a_description_with_mistakes(tmp_path, model, change, message):
    write_weight_file(tmp_path / "net.pt", WeightFile.of(model, CLASSES, TRANSFORMS))
    content = load_torch(tmp_path / "net.pt", "weight file") | change
    save_torch(tmp_path / "net.pt", {key: value for key, value in content.items() if value is not ...})
    with pytest.raises(InputError, match=message):
        read_weight_file(tmp_path / "net.pt")


def test_another_network_needs_its_name():
    with pytest.raises(InputError, match=r"a Linear is no network of this package, .* give network=find_network"):
        WeightFile.of(nn.Linear(2, 2), CLASSES, TRANSFORMS)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_a_network_of_another_library_comes_back_from_its_file(tmp_path, name, suffix):
    network = find_network(name)
    trained = network.construct(len(CLASSES), TRANSFORMS.in_chans).model.eval()
    training = {"recipe": {"lr": 0.1}, "metrics": {"test_acc1": 50.0}}
    path = tmp_path / f"net{suffix}"
    write_weight_file(path, WeightFile.of(trained, CLASSES, TRANSFORMS, network, training))
    file = read_weight_file(path)
    assert (file.arch, file.num_classes, file.training) == (network, len(CLASSES), training)
    x = torch.rand(1, TRANSFORMS.in_chans, 64, 64)
    assert torch.equal(file.build()(x), trained(x))
    with pytest.raises(
        InputError, match=f"the weights are of {name}; this works with networks of this package's blocks"
    ):
        _ = file.blocks
    broken = {key: value for key, value in file.state.items() if not key.endswith("bias")}
    with pytest.raises(InputError, match=f"not a state dict of {name}"):
        dataclasses.replace(file, state=broken).build()


def test_differences_of_state_dicts_are_named(model):
    state = dict(model.state_dict())
    check_state(state, model.state_dict(), "tiny")
    with pytest.raises(InputError, match=r"not a state dict of tiny: 1 entries missing: classifier\.bias"):
        check_state({k: v for k, v in state.items() if k != "classifier.bias"}, state, "tiny")
    with pytest.raises(InputError, match="1 entries unexpected: extra"):
        check_state(state | {"extra": torch.zeros(1)}, state, "tiny")
    with pytest.raises(InputError, match=r"1 entries of another shape: classifier\.bias is \[4\], not \[3\]"):
        check_state(state | {"classifier.bias": torch.zeros(4)}, state, "tiny")
    with pytest.raises(InputError, match=r"1 entries of another type: classifier\.bias is complex64"):
        check_state(state | {"classifier.bias": torch.zeros(3, dtype=torch.complex64)}, state, "tiny")
    with pytest.raises(InputError, match=r"are not finite: classifier\.bias"):
        dataclasses.replace(
            WeightFile.of(model, CLASSES, TRANSFORMS),
            state=state | {"classifier.bias": torch.tensor([0, float("nan"), 0])},
        ).build()
    odd = {"mask": torch.tensor([0, -float("inf")]), "phase": torch.zeros(2, dtype=torch.complex64)}
    check_state(odd, odd, "a custom network, which may have such buffers")
    with pytest.raises(InputError, match="1 entries whose key is no text: 5"):
        check_state(state | {5: torch.zeros(3)}, state, "tiny")
    with pytest.raises(InputError, match=f"{len(state)} entries missing: .* and {len(state) - 3} more"):
        check_state({}, state, "tiny")
    file = WeightFile.of(model, CLASSES, TRANSFORMS)
    with pytest.raises(InputError, match="not a state dict of tiny"):
        dataclasses.replace(file, classes=("a", "b")).build()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_build_no_network(model, value):
    file = WeightFile.of(model, CLASSES, TRANSFORMS)
    file.state["classifier.bias"][1] = value
    with pytest.raises(InputError, match=r"the weights of .* are not finite: classifier.bias has NaN or infinite"):
        file.build()


def test_files_that_are_no_weights(tmp_path):
    for name in ("net.bin", "net"):
        with pytest.raises(InputError, match=r"a weight file ends in \.safetensors, \.pt, \.pth, not in"):
            check_suffix(tmp_path / name)
    with pytest.raises(InputError, match=r"no weight file at .*absent.pt"):
        read_tensors(tmp_path / "absent.pt")
    pytest.importorskip("safetensors")
    with pytest.raises(InputError, match=r"no weight file at .*absent.safetensors"):
        read_tensors(tmp_path / "absent.safetensors")
    header = json.dumps({"__metadata__": {"fbnetv3": "{"}}).encode()
    (tmp_path / "described.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match=r"described.safetensors: the description is damaged: Expecting property name"):
        read_tensors(tmp_path / "described.safetensors")
    (tmp_path / "damaged.safetensors").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"damaged.safetensors is no weight file or is damaged"):
        read_tensors(tmp_path / "damaged.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_content_tells_the_format(tmp_path, model, suffix):
    pytest.importorskip("safetensors")
    write_weight_file(tmp_path / f"net{suffix}", WeightFile.of(model, CLASSES, TRANSFORMS))
    for name in ("model_best.pth.tar", "net", "net.safetensors.pt", "net.pt.safetensors"):
        (tmp_path / f"net{suffix}").replace(tmp_path / name)
        assert read_weight_file(tmp_path / name).classes == CLASSES
        (tmp_path / name).replace(tmp_path / f"net{suffix}")


def test_a_small_file_does_not_ask_for_much_memory(model):
    large = dataclasses.replace(TINY, stem=dataclasses.replace(TINY.stem, c=100_000, k=99_999))
    file = dataclasses.replace(WeightFile.of(model, CLASSES, TRANSFORMS), arch=large)
    with pytest.raises(InputError, match=r"entries of another shape: stem\.conv\.weight is"):
        file.build()


def test_weights_without_classifier():
    file = WeightFile.of(build_model(TINY, 0, 1), (), TRANSFORMS)
    assert file.num_classes == 0
    assert file.build().num_classes == 0


def test_safetensors_is_named_where_it_is_missing(tmp_path, model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="needs the safetensors package: pip install safetensors"):
        write_tensors(tmp_path / "net.safetensors", model.state_dict(), {})
