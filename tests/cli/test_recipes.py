"""`fbnetv3 recipe` as a user meets it."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from fbnetv3 import InputError
from fbnetv3.cli.recipes import app
from fbnetv3.recipes import list_recipes, load_recipe
from fbnetv3.recipes.export import to_timm


def run(*words):
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_list_says_what_each_recipe_is_for():
    rows = json.loads(run("list", "--json"))
    assert [row["recipe"] for row in rows] == list_recipes()
    assert all(list(row) == ["recipe", "data", "network", "epochs", "acc1", "status"] for row in rows)
    assert all(row["data"] in ("imagenet", "cifar10", "fashion_mnist", "any") and row["status"] for row in rows)
    resnet = next(row for row in rows if row["recipe"] == "imagenet/torchvision_resnet50")
    assert (resnet["network"], resnet["epochs"], resnet["acc1"]) == ("resnet50", 90, 76.13)


def test_list_as_text(capsys):
    from fbnetv3.cli.recipes import recipe_list

    recipe_list()
    text = capsys.readouterr().out
    assert all(name in text for name in ("status", *list_recipes()))


def test_show_prints_the_header_and_every_value_with_its_source():
    data = json.loads(run("show", "imagenet/torchvision_alexnet", "--json"))
    assert list(data) == ["name", "about", "base", "expected", "hours", "hardware", "command", "values"]
    assert data["expected"]["acc1"] == 56.522
    rows = {row["field"]: row for row in data["values"]}
    assert {key: row["value"] for key, row in rows.items()} == dataclasses.asdict(
        load_recipe("imagenet/torchvision_alexnet")
    )
    assert rows["lr"]["provenance"] == "reference"
    assert (rows["dropout"]["provenance"], rows["dropout"]["source"]) == ("choice", "default of the package")


@pytest.mark.parametrize("name", list_recipes())
def test_show_as_text(name, capsys):
    from fbnetv3.cli.recipes import recipe_show

    recipe_show(name)
    text = capsys.readouterr().out
    for word in ("expected:", "hours:", "hardware:", "command:", "provenance", "weight_decay", name):
        assert word in text


def test_export():
    name = "imagenet/fbnetv3_b_proxy"
    exported = to_timm(load_recipe(name), processes=64)
    lines = run("export", name, "--to", "timm", "--processes", "64").splitlines()
    assert lines[0] == exported.command_line
    assert lines[1:] == [f"not expressed: {line}" for line in exported.not_expressed]
    data = json.loads(run("export", name, "--to", "timm", "--processes", "64", "--json"))
    assert data["not_expressed"] == list(exported.not_expressed)
    assert data["arguments"] == json.loads(json.dumps(exported.arguments))


def test_export_takes_the_number_of_images_from_the_data_set_or_the_user():
    cifar = json.loads(run("export", "cifar10/small", "--to", "detectron2", "--json"))["arguments"]
    assert cifar["SOLVER.MAX_ITER"] == 30 * (50_000 // 128)
    fewer = json.loads(run("export", "cifar10/small", "--to", "detectron2", "--images", "1280", "--json"))["arguments"]
    assert fewer["SOLVER.MAX_ITER"] == 300
    with pytest.raises(InputError, match="optimizer is rmsprop_tf, and detectron2's solver has SGD alone"):
        run("export", "imagenet/fbnetv3_g_proxy", "--to", "detectron2")
    with pytest.raises(InputError, match="give --images"):
        run("export", "fashion_mnist/micro", "--to", "timm")
