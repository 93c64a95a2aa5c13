"""A trained detector on image files: finds objects, draws their boxes, and writes both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.transforms import ResizeShortestEdge
from PIL import Image
from torch import nn

from fbnetv3.detection.config import load_config
from fbnetv3.detection.detector_weights import CONFIG, fill_detector, read_detector
from fbnetv3.detection.detectron2_model import build_seeded
from fbnetv3.detection.on_gpu import gpu_settings, send_images
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, refuse_to_overwrite, write_atomically
from fbnetv3.inference.fusion import fold_batch_norms
from fbnetv3.schema import dump_json

# Ten colours that are easy to distinguish, also from each other in print.
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
SUFFIXES = (".png", ".json")  # of the files that `write_detections` writes


@dataclass(frozen=True)
class Detection:
    """One object: the name of its class, its probability, and its box x0, y0, x1, y1 in pixels of the upright image."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector in eval mode, with its config and the names of its classes."""

    model: nn.Module
    cfg: CfgNode
    classes: tuple[str, ...]

    @classmethod
    def load(cls, weights: str | Path, config: str | None = None, device: str = "cpu") -> Detector:
        """Load a detector from its weights and its config.

        Args:
            weights: the weights.pth that a training wrote.
            config: what `load_config` takes. The default is the `config.yaml` beside the weights, which training wrote.

        Raises:
            InputError: a missing or damaged file, or weights that do not fit the config.
        """
        # Read once, for the weights and for the class names.
        content = read_detector(weights)
        beside = Path(weights).with_name(CONFIG)
        if config is None and not beside.is_file():
            raise InputError(f"there is no {CONFIG} beside {weights}; give --config")
        cfg = load_config(config or str(beside), ["MODEL.DEVICE", device, "MODEL.WEIGHTS", repr(str(weights))])
        model = build_seeded(cfg).eval()
        fill_detector(model, content, str(weights), strict=True)
        fold_batch_norms(model)  # faster, and the same function up to rounding
        count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        classes = tuple(content.get("classes") or _default_names(count))
        if len(classes) != count:
            raise InputError(f"{weights} has {len(classes)} names of classes, but {count} classes; give other weights")
        return cls(model, cfg, classes)

    @torch.no_grad()
    def detect(self, image: Image.Image, threshold: float = 0.5) -> list[Detection]:
        """Return the objects in an RGB image whose probability is at least `threshold`, the most probable first.

        Raises:
            InputError: a threshold out of range, or an image so narrow that nothing of it would be left at the size that the
                config asks for.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"the threshold is {threshold}; allowed: numbers from 0 to 1")
        # The same preparation as detectron2's for an evaluation.
        pixels = np.asarray(image)[:, :, :: 1 if self.cfg.INPUT.FORMAT == "RGB" else -1]
        resize = ResizeShortestEdge([self.cfg.INPUT.MIN_SIZE_TEST] * 2, self.cfg.INPUT.MAX_SIZE_TEST)
        change = resize.get_transform(pixels)
        if 0 in (
            getattr(change, "new_h", 1),
            getattr(change, "new_w", 1),
        ):  # detectron2 rounds the shorter side down to 0
            raise InputError(
                f"an image of {image.width} x {image.height} pixels is too narrow for INPUT.MAX_SIZE_TEST "
                f"{self.cfg.INPUT.MAX_SIZE_TEST}; cut it into pieces"
            )
        resized = change.apply_image(pixels)
        # A reversed channel axis has a negative stride, which torch does not accept without a copy.
        x = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        device = torch.device(self.cfg.MODEL.DEVICE)
        with gpu_settings(device, "lower INPUT.MIN_SIZE_TEST in its config, or take the CPU"):
            record = {"image": x, "height": image.height, "width": image.width}
            (output,) = self.model(send_images([record], device))
        instances = output["instances"].to("cpu")
        objects = zip(
            instances.pred_classes.tolist(),
            instances.scores.tolist(),
            instances.pred_boxes.tensor.tolist(),
            strict=True,
        )
        found = []
        for label, score, box in objects:
            if score >= threshold:
                x0, y0, x1, y1 = (round(value, 1) for value in box)
                found.append(Detection(self.classes[label], round(score, 4), (x0, y0, x1, y1)))
        return found


def _default_names(count: int) -> list[str]:
    """Return class names for a file without them: COCO's if there are as many classes, otherwise numbers."""
    coco = [row["name"] for row in COCO_CATEGORIES if row["isthing"]]
    return coco if count == len(coco) else [str(i) for i in range(count)]


def draw(image: Image.Image, detections: list[Detection]) -> Image.Image:
    """Return the image with boxes, class names and probabilities. All boxes of a class have the same colour."""
    import matplotlib
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes

    if not detections:
        return image
    # Colours by name and not by order, so that a class has the same colour whatever is found first.
    names = sorted({detection.name for detection in detections})
    font_size = max(12, min(image.size) // 18)
    boxes = draw_bounding_boxes(
        pil_to_tensor(image),
        torch.tensor([detection.box for detection in detections]),
        [f"{detection.name} {detection.score:.2f}" for detection in detections],
        colors=[_COLOURS[names.index(detection.name) % len(_COLOURS)] for detection in detections],
        width=max(2, font_size // 6),
        # Matplotlib brings this font. Without a file torchvision uses a font of one small size.
        font=str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"),
        font_size=font_size,
    )
    drawn: Image.Image = to_pil_image(boxes)
    return drawn


def write_detections(
    path: Path, image: Image.Image, detections: list[Detection], out: Path, name: str = ""
) -> tuple[Path, Path]:
    """Write OUT/NAME.png, the image with boxes, and OUT/NAME.json, the boxes as data; return both paths.

    Args:
        path: the file that `image` was opened from.
        name: NAME; by default the name of that file without suffix.

    Raises:
        InputError: the image file itself would be replaced, or the folder cannot be written.
    """
    make_folder(out)
    drawing, table = (out / f"{name or path.stem}{suffix}" for suffix in SUFFIXES)
    if any(file.resolve() == path.resolve() for file in (drawing, table)):
        raise InputError(f"{drawing} would replace the image itself; give another folder with --out")
    # Both files are made completely before the first is written, so that an error leaves neither.
    buffer = BytesIO()
    draw(image, detections).save(buffer, format="PNG")
    data: dict[str, Any] = {"image": str(path), "width": image.width, "height": image.height}
    write_atomically(table, dump_json(data | {"detections": [asdict(d) for d in detections]}) + "\n")
    write_atomically(drawing, buffer.getvalue())
    return drawing, table


def result_names(images: Sequence[Path]) -> dict[Path, str]:
    """Return a name for the results of every image, no two alike.

    It is the name of the image's file without suffix, with as many of its folders before it as all names need to differ, such
    as `a_x` and `b_x` for a/x.jpg and b/x.jpg. Images that differ in their suffixes alone keep them.
    """
    deepest = max((len(image.absolute().parts) for image in images), default=0)
    for kind in ("stem", "name"):
        for folders in range(deepest):
            names = {image: "_".join((*_last_folders(image, folders), getattr(image, kind))) for image in images}
            if len(set(names.values())) == len(names):
                return names
    return {image: f"{i}_{image.stem}" for i, image in enumerate(images)}  # folders with _ in their names


def _last_folders(path: Path, count: int) -> tuple[str, ...]:
    """Return the names of the last folders of a path, or of all if there are fewer."""
    folders = path.absolute().parts[1:-1]  # without the root
    return folders[max(0, len(folders) - count) :]


def check_results(names: Mapping[Path, str], out: Path, overwrite: bool) -> None:
    """Check that the results of images, named as by `result_names`, replace no image, and nothing else unless told so.

    Raises:
        InputError: they would.
    """
    images = {image.resolve() for image in names}
    for name in names.values():
        for file in (out / f"{name}{suffix}" for suffix in SUFFIXES):
            if file.resolve() in images:
                raise InputError(f"{file} would replace an image that is given; give another folder with --out")
            refuse_to_overwrite(file, overwrite)
