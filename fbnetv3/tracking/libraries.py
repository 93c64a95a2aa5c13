"""Which libraries there are to log with, and how trackers are opened.

with open_trackers("csv,tensorboard", "DIR/logs") as trackers:
    fit(model, recipe, data, callbacks=trackers)
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, available
from fbnetv3.tracking.tracker import Tracker

# The module of each, which has `open_log(folder, about)`, and what its packages are called for pip.
LIBRARIES = {
    "csv": ("fbnetv3.tracking.csv_log", ""),
    "tensorboard": ("fbnetv3.tracking.tensorboard_log", "tensorboard"),
    "mlflow": ("fbnetv3.tracking.mlflow_log", "mlflow-skinny sqlalchemy alembic"),
    "wandb": ("fbnetv3.tracking.wandb_log", "wandb"),
}


@contextlib.contextmanager
def open_trackers(names: str, folder: str | Path, about: Mapping[str, Any] | None = None) -> Iterator[list[Tracker]]:
    """Yield trackers that log until the end of the `with` block.

    Nothing is written before the first training or search starts.

    Args:
        names: keys of `LIBRARIES`, separated by commas; nothing for no tracker.
        folder: where files are written, each library's under its name. To go on with the logs of a training or search that was
            stopped, give the same folder.
        about: settings that are logged once.

    Raises:
        InputError: there is no such library, or it is not installed.
    """
    given = dict.fromkeys(name.strip() for name in names.split(",")) if names else {}
    trackers = [_tracker(name, Path(folder), dict(about or {})) for name in given]
    try:
        yield trackers
    finally:
        for tracker in trackers:
            tracker.close()


def _tracker(name: str, folder: Path, about: dict[str, Any]) -> Tracker:
    if name not in LIBRARIES:
        raise InputError(f"no library to log with is called {name!r}; {available(name, LIBRARIES)}")
    module, packages = LIBRARIES[name]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{name} cannot be imported ({error}): pip install {packages}, or 'fbnetv3[trackers]' for all of them; or leave it "
            "out"
        ) from None
    return Tracker(name, partial(found.open_log, folder, about))
