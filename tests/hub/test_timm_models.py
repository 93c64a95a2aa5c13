"""The released networks in timm's registry: what timm's generic tests of a model expect, and weights."""

import dataclasses
import math
import warnings

import pytest
import timm
import torch
from timm.data import resolve_data_config

import fbnetv3
from fbnetv3.hub import convert_mobile_cv, timm_models
from fbnetv3.hub.convert import convert_to_timm
from fbnetv3.hub.registry import Registry, read_registry
from fbnetv3.networks.weight_file import UNKNOWN, WeightFile, write_weight_file
from tests.whole.test_reference import reference_state

NAMES = [timm_models.timm_name(name) for name in (*fbnetv3.list_models(), "fbnetv3_a0")]
SMALL = NAMES[0], NAMES[-1]


def test_the_names_do_not_collide_with_timms():
    assert set(timm.list_models("fbnetv3_released_*")) == set(NAMES)
    assert {"fbnetv3_b", "fbnetv3_d", "fbnetv3_g"} <= set(timm.list_models("fbnetv3_?"))
    assert type(timm.create_model("fbnetv3_b")).__module__ == "timm.models.mobilenetv3"
    assert set(timm.list_pretrained("fbnetv3_released_*")) == {
        *(f"fbnetv3_released_{letter}.fb_in1k" for letter in "abcdefg"),
        "fbnetv3_released_d.ra2_in1k",
        "fbnetv3_released_g.ra2_in1k",
    }


@pytest.mark.parametrize("name", NAMES)
def test_default_cfg(name):
    model = timm.create_model(name).eval()
    cfg, keys = model.default_cfg, model.state_dict()
    assert f"{cfg['classifier']}.weight" in keys
    assert f"{cfg['first_conv']}.weight" in keys
    x = torch.randn(1, *cfg["input_size"])
    with torch.no_grad():
        maps = model.forward_features(x)
        assert maps.shape == (1, model.num_features, *cfg["pool_size"])
        assert model.forward_head(maps, pre_logits=True).shape == (1, model.head_hidden_size)
        assert torch.equal(model.forward_head(maps), model(x))
        assert model(x).shape == (1, 1000)
        model.reset_classifier(0)
        assert model(x).shape == (1, model.head_hidden_size)
        model.reset_classifier(0, "")
        assert model(x).shape == (1, model.head_hidden_size, *cfg["pool_size"])


def test_timms_arguments_for_device_and_dtype():
    model = timm.create_model(NAMES[0], device="meta", dtype=torch.float16)
    assert {(parameter.device.type, parameter.dtype) for parameter in model.parameters()} == {("meta", torch.float16)}


@pytest.mark.parametrize("name", NAMES)
def test_data_config_gives_the_released_sizes(name):
    config = resolve_data_config(model=timm.create_model(name))
    if name != NAMES[-1]:
        t = read_registry().find(name.replace("_released", "")).transforms
        assert math.floor(config["input_size"][1] / config["crop_pct"]) == t.resize
        assert (config["input_size"], config["interpolation"]) == ((3, t.crop, t.crop), t.interpolation)
        assert (config["mean"], config["std"]) == (t.mean, t.std)


@pytest.mark.parametrize("name", SMALL)
def test_backward_reaches_every_parameter(name):
    model = timm.create_model(name, num_classes=42, drop_rate=0.1, drop_path_rate=0.1).train()
    out = model(torch.randn(2, 3, 96, 96))
    out.mean().backward()
    assert out.shape == (2, 42)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_features(name):
    model = timm.create_model(name, features_only=True).eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        maps = model(x)
    assert model.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert model.feature_info.channels() == [m.shape[1] for m in maps]
    full = timm.create_model(name).eval()
    full.load_state_dict({**full.state_dict(), **model.model.state_dict()})
    with torch.no_grad():
        h = full.stem(x)
        for stage, expected in zip(full.stages, maps, strict=True):
            h = stage(h)
            assert torch.equal(h, expected)
    two = timm.create_model(name, features_only=True, out_indices=(1, 3))
    assert two.feature_info.reduction() == [4, 16]


@pytest.mark.parametrize("name", SMALL)
def test_intermediates(name):
    model = timm.create_model(name).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        final, maps = model.forward_intermediates(x)
        assert torch.equal(final, model.forward_features(x))
        assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
        last = model.forward_intermediates(x, indices=2, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(last, maps[-2:], strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_torchscript(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = timm.create_model(name).eval()
        scripted = torch.jit.script(model)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(scripted(x), model(x))


def test_timms_optimizer_factory_spares_norms_and_biases():
    from timm.optim import create_optimizer_v2

    model = timm.create_model(NAMES[-1])
    groups = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=1e-4).param_groups
    spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in spared}
    assert names == model.no_weight_decay()
    layered = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=1e-4, layer_decay=0.9).param_groups
    assert len({group["lr_scale"] for group in layered}) > 5


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
def test_pretrained_weights_load(server, monkeypatch, tmp_path):
    state = reference_state("FBNetV3_A")
    torch.save({"state_dict": state, "model_ema": None}, tmp_path / "a.pth")
    url = server.put("a.pth", (tmp_path / "a.pth").read_bytes())
    rows = [dataclasses.replace(row, url=url) for row in read_registry().rows_of("fbnetv3_a")]
    monkeypatch.setattr(timm_models, "read_registry", lambda: Registry(tuple(rows)))
    expected = convert_mobile_cv(state, "fbnetv3_a")
    model = timm.create_model("fbnetv3_released_a", pretrained=True)
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert model.derived_from == ("fbnetv3_a:fb",)
    tagged = timm.create_model("fbnetv3_released_a.fb_in1k", pretrained=True, num_classes=5, in_chans=1)
    assert torch.equal(tagged.stages[0][0].project.conv.weight, expected["stages.0.0.project.conv.weight"])
    torch.testing.assert_close(tagged.stem.conv.weight, expected["stem.conv.weight"].sum(1, keepdim=True))
    assert tagged.classifier.weight.shape == (5, 1984)
    features = timm.create_model("fbnetv3_released_a", pretrained=True, features_only=True)
    assert torch.equal(features.model.stem.conv.weight, expected["stem.conv.weight"])
    assert server.hits == ["/a.pth"]
    chosen = timm.create_model(
        "fbnetv3_released_a", pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "a.pth")}
    )
    assert all(torch.equal(value, expected[key]) for key, value in chosen.state_dict().items())


def test_checkpoint_path_takes_files_of_the_released_code_of_timm_and_of_this_package(tmp_path):
    state = reference_state("FBNetV3_D")
    expected = convert_mobile_cv(state, "fbnetv3_d")
    ours = fbnetv3.build_model("fbnetv3_d")
    ours.load_state_dict(expected)
    own = WeightFile.of(ours, tuple(map(str, range(1000))), read_registry().find("fbnetv3_d").transforms)
    write_weight_file(tmp_path / "own.pt", own)
    torch.save({"state_dict": state, "model_ema": None}, tmp_path / "released.pth")
    torch.save({"state_dict": convert_to_timm(expected, "fbnetv3_d")}, tmp_path / "timm.pth.tar")
    x, logits = torch.randn(1, 3, 64, 64), {}
    for name, origin in (("own.pt", ()), ("released.pth", (UNKNOWN,)), ("timm.pth.tar", (UNKNOWN,))):
        model = timm.create_model("fbnetv3_released_d", checkpoint_path=str(tmp_path / name)).eval()
        assert model.derived_from == origin
        logits[name] = model(x)
    torch.testing.assert_close(logits["own.pt"], ours.eval()(x), rtol=0.0, atol=0.0)
    assert torch.equal(logits["released.pth"], logits["own.pt"])
    torch.testing.assert_close(logits["timm.pth.tar"], logits["own.pt"])  # the stem's bias is folded into its norm
    torch.save(timm.create_model("fbnetv3_b").state_dict(), tmp_path / "b.pth")
    with pytest.raises(fbnetv3.InputError, match="fit fbnetv3_b_same_padding, another function than fbnetv3_b; load"):
        timm.create_model("fbnetv3_released_b", checkpoint_path=str(tmp_path / "b.pth"))


def test_unregistered_weights_are_refused():
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        timm.create_model("fbnetv3_released_a.ra2_in1k", pretrained=True)
