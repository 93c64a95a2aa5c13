"""Detectors on a GPU: their parts, training steps, and what they find."""

import copy

import pytest
import torch

from fbnetv3.detection import faster_rcnn
from fbnetv3.device import tf32_units
from tests.detection import coco_data
from tests.detection.test_torchvision_model import SIDES, SMALL, scene

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = "cuda"


def scenes(device):
    """Two images and their targets, on a device."""
    pairs = [scene(seed) for seed in (0, 1)]
    boxes = [{key: value.to(device) for key, value in target.items()} for _, target in pairs]
    return [image.to(device) for image, _ in pairs], boxes


@pytest.mark.parametrize("fpn", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_torchvisions_detector_learns_and_detects(fpn, dtype):
    torch.manual_seed(0)
    arch = coco_data.ARCH if not fpn else "fbnetv3_a_same_padding"
    model = faster_rcnn(arch, 2, fpn=fpn, freeze_at=1, **SIDES, **SMALL, box_score_thresh=0.0).to(GPU)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    # Not torch's large first scale, with which the first steps may overflow and be left out.
    scaler = torch.amp.GradScaler("cuda", init_scale=256.0, enabled=dtype == torch.float16)
    for _ in range(3):
        with torch.autocast("cuda", dtype, enabled=dtype is not None):
            losses = model(*scenes(GPU))
        optimizer.zero_grad()
        scaler.scale(sum(losses.values())).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(bool(loss.isfinite()) for loss in losses.values())
    after = model.state_dict()
    assert all(value.device.type == GPU for value in after.values())
    assert torch.equal(after["backbone.body.stem.conv.weight"], before["backbone.body.stem.conv.weight"])  # frozen
    key = next(key for key in after if key.startswith("backbone.body.stages.1") and key.endswith("conv.weight"))
    assert not torch.equal(after[key], before[key])
    with torch.inference_mode():
        found = model.eval()(scenes(GPU)[0])
    assert all(len(image["boxes"]) > 0 and image["boxes"].device.type == GPU for image in found)


def test_torchvisions_parts_are_those_of_the_cpu():
    model = coco_data.randomise_norms(faster_rcnn(coco_data.ARCH, 2, **SIDES).eval())
    with torch.no_grad(), tf32_units(False):
        found = []
        for device in ("cpu", GPU):
            network, x = copy.deepcopy(model).to(device), torch.stack(scenes(device)[0])
            maps = network.backbone(x)
            logits, boxes = network.rpn.head(list(maps.values()))
            found.append([*maps.values(), *logits, *boxes])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def config(tmp_path):
    """A function that gives the config of a short training of detectron2's detector on the GPU."""
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")
    coco_data.write_data(tmp_path / "data")
    pair = coco_data.pair_file(tmp_path / "tiny.yaml")
    return lambda **more: coco_data.config(tmp_path / "data", pair, tmp_path / "out", MODEL__DEVICE=GPU, **more)


@pytest.mark.parametrize(
    "changes", [{}, {"SOLVER__AMP__ENABLED": True}, {"MODEL__FBNETV3__NORM": "SyncBN"}], ids=["fp32", "fp16", "SyncBN"]
)
def test_detectron2s_detector_is_trained_resumed_and_used(config, tmp_path, changes):
    from PIL import Image

    from fbnetv3.detection import Detector, load_detector, train

    cfg = config(SOLVER__MAX_ITER=4, **changes)
    train(cfg, load_detector(cfg)[0])
    (tmp_path / "out" / "weights.pth").unlink()
    metrics = train(cfg, load_detector(cfg)[0], resume=True)  # after its last step: it only evaluates
    assert {key.split("/")[0] for key in metrics} == {"raw", "ema"}
    content = torch.load(tmp_path / "out" / "weights.pth", weights_only=True)
    assert all(value.device.type == "cpu" for value in content["model"].values())
    with Image.open(tmp_path / "data" / "images" / "p0.png") as file:
        image = file.convert("RGB")
    there, here = (
        Detector.load(tmp_path / "out" / "weights.pth", device=device).detect(image, 0.0) for device in (GPU, "cpu")
    )
    assert there
    assert here
    assert there[0].score == pytest.approx(here[0].score, abs=0.05)


def test_a_lack_of_memory_is_one_line(config, monkeypatch):
    from fbnetv3 import InputError
    from fbnetv3.detection import load_detector, train

    cfg = config()
    model = load_detector(cfg)[0]

    def full(*_arguments, **_words):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(InputError, match=r"cuda has too little free memory; lower SOLVER\.IMS_PER_BATCH"):
        train(cfg, model)
