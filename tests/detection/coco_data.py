"""A small network, a data set of bright boxes on dark pictures, and a config of both, for the tests of detectors."""

import json

import numpy as np
import torch
from PIL import Image

from fbnetv3 import Arch, Block, build_model
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.training.recipe import Recipe
from fbnetv3.transforms import Transforms
from fbnetv3.weight_file import WeightFile, write_weight_file

ROWS = (
    (Block("ir", 8, k=3),),
    (Block("ir", 8, k=3, e=2, s=2),),
    (Block("ir", 8, k=3, e=2, s=2),),
    (Block("ir", 16, k=3, e=2, s=2, se=True), Block("ir", 16, k=3, e=2, n=2)),
    (Block("ir", 24, k=3, e=2, s=2),),
)
ARCH = Arch("tiny", 64, Block("conv", 8, k=3, s=2), ROWS, Block("pool", 16, e=2))
SIDES = ((96, 64), (64, 96), (80, 64), (64, 64), (96, 80), (64, 80))  # width and height of the pictures


def pair_file(path, arch=ARCH):
    """A pair file of the network, as a search would have left it."""
    recipe, constraint = Recipe("sgd", 0.05, 1, 500), {"metric": "flops", "convention": "published", "max": 1e6}
    save_pair(Pair(arch, recipe, "micro", 0, constraint, {}, {}, {"data": "fashion_mnist"}), path)
    return path


def classifier_file(path, arch=ARCH, seed=3):
    """A classifier's weights whose running statistics are those of no fresh network."""
    torch.manual_seed(seed)
    model = build_model(arch, 5)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    names = tuple("abcde")
    write_weight_file(path, WeightFile.of(model, names, Transforms(64, 64, (0.5,) * 3, (0.5,) * 3)))
    return path


def description(count=6, classes=("disc", "box")):
    """COCO's description of pictures with one to three boxes each, of categories 3, 6, ...; the files are p0.png, ..."""
    rng, images, boxes = np.random.default_rng(0), [], []
    for i in range(count):
        width, height = SIDES[i % len(SIDES)]
        images.append({"id": 10 + i, "file_name": f"p{i}.png", "width": width, "height": height})
        for _ in range(1 + i % 3):
            w, h = (int(v) for v in rng.integers(20, 40, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            row = {"id": len(boxes) + 1, "image_id": 10 + i, "category_id": 3 * (1 + len(boxes) % len(classes))}
            boxes.append(row | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
    categories = [{"id": 3 * (i + 1), "name": name} for i, name in enumerate(classes)]
    return {"images": images, "annotations": boxes, "categories": categories}


def write_data(folder, data=None):
    """Write `folder`/data.json and the pictures that it lists to `folder`/pictures: boxes bright on noise."""
    data = description() if data is None else data
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for image in data["images"]:
        pixels = rng.integers(0, 60, (image["height"], image["width"], 3), dtype=np.uint8)
        for row in data["annotations"]:
            if row["image_id"] == image["id"]:
                x, y, w, h = row["bbox"]
                pixels[y : y + h, x : x + w, row["category_id"] % 3] = 220
        Image.fromarray(pixels).save(folder / "pictures" / image["file_name"])
    (folder / "data.json").write_text(json.dumps(data))
    return folder / "data.json"


def changes(folder, pair, out=None):
    """Changes of a config that train the network of a pair file on `write_data`'s files, six short steps."""
    from fbnetv3.detection.data import data_name

    name = repr((data_name(folder / "data.json", folder / "pictures"),))
    return [
        *("MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(pair), "MODEL.FBNETV3.NORM", "BN", "SEED", "0"),
        *("DATASETS.TRAIN", name, "DATASETS.TEST", name, "DATALOADER.NUM_WORKERS", "0", "MODEL_EMA.DECAY", "0.5"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"),
        *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "32"),
        *("INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MIN_SIZE_TEST", "64"),
        *("INPUT.MAX_SIZE_TEST", "96", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "0.01"),
        *("SOLVER.WARMUP_ITERS", "2", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "0"),
        *(() if out is None else ("OUTPUT_DIR", str(out))),
    ]


def config(folder, pair, out=None, **more):
    """The config of `changes`; more of them with `__` for a dot."""
    from fbnetv3.detection.config import load_config

    words = [str(word) for key, value in more.items() for word in (key.replace("__", "."), value)]
    return load_config("base_c4", [*changes(folder, pair, out), *words])
