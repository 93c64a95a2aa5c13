"""A zoo from nothing, killed half-way, by the real command on real images."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
import yaml

from fbnetv3 import InputError
from fbnetv3.arch import ARCHS
from fbnetv3.complexity import cost
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.runs.zoo import ZOOS, _scaled, list_zoos, load_zoo
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.packaged import load_images
from tests.places import ROOT


@pytest.fixture
def plan(tmp_path):
    """The micro zoo in small: a search of six trainings of two epochs, three networks."""
    recipe = {"optimizer": "sgd", "lr": 0.05, "epochs": 2, "batch_size": 500, "ema_decay": 0.8}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    small = {"recipe": str(tmp_path / "recipe.yaml"), "pool": 64, "batch": 2, "rounds": 2, "finalists": 2}
    preset = load_preset("quickstart").replace(**small, final_stretch=1)
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(preset.to_dict()))))
    zoo = yaml.safe_load((ZOOS / "micro.yaml").read_text())
    zoo |= {"name": "tiny", "search": str(tmp_path / "preset.yaml"), "budgets": [250e3, 350e3]}
    zoo |= {"larger": [500e3], "larger_recipe": {"stochastic_depth": 0.2}, "tolerance": 0.3}
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    return tmp_path / "zoo.yaml"


def begin(plan, out):
    command = [sys.executable, "-m", "fbnetv3", "make-zoo", "--preset", str(plan), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--at-once", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_a_zoo_is_regenerated_and_served_although_killed(plan, tmp_path):
    out = tmp_path / "out"
    for file in ("search/ledger.jsonl", "trained/teacher/measured.json", "trained/tiny_a/checkpoint.pt"):
        process = begin(plan, out)
        while process.poll() is None and not (out / file).exists():
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -9
    process = begin(plan, out)
    shown = process.communicate()[0]
    assert process.returncode == 0
    account = json.loads((out / "zoo.json").read_text())
    assert [row["model"] for row in account["networks"]] == ["tiny_a", "tiny_b", "tiny_c"]
    assert all(row["model"] in shown for row in account["networks"])
    assert all(value > 0 for value in account["hours"].values())
    data = load_images("fashion_mnist")
    for row in account["networks"]:
        pair = load_pair(out / "pairs" / f"{row['model']}.yaml")
        model = torch.hub.load(str(out / "zoo"), row["model"], source="local", pretrained=True)
        assert model.arch == pair.arch
        assert cost(pair.arch, 10, 1).flops() == row["flops"]
        assert measure(model, data, "test").acc1 == row["acc1"]
        assert pair.recipe.distillation == 0.8
        assert (pair.recipe.stochastic_depth == 0.2) == (row["model"] == "tiny_c")
    flops = [row["flops"] for row in account["networks"]]
    assert flops == sorted(set(flops))
    assert flops[0] <= 250e3 < flops[1] <= 350e3
    assert abs(flops[2] / 500e3 - 1) < 0.3
    state = torch.load(out / "trained/teacher/weights.pt", weights_only=True)
    assert json.dumps(state["arch"], sort_keys=True) == json.dumps(pair.arch.to_dict(), sort_keys=True)  # the largest
    before = {path: path.stat().st_mtime_ns for path in (out / "trained").rglob("*.pt")}
    assert begin(plan, out).wait() == 0  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in (out / "trained").rglob("*.pt")} == before


def test_a_scaled_pair_says_so_and_claims_no_accuracy():
    """A is B at fewer pixels (section 4.2): 224 instead of 248."""
    pair = Pair(
        ARCHS["fbnetv3_b"],
        load_recipe("imagenet/fbnetv3_search"),
        "released",
        0,
        {},
        {"mean": 70.0, "std": 1.0},
        {},
        {"data": "folder"},
    )
    config = load_preset("imagenet200")
    small = _scaled(load_zoo("imagenet"), pair, 357e6, config)
    assert abs(cost(small.arch).flops() / 357e6 - 1) <= 0.01
    assert (small.predicted, small.measured) == ({}, {})
    assert small.provenance["scaled_from"] == "fbnetv3_b"
    assert small.provenance["scaled_up"] is False
    assert _scaled(load_zoo("imagenet"), pair, 600e6, config).provenance["scaled_up"] is True


def test_zoos_of_the_package_are_read():
    assert list_zoos() == ["imagenet", "micro"]
    paper = load_zoo("imagenet")
    assert paper.budgets == (450e6, 550e6, 650e6, 750e6)  # section 4.2
    assert (paper.distillation, paper.recipe["epochs"], paper.recipe["lr_decay"]) == (0.8, 400, 0.9875)
    assert load_preset(paper.search).data is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budgets": []}, "budgets is empty"),
        ({"budgets": ["450M"]}, "budgets.0 is '450M'"),
        ({"size": 1}, "unknown key 'size'"),
        ({"distillation": 1.0}, "distillation is 1.0"),
        ({"schema": 2}, "schema is 2; this version reads 1"),
    ],
)
def test_a_wrong_zoo_is_one_clear_line(tmp_path, change, words):
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(yaml.safe_load((ZOOS / "micro.yaml").read_text()) | change))
    with pytest.raises(InputError, match=words):
        load_zoo(str(tmp_path / "zoo.yaml"))
    with pytest.raises(InputError, match="unknown zoo 'nano'; available: imagenet, micro"):
        load_zoo("nano")
