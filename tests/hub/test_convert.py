"""Conversions: every released state dict fits strictly, and timm's weights give the same function, in float64."""

import json

import pytest
import timm
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.arch import ARCH_A0, ARCHS, find_arch
from fbnetv3.errors import Note
from fbnetv3.hub import convert_mobile_cv, convert_to_timm, create_model
from fbnetv3.hub.convert import _from_timm, convert, is_released
from tests.places import SHARED
from tests.whole.test_reference import HERE, reference_state

PAIRS = [("fbnetv3_b", "fbnetv3_b_same_padding"), ("fbnetv3_d", "fbnetv3_d"), ("fbnetv3_g", "fbnetv3_g")]


def randomise(model):
    """Make a network in which any two swapped tensors would change the output, and return it in float64.

    Norms and biases are random, and the statistics are those of random images, so that no signal dies out.
    """
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "bn" in key and key.endswith("weight"):
                value.uniform_(0.5, 1.5)
            elif key.endswith("bias"):
                value.normal_(0, 0.3)
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        model.train()(torch.randn(4, 3, 64, 64))
    return model.double().eval()


def equal(ours, theirs, side=96):
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    assert (b[0] - b[1]).abs().max() > 0.01 * b.abs().max()  # a function of its input
    torch.testing.assert_close(
        a, b, rtol=1e-5, atol=1e-6 * float(b.abs().max())
    )  # hard-swish is written in two ways (1e-7)


@pytest.mark.parametrize(("name", "builds"), PAIRS)
def test_timms_weights_give_timms_logits(name, builds):
    torch.manual_seed(0)
    theirs = randomise(timm.create_model(name, num_classes=11))
    state, arch = convert(theirs.state_dict(), name)
    assert arch == find_arch(builds)
    ours = build_model(arch, num_classes=11).double().eval()
    ours.load_state_dict(state)
    equal(ours, theirs)


@pytest.mark.parametrize(("name", "builds"), PAIRS)
def test_our_weights_give_our_logits_in_timm(name, builds):
    torch.manual_seed(1)
    ours = randomise(build_model(builds, num_classes=7))
    assert ours.stem.conv.bias.abs().min() > 0  # something to fold
    theirs = timm.create_model(name, num_classes=7).double().eval()
    theirs.load_state_dict(convert_to_timm(ours.state_dict(), builds))
    equal(ours, theirs)


@pytest.mark.parametrize("shuffle", [False, True])
def test_there_and_back(shuffle):
    torch.manual_seed(2)
    ours = randomise(build_model("fbnetv3_d", num_classes=3))
    with torch.no_grad():
        ours.stem.conv.bias.zero_()
    state = ours.state_dict()
    theirs = convert_to_timm(state, "fbnetv3_d")
    if shuffle:  # safetensors files are in alphabetical order
        theirs = {key: theirs[key] for key in sorted(theirs)}
    back, _ = convert(theirs, "fbnetv3_d")
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_timms_b_builds_the_variant_visibly(tmp_path):
    theirs = randomise(timm.create_model("fbnetv3_b"))
    torch.save(theirs.state_dict(), tmp_path / "b.pth")
    with pytest.warns(Note, match="variant fbnetv3_b_same_padding, which computes another function than fbnetv3_b"):
        model = create_model("fbnetv3_b", weights=tmp_path / "b.pth").double().eval()
    assert model.arch.name == "fbnetv3_b_same_padding"
    equal(model, theirs)
    released = build_model("fbnetv3_b").double().eval()
    released.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    assert not torch.allclose(released(x), theirs(x), rtol=1e-2)  # keys and shapes are the same, the padding differs


def test_the_new_bias_of_a_timm_network_is_where_its_weights_are():
    weight = torch.ones(16, 3, 3, 3, dtype=torch.float16)
    with torch.device("meta"):
        bias = _from_timm({"conv_stem.weight": weight}, find_arch("fbnetv3_b"))["stem.conv.bias"]
    assert torch.equal(bias, torch.zeros(16, dtype=torch.float16))


def test_the_released_b_has_no_equal_in_timm():
    with pytest.raises(InputError, match="timm has no network that equals fbnetv3_b; allowed: fbnetv3_b_same_padding"):
        convert_to_timm(build_model("fbnetv3_b").state_dict(), "fbnetv3_b")
    with pytest.raises(InputError, match="timm has no network that equals fbnetv3_a0"):
        convert_to_timm({}, "fbnetv3_a0")


def test_timms_checkpoint_of_another_network_is_refused():
    with pytest.raises(InputError, match="not a state dict of fbnetv3_g"):
        convert(timm.create_model("fbnetv3_d").state_dict(), "fbnetv3_g")
    with pytest.raises(InputError, match="no usable stem"):
        convert(timm.create_model("resnet18").state_dict(), "fbnetv3_d")


def state_of_shapes(keys):
    return {key: torch.zeros(shape) for key, shape in keys}


@pytest.mark.parametrize("arch", [*ARCHS.values(), ARCH_A0], ids=lambda a: a.name)
def test_every_released_state_dict_fits(arch):
    name = arch.name.replace("fbnetv3_", "FBNetV3_").replace("a0", "A0")
    name = name[:-1] + name[-1].upper()
    for folder in (HERE, SHARED / "reference"):
        if (path := folder / f"mobile_cv_{name}.keys.json").exists():
            converted = convert_mobile_cv(state_of_shapes(json.loads(path.read_text())), arch.name)
            build_model(arch).load_state_dict(converted)
            return
    pytest.skip(f"the released keys of {name} are not in this checkout")


@pytest.mark.parametrize("wrap", ["prefix", "state_dict", "model_ema", "model_ema_none"])
def test_wrapped_checkpoints(wrap):
    state = reference_state("FBNetV3_A")
    other = {key: value + 1 for key, value in state.items()}
    checkpoint = {
        "prefix": {f"module.{key}": value for key, value in state.items()},
        "state_dict": {"state_dict": state, "epoch": 3},
        "model_ema": {"state_dict": other, "model_ema": state},
        "model_ema_none": {"state_dict": {f"module.{key}": value for key, value in state.items()}, "model_ema": None},
    }[wrap]
    converted, expected = convert_mobile_cv(checkpoint, "fbnetv3_a"), convert_mobile_cv(state, "fbnetv3_a")
    assert list(converted) == list(expected)
    assert all(torch.equal(converted[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("backbone.stages.xif2_0.pw.bn.bias"), "1 entries missing: stages.1.0.expand.bn.bias"),
        (lambda s: s.update({"backbone.stages.xif9_0.pw.conv.weight": torch.zeros(1)}), "1 entries unexpected"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "unexpected: extra"),
        (lambda s: s.update({"head.conv.bias": torch.zeros(5)}), "classifier.bias is .5., not .1000."),
        (lambda s: s.pop("head.conv.weight"), "no usable stem and classifier"),
        (lambda s: s.update({"epoch": 3}), "'epoch' is int, not a tensor"),
    ],
)
def test_conversion_is_strict(change, words):
    state = reference_state("FBNetV3_A")
    change(state)
    with pytest.raises(InputError, match=words):
        convert_mobile_cv(state, "fbnetv3_a")


def test_weights_of_another_network_are_refused():
    with pytest.raises(InputError, match="not a state dict of fbnetv3_d"):
        convert_mobile_cv(reference_state("FBNetV3_A"), "fbnetv3_d")


def test_the_released_code_is_recognised_by_its_keys():
    assert is_released({"state_dict": {"backbone.stages.xif0_0.conv.weight": torch.zeros(1)}})
    assert not is_released({"stem.conv.weight": torch.zeros(1)})
