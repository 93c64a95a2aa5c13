"""A checkpoint holds everything that steps change, and belongs to one training."""

import csv
import json

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.files import load_torch
from fbnetv3.training.checkpoint import EpochMetrics, Position, State, resume_from, save, save_best
from fbnetv3.training.optim import MovingAverage

IDENTITY = {"recipe": {"lr": 0.1}, "seed": 7}
METRICS = [EpochMetrics(1, 0.1, 2.5, 30.0, 20.0, 70.0, 60.0), EpochMetrics(2, 0.05, 2.0, 40.0, 50.0, 80.0, 90.0)]


def state(seed=0, features=2, ema=True, steps=0):
    """A linear layer in training; its optimizer has a momentum after a step."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(features, 3)
    made = State(model, MovingAverage(model, 0.9) if ema else None, torch.optim.SGD(model.parameters(), 0.1, 0.9))
    for _ in range(steps):
        model(torch.ones(4, features)).square().sum().backward()
        made.optimizer.step()
        if made.ema is not None:
            made.ema.update()
    return made


def resumed(out, into, identity=IDENTITY, allowed=True, world_size=1):
    return resume_from(into, out, identity, allowed, world_size)


def test_everything_that_steps_change_comes_back(tmp_path):
    before, after = state(seed=1, steps=3), state(seed=2)
    save(before, tmp_path, IDENTITY, METRICS)
    assert resumed(tmp_path, after) == (METRICS, None)
    for part in ("model", "ema"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert all(torch.equal(new[key], value) for key, value in old.items())
    momenta = [s.optimizer.state_dict()["state"][0]["momentum_buffer"] for s in (before, after)]
    assert momenta[0].abs().sum() > 0
    assert torch.equal(*momenta)


def test_a_position_comes_back(tmp_path):
    generators = [torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([3, 4], dtype=torch.uint8)]
    save(state(), tmp_path, IDENTITY, METRICS[:1], Position(5, (1.25, 2.5), generators))
    metrics, position = resumed(tmp_path, state(), world_size=2)
    assert metrics == METRICS[:1]
    assert (position.step, list(position.losses)) == (5, [1.25, 2.5])
    assert all(torch.equal(a, b) for a, b in zip(position.generators, generators, strict=True))


def test_a_new_folder_starts_at_the_beginning(tmp_path):
    assert resumed(tmp_path / "new", state(), allowed=False) == ([], None)
    assert (tmp_path / "new").is_dir()


def test_metrics_are_tables_too(tmp_path):
    save(state(), tmp_path, IDENTITY, METRICS)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["raw_acc1"] for row in rows] == ["30.0", "40.0"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [EpochMetrics(**line) for line in lines] == METRICS


def test_what_the_recipe_reports():
    assert [m.acc1 for m in METRICS] == [20.0, 50.0]
    assert EpochMetrics(1, 0.1, 2.5, 30.0, None, 70.0, None).acc1 == 30.0
    averaged, raw = state(), state(ema=False)
    assert averaged.reported is averaged.ema.module
    assert raw.reported is raw.model


def test_the_best_weights_are_those_reported(tmp_path):
    trained = state(steps=2)
    save_best(trained.reported, tmp_path, METRICS[1])
    best = load_torch(tmp_path / "best.pt", "weights", ("epoch", "acc1", "state_dict"))
    assert (best["epoch"], best["acc1"]) == (2, 50.0)
    assert torch.equal(best["state_dict"]["weight"], trained.ema.module.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allowed": False}, "already holds a training; resume it, or give another folder"),
        ({"identity": IDENTITY | {"seed": 8}}, "belongs to another training: seed was 7, now 8; give another folder"),
        ({"identity": IDENTITY | {"recipe": {"lr": 0.2}}}, "another training: recipe was {'lr': 0.1}, now {'lr': 0.2}"),
        ({"identity": IDENTITY | {"threads": 2}}, "another training: threads was None, now 2"),
        ({"into": state(features=3)}, "belongs to another network"),
        ({"world_size": 1}, "stands within an epoch of 2 processes, not 1: resume with the same number"),
    ],
    ids=["not allowed", "seed", "recipe", "new key", "network", "processes"],
)
def test_a_checkpoint_that_does_not_fit(tmp_path, change, message):
    generator = torch.get_rng_state()
    save(state(), tmp_path, IDENTITY, METRICS, Position(5, [1.0, 1.0], [generator, generator]))
    with pytest.raises(InputError, match=message):
        resumed(tmp_path, **{"into": state(), "world_size": 2} | change)


def test_a_damaged_checkpoint(tmp_path):
    save(state(), tmp_path, IDENTITY, METRICS)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is no checkpoint or is damaged"):
        resumed(tmp_path, state())
    torch.save({"model": {}}, path)
    with pytest.raises(InputError, match="is no checkpoint: it needs the entries identity, metrics, model, ema"):
        resumed(tmp_path, state())
