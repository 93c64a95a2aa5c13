"""Callbacks: what they are told, in order, also when a training is resumed; and that they change nothing."""

import pytest

from fbnetv3.training.callbacks import Callback, Listeners
from fbnetv3.training.checkpoint import EpochMetrics
from fbnetv3.training.engine import Engine
from fbnetv3.training.loop import fit
from fbnetv3.training.step_losses import StepLosses
from tests.training.examples import DATA, RECIPE, new_model, same


class Noted(Callback):
    """Notes what it is told, and dies at a step or an epoch."""

    def __init__(self, step=None, epoch=None):
        self.told, self.steps, self.epochs = [], [], []
        self.dies = (step, epoch)

    def on_training(self, steps, epochs):
        self.told.append(("training", steps, len(epochs)))

    def on_step(self, metrics):
        self.told.append(("step", metrics.step))
        self.steps.append(metrics)
        if metrics.step == self.dies[0]:
            raise KeyboardInterrupt

    def on_epoch(self, metrics):
        self.told.append(("epoch", metrics.epoch))
        self.epochs.append(metrics)
        if metrics.epoch == self.dies[1]:
            raise KeyboardInterrupt


def run(noted=None, **settings):
    return fit(new_model(), RECIPE, DATA, seed=7, epochs=2, callbacks=[noted] if noted else (), **settings)


def words(first, last):
    """What the steps of two epochs of five steps tell, with their epochs."""
    found = []
    for step in range(first, last + 1):
        found += [("step", step), *([("epoch", step // 5)] if step % 5 == 0 else [])]
    return found


def test_a_callback_is_told_everything_in_order_and_changes_nothing():
    noted = Noted()
    trained, plain = run(noted), run()
    assert noted.told == [("training", 0, 0), *words(1, 10)]
    assert tuple(noted.epochs) == trained.metrics == plain.metrics
    assert same(trained.model, plain.model)


def test_what_is_told_of_a_step():
    noted = Noted()
    trained = run(noted)
    assert [(m.epoch, m.steps) for m in noted.steps] == [(1, 10)] * 5 + [(2, 10)] * 5
    assert [noted.steps[i].lr for i in (4, 9)] == [m.lr for m in trained.metrics]
    assert [noted.steps[i].mean_loss for i in (4, 9)] == [m.train_loss for m in trained.metrics]
    losses = [m.loss for m in noted.steps]
    assert sum(losses[:5]) / 5 == pytest.approx(trained.metrics[0].train_loss)
    assert len(set(losses)) == 10
    assert all(m.images_per_second > 0 for m in noted.steps)


@pytest.mark.parametrize(
    ("dies", "again"),
    [
        ({"step": 3}, [("training", 2, 0), *words(3, 10)]),
        ({"step": 8}, [("training", 7, 1), *words(8, 10)]),
        # Told before it was saved: it comes again, with the step that was not saved.
        ({"epoch": 1}, [("training", 4, 0), *words(5, 10)]),
        ({"epoch": 2}, [("training", 9, 1), *words(10, 10)]),
    ],
)
def test_a_resumed_training_tells_what_was_not_saved(tmp_path, dies, again):
    engine = Engine(checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        run(Noted(**dies), out=tmp_path, engine=engine)
    noted = Noted()
    resumed = run(noted, out=tmp_path, engine=engine, resume=True)
    assert noted.told == again
    assert same(resumed.model, run().model)
    finished = Noted()
    run(finished, out=tmp_path, engine=engine, resume=True)
    assert finished.told == [("training", 10, 2)]


def losses(known):
    found = StepLosses(RECIPE)
    found.total, found.steps, found.last = 2.0 * known, known, 2.0 if known else None
    return found


def test_the_words_of_a_step(monkeypatch):
    times = iter([10.0, 11.0, 12.0, 20.0, 20.5])
    monkeypatch.setattr("fbnetv3.training.callbacks.time.perf_counter", lambda: next(times))
    said = []
    listeners = Listeners(lambda *report: said.append(report), (), steps=4, epochs=3, batch=1000, began=0.0)
    listeners.start(2, ())  # at 10 s; two of the four steps were made before
    listeners.step(0, 3, 0.0123456, losses(0))
    listeners.step(0, 4, 0.01, losses(4))
    listeners.epoch(EpochMetrics(1, 0.01, 2.0, 51.26, None, 90.0, None))  # at 20 s: the evaluation took a while
    listeners.step(1, 1, 0.01, losses(1))
    assert said == [
        (3, 12, "epoch 1/3"),
        (4, 12, "epoch 1/3, loss 2.000, lr 0.01, 1,000 images/s"),
        (5, 12, "epoch 2/3, loss 2.000, lr 0.01, accuracy 51.3%, 2,000 images/s"),
    ]
