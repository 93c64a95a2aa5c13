"""What a training leaves behind, and that it can be used, measured, exported, published and taught from, for any network."""

import dataclasses
import json

import pytest
import torch

from fbnetv3 import InputError, create_model
from fbnetv3.cli.training_plan import Plan
from fbnetv3.cli.training_result import keep_other_weights, measured, memory_advice, save_weights, weights_path
from fbnetv3.networks.named import find_network
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.training.accuracy import measure
from fbnetv3.training.process_rank import ProcessRank
from tests.cli.test_cli import one_line
from tests.cli.training_files import arguments
from tests.training.data.examples import CLASSES
from tests.training.examples import ARCH, DATA, RECIPE, first, new_model

FEW = dataclasses.replace(DATA, test=first(DATA.val, 20))


def plan(out, network=None):
    return Plan(new_model, RECIPE, FEW, "fashion_mnist", network, 0, out)


def test_weights_of_another_command_are_kept(tmp_path):
    keep_other_weights(tmp_path)
    weights_path(plan(tmp_path)).touch()
    with pytest.raises(InputError, match=r"weights.pt is not of a training in this folder, and would be overwritten"):
        keep_other_weights(tmp_path)
    (tmp_path / "checkpoint.pt").touch()  # the weights are of this training
    keep_other_weights(tmp_path)


def test_the_weights_of_every_network_are_described(tmp_path):
    file = read_weight_file(save_weights(new_model(), plan(tmp_path), 2, {"val_acc1": 50.0}))
    assert (file.arch, file.classes) == (ARCH, DATA.classes)
    training = {
        "recipe": RECIPE.to_dict(),
        "data": "fashion_mnist",
        "epochs": 2,
        "seed": 0,
        "metrics": {"val_acc1": 50.0},
    }
    assert file.training == training
    network = find_network("torchvision:squeezenet1_1")
    other = network.construct(len(DATA.classes), 1).model
    file = read_weight_file(save_weights(other, plan(tmp_path, network), 2, {}))
    assert (file.arch, file.num_classes) == (network, len(DATA.classes))
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(file.build()(x), other.eval()(x))


def test_the_accuracy_is_that_of_the_test_images(tmp_path):
    model = new_model()
    row = measured(model, plan(tmp_path), tmp_path / "weights.pt", None, ProcessRank(), "cpu")
    expected = measure(model, FEW, "test")
    assert row == {"test_acc1": expected.acc1, "test_acc5": expected.acc5}


def test_what_needs_less_memory():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
    )
    assert memory_advice(error, "cuda:0").startswith(
        "the training needs more memory than cuda:0 has (CUDA out of memory); give a larger --accumulate"
    )


NETWORKS = ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5", "resnet18_wide", "fbnetv3_a0"]


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


def trained(run, data, name, out_dir="run"):
    code, out, err = run(*arguments(data, name, out_dir), "--set", "epochs=1")
    assert code == 0, err
    return json.loads(out)[0]


def test_a_training_is_used_in_every_way(run, here, animals, name):
    row = trained(run, animals, name)
    weights, image = row["weights"], animals / "test" / "bee" / "0000.png"

    code, out, err = run("predict", image, "--weights", weights, "--json")
    assert code == 0, err
    assert {found["class"] for found in json.loads(out)} == set(CLASSES)

    code, out, err = run("weights", "verify", weights, "--json")
    assert (code, json.loads(out)[0]["status"]) == (0, "fits"), err

    code, out, err = run("models", here / "run", "--json")
    (listed,) = json.loads(out)
    assert code == 0, err
    assert listed["network"].endswith(name)
    assert (listed["classes"], listed["image"], listed["data"], listed["epochs"]) == (3, 16, str(animals), 1)
    assert listed["test_acc1"] == round(row["test_acc1"], 2)

    code, out, err = run("export", "net.pt2", "--format", "torch-export", "--weights", weights, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["difference"] < 1e-4

    publish = ("weights", "publish", weights, "--zoo", "zoo", "--name", "mine", "--licence", "Apache-2.0")
    code, _, err = run(*publish)
    assert code == 0, err
    (published,) = json.loads((here / "zoo" / "registry.json").read_text())["weights"]
    assert published["metrics"][0]["value"] == row["test_acc1"]
    assert "after its training: test images of" in published["metrics"][0]["origin"]
    assert '"epochs": 1' in published["recipe"]
    assert published["params_m"] > 0

    model = torch.hub.load(str(here / "zoo"), "mine", source="local", pretrained=True)
    x = torch.rand(2, 3, 16, 16)
    assert model.eval()(x).shape == (2, len(CLASSES))
    code, out, err = run("evaluate", weights, "--data", animals, "--json")
    assert json.loads(out)[0]["acc1"] == row["test_acc1"], err

    more = create_model(name, weights=weights, num_classes=7)  # a new classifier
    assert more(x).shape == (2, 7)

    code, out, err = run(*arguments(animals, name, "taught"), "--set", "distillation=0.5", "--teacher", weights)
    assert code == 0, err


def test_a_folder_without_weights_is_refused(run, here):
    one_line(
        run("models", here), "has no weights of a training (weights.pt, *.safetensors); give a folder that has some"
    )
    one_line(run("models", here / "absent.pt"), "no weight file at")
    one_line(run("models", here, "--zoo", here), "both files and --zoo")


def test_two_networks_are_two_names_of_a_zoo(run, here, animals):
    publish = ("weights", "publish", "--zoo", "zoo", "--name", "mine", "--licence", "Apache-2.0")
    for i, name in enumerate(("timm:test_resnet", "fbnetv3_a0")):
        weights = trained(run, animals, name, f"run{i}")["weights"]
        found = run(*publish, weights, "--source", f"source{i}")
        if i:
            one_line(found, "mine of zoo is another network; give another --name")
        else:
            assert found[0] == 0


def test_a_network_of_ones_own_code_is_not_published(run, here, animals):
    weights = trained(run, animals, "nets_here:net")["weights"]
    found = run(
        "weights", "publish", weights, "--model", "nets_here:net", "--zoo", "zoo", "--name", "mine", "--licence", "MIT"
    )
    one_line(
        found, "the weights are of nets_here:net, a network of your own code, which the users of a zoo do not have"
    )
    assert not (here / "zoo" / "registry.json").exists()
