"""MLflow: a run in `mlflow.db` (SQLite), or on the server that the variable MLFLOW_TRACKING_URI names.

mlflow ui --backend-store-uri sqlite:///DIR/logs/mlflow/mlflow.db
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param

from fbnetv3.files import make_folder
from fbnetv3.tracking.logged import Logged
from fbnetv3.tracking.tracker import numbers

EXPERIMENT = "fbnetv3"
RUN = "fbnetv3.run"  # tag by which the run is found again
LONGEST = 500  # characters of a setting, which every version of MLflow takes


class MlflowLog:
    """Logs each row as metrics of one run. Rows that come again are left out, because MLflow takes none back."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        folder = make_folder(folder.absolute())
        self.logged = Logged(folder / "logged.txt")
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self.client = mlflow.MlflowClient(server or f"sqlite:///{folder / 'mlflow.db'}")
        found = self.client.get_experiment_by_name(EXPERIMENT)
        # Without a server, MLflow would put artifacts into the current directory.
        place = None if server else (folder / "artifacts").as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment(EXPERIMENT, place)
        runs = self.client.search_runs([experiment], f"tags.`{RUN}` = '{self.logged.run}'")
        if runs:
            self.run = runs[0].info.run_id
            self.client.set_terminated(self.run, "RUNNING")
        else:
            self.run = self.client.create_run(experiment, tags={RUN: self.logged.run}).info.run_id
            settings = [Param(key, str(value)[:LONGEST]) for key, value in _flat(about).items()]
            self.client.log_batch(self.run, params=settings)

    def begin(self, table: str, done: int) -> None:
        """Nothing is prepared."""

    def write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Log the numbers of a row that was not logged before."""
        if (table, number) in self.logged:
            return
        now = int(time.time() * 1000)
        metrics = [Metric(f"{table}/{key}", value, now, number) for key, value in numbers(row).items()]
        self.client.log_batch(self.run, metrics=metrics)
        self.logged.add(table, number)

    def close(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.run)


def _flat(about: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return settings without mappings in them: the keys of `{"recipe": {"lr": 0.1}}` become `recipe.lr`."""
    found: dict[str, Any] = {}
    for key, value in about.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def open_log(folder: Path, about: Mapping[str, Any]) -> MlflowLog:
    """Return the log in a folder, and go on with its run if it has one."""
    return MlflowLog(folder / "mlflow", about)
