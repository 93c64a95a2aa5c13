"""An evaluator of the user: named by its import path, imported, and checked before a search writes anything."""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
from pathlib import Path
from typing import Any, cast

from fbnetv3.errors import InputError, quote
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.trial import Evaluator

SIGNATURE = "(candidate, epochs, seed)"


def evaluator_name(evaluator: Evaluator) -> str:
    """Return what a search records of a custom evaluator: MODULE:FUNCTION or, for an object, MODULE:CLASS."""
    named = evaluator if hasattr(evaluator, "__qualname__") else type(evaluator)
    module, name = named.__module__, cast(Any, named).__qualname__
    if module == "__main__" and (path := getattr(sys.modules[module], "__file__", None)):
        module = Path(path).stem  # of a script, which other processes import by this name
    return f"{module}:{name}"


def import_evaluator(name: str) -> Evaluator:
    """Return the evaluator that MODULE:FUNCTION names. The current folder counts as a place of modules.

    Raises:
        InputError: there is no such function, its module fails, or it cannot be called as an evaluator is.
    """
    module, mark, attribute = name.partition(":")
    if not mark or not module or not attribute:
        raise InputError(f"the evaluator is {quote(name)}; give MODULE:FUNCTION, such as my_search:evaluate")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # the user's module may raise anything
        said = f"{type(error).__name__}: {error}"
        raise InputError(
            f"the evaluator {name} cannot be imported ({said}); give MODULE:FUNCTION with a module that Python finds from "
            "here. A search that was started with an evaluator from Python is continued there"
        ) from error
    check_evaluator(found, name)
    return cast(Evaluator, found)


def check_evaluator(evaluator: object, name: str) -> None:
    """Check that an evaluator can be called as a search does.

    Raises:
        InputError: it is no function or callable object, or takes other arguments.
    """
    if not callable(evaluator) or inspect.isclass(evaluator):
        what = "a class" if inspect.isclass(evaluator) else f"a {type(evaluator).__name__}"
        raise InputError(f"the evaluator {name} is {what}; give a function, or an object that can be called")
    try:
        signature = inspect.signature(evaluator)
        signature.bind("candidate", "epochs", "seed", **({"stop": None} if "stop" in signature.parameters else {}))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the evaluator {name} cannot be called with {SIGNATURE}: {error}; define it as `def evaluate{SIGNATURE}`"
        ) from None


def with_evaluator(config: SearchConfig, given: Evaluator | None) -> tuple[SearchConfig, Evaluator | None]:
    """Return the settings with the name of their evaluator, and the evaluator; None where the package trains itself.

    Args:
        given: a custom evaluator; by default the one that the settings name.

    Raises:
        InputError: it cannot be imported or called, or the settings name another one.
    """
    if given is None:
        return config, import_evaluator(config.evaluator) if config.evaluator else None
    name = evaluator_name(given)
    check_evaluator(given, name)
    if config.evaluator not in (None, name):
        raise InputError(
            f"the search is one with the evaluator {config.evaluator}, and {name} is another; give that one"
        )
    return config.replace(evaluator=name) if config.evaluator is None else config, given


def evaluator_of(config: SearchConfig, given: Evaluator | None) -> Evaluator | None:
    """Return the custom evaluator of a search that has begun; None where the package trains itself.

    Raises:
        InputError: as in `with_evaluator`, or the search has none and one is given.
    """
    images = config.contents and config.contents.data
    # Versions before this one did not record the name. What they began without opening images had a custom evaluator.
    if given is not None and config.evaluator is None and images:
        raise InputError(
            f"the search trains on images, and not with the evaluator {evaluator_name(given)}; resume it without one, or start "
            "another search"
        )
    if given is not None and config.evaluator is None:
        return given
    return with_evaluator(config, given)[1]
