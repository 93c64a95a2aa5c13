"""The evaluator that trains candidates on images."""

import contextlib
import dataclasses

import pytest
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.search.execution import images
from fbnetv3.search.execution.executor import Job, evaluate
from fbnetv3.search.execution.images import ImageEvaluator
from fbnetv3.search.execution.memory import GPU_FULL
from fbnetv3.search.trial import Outcome
from fbnetv3.training.accuracy import measure
from fbnetv3.training.engine import cpu_threads, seeded
from fbnetv3.training.loop import fit
from tests.search.execution.small_training import ARCH, CANDIDATE, DATA, RECIPE


@pytest.fixture
def loads(monkeypatch):
    """Loading gives the small data. Holds the arguments of every call."""
    calls = []

    def load_data(spec, **given):
        calls.append((spec, given))
        return DATA

    for cache in (images._load, images._on_device):
        cache.cache_clear()
    monkeypatch.setattr(images, "load_data", load_data)
    yield calls
    for cache in (images._load, images._on_device):
        cache.cache_clear()


@pytest.fixture
def evaluator(loads):
    return ImageEvaluator("folder")


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_outcome_is_the_training_by_hand(evaluator):
    with cpu_threads(1):
        model = seeded(lambda: build_model(ARCH, 2, 1, 0.2, 0.3), 5)
        expected = fit(model, RECIPE, DATA, seed=5).acc1
    outcome = evaluator(CANDIDATE, 2, 5)
    assert outcome == Outcome(expected, "ok", outcome.seconds)
    assert len(outcome.acc1) == 2
    assert outcome.seconds > 0


@pytest.mark.parametrize(("device", "dtype"), [("meta", torch.float32), ("cpu", torch.float64)])
def test_the_defaults_of_the_user_change_nothing(evaluator, device, dtype):
    expected = evaluator.train(CANDIDATE, 1, 5).model
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    try:
        found = evaluator.train(CANDIDATE, 1, 5).model
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert same(found, expected)


def test_fewer_epochs_are_the_first_ones_of_the_recipe(evaluator):
    assert evaluator(CANDIDATE, 1, 5).acc1 == evaluator(CANDIDATE, 2, 5).acc1[:1]


def test_test_images_are_measured_after_every_epoch_only_on_request(evaluator):
    found = dataclasses.replace(evaluator, test=True)(CANDIDATE, 2, 5)
    alone = evaluator(CANDIDATE, 2, 5)
    assert (found.acc1, alone.test_acc1) == (alone.acc1, ())
    for epochs in (1, 2):
        model = evaluator.train(CANDIDATE, epochs, 5).model
        assert found.test_acc1[epochs - 1] == measure(model, DATA, "test").acc1
    diverged = dataclasses.replace(evaluator, test=True)(CANDIDATE._replace(recipe=RECIPE.replace(lr=1e30)), 2, 5)
    assert (diverged.status, diverged.test_acc1) == ("diverged", ())


def test_a_rule_ends_a_training(evaluator):
    assert evaluator(CANDIDATE, 2, 5, stop=lambda acc1: True).acc1 == evaluator(CANDIDATE, 2, 5).acc1[:1]


def test_equal_arguments_give_equal_networks_and_another_seed_another(evaluator):
    first, again, other = (evaluator.train(CANDIDATE, 1, seed).model for seed in (5, 5, 6))
    assert same(first, again)
    assert not same(first, other)


def test_a_loss_that_is_not_finite_is_an_outcome(evaluator):
    outcome = evaluator(CANDIDATE._replace(recipe=RECIPE.replace(lr=1e30)), 2, 5)
    assert (outcome.status, outcome.acc1, outcome.error) == ("diverged", (), "")


def test_the_recipe_decides_on_dropout_and_stochastic_depth(evaluator, monkeypatch):
    built = []

    def build(*arguments):
        built.append(arguments)
        return build_model(*arguments)

    monkeypatch.setattr(images, "build_model", build)
    evaluator.train(CANDIDATE, 1, 5)
    assert built == [(ARCH, 2, 1, 0.2, 0.3)]


def test_a_training_runs_on_one_thread(evaluator):
    threads = set()
    with cpu_threads(2):
        evaluator.train(CANDIDATE, 1, 5, progress=lambda *_: threads.add(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    assert threads == {1}


def test_device_and_precision_are_the_evaluators(loads, monkeypatch):
    """The device is looked for by the training, which may run on another machine than the search."""
    engines, current = [], []
    monkeypatch.setattr(images, "find_device", lambda name: {"cuda": "cuda:3"}[name])
    monkeypatch.setattr(images, "on_device", lambda data, device: (data, device))
    monkeypatch.setattr(images, "_current", lambda device: current.append(device) or contextlib.nullcontext())
    monkeypatch.setattr(images, "Engine", lambda *arguments: engines.append(arguments))
    monkeypatch.setattr(images, "seeded", lambda build, seed: None)
    monkeypatch.setattr(images, "fit", lambda model, recipe, data, **given: data)
    data = ImageEvaluator("folder", device="cuda", precision="bf16").train(CANDIDATE, 1, 5)
    assert (data, engines, current) == ((DATA, torch.device("cuda:3")), [("cuda:3", "bf16")], ["cuda:3"])


def test_a_device_that_is_not_there_is_a_mistake_of_the_user(evaluator):
    with pytest.raises(InputError, match="--device cuda:77 cannot be used"):
        dataclasses.replace(evaluator, device="cuda:77")(CANDIDATE, 1, 5)


def test_a_gpu_that_others_fill_at_this_moment_fails_one_trial(evaluator, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch, "zeros", full)
    outcome = evaluate(dataclasses.replace(evaluator, device="cuda"), Job(CANDIDATE, 1, 5))
    assert (outcome.status, outcome.error[: len(GPU_FULL)]) == ("failed", GPU_FULL)


def test_the_images_are_sent_to_a_device_once(evaluator, monkeypatch):
    sent = []
    monkeypatch.setattr(images, "on_device", lambda data, device: sent.append(device) or data)
    first, second = evaluator(CANDIDATE, 1, 5), evaluator(CANDIDATE, 1, 5)
    assert (first.acc1, sent) == (second.acc1, [torch.device("cpu")])


def test_a_stopped_training_continues_in_its_folder(evaluator, tmp_path):
    complete = evaluator.train(CANDIDATE, 2, 5)
    evaluator.train(CANDIDATE, 1, 5, out=tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()
    resumed = evaluator.train(CANDIDATE, 2, 5, out=tmp_path, resume=True)
    assert resumed.acc1 == complete.acc1
    assert same(resumed.model, complete.model)


def test_files_are_loaded_at_the_resolution_of_the_candidate(loads):
    ImageEvaluator("folder", readers=3).train(CANDIDATE, 1, 5)
    assert loads == [("folder", {"resolution": 8, "workers": 3})]


def test_a_set_of_the_package_has_its_own_resolution(loads):
    ImageEvaluator("fashion_mnist").images(224)
    assert loads == [("fashion_mnist", {"resolution": None, "workers": 0})]


def test_the_data_of_two_resolutions_are_kept(loads):
    evaluator = ImageEvaluator("folder")
    for resolution in (8, 16, 8, 16):
        evaluator.images(resolution)
    assert [given["resolution"] for _, given in loads] == [8, 16]
    evaluator.images(24)
    evaluator.images(8)
    assert [given["resolution"] for _, given in loads] == [8, 16, 24, 8]


def test_by_default_a_training_is_in_float32_on_the_cpu():
    assert dataclasses.asdict(ImageEvaluator("folder")) == {
        "data": "folder",
        "device": "cpu",
        "precision": "fp32",
        "readers": 0,
        "test": False,
    }
