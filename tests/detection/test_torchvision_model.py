"""Torchvision's Faster R-CNN on networks of this package, mostly a small one, at 128 pixels."""

import dataclasses
import json

import pytest
import torch
from torchvision.io import ImageReadMode, read_image
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d

from fbnetv3 import InputError, build_model
from fbnetv3.detection.torchvision_model import faster_rcnn, freeze
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.transforms import Transforms
from tests.detection import coco_data
from tests.places import SHARED

ARCH = coco_data.ARCH
PHOTOS = SHARED / "data" / "voc100_coco"
SIDES = {"min_size": 128, "max_size": 128}
SMALL = {"rpn_batch_size_per_image": 64, "box_batch_size_per_image": 32, "rpn_post_nms_top_n_train": 64}  # for speed
GREY = Transforms(224, 224, (0.5,) * 3, (0.25,) * 3)


def classifier(arch=ARCH, classes=5):
    """Return the weights of a classifier whose tensors all differ from one another."""
    torch.manual_seed(1)
    model = coco_data.randomise_norms(build_model(arch, classes))
    return WeightFile(model.arch, tuple(map(str, range(classes))), GREY, model.state_dict(), ("origin",))


def scene(seed=0, side=128):
    """Return an image with one bright box, and its target."""
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed)) * 0.3
    image[:, 20:100, 30:90] += 0.6
    return image, {"boxes": torch.tensor([[30.0, 20.0, 90.0, 100.0]]), "labels": torch.tensor([1])}


def gradient(module):
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["table5_fbnetv3_a", "pair"])
def test_c4_detects_and_learns(name, pair):
    model = faster_rcnn(pair if name == "pair" else name, 3, **SIDES, **SMALL, box_score_thresh=0.0)
    assert isinstance(model, FasterRCNN)
    assert model.roi_heads.box_predictor.cls_score.out_features == 4  # background too
    images, targets = zip(*(scene(seed) for seed in (0, 1)), strict=True)
    losses = model(list(images), list(targets))
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    for part in (model.backbone.body.stem, model.backbone.body.stages[-1], model.rpn.head, model.roi_heads.box_head):
        assert gradient(part) > 0
    with torch.inference_mode():
        found = model.eval()([scene(2, 128)[0], scene(3, 96)[0]])
    for image, side in zip(found, (128, 96), strict=True):
        assert set(image) == {"boxes", "labels", "scores"}
        assert len(image["boxes"]) == len(image["labels"]) == len(image["scores"]) > 0
        assert image["boxes"].min() >= 0
        assert image["boxes"].max() <= side
        assert set(image["labels"].tolist()) <= {1, 2, 3}


def test_settings_of_the_paper_and_of_the_user():
    model = faster_rcnn("table5_fbnetv3_a", 80)
    assert (model.transform.min_size, model.transform.max_size) == ((432,), 720)
    assert model.rpn.post_nms_top_n() == 2000
    assert model.eval().rpn.post_nms_top_n() == 75
    assert model.roi_heads.box_roi_pool.output_size == (6, 6)
    sizes = model.rpn.anchor_generator.cell_anchors[0]
    areas = ((sizes[:, 2] - sizes[:, 0]) * (sizes[:, 3] - sizes[:, 1])).sqrt()
    assert areas.reshape(3, 5).mean(0).round(decimals=-1).tolist() == [30, 60, 100, 130, 160]
    other = faster_rcnn("table5_fbnetv3_a", 80, rpn_post_nms_top_n_test=10, image_mean=(0.1, 0.2, 0.3))
    assert other.eval().rpn.post_nms_top_n() == 10
    assert other.transform.image_mean == (0.1, 0.2, 0.3)


def test_proposals_at_test_are_75():
    model = faster_rcnn("table5_fbnetv3_a", 1, min_size=256, max_size=256, rpn_nms_thresh=1.0).eval()
    proposals = []
    model.rpn.register_forward_hook(lambda _module, _inputs, out: proposals.extend(out[0]))
    with torch.inference_mode():
        model([scene(side=256)[0]])
    assert [len(boxes) for boxes in proposals] == [75]


@pytest.mark.parametrize(("name", "places"), [("fbnetv3_a", 7), ("fbnetv3_a_same_padding", 8)])
def test_anchors_are_16_pixels_apart_however_a_network_pads(name, places):
    model = faster_rcnn(name, 1, **SIDES).eval()
    images, _ = model.transform([torch.rand(3, 128, 128)])
    maps = list(model.backbone(images.tensors).values())
    assert maps[0].shape[-2:] == (places, places)
    boxes = model.rpn.anchor_generator(images, maps)[0].reshape(places, places, 15, 4)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert torch.equal(centres[:, :, 0, 0], 16.0 * torch.arange(places).expand(places, places))
    assert torch.equal(centres[:, :, 0, 1], 16.0 * torch.arange(places)[:, None].expand(places, places))


def test_regions_are_pooled_from_where_they_are():
    """The pool's scale is the stride even if the first image is so small that torchvision would guess another."""
    model = faster_rcnn("fbnetv3_a_same_padding", 1)
    pool = model.roi_heads.box_roi_pool
    columns = torch.arange(6.0).expand(1, 1, 6, 6)
    left = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    pooled = pool({"0": columns}, [left], [(65, 65)])  # padded to 96
    assert pooled.shape == (1, 1, 6, 6)
    assert float(pooled.mean()) == pytest.approx(2.0)  # map columns 1 to 3


def test_weights_are_loaded_into_backbone_and_box_head(tmp_path):
    file = classifier()
    write_weight_file(tmp_path / "a.pt", file)
    model = faster_rcnn(ARCH, 2, weights=tmp_path / "a.pt", freeze_at=2, **SIDES)
    assert (model.transform.image_mean, model.transform.image_std) == (GREY.mean, GREY.std)
    assert model.derived_from == ("origin",)
    loaded = {**model.backbone.body.state_dict(), **model.roi_heads.box_head.state_dict()}
    loaded = {key: value for key, value in loaded.items() if "num_batches" not in key}
    expected = {k: v for k, v in file.state.items() if k.startswith("st") and "num_batches" not in k}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


def test_the_detector_computes_what_the_classifier_does():
    """Backbone and box head in sequence give the classifier's pooled features, from the classifier's weights."""
    file = classifier()
    model = faster_rcnn(ARCH, 2, weights=file, **SIDES).eval()
    network, x = file.build(), torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        expected = network.stages(network.stem(x)).mean((2, 3))
        assert torch.allclose(model.roi_heads.box_head(model.backbone(x)["0"]), expected, rtol=1e-4, atol=1e-5)


def test_fpn_takes_weights_and_learns():
    file = classifier()
    model = faster_rcnn(ARCH, 2, weights=file, fpn=True, **SIDES, **SMALL)
    state = model.backbone.body.state_dict()
    assert {key.split(".")[1] for key in state if key.startswith("stages")} == set("01234")
    assert all(torch.equal(value, file.state[key]) for key, value in state.items())
    image, target = scene()
    sum(model([image], [target]).values()).backward()
    for part in (model.backbone.body.stem, model.backbone.fpn, model.rpn.head, model.roi_heads.box_head):
        assert gradient(part) > 0
    with torch.inference_mode():
        maps = model.eval().backbone(image[None])
        assert set(model([image])[0]) == {"boxes", "labels", "scores"}
    assert [x.shape[1:] for x in maps.values()] == [(256, side, side) for side in (32, 16, 8, 4, 2)]


@pytest.mark.parametrize("fpn", [False, True])
def test_freezing_keeps_what_is_computed(fpn):
    image = scene()[0].double()
    file, found = classifier(), []
    for freeze_at in (0, 2):
        torch.manual_seed(0)
        model = faster_rcnn(ARCH, 2, weights=file, fpn=fpn, freeze_at=freeze_at, box_score_thresh=0.0, **SIDES)
        with torch.inference_mode():
            found.append(model.double().eval()([image])[0])
    assert len(found[0]["boxes"]) > 0
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key], rtol=0, atol=1e-6), key


def test_frozen_stages_do_not_learn():
    model = faster_rcnn(ARCH, 1, freeze_at=2, **SIDES, **SMALL)
    body, (image, target) = model.backbone.body, scene()
    before = {key: value.clone() for key, value in body.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sum(model([image], [target]).values()).backward()
    optimizer.step()
    moved = {
        ".".join(key.split(".")[:2]) for key, value in body.state_dict().items() if not torch.equal(value, before[key])
    }
    assert {key.rsplit(".")[1] for key in moved} == {"1", "2", "3"}  # of the stages
    norms = [type(m) for part in (body.stem, body.stages[0]) for m in part.modules() if hasattr(m, "running_mean")]
    assert set(norms) == {FrozenBatchNorm2d}
    with pytest.raises(InputError, match=r"freeze_at is 6; allowed: 0 \(nothing\), 1 \(the stem\) to 5"):
        freeze(body, 6)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"the shared photos are not at {PHOTOS}")
def test_a_few_steps_on_two_photos_lower_the_loss():
    data = json.loads((PHOTOS / "instances.json").read_text())
    images, targets = [], []
    for row in data["images"][:2]:
        images.append(read_image(str(PHOTOS / "images" / row["file_name"]), ImageReadMode.RGB) / 255)
        boxes = [a for a in data["annotations"] if a["image_id"] == row["id"]]
        xywh = torch.tensor([a["bbox"] for a in boxes], dtype=torch.float32)
        labels = torch.tensor([a["category_id"] for a in boxes])
        targets.append({"boxes": torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), "labels": labels})
    torch.manual_seed(0)
    model = faster_rcnn("table5_fbnetv3_a", len(data["categories"]), min_size=128, max_size=192, **SMALL)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3]), losses


def test_what_is_refused():
    with pytest.raises(InputError, match=r"a C4 detector needs one that ends at stride 16"):
        faster_rcnn(dataclasses.replace(ARCH, stages=coco_data.ROWS[:3]), 2)
    with pytest.raises(InputError, match="give fbnetv3_a_same_padding"):
        faster_rcnn("fbnetv3_a", 2, fpn=True)
    for count in (0, "3"):
        with pytest.raises(InputError, match=r"num_classes is .*background not counted"):
            faster_rcnn(ARCH, count)
    with pytest.raises(
        InputError, match=r"^these are weights of tiny, which is another network than fbnetv3_a;[^\n]*$"
    ):
        faster_rcnn("fbnetv3_a", 2, weights=classifier())
    damaged = classifier()
    damaged.state["stem.conv.weight"][0] = float("nan")
    with pytest.raises(InputError, match=r"the weights of tiny are not finite: (stem\.)?conv\.weight has NaN"):
        faster_rcnn(ARCH, 2, weights=damaged)
