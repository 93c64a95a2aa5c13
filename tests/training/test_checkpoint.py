"""What is written after an epoch: the checkpoint, the metrics as tables, and the best weights."""

import csv
import json

import torch

from fbnetv3.files import load_torch
from fbnetv3.training.checkpoint import EpochMetrics, State, save, save_best
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


def test_a_checkpoint_has_everything_that_steps_change(tmp_path):
    save(state(steps=2), tmp_path, IDENTITY, METRICS)
    content = load_torch(tmp_path / "checkpoint.pt", "checkpoint")
    assert set(content) == {"identity", "metrics", "model", "ema", "optimizer", "position"}
    assert json.loads(content["identity"]) == IDENTITY
