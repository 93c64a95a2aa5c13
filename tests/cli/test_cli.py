"""The command as a user meets it: what it prints, what it writes, and one clear line for every mistake."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image

import fbnetv3
from fbnetv3.classifier import Classifier
from fbnetv3.complexity import cost
from fbnetv3.training.data.packaged import load_images
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.weight_file import read_weight_file
from tests.places import ROOT
from tests.training.examples import ARCH


def one_line(result, words):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("fbnetv3: ")
    assert words in err, err


def test_models_and_info(run):
    code, out, _ = run("models", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["model"][-1] for row in rows] == list("abcdefgbdg")
    assert rows[0]["flops_m"] == 356.59828
    assert rows[0]["metrics"][0] == {"name": "acc1", "value": 79.574, "origin": "released file"}
    _, table, _ = run("models")
    assert "79.574 (released file), 79.1 (paper)" in table
    _, out, _ = run("info", "fbnetv3_a", "--json")
    data = json.loads(out)
    assert data["totals"][0] == {
        "model": "fbnetv3_a",
        "convention": "published",
        "flops": 356598280,
        "params": 8542224,
    }
    assert data["parts"][0] == {"part": "stem", "output": "16 x 112 x 112", "flops": 5419008, "params": 432}
    assert sum(part["flops"] for part in data["parts"]) == 356598280
    _, table, _ = run("info", "fbnetv3_a", "--resolution", "128", "--num-classes", "10")
    assert "16 x 64 x 64" in table
    assert "19840" in table


def test_info_of_a_pair_counts_for_its_data(run, pair):
    _, out, _ = run("info", pair, "--json")
    closed = cost(ARCH, 10, 1)
    assert json.loads(out)["totals"][0]["flops"] == closed.flops()


def test_train_then_predict(run, pair, picture, tmp_path):
    code, out, err = run("train", "--pair", pair, "--out", tmp_path / "run", "--json")
    row = json.loads(out)[0]
    assert code == 0
    assert "epoch 1/1" in err
    assert 0 <= row["test_acc1"] <= 100
    assert (tmp_path / "run" / "metrics.csv").exists()
    _, out, _ = run(
        "predict", picture, "--pair", pair, "--weights", tmp_path / "run" / "weights.pt", "--json", "--top", "10"
    )
    rows = json.loads(out)
    assert {row["class"] for row in rows} == set(load_images("fashion_mnist").classes)
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-3)
    one_line(run("train", "--pair", pair, "--out", tmp_path / "run"), "already holds a training; resume it")
    code, again, _ = run("train", "--pair", pair, "--out", tmp_path / "run", "--resume", "--json")
    assert json.loads(again)[0] == row


def test_train_needs_nothing_but_the_pair(run, pair):
    code, _, _ = run("train", "--pair", pair)
    assert code == 0
    assert (pair.parent / "retrained" / "weights.pt").exists()


def test_version(run):
    assert run("--version")[1].strip() == fbnetv3.__version__


def test_predict_equals_evaluation_in_the_loop(weights):
    data, classifier = load_images("fashion_mnist"), Classifier.from_weight_file(read_weight_file(weights))
    x, _ = next(data.batches("test", ProcessRank()))
    logits = classifier.model(x)
    for i in range(3):
        names = [name for name, _ in classifier.rank(data.transforms.normalise(data.test.images[i]))]
        assert names == [data.classes[j] for j in logits[i].argsort(descending=True)]


def test_a_colour_picture_of_another_size(run, weights, tmp_path):
    Image.new("RGB", (90, 50), (200, 10, 10)).save(tmp_path / "red.jpg")
    code, out, _ = run("predict", tmp_path / "red.jpg", "--weights", weights, "--json")
    assert code == 0
    assert len(json.loads(out)) == 5


def test_mistakes_with_files_are_one_line(run, pair, weights, picture, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    one_line(run("predict", text, "--weights", weights), "is no image that can be read")
    picture_cut = tmp_path / "cut.png"
    picture_cut.write_bytes(picture.read_bytes()[:-60])
    one_line(run("predict", picture_cut, "--weights", weights), "cut.png")
    one_line(run("predict", tmp_path / "absent.png", "--weights", weights), "no image at")
    one_line(run("predict", picture, "--weights", tmp_path / "absent.pt"), "no such file")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(weights.read_bytes()[:500])
    one_line(run("predict", picture, "--weights", cut), "is no weight file or is damaged")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    one_line(run("predict", picture, "--weights", tmp_path / "other.pt"), "does not say which network it is for")
    data = yaml.safe_load(pair.read_text())
    data["arch"]["resolution"] = 32
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(data))
    one_line(run("predict", picture, "--weights", weights, "--pair", tmp_path / "other.yaml"), "another network than")
    one_line(run("train", "--pair", weights, "--out", tmp_path / "x"), "is no pair file, or is damaged")
    one_line(run("train", "--pair", tmp_path / "absent.yaml", "--out", tmp_path / "x"), "cannot read the pair file")
    one_line(run("train", "--pair", pair, "--out", text), "give a folder that can be written")
    one_line(run("train", "--pair", pair, "--out", tmp_path / "x", "--data", "imagenet"), "unknown data set 'imagenet'")
    assert not (tmp_path / "x").exists()


def test_mistakes_with_names_and_numbers_are_one_line(run, tmp_path):
    one_line(run("info", "fbnetv3_z"), "unknown model 'fbnetv3_z'; did you mean 'fbnetv3_g'")
    one_line(run("recipe", "show", "nothing"), "unknown recipe 'nothing'; `fbnetv3 recipe list` lists all")
    one_line(run("reproduce", "table99"), "table99")
    new = ["--out", tmp_path / "run"]
    one_line(run("search", "run", *new, "--preset", "slow"), "unknown preset 'slow'; available: cifar10, imagenet200")
    one_line(run("search", "run", *new, "--max-flops", "lots"), "--max-flops is 'lots'; give a count such as 450M")
    one_line(run("search", "run", *new, "--max-latency", "2"), "--max-latency and --latency-table work only together")
    one_line(
        run("search", "run", *new, "--max-params", "9K", "--max-flops", "400K"),
        "params (published convention) from 0 to 9,000",
    )
    one_line(run("search", "run", *new, "--flops-convention", "mine"), "convention is 'mine'")
    one_line(run("search", "resume", tmp_path / "run"), "no search in")
    assert not (tmp_path / "run").exists()


def test_an_infeasible_budget_is_one_line(run, tmp_path):
    one_line(
        run("search", "run", "--out", tmp_path / "run", "--max-flops", "10K", "--workers", "1"),
        "give wider constraints",
    )
    assert not (tmp_path / "run").exists()


def test_a_damaged_ledger_is_one_line(run, tmp_path):
    folder = tmp_path / "run"
    from fbnetv3.search.nars.config import load_preset, save_config

    config = load_preset("quickstart")
    save_config(config, folder / "config.yaml")
    header = json.dumps({"ledger": 2, "config": config.fingerprint})
    (folder / "ledger.jsonl").write_text(f"{header}\nnot json\n")
    one_line(run("search", "resume", folder), "line 2 is damaged; restore the file")


def test_an_unwritable_folder_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run("search", "run", "--out", tmp_path / "file" / "run"), "give a folder that can be written")


def test_recipe_and_reproduce(run):
    _, out, _ = run("recipe", "list")
    assert "fashion_mnist/micro" in out.split()
    _, out, _ = run("recipe", "show", "fashion_mnist/micro", "--json")
    assert {row["provenance"] for row in json.loads(out)["values"]} == {"choice"}
    code, out, _ = run("reproduce", "table4")
    assert code == 0
    assert "measured here" in out


def test_the_module_is_the_command():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fbnetv3", "models", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 10
