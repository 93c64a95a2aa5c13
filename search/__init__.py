"""NARS, the paper's joint search of an architecture and its training recipe.

Its rooms, in the order in which they build on each other: `space` (what can be searched and what it costs), `predictor`,
`execution` (where trainings run), `nars` (Algorithm 1 in three stages), `rivals` (what it is compared with), `runs` (a search
in a folder), `collect` (tables of one's own trainings), `report`. The names below are the public ones. They are imported on
first use.
"""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.search.execution.settings import ExecutorSettings as ExecutorSettings
    from fbnetv3.search.nars.config import SearchConfig as SearchConfig
    from fbnetv3.search.nars.config import load_preset as load_preset
    from fbnetv3.search.nars.evolve import EvolutionSettings as EvolutionSettings
    from fbnetv3.search.nars.evolve import evolve as evolve
    from fbnetv3.search.predictor.model import AccuracyPredictor as AccuracyPredictor
    from fbnetv3.search.predictor.settings import PredictorSettings as PredictorSettings
    from fbnetv3.search.report.page import write_report as write_report
    from fbnetv3.search.runs.folder import SearchResult as SearchResult
    from fbnetv3.search.runs.folder import load_search as load_search
    from fbnetv3.search.sessions import extend_search as extend_search
    from fbnetv3.search.sessions import resume_search as resume_search
    from fbnetv3.search.sessions import run_search as run_search
    from fbnetv3.search.space.constraints import Constraint as Constraint
    from fbnetv3.search.space.constraints import ConstraintSet as ConstraintSet
    from fbnetv3.search.space.constraints import sample as sample
    from fbnetv3.search.space.costs import statistics as statistics
    from fbnetv3.search.space.encoding import arch_mask as arch_mask
    from fbnetv3.search.space.encoding import encode as encode
    from fbnetv3.search.space.reader import load_space as load_space
    from fbnetv3.search.space.space import SearchSpace as SearchSpace
    from fbnetv3.search.trial import Candidate as Candidate
    from fbnetv3.search.trial import Evaluator as Evaluator
    from fbnetv3.search.trial import Ledger as Ledger
    from fbnetv3.search.trial import Outcome as Outcome
    from fbnetv3.search.trial import Trial as Trial

_MODULES = {
    "AccuracyPredictor": "fbnetv3.search.predictor.model",
    "Candidate": "fbnetv3.search.trial",
    "Constraint": "fbnetv3.search.space.constraints",
    "ConstraintSet": "fbnetv3.search.space.constraints",
    "Evaluator": "fbnetv3.search.trial",
    "EvolutionSettings": "fbnetv3.search.nars.evolve",
    "ExecutorSettings": "fbnetv3.search.execution.settings",
    "Ledger": "fbnetv3.search.trial",
    "Outcome": "fbnetv3.search.trial",
    "PredictorSettings": "fbnetv3.search.predictor.settings",
    "SearchConfig": "fbnetv3.search.nars.config",
    "SearchResult": "fbnetv3.search.runs.folder",
    "SearchSpace": "fbnetv3.search.space.space",
    "Trial": "fbnetv3.search.trial",
    "arch_mask": "fbnetv3.search.space.encoding",
    "encode": "fbnetv3.search.space.encoding",
    "evolve": "fbnetv3.search.nars.evolve",
    "extend_search": "fbnetv3.search.sessions",
    "load_preset": "fbnetv3.search.nars.config",
    "load_search": "fbnetv3.search.runs.folder",
    "load_space": "fbnetv3.search.space.reader",
    "resume_search": "fbnetv3.search.sessions",
    "run_search": "fbnetv3.search.sessions",
    "sample": "fbnetv3.search.space.constraints",
    "statistics": "fbnetv3.search.space.costs",
    "write_report": "fbnetv3.search.report.page",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
