"""Networks as parts of detectron2's models: names, maps, frozen stages, norms, and what is refused."""

import dataclasses

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
from fbnetv3.detection.config import CONFIGS, load_config
from fbnetv3.detection.modeling import FBNetV3Backbone, build_detector
from fbnetv3.detection.parts import BoxRows, RPNRows, build_trunk, detection_arch, trunk_stages
from tests.detection import coco_data

LEVELS = ["c1", "c2", "c3", "c4", "c5"]


def backbone(arch, levels=LEVELS, frozen=0, norm="BN"):
    changes = ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(arch), "MODEL.FBNETV3.OUT_FEATURES", repr(levels)]
    changes += ["MODEL.BACKBONE.FREEZE_AT", str(frozen), "MODEL.FBNETV3.NORM", norm]
    return build_backbone(load_config("base_c4", changes), ShapeSpec(channels=3))


def detector(pair, **more):
    words = [str(word) for key, value in more.items() for word in (key.replace("__", "."), value)]
    cfg = load_config("base_c4", ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(pair), *words])
    torch.manual_seed(0)
    return build_detector(cfg)


def with_statistics(model):
    """Running statistics and affine weights of no fresh network, as in trained ones."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model


def answers(model, seed=0):
    """Maps of the backbone, the RPN's logits and the box head's vectors, which are all that the network computes."""
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
def test_every_network_is_a_backbone_of_the_maps_that_it_declares(name):
    model = backbone(name).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 96, 96))
    assert list(maps) == LEVELS
    for level, shape in model.output_shape().items():
        assert maps[level].shape[1] == shape.channels
        assert shape.stride == 2 ** int(level[1])
        # Released networks pad some rows by less than half a kernel: a map may lack some of its places, never have more.
        assert 1 <= maps[level].shape[2] <= -(-96 // shape.stride)
    if all(row.padding == row.k // 2 for row in find_arch(name).rows):
        assert [maps[level].shape[2] for level in LEVELS] == [48, 24, 12, 6, 3]


def test_maps_are_those_of_the_classifier(pair):
    network = with_statistics(build_model(coco_data.ARCH, 7)).eval()
    model = backbone(pair, ["c4", "c2"]).eval()
    missing, _ = model.load_state_dict(network.state_dict(), strict=False)
    assert missing == []
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = model(x)
        stem = network.stem(x)
        expected = {"c4": network.stages[:4](stem), "c2": network.stages[:2](stem)}
    assert list(maps) == ["c4", "c2"]
    assert all(torch.equal(maps[level], expected[level]) for level in maps)
    assert len(model.stages) == 4  # nothing is built that no map needs


def test_the_cut_by_hand(pair):
    assert trunk_stages(coco_data.ARCH) == 4
    rows, head = RPNRows(coco_data.ARCH, 15), BoxRows(coco_data.ARCH)
    logits, boxes = rows([torch.zeros(1, 16, 4, 6)])
    assert (logits[0].shape, boxes[0].shape) == ((1, 15, 4, 6), (1, 60, 4, 6))
    assert len(rows.rows) == 2  # the trunk's last row has two repeats
    assert head(torch.zeros(3, 16, 6, 6)).shape == (3, 24)
    assert set(head.state_dict()) == {key for key in build_model(coco_data.ARCH).state_dict() if "stages.4." in key}


def test_the_whole_detector_trains_and_detects(pair):
    model = detector(pair, MODEL__RPN__BATCH_SIZE_PER_IMAGE=32, MODEL__ROI_HEADS__NUM_CLASSES=3)
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
    free = with_statistics(detector(pair, MODEL__FBNETV3__NORM="BN"))
    other = detector(pair, **{"MODEL__FBNETV3__NORM": "BN"} | more)
    other.load_state_dict(free.state_dict(), strict=False)
    for a, b in zip(answers(free), answers(other), strict=True):
        assert torch.equal(a, b)


def test_detectrons_own_converter_drops_no_activation(pair):
    """timm fuses the activation into the norm, which the converter replaces; here it is a module of its own."""
    import timm

    model = with_statistics(detector(pair, MODEL__FBNETV3__NORM="BN"))
    before = answers(model)
    converted = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, answers(converted), strict=True))
    trunk = with_statistics(timm.create_model("fbnetv3_b", features_only=True)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = trunk(x)[-1]
        after = FrozenBatchNorm2d.convert_frozen_batchnorm(trunk)(x)[-1]
    assert not torch.allclose(before, after, rtol=0.1)


def test_frozen_parts_do_not_move_in_training(pair):
    model = detector(pair, MODEL__FBNETV3__NORM="BN", MODEL__BACKBONE__FREEZE_AT=3).train()
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
    model = detector(pair, MODEL__FBNETV3__NORM=norm)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    plain = [m for m in detector(pair, MODEL__FBNETV3__NORM="BN").modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(plain) > 0
    assert {type(m) for m in norms} == {kind}
    assert {type(m) for m in plain} == {nn.BatchNorm2d}
    assert model.train().backbone(torch.randn(2, 3, 64, 64))["c4"].isfinite().all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("MODEL.FBNETV3.ARCH", "fbnetv3_z", "unknown model 'fbnetv3_z'"),
        ("MODEL.FBNETV3.ARCH", "no/such.yaml", "cannot read the pair file"),
        ("MODEL.FBNETV3.OUT_FEATURES", "['c4', 'c6']", "has no map 'c6'; available: c1, c2, c3, c4, c5"),
        ("MODEL.FBNETV3.OUT_FEATURES", "[]", "allowed: one or more"),
        ("MODEL.FBNETV3.OUT_FEATURES", "['c3']", "not there: c4"),
        ("MODEL.FBNETV3.NORM", "GN", "allowed: BN, SyncBN, naiveSyncBN, FrozenBN"),
        ("MODEL.BACKBONE.FREEZE_AT", "6", "FREEZE_AT is 6; allowed: 0 to 5"),
        ("MODEL.BACKBONE.FREEZE_AT", "-1", "FREEZE_AT is -1"),
        ("MODEL.BACKBONE.NAME", "build_nothing", "No object named 'build_nothing'"),
        ("MODEL.RPN.IN_FEATURES", "['c9']", "not there: c9"),
        ("MODEL.DEVICE", "warp", "MODEL.DEVICE warp cannot be used"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_line(pair, key, value, words):
    with pytest.raises(InputError) as error:
        detector(pair, **{key: value})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_heads_refuse_maps_of_others(pair):
    """They would be built, and fail on the first picture."""
    maps = {"MODEL__FBNETV3__OUT_FEATURES": ["c3", "c4"]}
    with pytest.raises(InputError, match="FBNetV3RPNHead takes the map c4, not c3"):
        detector(pair, **maps, MODEL__RPN__IN_FEATURES=["c3"])
    with pytest.raises(InputError, match="FBNetV3BoxHead takes the map c4, not c3"):
        detector(pair, **maps, MODEL__ROI_HEADS__IN_FEATURES=["c3"])


def test_a_network_without_stride_16_or_stages_after_it_is_refused(tmp_path):
    for stages, words in ((coco_data.ROWS[:3], "strides 2, 4, 8"), (coco_data.ROWS[:4], "one after it")):
        arch = dataclasses.replace(coco_data.ARCH, stages=stages)
        coco_data.pair_file(tmp_path / "short.yaml", arch)
        with pytest.raises(InputError, match=words):
            trunk_stages(arch)
    with pytest.raises(InputError, match="one after it"):
        detector(tmp_path / "short.yaml")
    assert detection_arch(str(tmp_path / "short.yaml")) == arch
    with pytest.raises(InputError, match="has no map 'c5'"):
        build_trunk(arch, ["c5"])


def test_every_config_builds_and_has_the_papers_protocol():
    for path in CONFIGS.glob("*.yaml"):
        cfg = load_config(path.stem)
        assert (cfg.SOLVER.LR_SCHEDULER_NAME, cfg.MODEL.RPN.POST_NMS_TOPK_TEST) == ("WarmupCosineLR", 75), path
        assert cfg.MODEL_EMA.ENABLED, path
        if path.stem.endswith(("_3x", "base_c4")):
            assert (cfg.SOLVER.BASE_LR, cfg.MODEL.FBNETV3.NORM) == (0.16, "SyncBN"), path
            assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 270_000 * 16  # detectron2's 3x
    assert isinstance(
        build_detector(load_config("faster_rcnn_voc100", ["MODEL.DEVICE", "cpu"])).backbone, FBNetV3Backbone
    )
