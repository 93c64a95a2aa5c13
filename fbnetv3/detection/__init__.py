"""Detectors on any network of this package: Faster R-CNN of detectron2 and of torchvision, on data in COCO's format.

The names below are imported on first use. All but `faster_rcnn` need detectron2, which is not on PyPI; `need_detectron2` says
how to install it.
"""

import logging
import warnings
from typing import TYPE_CHECKING, Any

from fbnetv3.errors import InputError
from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.detection.config import add_fbnetv3_config as add_fbnetv3_config
    from fbnetv3.detection.config import load_config as load_config
    from fbnetv3.detection.datasets import dataset_name as dataset_name
    from fbnetv3.detection.datasets import load_records as load_records
    from fbnetv3.detection.detector import Detection as Detection
    from fbnetv3.detection.detector import Detector as Detector
    from fbnetv3.detection.detector import draw as draw
    from fbnetv3.detection.detector import write_detections as write_detections
    from fbnetv3.detection.detector_weights import load_detector as load_detector
    from fbnetv3.detection.detectron2_model import build_detector as build_detector
    from fbnetv3.detection.evaluation import evaluate as evaluate
    from fbnetv3.detection.torchvision_model import faster_rcnn as faster_rcnn
    from fbnetv3.detection.training import train as train

_TORCHVISION_ALONE = {"faster_rcnn": "fbnetv3.detection.torchvision_model"}
_MODULES = _TORCHVISION_ALONE | {
    "Detection": "fbnetv3.detection.detector",
    "Detector": "fbnetv3.detection.detector",
    "add_fbnetv3_config": "fbnetv3.detection.config",
    "build_detector": "fbnetv3.detection.detectron2_model",
    "dataset_name": "fbnetv3.detection.datasets",
    "draw": "fbnetv3.detection.detector",
    "evaluate": "fbnetv3.detection.evaluation",
    "load_config": "fbnetv3.detection.config",
    "load_detector": "fbnetv3.detection.detector_weights",
    "load_records": "fbnetv3.detection.datasets",
    "train": "fbnetv3.detection.training",
    "write_detections": "fbnetv3.detection.detector",
}
__all__ = ["need_detectron2", *_MODULES]
_get, __dir__ = lazy_names(__name__, _MODULES)


def __getattr__(name: str) -> Any:
    # Without this check a user who lacks detectron2 would see an ImportError that does not say how to get it.
    if name in _MODULES and name not in _TORCHVISION_ALONE:
        need_detectron2()
    return _get(name)


def need_detectron2() -> None:
    """Check that detectron2 is installed, and silence the warnings that its age causes in torch.

    The public names of this package call it on first use. Call it before importing a module that needs detectron2.

    Raises:
        InputError: detectron2 or pycocotools is missing; the message says how to install them.
    """
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "`torch.cuda.amp", FutureWarning)
    warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    try:
        import detectron2.layers  # noqa: F401
        import pycocotools  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'this needs detectron2, which is not on PyPI ({error}): pip install "fbnetv3[detection]", then pip install '
            "--no-build-isolation git+https://github.com/facebookresearch/detectron2; .ci/detectron2 in the checkout "
            "installs a re-upload that was tested here"
        ) from None
