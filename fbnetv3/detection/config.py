"""detectron2's config with the keys of this package, and the configs that lie in `configs/`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from fbnetv3.errors import InputError
from fbnetv3.schema import find_yaml
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD

CONFIGS = Path(__file__).with_name("configs")


def add_fbnetv3_config(cfg: CfgNode) -> None:
    """Add `MODEL.FBNETV3` and `MODEL_EMA` (named as in d2go), and take pictures as RGB with ImageNet's mean and deviation.

    MODEL.FBNETV3.ARCH is a model name (`fbnetv3_a`, `table5_fbnetv3_a`, ...) or the path of a pair file, NORM one of
    `modeling.NORMS`, OUT_FEATURES the backbone's maps, c1 (stride 2) to c5 (stride 32). MODEL_EMA.DECAY is d2go's: the paper
    says only "switch on EMA".
    """
    cfg.MODEL.FBNETV3 = CfgNode()
    cfg.MODEL.FBNETV3.ARCH = "fbnetv3_a"
    cfg.MODEL.FBNETV3.NORM = "BN"
    cfg.MODEL.FBNETV3.OUT_FEATURES = ["c4"]
    cfg.MODEL_EMA = CfgNode()
    cfg.MODEL_EMA.ENABLED = False
    cfg.MODEL_EMA.DECAY = 0.9998
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN = [255 * value for value in IMAGENET_MEAN]
    cfg.MODEL.PIXEL_STD = [255 * value for value in IMAGENET_STD]


def load_config(name: str, changes: Sequence[str] = ()) -> CfgNode:
    """A config of `configs/` by its name, or any file, with `KEY VALUE ...` put over it.

    Raises:
        InputError: no such file, a damaged one, an unknown key or a value of another type.
    """
    path = find_yaml(name, CONFIGS, "config")
    cfg = get_cfg()
    add_fbnetv3_config(cfg)
    with _clear(f"{path}: "):
        cfg.merge_from_file(str(path), allow_unsafe=False)  # detectron2's default lets YAML run code
    if len(changes) % 2:
        raise InputError(f"config changes are {' '.join(changes)!r}; give KEY VALUE pairs, such as SOLVER.MAX_ITER 100")
    with _clear(""):
        cfg.merge_from_list(list(changes))
    return cfg


@contextlib.contextmanager
def _clear(where: str) -> Iterator[None]:
    """yacs checks with asserts and KeyErrors, yaml with its own."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error.args[0] if error.args else error).split())
        raise InputError(
            f"{where}{words[:200]}; give a config of detectron2 with the keys of fbnetv3.detection"
        ) from None
