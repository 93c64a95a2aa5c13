"""Trainings of detectors in processes of their own: two that train together, and a command that is killed repeatedly."""

import json
import math
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3.detection.detector_weights import load_detector
from fbnetv3.detection.evaluation import evaluate
from tests.detection import coco_data
from tests.detection.coco_data import same
from tests.places import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "fbnetv3", "benchmark", "coco", "--config", "base_c4"]
SQUARE = {"INPUT__MIN_SIZE_TRAIN": "(64,)", "SOLVER__IMS_PER_BATCH": 4}


def work(out, options, processes=1):
    """Run a training in several processes, and return their exit codes and what they wrote to stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    command = [sys.executable, str(Path(__file__).with_name("detector_worker.py")), str(out), json.dumps(options)]
    workers = [
        subprocess.Popen(command, env=ENVIRONMENT | group | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(processes)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    return [worker.returncode for worker in workers], errors


def results(out, processes=1):
    return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(processes)]


@pytest.fixture
def pair(tmp_path):
    return coco_data.pair_file(tmp_path / "tiny.yaml")


@pytest.fixture
def squares(tmp_path):
    """A folder with eight images of one size, so that no batch is padded, whatever its size."""
    data = coco_data.description(8)
    for image in data["images"]:
        image |= {"width": 96, "height": 96}
    coco_data.write_data(tmp_path / "data", data)
    return tmp_path / "data"


@pytest.mark.slow
def test_two_processes_train_what_one_does(squares, pair, tmp_path):
    """With all anchors and norms over both processes, losses and statistics equal those of one process up to rounding."""
    more = SQUARE | {"SOLVER__MAX_ITER": 1, "MODEL__FBNETV3__NORM": "SyncBN"}
    more |= {"MODEL__RPN__BATCH_SIZE_PER_IMAGE": 4000, "MODEL__RPN__POSITIVE_FRACTION": 1.0}
    options = {"data": str(squares), "pair": str(pair), "changes": more}
    losses = {}
    for processes in (1, 2):
        codes, errors = work(tmp_path / f"out{processes}", options, processes)
        assert codes == [0] * processes, errors
        losses[processes] = json.loads((tmp_path / f"out{processes}" / "metrics.json").read_text().splitlines()[-1])
    for key in ("loss_rpn_cls", "loss_rpn_loc"):
        assert losses[2][key] == pytest.approx(losses[1][key], rel=1e-4), key
    for key in ("loss_cls", "loss_box_reg"):  # every process samples regions with another seed
        assert losses[2][key] == pytest.approx(losses[1][key], rel=0.3), key
    (alone,), (first, second) = results(tmp_path / "out1"), results(tmp_path / "out2", 2)
    assert same(dict(first["state"]), dict(second["state"]))
    statistics = [key for key in alone["state"] if key.startswith("backbone") and "running" in key]
    assert len(statistics) > 10
    for key in statistics:
        # detectron2's running variance is the biased one, over at least 64 locations here.
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if "mean" in key else {"rtol": 1 / 64, "atol": 0.0}
        torch.testing.assert_close(first["state"][key], alone["state"][key], **tolerance)


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_resumed(squares, pair, tmp_path):
    """A signal to one process ends both after the same step, and the images of both are evaluated."""
    options = {"data": str(squares), "pair": str(pair), "changes": SQUARE | {"SOLVER__MAX_ITER": 4}}
    codes, errors = work(tmp_path / "uninterrupted", options, 2)
    assert codes == [0, 0], errors
    codes, errors = work(tmp_path / "cut", options | {"stop": 3}, 2)
    assert codes == [143, 143], errors
    assert (tmp_path / "cut" / "last_checkpoint").read_text() == "model_0000003.pth"
    codes, errors = work(tmp_path / "cut", options | {"resume": True}, 2)
    assert codes == [0, 0], errors
    uninterrupted, cut = results(tmp_path / "uninterrupted", 2), results(tmp_path / "cut", 2)
    for a, b in zip(uninterrupted, cut, strict=True):
        assert same(dict(a["state"]), dict(b["state"]))
        assert same(a["found"], b["found"])
    assert same(dict(uninterrupted[0]["state"]), dict(uninterrupted[1]["state"]))
    assert [len(result["again"]) for result in uninterrupted] == [8, 0]  # the first process has the result
    cfg = coco_data.config(squares, pair, MODEL__WEIGHTS=tmp_path / "uninterrupted" / "weights.pth")
    alone = {f"ema/{key}": value for key, value in evaluate(cfg, load_detector(cfg, strict=True)[0]).items()}
    assert same(alone, {key: value for key, value in uninterrupted[0]["found"].items() if key.startswith("ema/")})
    assert math.isfinite(alone["ema/AP"])


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_is_refused(squares, pair, tmp_path):
    options = {"data": str(squares), "pair": str(pair), "changes": {"SOLVER__IMS_PER_BATCH": 3}}
    codes, errors = work(tmp_path / "out", options, 2)
    assert 0 not in codes
    assert "a batch of 3 cannot be divided evenly among 2 processes" in errors[0]


@pytest.mark.slow
def test_the_command_killed_at_random_moments_ends_with_the_same_weights(squares, pair, tmp_path):
    changes = coco_data.changes(squares, pair)
    changes += ["SOLVER.MAX_ITER", "40", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "15"]

    def start(out, *more):
        command = [*COMMAND, "--out", str(out), *more]
        with out.with_suffix(".err").open("a") as errors:
            return subprocess.Popen([*command, *changes], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=errors)

    def saved_step(out):
        """The number of steps that the last checkpoint has."""
        path = out / "last_checkpoint"
        return int(path.read_text().removeprefix("model_").removesuffix(".pth")) if path.exists() else 0

    assert start(tmp_path / "uninterrupted").wait(timeout=300) == 0
    rng = random.Random(0)
    # The test waits for steps, not for seconds: a slow machine must not change how often the command is killed.
    for step in (1, 14, 27):
        command = start(tmp_path / "cut", "--resume")
        while saved_step(tmp_path / "cut") < step and command.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))  # somewhere within a step, or while a file is written
        assert command.poll() is None, "the command ended before it was killed"
        command.kill()
        command.wait()
    assert start(tmp_path / "cut", "--resume").wait(timeout=300) == 0, (tmp_path / "cut.err").read_text()
    first, second = (
        torch.load(tmp_path / name / "weights.pth", weights_only=True) for name in ("uninterrupted", "cut")
    )
    assert same(first, second)
    last = [torch.load(tmp_path / name / "model_0000040.pth", weights_only=True) for name in ("uninterrupted", "cut")]
    assert same(*last)
