"""A small network, a data set of bright boxes on dark images, and a config of both, for the tests of detectors."""

import json

import numpy as np
import torch
from PIL import Image

from fbnetv3 import Arch, Block, build_model
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.training.recipe import Recipe
from fbnetv3.transforms import Transforms

ROWS = (
    (Block("ir", 8, k=3),),
    (Block("ir", 8, k=3, e=2, s=2),),
    (Block("ir", 8, k=3, e=2, s=2),),
    (Block("ir", 16, k=3, e=2, s=2, se=True), Block("ir", 16, k=3, e=2, n=2)),
    (Block("ir", 24, k=3, e=2, s=2),),
)
ARCH = Arch("tiny", 64, Block("conv", 8, k=3, s=2), ROWS, Block("pool", 16, e=2))
SIDES = ((96, 64), (64, 96), (80, 64), (64, 64), (96, 80), (64, 80))  # width and height of the images


def pair_file(path, arch=ARCH):
    """Write a pair file of the network, as a search would have left it, and return its path."""
    recipe, constraint = Recipe("sgd", 0.05, 1, 500), {"metric": "flops", "convention": "published", "max": 1e6}
    save_pair(Pair(arch, recipe, "micro", 0, constraint, {}, {}, {"data": "fashion_mnist"}), path)
    return path


def randomise_norms(model):
    """Give every norm random weights and statistics, as a trained network has them; return the model."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model


def classifier_file(path, arch=ARCH, seed=3):
    """Write the weights of a classifier whose running statistics differ from a fresh network's; return the path."""
    torch.manual_seed(seed)
    model = randomise_norms(build_model(arch, 5))
    names = tuple("abcde")
    write_weight_file(path, WeightFile.of(model, names, Transforms(64, 64, (0.5,) * 3, (0.5,) * 3)))
    return path


def description(count=6, classes=("disc", "box")):
    """Return annotations in COCO's format: images p0.png, ... with one to three boxes each, of categories 3, 6, ..."""
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
    """Write `folder`/data.json and its images, bright boxes on dark noise, to `folder`/images; return the JSON's path."""
    data = description() if data is None else data
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for image in data["images"]:
        pixels = rng.integers(0, 60, (image["height"], image["width"], 3), dtype=np.uint8)
        for row in data["annotations"]:
            if row["image_id"] == image["id"]:
                x, y, w, h = row["bbox"]
                pixels[y : y + h, x : x + w, row["category_id"] % 3] = 220
        Image.fromarray(pixels).save(folder / "images" / image["file_name"])
    (folder / "data.json").write_text(json.dumps(data))
    return folder / "data.json"


def data_of(folder):
    """Return the name of the data set of `write_data`'s files."""
    from fbnetv3.detection.datasets import dataset_name

    return dataset_name(folder / "data.json", folder / "images")


def truncate(folder, *numbers):
    """Cut off the files of images, which can then be opened but not read."""
    for number in numbers:
        path = folder / "images" / f"p{number}.png"
        path.write_bytes(path.read_bytes()[:200])


def same(a, b):
    """Return whether values are equal to the last bit, nested tensors too; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def changes(folder, pair, out=None):
    """Return the changes of a config that train the network of a pair file on `write_data`'s files in six short steps."""
    name = repr((data_of(folder),))
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
    """Return the config of `changes`, with more changes as keyword arguments, `__` for a dot."""
    from fbnetv3.detection.config import load_config

    words = [str(word) for key, value in more.items() for word in (key.replace("__", "."), value)]
    return load_config("base_c4", [*changes(folder, pair, out), *words])


def detector(arch, config="base_c4", seed=0, **more):
    """Build a detector on a network, with changes of the config as in `config`."""
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detectron2_model import build_detector

    words = [str(word) for key, value in more.items() for word in (key.replace("__", "."), value)]
    torch.manual_seed(seed)
    return build_detector(load_config(config, ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(arch), *words]))
