"""A run of MLflow in a file of SQLite."""

import pytest

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'fbnetv3[trackers]'")

from mlflow import MlflowClient

from fbnetv3.tracking.mlflow_log import open_log
from tests.tracking.readers import read_mlflow

ABOUT = {"recipe": {"lr": 0.25, "notes": "x" * 900}, "seed": 3}


def only_run(folder):
    client = MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "fbnetv3"]
    [run] = client.search_runs([experiment.experiment_id])
    return run


def test_a_run_is_continued_and_nothing_is_logged_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = open_log(tmp_path / "logs", ABOUT)
    log.begin("epochs", 0)
    log.write("epochs", 1, {"lr": 0.5, "status": "ok", "ema_acc1": None})
    assert only_run(tmp_path / "logs").info.status == "RUNNING"  # the first process was killed
    again = open_log(tmp_path / "logs", {"recipe": {"lr": 0.125}})
    again.begin("epochs", 0)
    again.write("epochs", 1, {"lr": 0.5})
    again.write("epochs", 2, {"lr": 0.25})
    again.close()
    assert read_mlflow(tmp_path / "logs", "epochs") == {"lr": [(1, 0.5), (2, 0.25)]}
    run = only_run(tmp_path / "logs")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"recipe.lr": "0.25", "recipe.notes": "x" * 500, "seed": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
