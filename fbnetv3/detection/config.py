"""detectron2's config with the keys that this package adds, and the packaged configs of `configs/`."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from fbnetv3.errors import InputError, quote
from fbnetv3.schema import find_yaml, load_yaml
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD

CONFIGS = Path(__file__).with_name("configs")
MOST_BASES = 20  # files in a chain of `_BASE_`
_FORMATS = ("RGB", "BGR", "L", "YUV-BT.601")
# What a value must be, where detectron2 would divide by it or train to nonsense.
_RULES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "SOLVER.IMS_PER_BATCH": ("whole numbers from 1", lambda value: value >= 1),
    "SOLVER.MAX_ITER": ("whole numbers from 0", lambda value: value >= 0),
    "SOLVER.BASE_LR": ("finite numbers from 0", lambda value: 0 <= value < math.inf),
    "MODEL_EMA.DECAY": ("numbers from 0 to 1", lambda value: 0 <= value <= 1),
    "INPUT.FORMAT": (", ".join(_FORMATS), lambda value: value in _FORMATS),
}


def add_fbnetv3_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.FBNETV3` and `MODEL_EMA`, and make images RGB with ImageNet's mean and standard deviation (std).

    The new keys, whose names are those of d2go:

    - `MODEL.FBNETV3.ARCH`: a model name (`fbnetv3_a`, `table5_fbnetv3_a`, ...) or the path of a pair file.
    - `MODEL.FBNETV3.NORM`: a kind of batch norm, one of `detectron2_model.NORMS`.
    - `MODEL.FBNETV3.OUT_FEATURES`: the feature maps of the backbone, from c1 (stride 2) to c5 (stride 32).
    - `MODEL_EMA.ENABLED`: whether to keep an exponential moving average of the weights.
    - `MODEL_EMA.DECAY`: its decay. The default is d2go's, because the paper only says "switch on EMA".
    """
    cfg.MODEL.FBNETV3 = CfgNode()
    cfg.MODEL.FBNETV3.ARCH = "fbnetv3_a"
    cfg.MODEL.FBNETV3.NORM = "BN"
    cfg.MODEL.FBNETV3.OUT_FEATURES = ["c4"]
    cfg.MODEL_EMA = CfgNode()
    cfg.MODEL_EMA.ENABLED = False
    cfg.MODEL_EMA.DECAY = 0.9998
    cfg.INPUT.FORMAT = "RGB"  # the classifiers were trained on RGB; detectron2's default is BGR
    # detectron2 normalises pixels in 0..255, this package pixels in 0..1.
    cfg.MODEL.PIXEL_MEAN = [255 * value for value in IMAGENET_MEAN]
    cfg.MODEL.PIXEL_STD = [255 * value for value in IMAGENET_STD]


def load_config(name: str, changes: Sequence[str] = ()) -> CfgNode:
    """Return a packaged config by its name, or the config of any YAML file, with changes applied.

    Args:
        name: a name in `configs/` without suffix, or a path that ends in .yaml.
        changes: keys and values in turn, such as `["SOLVER.MAX_ITER", "100"]`.

    Raises:
        InputError: a missing or damaged file, an unknown key, or a value of another type or out of range.
    """
    path = find_yaml(name, CONFIGS, "config")
    cfg = get_cfg()
    add_fbnetv3_config(cfg)
    _check_files(path)
    with as_input_error(f"{path}: "):
        # detectron2's default allows YAML tags that run code. A config from the internet must not do that.
        cfg.merge_from_file(str(path), allow_unsafe=False)
    if len(changes) % 2:
        raise InputError(
            f"the config changes are {' '.join(changes)!r}; give KEY VALUE pairs, such as SOLVER.MAX_ITER 100"
        )
    with as_input_error(""):
        cfg.merge_from_list(list(changes))
        for key, (allowed, fits) in _RULES.items():
            if not fits(value := functools.reduce(getattr, key.split("."), cfg)):
                raise InputError(f"{key} is {quote(value)}; allowed: {allowed}")
    return cfg


def _check_files(path: Path) -> None:
    """Read a config and the configs in its chain of `_BASE_` with this package's reader, which bounds what is in a file.

    detectron2's reader follows aliases and chains without end.
    """
    for _ in range(MOST_BASES):
        base = load_yaml(path, "config").get("_BASE_")
        if not isinstance(base, str):
            return
        path = path.parent / Path(base).expanduser()  # an absolute path stays
    raise InputError(f"{path}: more than {MOST_BASES} configs are based on one another; give a config with fewer")


@contextlib.contextmanager
def as_input_error(where: str) -> Iterator[None]:
    """Turn every error of detectron2 inside into an `InputError` of one line that starts with `where`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # yacs raises AssertionError and KeyError, the YAML parser its own classes
        # str() of a KeyError adds quotes around the message, its argument has none.
        words = " ".join(str(error.args[0] if error.args else type(error).__name__).split())
        raise InputError(
            f"{where}{words[:200]}; give a config of detectron2 with the keys that fbnetv3.detection adds"
        ) from None
