"""Feature maps: what `feature_info` says against what comes out, and timm's contract for intermediates."""

import copy
import pickle

import pytest
import torch
from timm.models._features import FeatureGetterNet, FeatureListNet
from torch import nn

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.arch import ARCH_A0, ARCHS
from fbnetv3.features import FeatureNet, feature_info, take_indices
from tests.test_arch import TINY
from tests.test_model import HEADLESS, images, lively, same

STEM = Block("conv", 8, k=3, s=2)
# Stem and first stage at different resolutions, stages that share one, a stride of 3, one inside a stage, conv rows.
ODD = Arch(
    "odd",
    72,
    STEM,
    (
        (Block("ir", 16, k=3, e=2, s=3),),
        (Block("ir", 16, k=3, n=2),),
        (Block("conv", 24, k=5, n=2), Block("ir", 40, k=3, s=2)),
        (Block("ir", 48, k=3),),
    ),
    None,
)
FULL = Arch("full", 16, Block("conv", 8, k=3), ((Block("ir", 16, k=3),), (Block("ir", 24, k=3, s=4),)), TINY.head)
MAPS = {  # (channels, reduction, module) of every map
    TINY: [(8, 2, "stages.0"), (16, 4, "stages.1")],
    HEADLESS: [(8, 2, "stages.0"), (16, 4, "stages.1"), (24, 8, "stages.2")],
    ODD: [(8, 2, "stem"), (16, 6, "stages.1"), (48, 12, "stages.3")],
    FULL: [(16, 1, "stages.0"), (24, 4, "stages.1")],
    ARCH_A0: [(c, 2 << i, f"stages.{i}") for i, c in enumerate((12, 24, 40, 104, 208))],
}
ANY = pytest.mark.parametrize("arch", MAPS, ids=lambda arch: arch.name)


def outputs(model, x):
    """What every module of `feature_info` gives in a forward pass."""
    seen = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name in model.feature_info.module_name()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return [seen[name] for name in model.feature_info.module_name()]


@ANY
def test_info_is_what_comes_out(arch):
    info, maps = feature_info(arch), build_model(arch, features_only=True).eval()(images(1, 96))
    assert list(zip(info.channels(), info.reduction(), info.module_name(), strict=True)) == MAPS[arch]
    assert [tuple(x.shape) for x in maps] == [(1, c, 96 // r, 96 // r) for c, r, _ in MAPS[arch]]


@pytest.mark.parametrize("arch", [*ARCHS.values(), ARCH_A0], ids=lambda arch: arch.name)
def test_released_networks_have_five_maps(arch):
    assert [type(entry) for entry in feature_info(arch)] == [dict] * 5
    with torch.device("meta"):
        maps = build_model(arch, features_only=True).eval()(torch.empty(1, 3, 256, 256))
    assert [x.shape[1] for x in maps] == feature_info(arch).channels() == [rows[-1].c for rows in arch.stages]
    assert feature_info(arch).reduction() == [2, 4, 8, 16, 32]
    sides = [x.shape[2] for x in maps]
    assert sides[:3] == [128, 64, 32]
    assert [16 - sides[3], 8 - sides[4]] == {  # the released paddings cost a row and a column
        "fbnetv3_a": [1, 1],
        "fbnetv3_b": [1, 1],
        "fbnetv3_c": [1, 1],
        "fbnetv3_e": [1, 0],
        "fbnetv3_f": [0, 1],
    }.get(arch.name, [0, 0])


@ANY
def test_maps_are_those_of_the_classifier(arch):
    full, x = lively(arch).eval(), images(2, 48)
    net = build_model(arch, features_only=True).eval()
    state = full.state_dict()
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not missing
    assert all(key.startswith(("head.", "classifier.")) for key in unexpected)
    maps = outputs(full, x)
    assert all(torch.equal(a, b) for a, b in zip(net(x), maps, strict=True))
    last, intermediates = full.forward_intermediates(x)
    assert torch.equal(last, full.forward_features(x))
    assert all(torch.equal(a, b) for a, b in zip(intermediates, maps, strict=True))


def test_same_seed_same_weights_as_the_classifier():
    torch.manual_seed(3)
    full = build_model(TINY).state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(v, full[k]) for k, v in build_model(TINY, features_only=True).state_dict().items())


@pytest.mark.parametrize(
    ("indices", "taken"), [(None, [0, 1, 2]), (2, [1, 2]), ((0, 1), [0, 1]), ([-1], [2]), ((2, -3), [2, 0]), ([0], [0])]
)
def test_chosen_maps(indices, taken):
    full, x = lively(ODD).eval(), images(2, 48)
    net = build_model(ODD, features_only=True, out_indices=indices).eval()
    net.load_state_dict(full.state_dict(), strict=False)
    expected = [outputs(full, x)[i] for i in taken]
    for maps in (net(x), full.forward_intermediates(x, indices, intermediates_only=True)):
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert net.feature_info == [full.feature_info[i] for i in taken]
    assert len(net.stages) == [0, 2, 4][max(taken)]


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (0, "out_indices is 0; allowed: the last 1 to 3 maps"),
        (4, "out_indices is 4; allowed: the last 1 to 3 maps"),
        ([3], r"out_indices is \[3\]; allowed: one or more of -3 to 2"),
        ((0, -4), r"out_indices is \[0, -4\]; allowed: one or more of -3 to 2"),
        ([], r"out_indices is \[\]; allowed: one or more of -3 to 2"),
    ],
)
def test_indices_out_of_range(indices, words):
    full = build_model(ODD)
    for call in (
        lambda: build_model(ODD, features_only=True, out_indices=indices),
        lambda: full.forward_intermediates(images(), indices),
        lambda: full.prune_intermediate_layers(indices),
        lambda: take_indices(3, indices),
    ):
        with pytest.raises(InputError, match=words):
            call()
    assert len(full.stages) == 4


@pytest.mark.parametrize(
    ("options", "words"), [({"output_fmt": "NLC"}, "allowed: NCHW"), ({"stop_early": True}, "needs intermediates_only")]
)
def test_intermediates_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words):
        build_model(TINY).forward_intermediates(images(), **options)


def test_out_indices_alone_is_refused():
    with pytest.raises(InputError, match="needs features_only"):
        build_model(TINY, out_indices=(0,))


def test_stopping_early_computes_nothing_deeper():
    model = lively(ARCH_A0).eval()
    ran = []
    for i, stage in enumerate(model.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append(i))
    maps = model.forward_intermediates(images(1, 64), [1], stop_early=True, intermediates_only=True)
    assert (len(maps), ran) == (1, [0, 1])


@ANY
@pytest.mark.parametrize("indices", [[0], 1, (0, -1)])
def test_pruning(arch, indices):
    full, x = lively(arch).train(), images(2, 48)
    pruned = copy.deepcopy(full).eval()
    expected = [outputs(full.eval(), x)[i] for i in take_indices(len(MAPS[arch]), indices)]
    taken = pruned.prune_intermediate_layers(indices)
    maps = pruned.forward_intermediates(x, taken, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert torch.equal(pruned.forward_features(x), expected[-1])
    assert torch.equal(pruned(x), expected[-1])
    assert pruned.num_features == pruned.head_hidden_size == expected[-1].shape[1]
    assert not any(module.training for module in pruned.modules())
    pruned.reset_classifier(3, "avg")
    assert pruned(x).shape == (2, 3)


def test_pruning_can_spare_the_head():
    full, x = lively(TINY).eval(), images()
    logits = full(x)
    assert full.prune_intermediate_layers(2, prune_head=False) == [0, 1]
    assert torch.equal(full(x), logits)
    full.prune_intermediate_layers([0], prune_head=False)  # without the last stage the head cannot stay
    assert not isinstance(full.classifier, nn.Linear)
    assert len(full.stages) == 1


@pytest.mark.parametrize("indices", [4, (1, 3), (0, -1)])
def test_timm_extracts_features(indices):
    full, x = lively(ARCH_A0).eval(), images(1, 64)
    chosen = take_indices(5, indices)
    expected = [outputs(full, x)[i] for i in chosen]
    listed = FeatureListNet(copy.deepcopy(full), tuple(chosen), flatten_sequential=True)
    for net in (
        FeatureGetterNet(copy.deepcopy(full), indices),
        FeatureGetterNet(copy.deepcopy(full), indices, prune=False),
        listed,
    ):
        assert all(torch.equal(a, b) for a, b in zip(net(x), expected, strict=True))
        assert net.feature_info.channels() == [m.shape[1] for m in expected]
        assert net.feature_info.reduction() == [64 // m.shape[2] for m in expected]


@pytest.mark.slow
@pytest.mark.parametrize("arch", [ODD, ARCH_A0], ids=lambda arch: arch.name)
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_feature_networks_compile_export_and_copy(arch):
    model, x = lively(arch), images(2, 64)
    net = FeatureNet(model.stem, model.stages, model.feature_info, (-1, 0)).eval()
    batch = torch.export.Dim("batch")
    ways = {
        "script": torch.jit.script(net),
        "trace": torch.jit.trace(net, x),
        "fx": torch.fx.symbolic_trace(net),
        "export": torch.export.export(net, (x,), dynamic_shapes=({0: batch},)).module(),
        "compile": torch.compile(net, backend="aot_eager", fullgraph=True),
        "deepcopy": copy.deepcopy(net),
        "pickle": pickle.loads(pickle.dumps(net)),
    }
    for name, way in ways.items():
        maps = way(images(3, 64))
        assert len(maps) == 2, name
        same(list(maps), net(images(3, 64)))


def test_checkpointing_a_feature_network():
    model = lively(ODD, stochastic_depth=0.3)
    results = []
    for enable in (False, True):
        net = build_model(ODD, stochastic_depth=0.3, features_only=True).train()
        net.load_state_dict(model.state_dict(), strict=False)
        net.set_grad_checkpointing(enable)
        torch.manual_seed(5)
        sum(x.square().sum() for x in net(images())).backward()
        results.append([*(p.grad for p in net.parameters()), *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
