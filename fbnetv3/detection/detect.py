"""A detector on picture files: boxes as data, and drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.transforms import ResizeShortestEdge
from PIL import Image, ImageOps
from torch import nn

from fbnetv3.detection.config import load_config
from fbnetv3.detection.detector_weights import read_detector
from fbnetv3.detection.training import CONFIG, prepare
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.inference.fusion import fold_batch_norms

_COLOURS = (
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#008080",
    "#9a6324",
    "#808000",
    "#000075",
    "#f032e6",
)


@dataclass(frozen=True)
class Detection:
    """An object: class, probability, and its box x0, y0, x1, y1 in pixels of the upright picture."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detector:
    """A model in eval mode with its config and the names of its classes."""

    model: nn.Module
    cfg: CfgNode
    classes: tuple[str, ...]

    @classmethod
    def of(cls, weights: str | Path, config: str | None = None, device: str = "cpu") -> Detector:
        """From a file of weights and its config, by default the `config.yaml` beside it, which training wrote.

        Raises:
            InputError: one of them is missing or damaged, or they do not belong together.
        """
        content = read_detector(weights)
        beside = Path(weights).with_name(CONFIG)
        if config is None and not beside.is_file():
            raise InputError(f"no {CONFIG} beside {weights}; give --config")
        cfg = load_config(config or str(beside), ["MODEL.DEVICE", device, "MODEL.WEIGHTS", repr(str(weights))])
        model = prepare(cfg, strict=True)[0].eval()
        fold_batch_norms(model)
        count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        coco = [row["name"] for row in COCO_CATEGORIES if row["isthing"]]
        names = content.get("classes") or (coco if count == len(coco) else [str(i) for i in range(count)])
        return cls(model, cfg, tuple(names))

    @torch.no_grad()
    def detect(self, image: Image.Image, threshold: float = 0.5) -> list[Detection]:
        """Objects of an RGB picture whose probability reaches the threshold, likeliest first."""
        pixels = np.asarray(image)[:, :, :: 1 if self.cfg.INPUT.FORMAT == "RGB" else -1]
        resize = ResizeShortestEdge([self.cfg.INPUT.MIN_SIZE_TEST] * 2, self.cfg.INPUT.MAX_SIZE_TEST)
        resized = resize.get_transform(pixels).apply_image(pixels)
        x = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        (found,) = self.model([{"image": x, "height": image.height, "width": image.width}])
        rows = found["instances"].to("cpu")
        objects = zip(rows.pred_classes.tolist(), rows.scores.tolist(), rows.pred_boxes.tensor.tolist(), strict=True)
        return [
            Detection(self.classes[label], round(score, 4), tuple(round(v, 1) for v in box))  # type: ignore[arg-type]
            for label, score, box in objects
            if score >= threshold
        ]


def open_picture(path: str | Path) -> Image.Image:
    """A picture file as an upright RGB picture.

    Raises:
        InputError: no such file, or no picture that can be read.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(f"no picture at {path}; give the path of one") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no picture that can be read ({error}); give a PNG or a JPEG") from None


def draw(image: Image.Image, detections: list[Detection]) -> Image.Image:
    """The picture with boxes, names and probabilities; a class has one colour."""
    import matplotlib
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes

    if not detections:
        return image
    names = sorted({detection.name for detection in detections})
    size = max(12, min(image.size) // 18)
    drawn = draw_bounding_boxes(
        pil_to_tensor(image),
        torch.tensor([detection.box for detection in detections]),
        [f"{detection.name} {detection.score:.2f}" for detection in detections],
        colors=[_COLOURS[names.index(detection.name) % len(_COLOURS)] for detection in detections],
        width=max(2, size // 6),
        font=str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"),
        font_size=size,
    )
    return to_pil_image(drawn)  # type: ignore[no-any-return]


def write_detections(path: Path, detections: list[Detection], out: Path) -> tuple[Path, Path]:
    """Write OUT/NAME.png, the picture with boxes, and OUT/NAME.json; returns both paths.

    Raises:
        InputError: the picture cannot be read or would be replaced, or the folder not written.
    """
    make_folder(out)
    picture, table = out / f"{path.stem}.png", out / f"{path.stem}.json"
    if any(file.resolve() == path.resolve() for file in (picture, table)):
        raise InputError(f"{picture} would replace the picture itself; give another folder with --out")
    image = open_picture(path)
    buffer = BytesIO()
    draw(image, detections).save(buffer, format="PNG")
    data: dict[str, Any] = {"image": str(path), "width": image.width, "height": image.height}
    write_atomically(table, json.dumps(data | {"detections": [asdict(d) for d in detections]}, indent=1) + "\n")
    write_atomically(picture, buffer.getvalue())
    return picture, table
