"""The networks on a pretended GPU, where a tensor that is elsewhere raises; without memory; under autocast; in another layout.

`FakeTensorMode` runs every operator for shapes, types and devices alone. tests/whole/test_gpu_networks.py has the numbers.
"""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fbnetv3 import build_model
from fbnetv3.arch import ARCHS
from fbnetv3.detection.detector_parts import BoxHead, RPNHead, build_backbone
from fbnetv3.detection.torchvision_model import Anchors
from fbnetv3.layers import use_channels_last
from fbnetv3.model import FBNetV3
from tests.test_arch import TINY
from tests.test_model import HEADLESS, images, lively

SIDE = 64
OPTIONS = {
    "grey": {"in_chans": 1},
    "no classifier": {"num_classes": 0},
    "no pooling": {"num_classes": 0, "global_pool": ""},
    "max": {"global_pool": "max"},
    "avgmax": {"global_pool": "avgmax"},
    "regularised": {"dropout": 0.3, "stochastic_depth": 0.5},
    "maps": {"features_only": True},
    "two maps": {"features_only": True, "out_indices": [-1, 0]},
}


@pytest.fixture
def gpu():
    """A pretended GPU on which all new tensors are."""
    with FakeTensorMode(), torch.device("cuda"):
        yield


def devices(found):
    return {tensor.device.type for tensor in (found if isinstance(found, list) else [found])}


@pytest.mark.parametrize(
    "arch", [pytest.param(name, marks=[] if name == "fbnetv3_a" else [pytest.mark.slow]) for name in ARCHS]
)
def test_every_network_stays_on_the_gpu(gpu, arch):
    model, x = build_model(arch, stochastic_depth=0.2, dropout=0.2), torch.empty(2, 3, SIDE, SIDE)
    for mode in (True, False):
        assert devices(model.train(mode)(x)) == {"cuda"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_stays_on_the_gpu_and_in_its_type(gpu, options, dtype):
    torch.set_default_dtype(dtype)
    try:
        model = build_model(TINY, **options)
        found = model.train()(torch.empty(2, options.get("in_chans", 3), SIDE, SIDE))
    finally:
        torch.set_default_dtype(torch.float32)
    assert devices(found) == {"cuda"}
    assert {tensor.dtype for tensor in (found if isinstance(found, list) else [found])} == {dtype}


def test_methods_of_a_network_stay_on_the_gpu(gpu):
    model, x = build_model(TINY, stochastic_depth=0.5).train(), torch.empty(2, 3, SIDE, SIDE)
    assert isinstance(model, FBNetV3)
    last, maps = model.forward_intermediates(x)
    assert devices([last, *maps]) == {"cuda"}
    model.set_grad_checkpointing()
    assert devices(model(x)) == {"cuda"}
    model.reset_classifier(7, "max")
    assert devices([model(x), model.classifier.weight]) == {"cuda"}
    model.prune_intermediate_layers([0, 1])
    assert devices(model(x)) == {"cuda"}


def test_the_parts_of_detectors_stay_on_the_gpu(gpu):
    arch = ARCHS["fbnetv3_a"]
    (features,) = build_backbone(arch).eval()(torch.empty(1, 3, SIDE, SIDE))
    logits, boxes = RPNHead(arch, 15).eval()([features])
    vectors = BoxHead(arch).eval()(torch.empty(4, features.shape[1], 6, 6))
    assert devices([features, *logits, *boxes, vectors]) == {"cuda"}
    anchors = Anchors([(32, 64)], [16])
    anchors.set_cell_anchors(torch.float32, torch.device("cuda"))
    guess = [[torch.empty((), dtype=torch.int64) for _ in range(2)]]
    assert devices(anchors.grid_anchors([[4, 4]], guess)) == {"cuda"}


@pytest.mark.parametrize("assign", [False, True])
def test_a_network_without_memory_is_filled_by_a_state_dict(assign):
    model = lively(TINY).eval()
    with torch.device("meta"):
        empty = build_model(TINY, 5).eval()
    if not assign:
        empty.to_empty(device="cpu")
    empty.load_state_dict(copy.deepcopy(model.state_dict()), assign=assign)
    assert torch.equal(empty(images()), model(images()))


@pytest.mark.parametrize("arch", [TINY, HEADLESS], ids=lambda arch: arch.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_step_under_autocast_is_nearly_that_of_float32(arch, dtype):
    model = lively(arch, dropout=0.2, stochastic_depth=0.3).train()
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss = model(images()).float().square().mean()
        loss.backward()
        losses.append(loss.item())
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_channels_last_stays_until_the_head():
    layouts = {}
    model = use_channels_last(lively(TINY)).train()
    for name, module in model.named_modules():
        if name.startswith(("stem", "stages")) and not name.endswith((".pool", ".reduce", ".act", ".expand", ".gate")):
            module.register_forward_hook(
                lambda _, __, out, name=name: layouts.update(
                    {name: out.is_contiguous(memory_format=torch.channels_last)}
                )
            )
    model(images().contiguous(memory_format=torch.channels_last))
    assert layouts
    assert all(layouts.values()), layouts
