"""Architectures: read strictly, written and read again, and found by name."""

import dataclasses
import json

import pytest

from fbnetv3 import Arch, Block, InputError, build_model, list_models
from fbnetv3.arch import ARCH_A0, ARCHS, TABLE5, find_arch
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


def test_an_unknown_model_is_answered_with_the_nearest_names():
    with pytest.raises(InputError, match=r"`fbnetv3 models` lists all [0-9]+"):
        find_arch("resnet")
    with pytest.raises(InputError, match=r"unknown model 'fbnetv3_z'; did you mean 'fbnetv3_[a-g]', 'fbnetv3_[a-g]'"):
        build_model("fbnetv3_z")


def test_models_are_a_to_g():
    assert list_models() == [f"fbnetv3_{letter}" for letter in "abcdefg"]
    assert find_arch("FBNetV3_B") is ARCHS["fbnetv3_b"]


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
