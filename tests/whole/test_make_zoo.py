"""`fbnetv3 make-zoo`, killed three times: by the real command on real images, it ends with a zoo that torch.hub loads."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
import yaml

from fbnetv3.complexity import cost
from fbnetv3.pair_file import load_pair
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.runs.zoo import ZOOS
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.packaged import load_images
from tests.places import ROOT
from tests.search.scripted import config


@pytest.fixture
def plan(tmp_path):
    """The micro zoo in small: a search of six trainings of two epochs, three networks."""
    save_config(config(tmp_path), tmp_path / "preset.yaml")
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
def test_a_zoo_is_made_and_served_although_it_was_killed(plan, tmp_path):
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
    # Which networks two epochs of training lead to depends on the processor: both budgets may lead to one.
    names = ["tiny_a", "tiny_b", "tiny_c"]
    assert [row["model"] for row in account["networks"]] in (names, names[:2])
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
        assert (pair.recipe.stochastic_depth == 0.2) == (row is account["networks"][-1])
    flops = [row["flops"] for row in account["networks"]]
    assert flops == sorted(set(flops))
    # The two budgets, which their networks need not use up, and the larger network.
    assert flops[0] <= 250e3
    assert flops[-2] <= 350e3
    assert abs(flops[-1] / 500e3 - 1) < 0.3
    state = torch.load(out / "trained/teacher/weights.pt", weights_only=True)
    assert json.dumps(state["arch"], sort_keys=True) == json.dumps(pair.arch.to_dict(), sort_keys=True)  # the largest
    before = {path: path.stat().st_mtime_ns for path in (out / "trained").rglob("*.pt")}
    assert begin(plan, out).wait() == 0  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in (out / "trained").rglob("*.pt")} == before
