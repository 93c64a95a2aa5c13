"""Parts of detectors from networks: depths, shapes and names by hand, and networks that cannot be split. No detectron2."""

import dataclasses

import pytest
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.arch import find_arch
from fbnetv3.detection.detector_parts import (
    BoxHead,
    RPNHead,
    backbone_depth,
    build_backbone,
    check_halving,
    feature_names,
    load_arch,
    load_classifier_weights,
)
from fbnetv3.networks.weight_file import read_weight_file
from tests.detection import coco_data

ARCH = coco_data.ARCH


def test_an_architecture_by_model_name_and_by_pair_file(pair):
    assert load_arch("fbnetv3_a") == find_arch("fbnetv3_a")
    assert load_arch(str(pair)) == ARCH
    with pytest.raises(InputError, match="unknown model 'fbnetv3_z'"):
        load_arch("fbnetv3_z")


def test_feature_maps_by_hand():
    # The stem has stride 2, then one stage per stride 2, 4, 8, 16, 32.
    assert feature_names(ARCH) == ["c1", "c2", "c3", "c4", "c5"]
    assert backbone_depth(ARCH) == 4
    backbone = build_backbone(ARCH, ["c4", "c2"])
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 16, 4, 6), (1, 8, 16, 24)]  # in the order asked for
    assert len(backbone.stages) == 4  # nothing is built that no feature map needs


def test_heads_by_hand():
    rpn, box_head = RPNHead(ARCH, 15), BoxHead(ARCH)
    logits, boxes = rpn([torch.zeros(1, 16, 4, 6), torch.zeros(1, 16, 2, 2)])
    assert [tuple(x.shape) for x in logits] == [(1, 15, 4, 6), (1, 15, 2, 2)]
    assert [tuple(x.shape) for x in boxes] == [(1, 60, 4, 6), (1, 60, 2, 2)]
    assert len(rpn.rows) == 2  # the backbone's last row has two repeats
    assert box_head(torch.zeros(3, 16, 6, 6)).shape == (3, 24)


def test_backbone_and_box_head_are_the_stages_of_the_classifier():
    state = build_model(ARCH).state_dict()
    stages = {key for key in state if key.startswith(("stem.", "stages."))}
    backbone, box_head = (set(part.state_dict()) for part in (build_backbone(ARCH), BoxHead(ARCH)))
    assert backbone | box_head == stages
    assert not backbone & box_head
    assert box_head == {key for key in stages if key.startswith("stages.4.")}


def test_the_last_row_of_the_rpn_starts_as_detectron2_starts_it():
    torch.manual_seed(0)
    rpn = RPNHead(ARCH, 15)
    for conv in (rpn.objectness, rpn.boxes):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.2)
        assert not conv.bias.any()


def test_networks_that_cannot_be_split_are_refused():
    for stages, words in ((coco_data.ROWS[:3], "strides 2, 4, 8"), (coco_data.ROWS[:4], "one after it")):
        arch = dataclasses.replace(ARCH, stages=stages)
        with pytest.raises(InputError, match=words):
            backbone_depth(arch)
    with pytest.raises(InputError, match="has no feature map 'c5'; available: c1, c2, c3, c4"):
        build_backbone(arch, ["c5"])


def test_an_fpn_needs_feature_maps_that_halve():
    check_halving(ARCH)
    check_halving(find_arch("fbnetv3_a_same_padding"))
    with pytest.raises(InputError, match="give fbnetv3_a_same_padding, which takes the same weights, or a C4 detector"):
        check_halving(find_arch("fbnetv3_a"))


@pytest.fixture
def classifier(tmp_path):
    return coco_data.classifier_file(tmp_path / "classifier.pt")


def test_a_classifiers_weights_as_a_file_a_path_and_a_bare_state_dict(tmp_path, classifier):
    file = read_weight_file(classifier)
    torch.save(dict(file.state), tmp_path / "bare.pt")
    for given in (file, classifier, str(classifier), tmp_path / "bare.pt"):
        loaded = load_classifier_weights(given, ARCH)
        assert coco_data.same(dict(loaded.state), dict(file.state))


def test_the_padding_of_the_weights_may_be_smaller_but_not_larger(tmp_path, classifier):
    """A released network's weights fit its `same_padding` variant, not the other way round."""
    rows = tuple(tuple(dataclasses.replace(row, pad=0) for row in stage) for stage in coco_data.ROWS)
    unpadded = dataclasses.replace(ARCH, name="unpadded", stages=rows)
    load_classifier_weights(coco_data.classifier_file(tmp_path / "unpadded.pt", unpadded), ARCH)
    with pytest.raises(
        InputError, match="weights of tiny, which is another network than unpadded; give weights of unp"
    ):
        load_classifier_weights(classifier, unpadded)


def test_weights_of_others_are_refused(tmp_path, classifier):
    rows = (*coco_data.ROWS[:4], (dataclasses.replace(coco_data.ROWS[4][0], c=32),))
    with pytest.raises(InputError, match="these are weights of tiny, which is another network than wider") as error:
        load_classifier_weights(classifier, dataclasses.replace(ARCH, name="wider", stages=rows))
    assert "\n" not in str(error.value)
    torch.save(dict(read_weight_file(classifier).state), tmp_path / "bare.pt")
    with pytest.raises(InputError, match="not a state dict of fbnetv3_d"):
        load_classifier_weights(tmp_path / "bare.pt", find_arch("fbnetv3_d"))
    with pytest.raises(InputError, match="there are no registered weights of tiny; give a weight file of a classifier"):
        load_classifier_weights("fb", ARCH)
