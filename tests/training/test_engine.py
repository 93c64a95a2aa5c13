"""What a lab asks of a loop: stopped at any moment, on several processes, in parts, in bfloat16, with a teacher."""

import dataclasses
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from torch.nn import functional as F

from fbnetv3 import InputError
from fbnetv3.files import load_torch
from fbnetv3.training import checkpoint
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.memory import Split
from fbnetv3.training.distributed import SyncBatchNorm2d, synchronise_norms
from fbnetv3.training.engine import Engine
from fbnetv3.training.loop import fit
from fbnetv3.training.losses import Target, loss
from fbnetv3.training.process_rank import ProcessRank
from tests.places import ROOT
from tests.training.test_loop import DATA, FULL, RECIPE, new_model, one_thread, same

__all__ = ["one_thread"]
PLAIN = {"mixup": 0.0, "dropout": 0.0, "stochastic_depth": 0.0, "batch_size": 64, "augmentation": "none"}


def start(out, options, processes=1):
    """The worker in as many processes as torchrun would start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(out), json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if processes > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=PIPE, stderr=PIPE, text=True)
        for rank in range(processes)
    ]


def finish(workers, code=0):
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [code] * len(workers), [text[-1500:] for _, text in outputs]
    return outputs


def result(out):
    return torch.load(f"{out}.done", weights_only=True)


def equal(a, b):
    assert a["metrics"] == b["metrics"]
    assert all(torch.equal(a["state"][key], value) for key, value in b["state"].items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training, uninterrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(start(out, {}))
    return result(out)


def until(worker, step):
    """Read what the worker prints until a step is done."""
    for line in worker.stdout:
        if int(line.split()[1].split("/")[0]) >= step:
            return
    raise AssertionError(worker.stderr.read())


@pytest.mark.parametrize("step", [2, 7])
def test_sigterm_saves_within_the_epoch_and_resuming_changes_nothing(tmp_path, whole, step):
    out = tmp_path / "run"
    (worker,) = start(out, {})
    until(worker, step)
    worker.send_signal(signal.SIGTERM)
    finish([worker], 128 + signal.SIGTERM)
    position = load_torch(out / "checkpoint.pt", "checkpoint")["position"]
    assert position is None or position["step"] >= 1
    assert not (tmp_path / "run.done").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), whole)


@pytest.mark.slow
def test_sigkill_at_any_moment_and_resuming_changes_nothing(tmp_path, whole):
    out, rng = tmp_path / "run", random.Random(1)
    for _ in range(4):  # each step pauses, so that no machine is fast enough to end between two kills
        (worker,) = start(out, {"resume": True, "engine": {"checkpoint_steps": 1}, "pause": 0.1})
        until(worker, 1)
        time.sleep(rng.random() * 0.2)
        worker.kill()
        worker.communicate()
        assert worker.returncode == -signal.SIGKILL
    assert not (tmp_path / "run.done").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), whole)


def test_ctrl_c_saves_too(tmp_path, whole):
    out = tmp_path / "run"
    (worker,) = start(out, {})
    until(worker, 3)
    worker.send_signal(signal.SIGINT)
    worker.communicate()
    assert worker.returncode != 0
    assert (out / "checkpoint.pt").exists()
    finish(start(out, {"resume": True}))
    equal(result(out), whole)


def test_two_processes_equal_one_of_the_doubled_batch(tmp_path):
    options = {"recipe": PLAIN | {"sync_bn": False}, "freeze": True}
    finish(start(tmp_path / "one", options))
    finish(start(tmp_path / "two", options, processes=2))
    one, two = result(tmp_path / "one"), result(tmp_path / "two")
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert [m["train_loss"] for m in two["metrics"]] == pytest.approx(
        [m["train_loss"] for m in one["metrics"]], rel=1e-5
    )


def test_synchronised_norms_make_two_processes_equal_one(tmp_path):
    options = {"recipe": PLAIN | {"epochs": 1, "sync_bn": True, "optimizer": "sgd", "lr": 0.01}}
    finish(start(tmp_path / "one", options))
    finish(start(tmp_path / "two", options, processes=2))
    one, two = result(tmp_path / "one"), result(tmp_path / "two")
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    options["recipe"]["sync_bn"] = False  # without them they differ more
    finish(start(tmp_path / "apart", options, processes=2))
    apart = result(tmp_path / "apart")

    def difference(other):
        return max(float((other["state"][key] - value).abs().max()) for key, value in one["state"].items())

    assert difference(two) < 0.1 * difference(apart)


def test_processes_evaluate_every_image_once(tmp_path):
    out = tmp_path / "two"
    finish(start(out, {"recipe": {"batch_size": 64, "epochs": 1}}, processes=2))
    done = result(out)
    model = new_model()
    model.load_state_dict(done["state"])
    odd = dataclasses.replace(DATA, val=Split(FULL.val.images[:101], FULL.val.labels[:101]))
    assert done["acc1"] == done["metrics"][-1]["ema_acc1"] == measure(model, odd, "val").acc1
    assert sorted([*ProcessRank(0, 2).indices(101), *ProcessRank(1, 2).indices(101)]) == list(range(101))


@pytest.mark.slow
def test_two_processes_are_stopped_and_resumed_and_their_number_may_change_only_between_epochs(tmp_path):
    options = {"recipe": {"batch_size": 64}}
    finish(start(tmp_path / "whole", options, processes=2))
    out = tmp_path / "run"
    workers = start(out, options, processes=2)
    until(workers[0], 2)
    workers[1].send_signal(signal.SIGTERM)  # one is asked, both stop
    finish(workers, 128 + signal.SIGTERM)
    position = load_torch(out / "checkpoint.pt", "checkpoint")["position"]
    resumed = options | {"resume": True}
    if position is not None:
        (worker,) = start(out, resumed)
        assert "stands within an epoch of 2 processes, not 1: resume with as many" in worker.communicate()[1]
    finish(start(out, resumed, processes=2))
    equal(result(out), result(tmp_path / "whole"))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="a batch of 50 cannot be divided evenly among 4 processes"):
        ProcessRank(0, 4).local_batch(50)
    with pytest.raises(
        InputError, match="accumulate is 3, which does not divide a process's batch of 50 images evenly"
    ):
        fit(new_model(), RECIPE, DATA, engine=Engine(accumulate=3))


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_a_batch_give_its_gradient(parts):
    from tests.training.worker import freeze_norms

    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.1)
    whole = fit(freeze_norms(new_model(recipe)), recipe, DATA, seed=7, epochs=1)
    in_parts = fit(freeze_norms(new_model(recipe)), recipe, DATA, seed=7, epochs=1, engine=Engine(accumulate=parts))
    for a, b in zip(whole.model.state_dict().values(), in_parts.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_weights_and_averages_in_float32():
    recipe = RECIPE.replace(optimizer="sgd", lr=0.05)
    trained = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, engine=Engine(precision="bf16"))
    exact = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1)
    assert {v.dtype for v in trained.model.state_dict().values()} == {torch.float32, torch.int64}
    assert trained.metrics[0].train_loss != exact.metrics[0].train_loss
    assert trained.metrics[0].train_loss == pytest.approx(exact.metrics[0].train_loss, rel=0.02)
    with pytest.raises(InputError, match="precision is 'fp16'; allowed: fp32, bf16"):
        Engine(precision="fp16")


def test_distillation_by_hand():
    recipe = RECIPE.replace(label_smoothing=0.0, distillation=0.8, distillation_temperature=2.0)
    logits, teacher = torch.randn(4, 10), torch.randn(4, 10)
    labels = torch.tensor([1, 2, 3, 4])
    p, q = (teacher / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    expected = 0.2 * F.cross_entropy(logits, labels) + 0.8 * 4 * divergence
    torch.testing.assert_close(loss(logits, Target(labels, labels.flip(0), 1.0, teacher), recipe), expected)
    same_logits = loss(logits, Target(labels, labels, 1.0, logits), recipe)
    torch.testing.assert_close(same_logits, 0.2 * F.cross_entropy(logits, labels))


def test_a_teacher_is_followed_and_left_alone():
    recipe = RECIPE.replace(distillation=0.9)
    with pytest.raises(
        InputError, match=r"the recipe distils with weight 0\.9: give a teacher, or set distillation to 0"
    ):
        fit(new_model(recipe), recipe, DATA)
    teacher = new_model(recipe, seed=11).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    taught = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, teacher=teacher)
    assert all(torch.equal(teacher.state_dict()[key], value) for key, value in before.items())
    alone = fit(new_model(recipe), RECIPE, DATA, seed=7, epochs=1)
    assert not same(taught.model, alone.model)
    assert taught.model.derived_from == ()
    teacher.derived_from = ("fbnetv3_g:fb",)
    assert fit(new_model(recipe), recipe, DATA, epochs=1, teacher=teacher).model.derived_from == ("fbnetv3_g:fb",)
    ignored = fit(new_model(recipe), RECIPE, DATA, seed=7, epochs=1, teacher=teacher)
    assert same(ignored.model, alone.model)


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch, caplog):
    whole = fit(new_model(), RECIPE, DATA, seed=7)
    real, calls = checkpoint.save_torch, []

    def sometimes_full(path, content):
        calls.append(path)
        if len(calls) in (2, 3):
            raise InputError(f"cannot write {path}: No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint, "save_torch", sometimes_full)
    with caplog.at_level(logging.WARNING):
        trained = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    assert trained.metrics == whole.metrics
    assert "was not saved; the training continues and saves the next one: cannot write" in caplog.text
    assert len(load_torch(tmp_path / "checkpoint.pt", "checkpoint")["metrics"]) == 3
    monkeypatch.setattr(
        checkpoint, "save_torch", lambda path, content: sometimes_full(path, calls.clear() or content) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path / "other")


def test_the_best_epoch_is_kept(tmp_path):
    trained = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    best = load_torch(tmp_path / "best.pt", "weights")
    assert best["acc1"] == max(trained.acc1)
    assert best["epoch"] == trained.acc1.index(max(trained.acc1)) + 1
    model = new_model()
    model.load_state_dict(best["state_dict"])
    assert measure(model, DATA, "val").acc1 == best["acc1"]


def test_clipping_bounds_the_gradient():
    recipe = RECIPE.replace(
        optimizer="sgd", lr=1.0, momentum=0.0, clip_norm=1e-6, weight_decay=0.0, ema=False, warmup_epochs=0
    )
    model, before = new_model(recipe), new_model(recipe)
    fit(model, recipe, DATA, seed=7, epochs=1)
    moved = [float((a - b).detach().norm()) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-5


def test_tensorboard_files(tmp_path):
    pytest.importorskip("tensorboard")
    fit(new_model(), RECIPE, DATA, seed=7, epochs=1, out=tmp_path, engine=Engine(tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_norms_are_synchronised_in_structure():
    model = new_model()
    keys = list(model.state_dict())
    assert synchronise_norms(model, ProcessRank(), torch.device("cpu")) is model
    synchronise_norms(model, ProcessRank(0, 2), torch.device("cpu"))
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(type(m) is SyncBatchNorm2d for m in norms)
    assert list(model.state_dict()) == keys
    with pytest.raises(InputError, match="is a BatchNorm1d, which cannot be synchronised on the CPU"):
        synchronise_norms(torch.nn.Sequential(torch.nn.BatchNorm1d(3)), ProcessRank(0, 2), torch.device("cpu"))
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(new_model())  # what CUDA gets
    assert list(converted.state_dict()) == keys


@pytest.mark.slow
def test_a_compiled_network_trains_the_same():
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0)
    plain = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1)
    compiled = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, engine=Engine(compile=True))
    assert compiled.metrics[0].train_loss == pytest.approx(plain.metrics[0].train_loss, rel=1e-3)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
