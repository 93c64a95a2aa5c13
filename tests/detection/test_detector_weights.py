"""Weights of detectors: which tensors are loaded where, what the report counts, and weights that are refused."""

import dataclasses

import pytest
import torch

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError, build_model
from fbnetv3.detection.detector_weights import load_detector, load_into, read_detector
from fbnetv3.networks.weight_file import read_weight_file
from tests.detection import coco_data


@pytest.fixture
def classifier(tmp_path):
    return str(coco_data.classifier_file(tmp_path / "classifier.pt"))


def count(module):
    return len(module.state_dict())


def test_a_classifier_is_loaded_into_backbone_and_box_head(pair, classifier):
    model = coco_data.detector(pair)
    rpn = {key: value.clone() for key, value in model.proposal_generator.state_dict().items()}
    loaded = load_into(model, str(pair), classifier)
    state = read_weight_file(classifier).state
    placed = {
        "backbone.": model.backbone.state_dict(),
        "roi_heads.box_head.": model.roi_heads.box_head.state_dict(),
    }
    for part in placed.values():
        assert all(torch.equal(value, state[key]) for key, value in part.items())
    keys = [key for part in placed.values() for key in part]
    assert len(set(keys)) == len(keys)
    # Stem and stages 0 to 3 are the backbone, stage 4 is the box head; the classifier and its head have no place.
    assert {key.split(".")[1] for key in placed["backbone."] if key.startswith("stages.")} == set("0123")
    assert {key.split(".")[1] for key in placed["roi_heads.box_head."]} == {"4"}
    assert {key.split(".")[0] for key in loaded.unused} == {"head", "classifier"}
    assert len(loaded.unused) + len(keys) == len(state)
    assert all(torch.equal(value, rpn[key]) for key, value in model.proposal_generator.state_dict().items())
    backbone, head = count(model.backbone), count(model.roi_heads.box_head)
    # Class and box predictor are two linear layers, of two tensors each.
    assert loaded.parts == {
        "backbone": (backbone, backbone),
        "proposal_generator": (0, count(model.proposal_generator)),
        "roi_heads.box_head": (head, head),
        "roi_heads.box_predictor": (0, 4),
    }
    assert loaded.summary().splitlines()[0] == f"backbone: {backbone} of {backbone} tensors loaded"
    assert "roi_heads.box_predictor: 0 of 4 tensors loaded, the others keep fresh weights" in loaded.summary()
    assert f"not used: {len(loaded.unused)} tensors of classifier.bias" in loaded.summary()


def test_weights_that_are_not_finite_are_refused(tmp_path, pair, shared_data):
    state = coco_data.detector(pair).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][0] = float("nan")
    torch.save({"model": state}, tmp_path / "nan.pth")
    cfg = coco_data.config(shared_data, pair, MODEL__WEIGHTS=tmp_path / "nan.pth", MODEL__ROI_HEADS__NUM_CLASSES=80)
    for strict in (False, True):
        with pytest.raises(InputError, match=r"nan.pth are not finite: roi_heads.box_predictor.cls_score.bias has NaN"):
            load_detector(cfg, strict=strict)


def test_counts_by_hand(tmp_path):
    """A stem convolution has weight and bias, a norm five tensors."""
    arch = dataclasses.replace(
        coco_data.ARCH,
        stages=tuple((dataclasses.replace(r[0], block="conv", n=1, e=1, se=False),) for r in coco_data.ROWS),
    )
    pair = coco_data.pair_file(tmp_path / "plain.yaml", arch)
    loaded = load_into(coco_data.detector(pair), str(pair), str(coco_data.classifier_file(tmp_path / "c.pt", arch)))
    assert loaded.parts["backbone"] == (5 * 7, 5 * 7)
    assert loaded.parts["roi_heads.box_head"] == (7, 7)
    assert loaded.parts["proposal_generator"] == (0, 7 + 4)


def test_an_fpn_takes_the_backbone_alone(pair, classifier):
    model = coco_data.detector(pair, "faster_rcnn_fbnetv3_a_fpn_3x")
    loaded = load_into(model, str(pair), classifier)
    state = read_weight_file(classifier).state
    part = model.backbone.bottom_up.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in part.items())
    assert loaded.parts["backbone"][0] == len(part) < loaded.parts["backbone"][1]
    assert loaded.parts["roi_heads.box_head"][0] == 0


def test_the_same_padding_variant_takes_the_weights_and_another_network_is_refused(tmp_path, pair, classifier):
    rows = tuple(tuple(dataclasses.replace(row, pad=0) for row in stage) for stage in coco_data.ROWS)
    other = dataclasses.replace(coco_data.ARCH, name="unpadded", resolution=80, stages=rows)
    loaded = load_into(
        coco_data.detector(pair), str(pair), str(coco_data.classifier_file(tmp_path / "unpadded.pt", other))
    )
    assert loaded.parts["backbone"][0] == loaded.parts["backbone"][1]
    name = str(coco_data.pair_file(tmp_path / "unpadded.yaml", other))
    with pytest.raises(InputError, match="these are weights of tiny, which is another network than unpadded"):
        load_into(coco_data.detector(name), name, classifier)
    rows = (*coco_data.ROWS[:4], (dataclasses.replace(coco_data.ROWS[4][0], c=32),))
    wider = coco_data.pair_file(tmp_path / "wider.yaml", dataclasses.replace(coco_data.ARCH, name="wider", stages=rows))
    with pytest.raises(InputError, match="these are weights of tiny, which is another network than wider"):
        load_into(coco_data.detector(wider), str(wider), classifier)


def test_a_state_dict_that_describes_nothing_is_the_detectors_network(tmp_path, pair):
    torch.manual_seed(4)
    network = build_model(coco_data.ARCH, 7)
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    model = coco_data.detector(pair)
    load_into(model, str(pair), str(tmp_path / "plain.pth"))
    assert torch.equal(model.backbone.stem.conv.weight, network.stem.conv.weight)
    with pytest.raises(InputError, match=r"plain\.pth"):
        load_into(coco_data.detector("fbnetv3_a"), "fbnetv3_a", str(tmp_path / "plain.pth"))


def save(path, model):
    torch.save({"model": model.state_dict(), "classes": ["a"]}, path)
    return str(path)


def test_a_detector_with_other_classes_keeps_all_but_the_predictor(tmp_path, pair):
    first, second = (coco_data.detector(pair, seed=s, MODEL__ROI_HEADS__NUM_CLASSES=n) for s, n in ((0, 3), (1, 5)))
    file = save(tmp_path / "three.pth", first)
    fresh = second.roi_heads.box_predictor.cls_score.weight.clone()
    loaded = load_into(second, str(pair), file)
    assert torch.equal(second.roi_heads.box_predictor.cls_score.weight, fresh)
    assert torch.equal(second.proposal_generator.rpn_head.boxes.weight, first.proposal_generator.rpn_head.boxes.weight)
    assert loaded.parts["roi_heads.box_predictor"] == (0, 4)
    with pytest.raises(
        InputError, match=r"4 tensors missing or of another shape.*cls_score.weight is \[4, 24\], not \[6"
    ):
        load_into(second, str(pair), file, strict=True)
    again = coco_data.detector(pair, seed=2, MODEL__ROI_HEADS__NUM_CLASSES=3)
    load_into(again, str(pair), file, strict=True)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())


def test_frozen_and_free_norms_take_each_others_weights(tmp_path, pair):
    frozen = coco_data.detector(pair, seed=1, MODEL__FBNETV3__NORM="FrozenBN")
    free = coco_data.detector(pair, MODEL__FBNETV3__NORM="BN")
    load_into(free, str(pair), save(tmp_path / "frozen.pth", frozen), strict=True)
    assert torch.equal(free.backbone.stem.conv.weight, frozen.backbone.stem.conv.weight)
    load_into(frozen, str(pair), save(tmp_path / "free.pth", free), strict=True)


def test_a_detector_of_another_network_is_refused(tmp_path, pair):
    rows = (*coco_data.ROWS[:4], (dataclasses.replace(coco_data.ROWS[4][0], c=32),))
    stem = dataclasses.replace(coco_data.ARCH.stem, c=16)
    wider = coco_data.pair_file(tmp_path / "w.yaml", dataclasses.replace(coco_data.ARCH, stem=stem, stages=rows))
    file = save(tmp_path / "wider.pth", coco_data.detector(wider))
    with pytest.raises(
        InputError, match=r"wider.pth does not fit this detector.*is \[16, 3, 3, 3\], not \[8, 3, 3, 3\]"
    ):
        load_into(coco_data.detector(pair), str(pair), file)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", ["missing", "damaged", "text", "list", "no weights", "no model"])
def test_files_without_weights_are_one_line(tmp_path, pair, kind, strict):
    path = tmp_path / "weights.pth"
    if kind == "damaged":
        path.write_bytes(torch.save({"model": {}}, path) or path.read_bytes()[:100])
    elif kind == "text":
        path.write_text("nonsense")
    elif kind != "missing":
        torch.save({"list": [1], "no weights": {"model": 3}, "no model": {"model": {"x": torch.ones(1)}}}[kind], path)
    with pytest.raises(InputError) as error:
        load_into(coco_data.detector(pair), str(pair), str(path), strict=strict)
    assert "weights.pth" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_classifier_is_no_detector(pair, classifier):
    with pytest.raises(InputError, match=r"classifier\.pt is no detector file"):
        load_into(coco_data.detector(pair), str(pair), classifier, strict=True)
    with pytest.raises(InputError, match="no weights 'nonsense'"):
        load_into(coco_data.detector("fbnetv3_a"), "fbnetv3_a", "nonsense")
    with pytest.raises(InputError, match=r"no detector file at .*no\.pth"):
        read_detector("no.pth")


def test_the_detector_of_a_config_with_and_without_weights(tmp_path, pair, shared_data):
    cfg = coco_data.config(shared_data, pair)
    fresh, report = load_detector(cfg)
    assert report is None
    file = save(tmp_path / "weights.pth", coco_data.detector(pair, seed=5, MODEL__ROI_HEADS__NUM_CLASSES=2))
    cfg = coco_data.config(shared_data, pair, MODEL__WEIGHTS=file)
    loaded, report = load_detector(cfg, strict=True)
    assert report.parts["roi_heads.box_predictor"] == (4, 4)
    assert report.unused == ()
    assert loaded.derived_from == ("unknown",)  # the file does not say what it was trained from
    assert coco_data.same(dict(loaded.state_dict()), read_detector(file)["model"])
    assert not coco_data.same(dict(loaded.state_dict()), dict(fresh.state_dict()))
