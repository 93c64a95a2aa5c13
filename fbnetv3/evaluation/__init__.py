"""How good a trained network is on images: numbers of one pass, its speed, plots, and a page of its worst mistakes."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.evaluation.files import write_evaluation as write_evaluation
    from fbnetv3.evaluation.measures import Evaluation as Evaluation
    from fbnetv3.evaluation.one_pass import evaluate as evaluate
    from fbnetv3.evaluation.speed import Speed as Speed
    from fbnetv3.evaluation.speed import measure_speed as measure_speed

_MODULES = {
    "Evaluation": "fbnetv3.evaluation.measures",
    "Speed": "fbnetv3.evaluation.speed",
    "evaluate": "fbnetv3.evaluation.one_pass",
    "measure_speed": "fbnetv3.evaluation.speed",
    "write_evaluation": "fbnetv3.evaluation.files",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
