"""Trainings in processes of their own: stopped at any moment and resumed, and several that train one network."""

import random
import signal
import time

import pytest
import torch

from fbnetv3.files import load_torch
from fbnetv3.training.accuracy import measure
from fbnetv3.training.engine import cpu_threads
from tests.training.examples import PLAIN, new_model
from tests.whole.training_worker import ODD, finish, result, start


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(start(out, {}))
    return result(out)


def equal(a, b):
    assert a["metrics"] == b["metrics"]
    assert all(torch.equal(a["state"][key], value) for key, value in b["state"].items())


def until(worker, step):
    """Read what the worker prints until a step is done."""
    for line in worker.stdout:
        if int(line.split()[1].split("/")[0]) >= step:
            return
    raise AssertionError(worker.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 7])
def test_sigterm_saves_within_the_epoch_and_resuming_changes_nothing(tmp_path, uninterrupted, step):
    out = tmp_path / "run"
    # Each step pauses, so that no machine is fast enough to finish before the signal comes.
    (worker,) = start(out, {"pause": 0.1})
    until(worker, step)
    worker.send_signal(signal.SIGTERM)
    finish([worker], 128 + signal.SIGTERM)
    position = load_torch(out / "checkpoint.pt", "checkpoint")["position"]
    assert position is None or position["step"] >= 1
    assert not (tmp_path / "run.done").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), uninterrupted)


@pytest.mark.slow
def test_sigkill_at_any_moment_and_resuming_changes_nothing(tmp_path, uninterrupted):
    out, rng = tmp_path / "run", random.Random(1)
    for _ in range(4):
        (worker,) = start(out, {"resume": True, "engine": {"checkpoint_steps": 1}, "pause": 0.1})
        until(worker, 1)
        time.sleep(rng.random() * 0.2)
        worker.kill()
        worker.communicate()
        assert worker.returncode == -signal.SIGKILL
    assert not (tmp_path / "run.done").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), uninterrupted)


@pytest.mark.slow
def test_ctrl_c_saves_too(tmp_path, uninterrupted):
    out = tmp_path / "run"
    (worker,) = start(out, {"pause": 0.1})
    until(worker, 3)
    worker.send_signal(signal.SIGINT)
    worker.communicate()
    assert worker.returncode != 0
    assert (out / "checkpoint.pt").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), uninterrupted)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """The same training in one process and in two, with norms that do not see the batch."""
    folder = tmp_path_factory.mktemp("processes")
    options = {"recipe": PLAIN | {"epochs": 2, "sync_bn": False}, "freeze": True}
    finish([*start(folder / "one", options), *start(folder / "two", options, processes=2)])
    return result(folder / "one"), result(folder / "two")


def test_two_processes_equal_one_of_the_doubled_batch(one_and_two):
    one, two = one_and_two
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-4, atol=1e-5, msg=key)
    losses = [[m["train_loss"] for m in found["metrics"]] for found in one_and_two]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_synchronised_norms_make_two_processes_equal_one(tmp_path):
    recipe = PLAIN | {"epochs": 1, "sync_bn": True, "optimizer": "sgd", "lr": 0.01}
    options, without = {"recipe": recipe}, {"recipe": recipe | {"sync_bn": False}}
    finish([*start(tmp_path / "one", options), *start(tmp_path / "two", options, processes=2)])
    finish(start(tmp_path / "apart", without, processes=2))
    one, two, apart = (result(tmp_path / name) for name in ("one", "two", "apart"))
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-3, atol=1e-4, msg=key)

    def difference(other):
        return max(float((other["state"][key] - value).abs().max()) for key, value in one["state"].items())

    assert difference(two) < 0.1 * difference(apart)  # without synchronised norms they differ more


def test_processes_evaluate_every_image_once(one_and_two):
    _, two = one_and_two
    model = new_model()
    model.load_state_dict(two["state"])
    assert two["acc1"] == two["metrics"][-1]["ema_acc1"] == measure(model, ODD, "val").acc1


@pytest.mark.slow
def test_two_processes_are_stopped_and_resumed_and_their_number_may_change_only_between_epochs(tmp_path):
    options = {"recipe": {"batch_size": 64}, "pause": 0.1}
    finish(start(tmp_path / "uninterrupted", options | {"pause": 0}, processes=2))
    out = tmp_path / "run"
    workers = start(out, options, processes=2)
    until(workers[0], 2)
    workers[1].send_signal(signal.SIGTERM)  # one is asked, both stop
    finish(workers, 128 + signal.SIGTERM)
    position = load_torch(out / "checkpoint.pt", "checkpoint")["position"]
    resumed = options | {"resume": True, "pause": 0}
    if position is not None:
        (worker,) = start(out, resumed)
        assert "stands within an epoch of 2 processes, not 1: resume with the same" in worker.communicate()[1]
    finish(start(out, resumed, processes=2))
    equal(result(out), result(tmp_path / "uninterrupted"))
