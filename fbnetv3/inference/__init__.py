"""Networks in use: the fastest way to run one here, files for other runtimes, and int8."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.inference.export import Exported as Exported
    from fbnetv3.inference.export import export_model as export_model
    from fbnetv3.inference.optimize import OptimizedModel as OptimizedModel
    from fbnetv3.inference.optimize import optimize_for_inference as optimize_for_inference
    from fbnetv3.inference.quantization import load_quantized as load_quantized
    from fbnetv3.inference.quantization import quantize as quantize
    from fbnetv3.inference.quantization import save_quantized as save_quantized

_MODULES = {
    "Exported": "fbnetv3.inference.export",
    "OptimizedModel": "fbnetv3.inference.optimize",
    "export_model": "fbnetv3.inference.export",
    "load_quantized": "fbnetv3.inference.quantization",
    "optimize_for_inference": "fbnetv3.inference.optimize",
    "quantize": "fbnetv3.inference.quantization",
    "save_quantized": "fbnetv3.inference.quantization",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
