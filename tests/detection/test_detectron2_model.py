"""Networks as parts of detectron2's models: feature maps, frozen stages, norms, and configs that are refused."""

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm, ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from fbnetv3 import InputError, build_model
from fbnetv3.arch import ARCHS, TABLE5, find_arch
from fbnetv3.detection.config import load_config
from fbnetv3.detection.detectron2_model import build_detector, build_seeded, convert_norms, seed_of
from tests.detection import coco_data

FEATURES = ["c1", "c2", "c3", "c4", "c5"]


def backbone(arch, features=FEATURES, frozen=0, norm="BN"):
    changes = ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(arch), "MODEL.FBNETV3.OUT_FEATURES", repr(features)]
    changes += ["MODEL.BACKBONE.FREEZE_AT", str(frozen), "MODEL.FBNETV3.NORM", norm]
    return build_backbone(load_config("base_c4", changes), ShapeSpec(channels=3))


def answers(model, seed=0):
    """Return all that the network computes: feature maps, the RPN head's outputs, and the box head's vectors."""
    torch.manual_seed(seed)
    x = torch.randn(2, 3, 64, 96)
    model.eval()
    with torch.no_grad():
        maps = model.backbone(x)
        logits, boxes = model.proposal_generator.rpn_head([maps["c4"]])
        regions = model.roi_heads.box_head(torch.randn(3, maps["c4"].shape[1], 6, 6))
    return [*maps.values(), *logits, *boxes, regions]


def test_table5_maps_by_hand():
    # Rows of arch.py, and a stride-2 convolution of an even side halves it: 64, 128 -> 4, 8 at stride 16.
    model = backbone("table5_fbnetv3_a")
    shapes = {name: (shape.channels, shape.stride) for name, shape in model.output_shape().items()}
    assert shapes == {"c1": (16, 2), "c2": (24, 4), "c3": (32, 8), "c4": (112, 16), "c5": (200, 32)}
    with torch.no_grad():
        found = {name: tuple(x.shape) for name, x in model(torch.zeros(1, 3, 64, 128)).items()}
    assert found == {
        "c1": (1, 16, 32, 64),
        "c2": (1, 24, 16, 32),
        "c3": (1, 32, 8, 16),
        "c4": (1, 112, 4, 8),
        "c5": (1, 200, 2, 4),
    }


@pytest.mark.parametrize("name", [*ARCHS, *TABLE5, "fbnetv3_a_same_padding", "fbnetv3_a0"])
def test_every_network_is_a_backbone_whose_feature_maps_are_as_declared(name):
    with torch.device("meta"):  # shapes without computing
        model = backbone(name).eval()
        maps = model(torch.zeros(1, 3, 96, 96))
    assert list(maps) == FEATURES
    for feature, shape in model.output_shape().items():
        assert maps[feature].shape[1] == shape.channels
        assert shape.stride == 2 ** int(feature[1])
        # Released networks pad some rows by less than half a kernel: a map may lack some locations, never have more.
        assert 1 <= maps[feature].shape[2] <= -(-96 // shape.stride)
    if all(row.padding == row.k // 2 for row in find_arch(name).rows):
        assert [maps[feature].shape[2] for feature in FEATURES] == [48, 24, 12, 6, 3]


def test_maps_are_those_of_the_classifier(pair):
    network = coco_data.randomise_norms(build_model(coco_data.ARCH, 7)).eval()
    model = backbone(pair, ["c4", "c2"]).eval()
    missing, _ = model.load_state_dict(network.state_dict(), strict=False)
    assert missing == []
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = model(x)
        stem = network.stem(x)
        expected = {"c4": network.stages[:4](stem), "c2": network.stages[:2](stem)}
    assert list(maps) == ["c4", "c2"]
    assert all(torch.equal(maps[feature], expected[feature]) for feature in maps)


def test_a_detector_trains_and_detects(pair):
    model = coco_data.detector(pair, MODEL__RPN__BATCH_SIZE_PER_IMAGE=32, MODEL__ROI_HEADS__NUM_CLASSES=3)
    truth = Instances((64, 96), gt_boxes=Boxes(torch.tensor([[4.0, 8.0, 50.0, 60.0]])), gt_classes=torch.tensor([1]))
    with EventStorage():
        losses = model([{"image": torch.zeros(3, 64, 96), "instances": truth}])
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        (found,) = model.eval()([{"image": torch.zeros(3, 64, 96), "height": 128, "width": 192}])
    assert found["instances"].image_size == (128, 192)


def test_an_fpn_needs_maps_that_halve():
    model = build_detector(load_config("faster_rcnn_fbnetv3_a_fpn_3x", ["MODEL.DEVICE", "cpu"]))
    shapes = {name: (shape.channels, shape.stride) for name, shape in model.backbone.output_shape().items()}
    assert shapes == {f"p{i}": (128, 2**i) for i in (2, 3, 4, 5, 6)}
    with torch.no_grad():
        (found,) = model.eval()([{"image": torch.zeros(3, 100, 130)}])
    assert found["instances"].image_size == (100, 130)
    with pytest.raises(InputError, match="fbnetv3_a_same_padding"):
        build_detector(
            load_config("faster_rcnn_fbnetv3_a_fpn_3x", ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", "fbnetv3_a"])
        )


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_is_the_stem_and_stages_before_and_no_other(pair, frozen):
    model = backbone(pair, ["c4"], frozen)
    parts = [model.stem, *model.stages]
    for i, part in enumerate(parts):
        norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
        assert norms
        assert all(isinstance(m, FrozenBatchNorm2d) == (i < frozen) for m in norms), i
        assert all(p.requires_grad == (i >= frozen) for p in part.parameters()), i


@pytest.mark.parametrize(
    "more",
    [
        {"MODEL__BACKBONE__FREEZE_AT": 1},
        {"MODEL__BACKBONE__FREEZE_AT": 3},
        {"MODEL__FBNETV3__NORM": "FrozenBN"},
        {"MODEL__FBNETV3__NORM": "SyncBN"},
    ],
)
def test_freezing_leaves_the_answers_as_they_are(pair, more):
    free = coco_data.randomise_norms(coco_data.detector(pair, MODEL__FBNETV3__NORM="BN"))
    other = coco_data.detector(pair, **{"MODEL__FBNETV3__NORM": "BN"} | more)
    other.load_state_dict(free.state_dict(), strict=False)
    for a, b in zip(answers(free), answers(other), strict=True):
        assert torch.equal(a, b)


def test_detectrons_own_converter_drops_no_activation(pair):
    """timm's norm contains the activation, which the converter drops with it. Ours is a module of its own."""
    import timm

    model = coco_data.randomise_norms(coco_data.detector(pair, MODEL__FBNETV3__NORM="BN"))
    before = answers(model)
    converted = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, answers(converted), strict=True))
    network = coco_data.randomise_norms(timm.create_model("fbnetv3_b", features_only=True)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(x)[-1]
        after = FrozenBatchNorm2d.convert_frozen_batchnorm(network)(x)[-1]
    assert not torch.allclose(before, after, rtol=0.1)


def test_frozen_parts_do_not_move_in_training(pair):
    model = coco_data.detector(pair, MODEL__FBNETV3__NORM="BN", MODEL__BACKBONE__FREEZE_AT=3).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    for _ in range(2):
        maps = model.backbone(torch.randn(2, 3, 64, 64))
        optimizer.zero_grad()
        (maps["c4"].square().mean() + maps["c4"].mean()).backward()
        optimizer.step()
    frozen = ("backbone.stem.", "backbone.stages.0.", "backbone.stages.1.")
    for key, value in model.state_dict().items():
        if key.startswith(frozen):
            assert torch.equal(value, before[key]), key
        elif key.startswith("backbone.") and ("running" in key or key.endswith("conv.weight")):
            assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize(("norm", "kind"), [("SyncBN", NaiveSyncBatchNorm), ("naiveSyncBN", NaiveSyncBatchNorm)])
def test_synchronised_norms_on_the_cpu_are_detectrons(pair, norm, kind):
    model = coco_data.detector(pair, MODEL__FBNETV3__NORM=norm)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    plain = [m for m in coco_data.detector(pair, MODEL__FBNETV3__NORM="BN").modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(plain) > 0
    assert {type(m) for m in norms} == {kind}
    assert {type(m) for m in plain} == {nn.BatchNorm2d}
    assert model.train().backbone(torch.randn(2, 3, 64, 64))["c4"].isfinite().all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("MODEL.FBNETV3.ARCH", "fbnetv3_z", "unknown model 'fbnetv3_z'"),
        ("MODEL.FBNETV3.ARCH", "no/such.yaml", "cannot read the pair file"),
        ("MODEL.FBNETV3.OUT_FEATURES", "['c4', 'c6']", "has no feature map 'c6'; available: c1, c2, c3, c4, c5"),
        ("MODEL.FBNETV3.OUT_FEATURES", "[]", "allowed: one or more"),
        ("MODEL.FBNETV3.OUT_FEATURES", "['c3']", "does not exist: c4"),
        ("MODEL.FBNETV3.NORM", "GN", "allowed: BN, SyncBN, naiveSyncBN, FrozenBN"),
        ("MODEL.BACKBONE.FREEZE_AT", "6", "FREEZE_AT is 6; allowed: 0 to 5"),
        ("MODEL.BACKBONE.FREEZE_AT", "-1", "FREEZE_AT is -1"),
        ("MODEL.BACKBONE.NAME", "build_nothing", "No object named 'build_nothing'"),
        ("MODEL.RPN.IN_FEATURES", "['c9']", "does not exist: c9"),
        ("MODEL.DEVICE", "warp", "the device warp of MODEL.DEVICE cannot be used"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_line(pair, key, value, words):
    with pytest.raises(InputError) as error:
        coco_data.detector(pair, **{key: value})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_heads_refuse_other_feature_maps(pair):
    """They would be built, and fail at the first image."""
    maps = {"MODEL__FBNETV3__OUT_FEATURES": ["c3", "c4"]}
    with pytest.raises(InputError, match="FBNetV3RPNHead takes the feature map c4, not c3"):
        coco_data.detector(pair, **maps, MODEL__RPN__IN_FEATURES=["c3"])
    with pytest.raises(InputError, match="FBNetV3BoxHead takes the feature map c4, not c3"):
        coco_data.detector(pair, **maps, MODEL__ROI_HEADS__IN_FEATURES=["c3"])


def test_fresh_weights_follow_from_the_configs_seed(pair):
    def weights(seed):
        cfg = load_config("base_c4", ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(pair), "SEED", str(seed)])
        assert seed_of(cfg) == max(seed, 0)
        return build_seeded(cfg).state_dict()

    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    assert coco_data.same(dict(first), dict(weights(1)))
    assert not coco_data.same(dict(first), dict(weights(2)))
    assert coco_data.same(dict(weights(-1)), dict(weights(0)))  # -1, detectron2's default, is 0 here


def test_a_seed_that_is_too_large_is_refused():
    with pytest.raises(InputError, match="seed is 18446744073709551616; give a whole number from 0 to"):
        seed_of(load_config("base_c4", ["SEED", str(2**64)]))


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match="NORM is 'GN'; allowed: BN, SyncBN, naiveSyncBN, FrozenBN"):
        convert_norms(nn.BatchNorm2d(3), "GN")
