"""`fbnetv3 train` as a user meets it, on pictures made here: any network, stopped and resumed, taught, in two processes."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
import timm
import torch
import torchvision
import typer
from torchvision import datasets as theirs

from fbnetv3 import build_model
from fbnetv3.arch import ARCHS
from fbnetv3.cli import app
from fbnetv3.files import load_torch
from fbnetv3.hub.load import load_weights
from fbnetv3.networks.resnets import RESNETS
from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file
from fbnetv3.recipes import list_recipes, read_recipe_file
from fbnetv3.training.network.factory import build
from fbnetv3.training.recipe import Recipe
from fbnetv3.transforms import Transforms
from tests.cli.test_cli import ROOT, one_line
from tests.cli.training_files import OWN, arguments
from tests.tracking.readers import read_tensorboard
from tests.training.data.examples import CLASSES
from tests.training.examples import ARCH


def metrics(folder):
    return list(csv.DictReader((folder / "metrics.csv").open()))


def weights_of(folder):
    return load_torch(folder / "weights.pt", "weights")["state_dict"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("model", ["timm:test_efficientnet", "torchvision:shufflenet_v2_x0_5", "fbnetv3_a0"])
def test_any_network_on_a_folder(run, here, animals, model):
    code, out, err = run(*arguments(animals, model), "--set", "epochs=1", "--set", "dropout=0.3")
    (row,) = json.loads(out)
    assert code == 0, err
    machine = {"device": "cpu", "precision": "fp32", "threads": 1}
    assert set(row) == {"val_acc1", "test_acc1", "test_acc5", "epochs", "seed", "weights", *machine}
    assert {key: row[key] for key in machine} == machine
    assert "training on" not in err
    assert row["val_acc1"] * 12 / 100 == pytest.approx(round(row["val_acc1"] * 12 / 100))
    assert row["test_acc1"] * 9 / 100 == pytest.approx(round(row["test_acc1"] * 9 / 100))
    assert f"model: {model if ':' in model else f'fbnetv3:{model}'}\n" in err
    assert "dropout: 0.3, " in err
    assert "[1/6] epoch 1/1" in err
    assert len(metrics(here / "run")) == 1
    file = read_weight_file(here / "run" / "weights.pt")
    assert (file.classes, file.transforms.crop) == (CLASSES, 16)
    assert (file.training["epochs"], file.training["seed"], file.training["data"]) == (1, 0, str(animals))
    assert file.training["recipe"]["dropout"] == 0.3
    assert file.training["metrics"] == {key: row[key] for key in ("val_acc1", "test_acc1", "test_acc5")}
    build(model, Recipe("sgd", 0.1, 1, 2), len(CLASSES)).model.load_state_dict(dict(file.state))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_machine_is_said_first_and_recorded(run, here, animals, precision):
    options = ("--device", "cpu", "--precision", precision, "--threads", 2, "--deterministic", "--epochs", 1)
    code, out, err = run(*arguments(animals), *options)
    (row,) = json.loads(out)
    assert code == 0, err
    assert err.splitlines()[0] == f"training on cpu, {precision}, 2 threads, 0 readers"
    assert (row["device"], row["precision"], row["threads"]) == ("cpu", precision, 2)
    identity = json.loads(load_torch(here / "run" / "checkpoint.pt", "checkpoint")["identity"])
    assert (identity["device"], identity["precision"], identity["threads"]) == ("cpu", precision, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_used_said_and_recorded(run, here, animals):
    code, out, err = run(*arguments(animals), "--epochs", 1, "--workers", 1)
    (row,) = json.loads(out)
    assert code == 0, err
    card = f"cuda:0 ({torch.cuda.get_device_name(0)})"
    precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    assert err.startswith(f"training on {card}, {precision}, ")
    assert (row["device"], row["precision"]) == (card, precision)
    assert json.loads(load_torch(here / "run" / "checkpoint.pt", "checkpoint")["identity"])["device"] == "cuda"
    assert {value.device.type for value in weights_of(here / "run").values()} == {"cpu"}


def test_too_little_memory_is_one_line(run, here, animals, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        )

    monkeypatch.setattr("fbnetv3.training.loop.fit", full)
    message = "the training needs more memory than cpu has (CUDA out of memory); give a larger --accumulate, "
    one_line(run(*arguments(animals)), message)


def test_values_of_the_recipe_can_be_set(run, here, animals, pair):
    code, _, err = run(*arguments(animals), "--set", "epochs=2", "--set", "lr=1e-3", "--set", "optimizer=rmsprop")
    assert code == 0, err
    assert [float(row["lr"]) for row in metrics(here / "run")] == pytest.approx([1e-3, 7e-4])
    identity = json.loads(load_torch(here / "run" / "checkpoint.pt", "checkpoint")["identity"])
    assert identity["recipe"] == Recipe("rmsprop", 1e-3, 2, 5, lr_decay=0.7).to_dict()
    code, _, err = run("train", "--pair", pair, "--set", "lr=0.002")
    assert code == 0, err
    assert [float(row["lr"]) for row in metrics(here / "retrained")] == [0.002]


def test_another_batch_size_says_and_changes_the_learning_rate(run, here, animals):
    once = (*arguments(animals), "--epochs", 1, "--set")
    for option, lr, words in (
        (
            (),
            0.05,
            "batch_size is 10 instead of 5, and the learning rate stays 0.05; --scale-lr linear makes it 0.1, --scale-lr sqrt",
        ),
        (
            ("--scale-lr", "linear"),
            0.1,
            "batch_size 5 became 10, and the learning rate 0.05 became 0.1 (--scale-lr linear)\n",
        ),
        (("--set", "lr=0.3"), 0.3, None),
    ):
        code, _, err = run(*once, "batch_size=10", *option)
        assert code == 0, err
        assert (words or "") in err
        assert ("learning rate" in err) == (words is not None)
        recipe = read_weight_file(here / "run" / "weights.pt").training["recipe"]
        assert (recipe["batch_size"], recipe["lr"]) == (10, lr)
        shutil.rmtree(here / "run")
    for changes in (("epochs=2",), ("batch_size=10", "--set", "lr=0.1")):
        one_line(run(*once, *changes, "--scale-lr", "sqrt"), "give it with --set batch_size=N, without --set lr")
    one_line(run(*once, "batch_size=10", "--scale-lr", "cube"), "scale_lr is 'cube'; allowed: linear, sqrt")


def test_an_early_stop_and_its_resumption_end_as_one_run(run, here, animals):
    run(*arguments(animals, out="whole", recipe="noisy.yaml"))
    code, _, err = run(*arguments(animals, recipe="noisy.yaml"), "--epochs", 1)
    assert code == 0, err
    assert metrics(here / "run") == metrics(here / "whole")[:1]
    assert not equal(weights_of(here / "run"), weights_of(here / "whole"))
    code, _, err = run(*arguments(animals, recipe="noisy.yaml"), "--resume")
    assert code == 0, err
    assert "epoch 1/3" not in err
    assert metrics(here / "run") == metrics(here / "whole")
    assert equal(weights_of(here / "run"), weights_of(here / "whole"))


def test_frozen_stages_and_layer_decay_survive_an_interruption(run, here, animals):
    changed = ("--set", "frozen_stages=1", "--set", "layer_decay=0.5")
    options = (*arguments(animals, "torchvision:shufflenet_v2_x0_5", recipe="noisy.yaml"), *changed)
    code, _, err = run(*options, "--out", "whole")
    assert code == 0, err
    assert "frozen: conv1, stage2 (2.2% of 344,867 parameters)" in err
    run(*options, "--epochs", 1)
    one_line(
        run(*options, "--resume", "--set", "layer_decay=0.6"), "recipe: layer_decay was 0.5, now 0.6; give another"
    )
    assert run(*options, "--resume")[0] == 0
    assert equal(weights_of(here / "run"), weights_of(here / "whole"))
    recipe = read_weight_file(here / "run" / "weights.pt").training["recipe"]
    assert (recipe["frozen_stages"], recipe["layer_decay"]) == (1, 0.5)
    few = (*options, "--set", "frozen_stages=9", "--out", "few")
    one_line(run(*few), "frozen_stages is 9, but ShuffleNetV2 has 4 stages before its classifier; allowed: 0 to 4")


def test_patience_keeps_the_best_weights_and_says_of_which_epoch(run, here, animals):
    options = (*arguments(animals), "--patience", 1, "--set", "lr=1e-9", "--set", "class_weights=balanced")
    code, out, err = run(*options)  # a network that learns nothing is as good after every epoch
    assert code == 0, err
    (row,) = json.loads(out)
    assert (len(metrics(here / "run")), row["epochs"]) == (2, 1)
    file = read_weight_file(here / "run" / "weights.pt")
    assert (file.training["epochs"], file.training["metrics"]["val_acc1"]) == (1, row["val_acc1"])
    assert equal(weights_of(here / "run"), load_torch(here / "run" / "best.pt", "weights")["state_dict"])


def test_libraries_log_a_training_and_its_resumption_once(run, here, animals):
    for more in (("--epochs", "1"), ("--resume",)):
        code, _, err = run(*arguments(animals, recipe="noisy.yaml"), "--log", "csv,tensorboard", *more)
        assert code == 0, err
    rows = metrics(here / "run")
    assert len(rows) == 3
    logged = list(csv.DictReader((here / "run" / "logs" / "csv" / "epochs.csv").open()))
    assert [row.pop("number") for row in logged] == [row.pop("epoch") for row in rows] == ["1", "2", "3"]
    assert logged == rows
    losses = read_tensorboard(here / "run" / "logs", "epochs")["train_loss"]
    assert losses == [(i, pytest.approx(float(row["train_loss"]))) for i, row in enumerate(rows, 1)]
    run(*arguments(animals, out="plain", recipe="noisy.yaml"))
    assert equal(weights_of(here / "run"), weights_of(here / "plain"))


def test_ctrl_c_leaves_a_checkpoint_and_resuming_ends_as_an_uninterrupted_run(run, here, animals):
    run(*arguments(animals, out="whole", recipe="noisy.yaml"))
    given = (*arguments(animals, recipe="noisy.yaml"), "--log", "csv,tensorboard")
    command = [sys.executable, "-m", "fbnetv3", *map(str, given)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAUSE": "0.3"}
    worker = subprocess.Popen(command, env=environment, cwd=here, stdout=PIPE, stderr=PIPE, text=True)
    for line in worker.stderr:
        if "epoch 1/3" in line:
            break
    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate(timeout=60)
    assert (worker.returncode, out, err) == (
        130,
        "",
        "fbnetv3: stopped; what was finished is kept, resume to continue\n",
    )
    assert load_torch(here / "run" / "checkpoint.pt", "checkpoint")["position"]["step"] >= 1
    assert not (here / "run" / "weights.pt").exists()
    code, _, err = run(*given, "--resume")
    assert code == 0, err
    assert metrics(here / "run") == metrics(here / "whole")
    assert equal(weights_of(here / "run"), weights_of(here / "whole"))
    logged = read_tensorboard(here / "run" / "logs", "epochs")["train_loss"]
    assert logged == [(i, pytest.approx(float(row["train_loss"]))) for i, row in enumerate(metrics(here / "run"), 1)]


@pytest.fixture
def teacher(tmp_path):
    """Weights for the animals that a licence goes with."""
    torch.manual_seed(0)
    model = build_model(ARCH, 3, 3)
    model.classifier.bias.data = torch.tensor([0.0, 9.0, 0.0])
    model.derived_from = ("fbnetv3_g:fb",)
    file = WeightFile.of(model, CLASSES, Transforms(16, 16, (0.5,) * 3, (0.5,) * 3))
    write_weight_file(tmp_path / "teacher.safetensors", file)
    return tmp_path / "teacher.safetensors"


def test_a_teacher_is_distilled_and_its_licence_inherited(run, here, animals, teacher, pair):
    for out, more in (("alone", ()), ("taught", ("--set", "distillation=0.9", "--teacher", teacher))):
        code, _, err = run(
            "train",
            "--pair",
            pair,
            "--data",
            animals,
            "--resolution",
            16,
            "--out",
            out,
            "--set",
            "batch_size=5",
            "--set",
            "epochs=3",
            *more,
        )
        assert code == 0, err
    alone, taught = (read_weight_file(here / out / "weights.pt") for out in ("alone", "taught"))
    assert (alone.derived_from, taught.derived_from) == ((), ("fbnetv3_g:fb",))
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    share = [file.build()(x).softmax(1)[:, 1].mean().item() for file in (alone, taught)]
    assert share[1] > share[0] + 0.1, share  # the teacher says bee, whatever it sees


def test_ways_to_name_a_teacher(run, here, animals, teacher, monkeypatch):
    asked = []

    def record(*names):
        asked.append(names)
        return load_weights(None, teacher)

    monkeypatch.setattr("fbnetv3.hub.load.load_weights", record)
    (here / "lr=0.1").mkdir()
    inside = teacher.rename(here / "lr=0.1" / "teacher.safetensors")
    teacher = inside
    for i, text in enumerate(("fbnetv3_g:fb", "fbnetv3_g=a/b.pt", inside, "https://x.org/a=1.pt")):
        more = ("--teacher", text, "--set", "distillation=0.5", "--set", "epochs=1")
        code, _, err = run(*arguments(animals, out=str(i)), *more)
        assert code == 0, err
    assert asked == [("fbnetv3_g", "fb"), ("fbnetv3_g", "a/b.pt"), (None, str(inside)), (None, "https://x.org/a=1.pt")]


@pytest.mark.slow
def test_two_processes_train_as_one(run, here, animals):
    """Without norms and chance a batch shared by two gives what it gives one, up to the order of sums."""
    run(*arguments(animals, "nets_here:plain", "one"), "--set", "batch_size=10")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command += [
        "fbnetv3",
        *map(str, arguments(animals, "nets_here:plain", "two")),
        "--set",
        "batch_size=10",
        "--log",
        "csv",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["weights"] == "two/weights.pt"
    assert done.stderr.count("model: nets_here:plain") == 1
    logged = list(csv.DictReader((here / "two" / "logs" / "csv" / "epochs.csv").open()))
    assert [row["number"] for row in logged] == [row["epoch"] for row in metrics(here / "two")]
    one, two = weights_of(here / "one"), weights_of(here / "two")
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert not equal(one, two)
    for mine, other in zip(metrics(here / "one"), metrics(here / "two"), strict=True):
        assert mine["raw_acc1"] == other["raw_acc1"]
        assert float(mine["train_loss"]) == pytest.approx(float(other["train_loss"]), abs=1e-5)


def test_downloads_are_asked_for(run, here, monkeypatch):
    asked = []

    class Tiny:
        classes = ("a", "b")
        targets = (0, 0, 1, 1)

        def __init__(self, root, train, download):
            asked.append((root, train, download))

        def __getitem__(self, index):
            from PIL import Image

            return Image.new("L", (16, 16), 60 * index), self.targets[index]

    monkeypatch.setattr(theirs, "MNIST", Tiny)
    call = ("train", "--model", "nets_here:net", "--recipe", "recipe.yaml", "--data", "memory:torchvision:mnist:there")
    code, _, err = run(*call, "--out", "run", "--set", "batch_size=2", "--set", "epochs=1", "--download")
    assert code == 0, err
    assert asked == [("there", True, True), ("there", False, True)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    one_line(run(*call, "--out", "run", "--download"), "--download with several processes")


def test_an_own_module_goes_before_another_of_its_name(run, here, animals):
    (here / "chunk.py").write_text(OWN)  # a module of Python's up to 3.12
    code, _, err = run(*arguments(animals, "chunk:net"), "--set", "epochs=1")
    assert code == 0, err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--model": "resnet51"}, "unknown model 'resnet51' in fbnetv3, timm, torchvision; did you mean"),
        ({"--model": "nowhere:net"}, "no model 'nowhere:net' (No module named 'nowhere')"),
        ({"--model": "nets_here:nothing"}, "no model 'nets_here:nothing' ("),
        ({"--recipe": "imagenet/none"}, "unknown recipe 'imagenet/none'; "),
        ({"--recipe": "absent.yaml"}, "cannot read the recipe absent.yaml"),
        ({"--data": "/nowhere"}, "unknown data set '/nowhere'; available:"),
        (
            {"--data": "."},
            "has no folders of classes; a split is laid out as CLASS/IMAGE; a folder of images is laid out as train",
        ),
        ({"--data": "list:/nowhere:."}, "no file /nowhere/train.txt"),
        ({"--set": "lr"}, "--set 'lr'; give FIELD=VALUE"),
        ({"--set": "rate=1"}, "unknown key 'rate'; "),
        ({"--set": "lr=fast"}, "lr is 'fast'"),
        ({"--set": "lr=["}, "'[' is no value"),
        ({"--set": "batch_size=2.5"}, "batch_size is 2.5"),
        ({"--set": "distillation=0.8"}, "the recipe distils with weight 0.8; give --teacher, or --set distillation=0"),
        ({"--teacher": "fbnetv3_g:fb"}, "the recipe does not distil; leave it out, or give --set distillation=0.8"),
        (
            {"--pair": "pair.yaml"},
            "--pair with --model, --weights or --recipe; a pair has network and recipe: give only --pair, or the others",
        ),
        ({"--out": None}, "--out missing; give --pair, or --model, --recipe, --data and --out"),
        ({"--model": None, "--recipe": None}, "--model, --recipe missing; give --pair, or"),
        ({"--epochs": "9"}, "epochs is 9; allowed: 1 to the recipe's 3"),
        ({"--device": "gpu"}, "--device gpu cannot be used"),
        ({"--device": "cuda:77"}, "--device cuda:77 cannot be used"),
        ({"--precision": "fp8"}, "--precision 'fp8'; allowed: auto, fp32, tf32, bf16, fp16"),
        ({"--compile-mode": "fast"}, "compile is 'fast'; allowed: off, default, reduce-overhead, "),
        ({"--threads": "0"}, "--threads '0'; give auto, or a whole number from 1"),
        ({"--workers": "some"}, "--workers 'some'; give auto, or a whole number from 0"),
        ({"--accumulate": "3"}, "accumulate is 3, which does not divide a process's batch of 5 images evenly"),
        ({"--log": "csv,tensorbord"}, "no library to log with is called 'tensorbord'; did you mean 'tensorboard'?"),
        ({"--download": True}, "cannot be downloaded; only torchvision:NAME:FOLDER can"),
    ],
)
def test_mistakes_are_one_line(run, here, animals, changes, words):
    given = dict(zip(arguments(animals)[1:-1:2], arguments(animals)[2:-1:2], strict=True)) | changes
    call = [part for key, value in given.items() if value is not None for part in (key, value) if part is not True]
    one_line(run("train", *call), words)
    assert not (here / "run").exists()


def test_mistakes_with_teachers_and_folders_are_one_line(run, here, animals, teacher):
    distil = ("--set", "distillation=0.5")
    one_line(run(*arguments(animals), *distil, "--teacher", "absent.pt"), "absent.pt: no such file")
    one_line(run(*arguments(animals), *distil, "--teacher", "fbnetv3_z:fb"), "fbnetv3_z")
    one_line(
        run(*arguments("fashion_mnist")[:-5], "--out", "run", *distil, "--teacher", teacher),
        "has 3 classes and 3 channels, but the data has 10 and 1; give a teacher for this data",
    )
    run(*arguments(animals), "--epochs", 1)
    one_line(run(*arguments(animals)), "run already holds a training; resume it, or give another folder")
    one_line(
        run(*arguments(animals), "--resume", "--set", "lr=0.1"),
        "belongs to another training: recipe: lr was 0.05, now 0.1;",
    )
    one_line(run(*arguments(animals, "nets_here:plain"), "--resume"), "belongs to another network")


def test_weights_of_another_command_are_not_replaced(run, here, animals):
    (here / "run").mkdir()
    (here / "run" / "weights.pt").write_bytes(b"mine")
    for more in ((), ("--resume",)):
        one_line(
            run(*arguments(animals), *more), "run/weights.pt is not of a training in this folder, and would be over"
        )
    assert (here / "run" / "weights.pt").read_bytes() == b"mine"
    assert run(*arguments(animals, out="another"), "--epochs", 1)[0] == 0  # as the message says
    assert run(*arguments(animals, out="another"), "--resume")[0] == 0


def test_images_that_are_too_small_and_small_sets_are_told(run, here, animals):
    one_line(
        run(*arguments(animals, "fbnetv3_f")), "the network cannot train on 5 images at once, of 3 x 16 x 16 values ("
    )
    one_line(
        run(*arguments(animals, "nets_here:wide"), "--set", "batch_size=4", "--accumulate", 4),
        "give a larger batch_size, a smaller accumulate, or larger images",
    )
    assert not (here / "run").exists()
    code, _, err = run(*arguments(animals), "--set", "batch_size=64", "--epochs", 1)
    assert code == 0, err
    assert "fbnetv3: note: batch_size is 64, but there are 30 images to train on" in err


def test_the_commands_of_recipes_are_commands():
    """Options that `fbnetv3 train` has, a network by a known name, and the recipe itself."""
    commands = {name: read_recipe_file(name).command.partition("fbnetv3 train ")[2] for name in list_recipes()}
    train, models = typer.main.get_command(app).get_command(None, "train"), set()
    for name in (name for name, command in commands.items() if command):
        given = train.make_context("train", shlex.split(commands[name])).params
        assert (given["recipe"], given["data"] is None, given["out_dir"] is None) == (name, False, False)
        assert (given["model"] is None) == (given["weights"] is not None), name
        models |= {given["model"]} - {None}
    assert len(models) > 10
    known = {*ARCHS, "fbnetv3_a0", *RESNETS, "fbnetv3.recipes.fbnetv2:fbnetv2_l3"}
    known |= set(timm.list_models()) | {f"torchvision:{name}" for name in torchvision.models.list_models()}
    assert models <= known
