"""Trainings of networks by name and by architecture, their time limit, and work side by side."""

import dataclasses
import threading

import pytest
import torch
from torch import nn

from fbnetv3.benchmarks.experiments.cifar10_networks import cifar_arch
from fbnetv3.benchmarks.gpu import trainings
from fbnetv3.benchmarks.gpu.images import MADE_UP, decode, find_images, keep, load_kept
from fbnetv3.benchmarks.gpu.trainings import Training, TrainingEvaluator, open_device, side_by_side, train
from fbnetv3.search.execution.executor import Job, evaluate
from fbnetv3.search.trial import Outcome
from fbnetv3.training.accuracy import Accuracy
from fbnetv3.training.loop import Trained
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import DivergedError

RECIPE = Recipe(optimizer="sgd", lr=0.05, epochs=2, batch_size=20)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    keep(decode(find_images(MADE_UP, folder), 32), folder / "32.pt")
    return TrainingEvaluator({32: folder / "32.pt"}, "cpu", "fp32")


def test_an_architecture_trains_like_the_network_of_its_name(evaluator):
    by_name = evaluator(Training("fbnetv3_a0", RECIPE, every=9), 1, 0)
    by_arch = evaluator(Training(cifar_arch("fbnetv3_a0"), RECIPE, every=9), 1, 0)
    assert by_name.status == "ok"
    assert len(by_name.acc1) == 1
    assert by_name.acc1 == by_arch.acc1
    assert by_name.seconds > 0


def test_the_last_accuracy_is_on_the_whole_split(evaluator, monkeypatch):
    made = Trained(nn.Linear(1, 1), (), 0)
    monkeypatch.setattr(Trained, "acc1", (10.0, 20.0))
    monkeypatch.setattr(trainings, "fit", lambda *arguments, **settings: made)
    seen = []

    def measure(model, data, split, device):
        seen.append((model, data.count("val"), split, device.type))
        return Accuracy(30.0, 50.0, 40)

    monkeypatch.setattr(trainings, "measure", measure)
    assert evaluator(Training("fbnetv3_a0", RECIPE, "test", val_every=2), 2, 0).acc1 == (10.0, 30.0)
    assert seen == [(made.model, 20, "test", "cpu")]  # all validation images, though training saw half of them
    assert evaluator(Training("fbnetv3_a0", RECIPE, val_every=2), 2, 0).acc1 == (10.0, 20.0)


def test_a_training_that_diverges_says_so(evaluator, monkeypatch):
    def diverge(*arguments, **settings):
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(trainings, "fit", diverge)
    outcome = evaluator(Training("fbnetv3_a0", RECIPE), 2, 0)
    assert (outcome.acc1, outcome.status) == ((), "diverged")


def test_a_training_has_the_time_that_is_left(monkeypatch):
    class Pool:
        limit = None

        def run(self, jobs):
            assert jobs == {0: Job(Training("a", RECIPE), 3, 7)}
            yield 0, Outcome((self.limit,), "ok", 0.0)

    monkeypatch.setattr(trainings.time, "monotonic", lambda: 90.0)
    assert train(Pool(), Training("a", RECIPE), 3, 7, end=100.0).acc1 == (10.0 + trainings.GRACE,)
    assert train(Pool(), Training("a", RECIPE), 3, 7, end=80.0).acc1 == (trainings.LEAST,)


def test_every_process_opens_the_device(evaluator):
    class Pool:
        def run(self, jobs):
            for key, job in jobs.items():
                opened.append(key)
                yield key, evaluate(evaluator, job)

    opened = []
    open_device(Pool(), 3)
    assert opened == [0, 1, 2]
    broken = dataclasses.replace(evaluator, device="cuda:99")
    with pytest.raises((RuntimeError, AssertionError)):
        broken(None, 1, 0)


def test_no_more_than_so_many_at_once():
    running, most = set(), []
    full = threading.Barrier(3, timeout=20)  # breaks unless three work at the same time

    def work(item):
        running.add(item)
        full.wait()
        most.append(len(running))
        full.wait()
        running.remove(item)
        return item * 10

    assert dict(side_by_side(range(6), work, 3)) == {i: i * 10 for i in range(6)}
    assert max(most) == 3


def test_an_error_is_raised_before_the_others_have_ended():
    hold = threading.Event()

    def work(item):
        if item:
            hold.wait(20)
            return item
        raise KeyboardInterrupt

    # Waiting here would wait for trainings that only the caller can stop.
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(range(2), work, 2))
    hold.set()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_with_all_images_on_the_card(evaluator):
    on_card = dataclasses.replace(evaluator, device="cuda", precision="bf16")
    outcome = on_card(Training("fbnetv3_a0", RECIPE, "test", every=3, val_every=2), 2, 0)
    assert (outcome.status, len(outcome.acc1)) == ("ok", 2)
    kept = load_kept(evaluator.files[32], "cuda", 3, 2)
    assert kept.train.images.is_cuda
    assert kept.on_device(kept.train.images.device) is kept  # a training uses this copy, and makes none of its own
