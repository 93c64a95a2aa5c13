"""FBNetV3: the model zoo, training recipes and joint architecture-recipe search (NARS) of the paper.

Importing this package needs torch alone; `fbnetv3.hub`, `.recipes`, `.search`, `.benchmarks` and `.training` are imported
when first asked for.
"""

import importlib
from pathlib import Path
from types import ModuleType

_here = Path(__file__).resolve().parent
if not (_here / "search").exists():  # a bare checkout: search/, recipes/, hub/ and benchmarks/ lie beside this folder
    __path__.append(str(_here.parent))

from fbnetv3.arch import Arch, Block  # noqa: E402
from fbnetv3.errors import InputError  # noqa: E402
from fbnetv3.inference.optimize import optimize_for_inference  # noqa: E402
from fbnetv3.model import FBNetV3, build_model, list_models  # noqa: E402

__version__ = "0.1.0"
__all__ = ["Arch", "Block", "FBNetV3", "InputError", "build_model", "list_models", "optimize_for_inference"]


def __getattr__(name: str) -> ModuleType:
    if name in ("benchmarks", "hub", "recipes", "search", "training"):
        return importlib.import_module(f"fbnetv3.{name}")
    raise AttributeError(f"module 'fbnetv3' has no attribute {name!r}")
