"""The loops train the same network on the same device, and what is measured of them is counted."""

import functools

import pytest
import torch

from fbnetv3.benchmarks.gpu import training_sides
from fbnetv3.benchmarks.gpu.training_sides import (
    SIDES,
    GpuCase,
    Measure,
    busy_seconds,
    covered,
    synthetic,
    train_in_turns,
)
from fbnetv3.benchmarks.speed.loops import SMALL
from fbnetv3.training.engine import Engine, machine_settings

CPU = torch.device("cpu")


@pytest.fixture
def case():
    images = synthetic(count=8, side=32, classes=20, device=CPU)
    return GpuCase(SMALL, 4, 32, 3, 4, 2, images=images, engine=Engine("cpu", "bf16"))


def test_a_network_has_a_logit_for_each_class(case):
    assert case.network()(torch.zeros(2, 3, 32, 32)).shape == (2, 20)
    assert (case.recipe.augmentation, case.recipe.lr) == ("flip", training_sides.RATE)


@pytest.mark.parametrize("name", SIDES)
def test_every_loop_trains_epochs_in_bf16(case, name, monkeypatch):
    seen = []
    autocast = torch.autocast

    def watched(*args, **words):
        seen.append((args, words.get("enabled", True)))
        return autocast(*args, **words)

    monkeypatch.setattr(torch, "autocast", watched)
    epoch = SIDES[name](case)
    losses = [epoch(number) for number in range(2)]
    assert all(torch.isfinite(torch.as_tensor(loss)) for loss in losses)
    assert seen
    assert set(seen) == {(("cpu", torch.bfloat16), True)}


def test_the_others_take_their_own_images(case):
    theirs = synthetic(count=8, side=32, classes=20, device=CPU)
    assert case.data() is case.images
    assert GpuCase(SMALL, 4, 32, 3, 4, 2, images=case.images, theirs=theirs, engine=case.engine).data() is theirs


def test_a_compiled_case_compiles_the_other_loops_too(case, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, mode: compiled.append(mode) or model)
    network = case.network()
    assert case.called(network) is network
    assert not compiled
    engine = Engine("cpu", "bf16", compile="default")
    GpuCase(SMALL, 4, 32, 3, 4, 2, images=case.images, engine=engine).called(network)
    assert compiled == ["default"]


def test_trainings_take_turns_after_an_epoch_that_does_not_count():
    seen = []
    sides = {name: lambda name=name: lambda number: seen.append((name, number)) for name in ("a", "b")}
    epochs, measures = train_in_turns(sides, 2, CPU)
    assert seen[:2] == [("a", 0), ("b", 0)]
    assert sorted(seen[2:]) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [len(measure.wall) for measure in measures.values()] == [2, 2]
    assert set(epochs) == {"a", "b"}


def test_memory_is_what_is_held_and_what_a_step_adds():
    assert Measure(held=3, peak=4).memory == 7


def test_the_cpu_is_not_asked_how_busy_a_card_is():
    ran = []
    assert busy_seconds(lambda: ran.append(1), CPU) is None
    assert ran


@pytest.mark.parametrize(
    ("spans", "length"),
    [([], 0), ([(0, 2), (5, 6)], 3), ([(4, 6), (0, 5)], 6), ([(0, 10), (2, 3), (9, 12)], 12)],
)
def test_overlapping_kernels_are_counted_once(spans, length):
    assert covered(spans) == length


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_and_busy_seconds_of_a_card():
    device = torch.device("cuda")
    images = synthetic(count=64, side=64, classes=20, device=device)
    case = GpuCase(SMALL, 32, 64, 3, 4, 2, images=images, engine=Engine("cuda", "bf16"))
    with machine_settings(case.engine):
        epochs, measures = train_in_turns({name: functools.partial(SIDES[name], case) for name in SIDES}, 1, device)
        busy = busy_seconds(lambda: epochs["ours"](2), device)
    for measure in measures.values():
        assert measure.held > 0
        assert measure.peak > 0
    assert busy is None or 0 < busy < 60  # None where the profiler may not look at the card
