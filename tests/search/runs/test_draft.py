"""A preset for one's images: the arithmetic by hand, and that a search takes what was written."""

from types import SimpleNamespace

import pytest
import yaml

from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context, image_evaluator
from fbnetv3.search.runs import draft as module
from fbnetv3.search.runs.draft import draft, fitted, measure_epoch, search_seconds, space_beside, write_draft
from fbnetv3.search.space.reader import load_space
from fbnetv3.training.data.shape import data_shape
from tests.search.images import write_noise

CONFIG = load_preset("images").replace(epochs=30, rounds=3)  # 8 + 2 x 4 trainings and 4 finalists


def test_the_seconds_of_a_search():
    assert search_seconds(CONFIG, 1.0, 1) == 30 * (20 + 2)
    assert search_seconds(CONFIG, 1.0, 4) == 30 * (20 / 4 + 2)


@pytest.mark.parametrize(
    ("seconds", "epochs", "rounds"),
    [(660, 30, 3), (659, 20, 5), (780, 30, 4), (10**6, 30, 20), (1, 2, 3)],
    ids=["just", "fewer epochs", "one round more", "the most", "the least"],
)
def test_rounds_fit_the_time_and_then_epochs(seconds, epochs, rounds):
    found = fitted(CONFIG, 1.0, 1, seconds)
    assert (found.epochs, found.rounds) == (epochs, rounds)


def test_an_epoch_is_measured_on_some_images_and_counted_for_all(tmp_path, monkeypatch):
    """The second of two epochs takes 3 s here, on 24 of the 36 training images."""
    data = write_noise(tmp_path / "data", 3)
    context = Context.of(load_preset("images").replace(data=data, epochs=2))
    clock = iter([10.0, 13.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(module, "MEASURED_IMAGES", 24)
    candidate = context.space.candidate(context.constraints.sample(1, 0)[0].tolist(), context.base, "candidate")
    assert measure_epoch(candidate, data, data_shape(data), "cpu") == pytest.approx(3.0 * 36 / 24)


def test_a_search_takes_the_preset_that_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure_epoch", lambda *_: 0.1)
    data = write_noise(tmp_path / "data", 3)
    found = draft(data, minutes=3.0, device="cpu")
    write_draft(found, tmp_path / "my.yaml")
    config = load_preset(str(tmp_path / "my.yaml"))
    assert (config.epochs, config.rounds, config.data) == (found.config.epochs, found.config.rounds, data)
    context = Context.of(config)
    image_evaluator(context)  # the space fits the data
    space = load_space("images", data_shape(data))
    assert (context.space.coordinates, context.space.layout) == (space.coordinates, space.layout)
    assert found.minutes <= 3.0
    text = (tmp_path / "my.yaml").read_text()
    assert f"about {found.minutes:.0f} minutes" in text
    assert all(len(line) < 120 for line in text.splitlines())
    assert yaml.safe_load(space_beside(tmp_path / "my.yaml").read_text())["name"] == "my"
