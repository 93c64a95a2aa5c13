"""FBNetV3 in detectors: Faster R-CNN of detectron2 and of torchvision on COCO-format data, and Table 5 (section 4.3).

`torchvision_model.py` and what it needs run with torchvision alone; the other modules import detectron2, which is not on
PyPI. `need_detectron2` says how to get it.
"""

import logging
import warnings

from fbnetv3.errors import InputError


def need_detectron2() -> None:
    """Check that detectron2 is at hand, before a module is imported that needs it, and hush what torch says of its age.

    Raises:
        InputError: it is not; the message says how to install it.
    """
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
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
