"""FBNetV3: the model zoo, training recipes and joint architecture-recipe search (NARS) of the paper.

The names below are imported on first use. Importing the package takes no time; networks and the hub need torch alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

_here = Path(__file__).resolve().parent
# An installed package has search/, recipes/, hub/ and benchmarks/ inside. In a bare checkout they are next to this folder.
if not (_here / "search").exists():
    __path__.append(str(_here.parent))

from fbnetv3.lazy import lazy_names  # noqa: E402
from fbnetv3.version import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from fbnetv3.arch import Arch as Arch
    from fbnetv3.arch import Block as Block
    from fbnetv3.errors import InputError as InputError
    from fbnetv3.hub.load import create_model as create_model
    from fbnetv3.inference.export import export_model as export_model
    from fbnetv3.inference.optimize import optimize_for_inference as optimize_for_inference
    from fbnetv3.inference.quantization import quantize as quantize
    from fbnetv3.model import FBNetV3 as FBNetV3
    from fbnetv3.model import build_model as build_model
    from fbnetv3.model import list_models as list_models

_MODULES = {
    "Arch": "fbnetv3.arch",
    "Block": "fbnetv3.arch",
    "FBNetV3": "fbnetv3.model",
    "InputError": "fbnetv3.errors",
    "build_model": "fbnetv3.model",
    "create_model": "fbnetv3.hub.load",
    "export_model": "fbnetv3.inference.export",
    "list_models": "fbnetv3.model",
    "optimize_for_inference": "fbnetv3.inference.optimize",
    "quantize": "fbnetv3.inference.quantization",
}
_ROOMS = ("benchmarks", "detection", "hub", "inference", "networks", "recipes", "search", "training")
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES | {room: f"{__name__}.{room}" for room in _ROOMS})
