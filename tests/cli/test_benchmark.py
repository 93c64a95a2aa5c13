"""`fbnetv3 benchmark` as a user meets it: ImageNet's evaluation and split on made-up images, and the list of benchmarks."""

import csv
import json
import subprocess
import sys

import pytest
import torch
from timm.data import ImageNetInfo

from fbnetv3 import build_model
from fbnetv3.benchmarks.catalogue import CATALOGUE
from fbnetv3.benchmarks.result import RESULTS, load_result, write_result
from fbnetv3.cli.benchmark import ROOMS
from fbnetv3.networks.weight_file import IMAGENET, WeightFile, write_weight_file
from fbnetv3.transforms import Transforms
from tests.cli.test_cli import ROOT, one_line
from tests.training.data.examples import image, make_folder
from tests.training.examples import ARCH

SYNSETS = ImageNetInfo().label_names()


@pytest.fixture
def constant(tmp_path):
    """Weights whose answer is class 5, then 6, 7, 8, 9, whatever the picture."""
    model = build_model(ARCH, 1000, 3)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = -torch.arange(1000.0)
    model.classifier.bias.data[:5] = -2000.0
    write_weight_file(
        tmp_path / "constant.pt", WeightFile.of(model, IMAGENET, Transforms(20, 16, (0.5,) * 3, (0.5,) * 3))
    )
    return tmp_path / "constant.pt"


@pytest.fixture
def val(tmp_path):
    """Four pictures of class 5, three of 8, one of 30."""
    for label, count in ((5, 4), (8, 3), (30, 1)):
        folder = tmp_path / "imagenet" / "val" / SYNSETS[label]
        folder.mkdir(parents=True)
        for number in range(count):
            image(label % 4, number).save(folder / f"{number}.JPEG")
    return tmp_path / "imagenet"


def test_imagenet(run, val, constant, tmp_path):
    table = tmp_path / "classes.csv"
    call = ("benchmark", "imagenet", "--data", val, "--weights", constant, "--per-class", table, "--workers", 0)
    code, out, err = run(*call, "--json")
    (row,) = json.loads(out)
    assert code == 0, err
    assert (row["network"], row["images"], row["acc1"], row["acc5"]) == ("small", 8, 50.0, 87.5)
    assert row["network images/s"] >= row["images/s"] > 0
    rows = list(csv.DictReader(table.open()))
    assert [(r["images"], r["hits1"], r["hits5"], r["acc1"]) for r in rows] == [
        ("4", "4", "4", "100.00"),
        ("3", "0", "3", "0.00"),
        ("1", "0", "0", "0.00"),
    ]
    assert rows[0]["class"] == "electric ray"
    one_line(run(*call), "classes.csv exists already; give --overwrite to replace it, or another path")
    _, out, _ = run(*call[:-1], 1, "--overwrite")
    assert "87.5" in out


def test_a_damaged_image_of_imagenet_is_counted_or_ends_the_command(run, val, constant):
    call = ("benchmark", "imagenet", "--data", val, "--weights", constant, "--workers", 0)
    (next((val / "val").iterdir()) / "0.JPEG").write_bytes(b"damaged")
    code, out, err = run(*call, "--json")
    (row,) = json.loads(out)
    assert (code, row["images"], row["left_out"]) == (0, 7, 1), err
    code, out, err = run(*call, "--on-bad-image", "fail")
    assert (code, out) == (2, "")
    assert "0.JPEG is no image that can be read" in err


def test_mistakes_with_imagenet_are_one_line(run, val, constant, tmp_path):
    call = ("benchmark", "imagenet", "--weights", constant, "--workers", 0, "--data")
    one_line(run(*call, tmp_path / "nowhere"), "nowhere")
    one_line(run(*call, val, "--device", "gpu"), "--device gpu cannot be used")
    one_line(run("benchmark", "imagenet", "--data", val, "--weights", "absent.pt"), "no such file")
    (val / "val" / "cats").mkdir()
    image(0, 0).save(val / "val" / "cats" / "0.JPEG")
    one_line(run(*call, val), "'cats' is no class of ImageNet; give synsets such as n01440764, or numbers")


def test_the_split_of_the_search_is_written_and_trained_on(run, tmp_path):
    root = make_folder(tmp_path / "imagenet", (("train", 5),))
    call = ("benchmark", "imagenet-split", "--data", root, "--out", tmp_path / "lists", "--classes", 2, "--seed", 3)
    code, out, err = run(*call, "--held-out", 4, "--json")
    assert code == 0, err
    lists = [tmp_path / "lists" / name for name in ("train.txt", "val.txt")]
    assert json.loads(out) == [
        {"list": str(file), "images": images, "classes": 2} for file, images in zip(lists, (6, 4), strict=True)
    ]
    assert [len(file.read_text().split()) for file in lists] == [6, 4]
    (tmp_path / "recipe.yaml").write_text("optimizer: sgd\nlr: 0.05\nepochs: 1\nbatch_size: 3\n")
    code, out, err = run(
        "train",
        "--model",
        "timm:test_efficientnet",
        "--recipe",
        tmp_path / "recipe.yaml",
        "--resolution",
        16,
        "--data",
        f"list:{tmp_path / 'lists'}:{root}",
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert code == 0, err
    assert "[1/2] epoch 1/1" in err
    assert json.loads(out)[0]["val_acc1"] in (0, 25, 50, 75, 100)
    one_line(run(*call, "--held-out", 4), "train.txt exists already; give --overwrite to replace it, or another path")
    assert run(*call, "--held-out", 3, "--overwrite", "--json")[0] == 0
    assert [len(file.read_text().split()) for file in lists] == [7, 3]
    one_line(run(*call, "--overwrite"), "has 10 images in 2 classes; needed: more than 10000")
    one_line(run(*call[:-4], "--overwrite"), "has 3 folders of classes; needed: 200")


def test_the_list_names_every_benchmark_with_its_sentence(run):
    code, out, _ = run("benchmark", "--help")
    shown = " ".join(out.replace("│", " ").split())
    assert code == 0
    for name, entry in CATALOGUE.items():
        assert f" {name} " in shown
        assert entry.about in shown
    for name in ("imagenet", "imagenet-split", "coco", *ROOMS.values()):
        assert name in shown


@pytest.mark.parametrize("name", ["zoo-cost", "experiment", "finalists", "data-speed", "detection-voc100"])
def test_a_benchmark_has_the_options_of_its_function(run, name):
    code, out, _ = run("benchmark", name, "--help")
    assert code == 0
    for option in CATALOGUE[name].load().options:
        assert f"--{option.replace('_', '-')}" in out or option == "name"
    assert "--show" in out


def test_a_committed_result_is_shown(run):
    code, out, _ = run("benchmark", "finalists", "--show")
    assert code == 0
    assert "finalists --table nas-bench-macro_cifar10.json" in out
    assert "240 (10 " in out
    gain = load_result("finalists").values["trials_36"]["budget_0.5"]["gain_over_stage2"]
    assert f"{gain['mean']:+.2f} ({gain['low']:+.2f}" in out
    code, out, _ = run("benchmark", "experiment", "table6", "--show", "--json")
    assert json.loads(out)["experiment"] == "table6"
    code, out, _ = run("search", "compare", "--show", "--out", RESULTS.parent)
    assert code == 2


def test_search_compare_is_a_benchmark(run, tmp_path):
    result = load_result("compare_quickstart")
    write_result("compare", result, tmp_path)
    code, out, _ = run("search", "compare", "--show", "--out", tmp_path, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["method"] for row in rows] == list(result.values["cases"]["trainings_40"]["methods"])
    assert set(rows[0]) == {"case", "method", "acc1", "std", "nars minus it", "95%", "nars better"}
    one_line(run("search", "compare", "--out", tmp_path), "give one of --preset and --table")


def test_mistakes_with_benchmarks(run, tmp_path):
    one_line(run("benchmark", "cifar10", "--show", "--out", tmp_path / "none.json"), "none.json: no such file")
    one_line(run("benchmark", "experiment", "table9"), "unknown experiment 'table9'; did you mean 'table")
    for arguments, words in (
        (("data-speed", "--rounds", "many"), "--rounds"),
        (("experiment",), "Missing argument 'name'"),
        (("finalists",), "Missing option '--table'"),
        (("data-sped",), "No such command 'data-sped'. Did you mean 'data-speed'"),
    ):
        one_line(run("benchmark", *arguments), words)


def test_the_command_imports_benchmarks_only_when_they_are_called():
    heavy = ("timm", "torchvision", "scipy", "matplotlib", "pydantic", "fvcore")
    script = (
        "import sys, fbnetv3.cli; "
        f"print([m for m in sys.modules if m in {heavy} or m.startswith('fbnetv3.benchmarks.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['fbnetv3.benchmarks.catalogue']"
