"""Evaluators on their way to other processes."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any, cast

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import Job, evaluate
from fbnetv3.search.trial import Evaluator, Outcome


def pickled(evaluator: Evaluator, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """Return the evaluator as bytes that `evaluate_pickled` takes.

    Raises:
        InputError: the evaluator cannot be pickled.
    """
    try:
        return dumps(evaluator)
    except Exception as error:  # the evaluator's own state may raise anything
        raise InputError(
            f"the evaluator {evaluator!r} cannot be sent to another process: {error}; define it at the top of a module, "
            "or use one worker without a time limit"
        ) from None


def evaluate_pickled(evaluator: bytes, job: Job) -> Outcome:
    """Return the outcome of one job; this is what another process runs."""
    return evaluate(_unpickled(evaluator), job)


# An evaluator may hold images: it is read once in each process, not once for each job.
@functools.lru_cache(maxsize=1)
def _unpickled(evaluator: bytes) -> Evaluator:
    try:
        return cast(Evaluator, pickle.loads(evaluator))
    except Exception as error:
        raise InputError(
            f"another process cannot read the evaluator: {type(error).__name__}: {error}; define it at the top of a module "
            "that can be imported there"
        ) from None
