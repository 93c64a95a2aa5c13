"""A run of Weights & Biases without a connection."""

import time

import pytest

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'fbnetv3[trackers]'")

from fbnetv3.tracking import wandb_log
from tests.tracking.readers import read_wandb


@pytest.fixture(autouse=True)
def logged_out(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_a_run_is_continued_and_nothing_is_logged_twice(tmp_path):
    log = wandb_log.open_log(tmp_path, {"seed": 3})
    log.begin("epochs", 0)
    log.write("epochs", 1, {"lr": 0.5, "status": "ok", "ema_acc1": None})
    log.close()
    time.sleep(1.1)  # W&B names the file of a session by its second
    again = wandb_log.open_log(tmp_path, {"seed": 3})
    again.begin("epochs", 0)
    again.write("epochs", 1, {"lr": 0.5, "status": "ok"})
    again.write("epochs", 2, {"lr": 0.25, "status": "ok"})
    again.close()
    assert read_wandb(tmp_path, "epochs") == {"lr": [(1, 0.5), (2, 0.25)], "status": [(1, "ok"), (2, "ok")]}


def test_rows_count_as_logged_when_wandb_has_written_them(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(wandb_log.time, "monotonic", lambda: now[0])
    log = wandb_log.open_log(tmp_path, {})
    log.write("epochs", 1, {"lr": 0.5})
    now[0] += 29
    log.write("epochs", 2, {"lr": 0.5})
    assert ("epochs", 1) not in log.logged
    now[0] += 1
    log.write("epochs", 3, {"lr": 0.5})
    assert ("epochs", 1) in log.logged
    assert ("epochs", 2) not in log.logged
    log.close()
    assert ("epochs", 3) in log.logged


@pytest.mark.parametrize(
    ("variable", "logged_in", "mode"), [("", False, "offline"), ("", True, "online"), ("disabled", True, "disabled")]
)
def test_it_is_online_for_those_who_are_logged_in(monkeypatch, variable, logged_in, mode):
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setattr(wandb_log.wandb, "login", lambda prompt: logged_in)
    assert wandb_log._mode() == mode
