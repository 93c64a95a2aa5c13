import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fbnetv3 import Arch, Block, InputError, build_model, list_models
from fbnetv3.arch import ARCH_A0, ARCHS, TABLE5, find_arch
from fbnetv3.complexity import cost, round_width
from tests.places import SHARED

TINY = Arch(
    "tiny",
    16,
    Block("conv", 8, k=3, s=2),
    ((Block("ir", 8, k=3, n=2),), (Block("ir", 16, k=5, e=3, s=2, se=True),)),
    Block("pool", 32, e=2),
)


@pytest.mark.parametrize(
    "arch",
    [*ARCHS.values(), ARCH_A0, *TABLE5.values(), TINY, dataclasses.replace(TINY, head=None)],
    ids=lambda a: a.name,
)
def test_dict_round_trip_through_json(arch):
    assert Arch.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"schema": 99}, "update fbnetv3"),
        ({"resolution": "big"}, "resolution is 'big'"),
        ({"stages": "none"}, "list of lists"),
        ({"stages": []}, "at least one stage"),
        ({"stem": {"block": "conv", "c": 8, "k": 4}}, "odd kernels"),
        ({"head": {"block": "ir", "c": 8}}, "allowed: pool"),
        ({"stages": [[{"block": "ir", "c": 8, "act": "gelu"}]]}, "act is 'gelu'; allowed: hswish, relu"),
        ({"stages": [[{"block": "ir", "c": True}]]}, "c is True"),
        ({"stages": [[{"block": "ir"}]]}, r"stages\[0\]\[0\]: missing key 'c'"),
    ],
)
def test_reading_is_strict(change, words):
    with pytest.raises(InputError, match=words):
        Arch.from_dict(TINY.to_dict() | change)


def test_missing_key():
    data = TINY.to_dict()
    del data["stem"]
    with pytest.raises(InputError, match="missing key 'stem'"):
        Arch.from_dict(data)


def test_arch_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.name = "other"


def test_unknown_model_names_the_choices():
    with pytest.raises(InputError, match=r"unknown model 'fbnetv3_z'; available: fbnetv3_a, .*fbnetv3_g"):
        build_model("fbnetv3_z")


def test_models_are_a_to_g():
    assert list_models() == [f"fbnetv3_{letter}" for letter in "abcdefg"]
    assert find_arch("FBNetV3_B") is ARCHS["fbnetv3_b"]


@pytest.mark.parametrize(
    ("width", "rounded"),
    [
        (6, 8),
        (10, 16),
        (18, 24),
        (26, 32),
        (30, 32),
        (54, 56),
        (66, 64),
        (84, 88),
        (12, 16),
        (1, 8),
        (8, 8),
        (224, 224),
    ],
)
def test_rounding_of_widths(width, rounded):
    assert round_width(width) == rounded


@given(st.integers(1, 4096))
def test_rounding_loses_at_most_five_percent_and_is_a_multiple_of_eight(width):
    rounded = round_width(width)
    assert rounded % 8 == 0
    assert rounded >= 0.95 * width
    assert rounded <= width + 8
    assert round_width(rounded) == rounded


def test_cost_of_a_network_counted_by_hand():
    # stem 16->8: 8*1*9 weights on 8x8; ir 8->8 twice, no expansion: dw 8*9 + pw 64 on 8x8; ir 8->16 stride 2, mid 24:
    # pw 192 on 8x8, dw 24*25 on 4x4, SE 24<->8 (8/4 rounds to 8): 384, pool 24*16, pwl 384 on 4x4; head 16->32 on 4x4, pool
    # 32*16, 32->32, no-op pool 32; classifier 32->10.
    conv = 72 * 64 + 2 * (72 + 64) * 64 + 192 * 64 + 600 * 16 + 384 + 384 * 16 + 512 * 16 + 1024 + 320
    counted = cost(TINY, num_classes=10, in_chans=1)
    assert counted.conv == conv
    assert counted.pool == 24 * 16 + 32 * 16
    assert counted.noop_pool == 32
    assert counted.weights == 72 + 2 * 136 + 192 + 600 + 384 + 384 + 512 + 1024 + 320
    assert counted.flops() == conv + 384 + 512 + 32
    with pytest.raises(InputError, match="unknown FLOPs convention 'mine'; allowed: published, fvcore"):
        counted.flops("mine")


@pytest.mark.parametrize(
    "row",
    [
        Block("ir", 16, k=5, e=4, n=2, s=2, se=True, act="relu", se_from="expanded", dw_norm_act=False),
        Block("ir", 24, k=3, e=5, s=2, pad=0),
        Block("conv", 16, k=3, n=2, s=2),
    ],
)
@pytest.mark.parametrize("head", [TINY.head, None])
def test_closed_form_equals_fvcore_for_every_kind_of_row(row, head):
    from fvcore.nn import FlopCountAnalysis

    arch = Arch("odd", 30, Block("conv", 12, k=5, s=2), ((Block("ir", 12, k=3),), (row,)), head)
    model = build_model(arch, num_classes=7, in_chans=2).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 2, 30, 30))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = cost(arch, 7, 2)
    assert counter.total() == counted.flops("fvcore")
    assert sum(p.numel() for p in model.parameters()) == counted.params("fvcore")


DETECTION = SHARED / "reference" / "detection_archs.json"


@pytest.mark.skipif(not DETECTION.is_file(), reason=f"no reference data at {DETECTION}")
@pytest.mark.parametrize("name", ["FBNetV3-A", "FBNetV3-E", "EfficientNetB0", "EfficientNetB1"])
def test_table_5s_rows_are_the_public_ones(name):
    arch = find_arch("table5_" + name.lower().replace("-", "_").replace("netb", "net_b"))
    (stem, *first), *others = json.loads(DETECTION.read_text())["stages"][name]
    assert (stem["kernel"], stem["out_channels"], stem["stride"]) == (arch.stem.k, arch.stem.c, arch.stem.s)
    keys = ("kernel", "expansion", "out_channels", "stride", "repeat", "se")
    rows = [[tuple(row[key] for key in keys) for row in stage] for stage in (first, *others)]
    assert rows == [[(b.k, b.e, b.c, b.s, b.n, b.se) for b in stage] for stage in arch.stages]
    for row in arch.rows:
        assert (row.act, row.se_from, row.dw_norm_act, row.padding) == ("relu", "expanded", False, row.k // 2)
    assert (arch.stem.act, arch.head) == ("relu", None)
