"""When a training is saved and when it stops; disks that are full."""

import logging
import signal

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.files import load_torch
from fbnetv3.training import checkpoint
from fbnetv3.training.accuracy import measure
from fbnetv3.training.checkpoint import EpochMetrics, State
from fbnetv3.training.engine import DEFAULT_ENGINE, Engine
from fbnetv3.training.journal import Journal, open_journal
from fbnetv3.training.loop import fit
from fbnetv3.training.process_rank import ProcessRank
from tests.training.examples import DATA, RECIPE, new_model

IDENTITY = {"seed": 7}


def state():
    model = torch.nn.Linear(2, 2)
    return State(model, None, torch.optim.SGD(model.parameters(), 0.1))


def journal(out, engine=DEFAULT_ENGINE, resume=False):
    return open_journal(state(), IDENTITY, ProcessRank(), engine, out, resume)


def metrics(epoch, acc1):
    return EpochMetrics(epoch, 0.1, 2.0, acc1, None, 90.0, None)


def saved(out):
    return load_torch(out / "checkpoint.pt", "checkpoint")


def test_without_a_folder_nothing_is_saved_and_signals_act_as_usual():
    before = signal.getsignal(signal.SIGTERM)
    with journal(None, Engine(checkpoint_steps=1)) as open_one:
        assert signal.getsignal(signal.SIGTERM) == before
        assert not open_one.is_due(1)
        open_one.add_epoch(metrics(1, 10.0), last=False)
        assert [m.epoch for m in open_one.metrics] == [1]


def test_every_epoch_is_saved_and_the_best_one_kept(tmp_path):
    with journal(tmp_path) as open_one:
        for epoch, acc1 in enumerate((20.0, 40.0, 40.0, 30.0), start=1):
            open_one.add_epoch(metrics(epoch, acc1), last=epoch == 4)
            assert len(saved(tmp_path)["metrics"]) == epoch
    assert load_torch(tmp_path / "best.pt", "weights")["epoch"] == 2  # the first of two equal ones
    with journal(tmp_path, resume=True) as resumed:
        assert [m.raw_acc1 for m in resumed.metrics] == [20.0, 40.0, 40.0, 30.0]


def test_it_is_time_every_so_many_steps(tmp_path):
    with journal(tmp_path, Engine(checkpoint_steps=3)) as open_one:
        assert [step for step in range(1, 10) if open_one.is_due(step)] == [3, 6, 9]
    with journal(tmp_path / "other") as open_one:
        assert not any(open_one.is_due(step) for step in range(1, 10))


@pytest.mark.parametrize(
    ("device", "world_size", "expected"),
    [
        ("cuda:0", 2, [32, 64]),
        # A step that saves anyway asks when it has saved.
        ("cuda:0", 1, [step for step in range(1, 70) if step % 20]),
        ("cpu", 2, [step for step in range(1, 70) if step % 20]),
    ],
)
def test_several_gpus_agree_on_a_stop_only_where_losses_are_fetched(tmp_path, device, world_size, expected):
    asked, now = [], [0]
    one = Journal(state(), IDENTITY, ProcessRank(0, world_size), Engine(device, checkpoint_steps=20), tmp_path)
    one._stop_requested = lambda: asked.append(now[0]) or (signal.SIGTERM if now[0] == 64 else None)
    due = []
    for now[0] in range(1, 70):
        due += [now[0]] if one.is_due(now[0]) else []
    assert due == [20, 40, 60, 64]
    assert asked == expected


def test_a_position_is_saved_and_taken_once(tmp_path):
    generator = torch.get_rng_state()
    with journal(tmp_path) as open_one:
        open_one.save_position(4, 2.5, [generator])
    with journal(tmp_path, resume=True) as resumed:
        position = resumed.take_position()
        assert (position.step, position.losses) == (4, [2.5])
        assert torch.equal(position.generators[0], generator)
        assert resumed.take_position() is None
        resumed.add_epoch(metrics(1, 10.0), last=False)
    assert saved(tmp_path)["position"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, "143"), (signal.SIGUSR1, "138")])
def test_a_request_stops_after_saving_within_an_epoch(tmp_path, number, code):
    with journal(tmp_path) as open_one:
        signal.raise_signal(number)
        assert open_one.is_due(1)
        with pytest.raises(SystemExit, match=code):
            open_one.save_position(1, 2.5, [torch.get_rng_state()])
    assert saved(tmp_path)["position"]["step"] == 1


def test_a_request_stops_between_epochs_but_not_after_the_last(tmp_path):
    with journal(tmp_path) as open_one:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            open_one.add_epoch(metrics(1, 10.0), last=False)
    assert len(saved(tmp_path)["metrics"]) == 1
    with journal(tmp_path, resume=True) as resumed:
        signal.raise_signal(signal.SIGTERM)
        resumed.add_epoch(metrics(2, 20.0), last=True)
    assert len(saved(tmp_path)["metrics"]) == 2


def test_only_the_first_process_writes(tmp_path):
    second = Journal(state(), IDENTITY, ProcessRank(1, 2), Engine(), tmp_path)
    second._stop_requested = lambda: None  # there is no first process to ask
    second.add_epoch(metrics(1, 10.0), last=True)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch, caplog):
    real, calls = checkpoint.save_torch, []

    def sometimes_full(path, content):
        calls.append(path)
        if len(calls) in (2, 3):
            raise InputError(f"cannot write {path}: No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint, "save_torch", sometimes_full)
    with caplog.at_level(logging.WARNING):
        trained = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    assert trained.metrics == fit(new_model(), RECIPE, DATA, seed=7).metrics
    assert "was not saved; the training continues and saves the next one: cannot write" in caplog.text
    assert len(saved(tmp_path)["metrics"]) == 3


def test_a_full_disk_after_the_last_epoch_is_an_error(tmp_path, monkeypatch):
    def full(path, content):
        raise InputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(checkpoint, "save_torch", full)
    with journal(tmp_path) as open_one:
        open_one.add_epoch(metrics(1, 10.0), last=False)
        with pytest.raises(InputError, match="No space left on device"):
            open_one.add_epoch(metrics(2, 20.0), last=True)


def test_the_best_weights_give_the_best_accuracy(tmp_path):
    trained = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    best = load_torch(tmp_path / "best.pt", "weights")
    assert best["acc1"] == max(trained.acc1)
    assert best["epoch"] == trained.acc1.index(max(trained.acc1)) + 1
    model = new_model()
    model.load_state_dict(best["state_dict"])
    assert measure(model, DATA, "val").acc1 == best["acc1"]
