"""Recipe files: read and written strictly, with header, provenance and base."""

import pytest

from fbnetv3 import InputError
from fbnetv3.recipes import list_recipes, load_recipe, read_recipe_file, save_recipe
from fbnetv3.training.recipe import Recipe

RECIPE = Recipe(optimizer="sgd", lr=0.1, epochs=4, batch_size=32, warmup_epochs=1.0, lr_decay=0.5)
HEADER = "schema: 2\nname: a\nabout: b\nexpected: c\nhours: d\nhardware: e\ncommand: f\n"
VALUES = """values:
  optimizer: {value: sgd, provenance: choice, source: x}
  lr: {value: 0.1, provenance: choice, source: x}
  epochs: {value: 2, provenance: choice, source: x}
  batch_size: {value: 8, provenance: choice, source: x}
"""


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_yaml_round_trip(tmp_path):
    path = tmp_path / "mine.yaml"
    save_recipe(RECIPE, path, about="a test", provenance="search", source="run 7", expected="not measured")
    assert load_recipe(path) == load_recipe(str(path)) == RECIPE
    file = read_recipe_file(path)
    assert set(file.sources.values()) == {("search", "run 7")}
    assert (file.expected.origin, file.hours, file.base) == ("not measured", "not stated", None)


def test_a_users_plain_file(tmp_path):
    path = write(tmp_path, "{optimizer: rmsprop, lr: 0.01, epochs: 2, batch_size: 64}\n")
    assert load_recipe(path) == Recipe("rmsprop", 0.01, 2, 64)


def test_a_file_of_schema_1_is_read(tmp_path):
    file = read_recipe_file(write(tmp_path, "schema: 1\nname: a\nabout: b\nexpected: not measured\n" + VALUES))
    assert file.recipe == Recipe("sgd", 0.1, 2, 8)
    assert (str(file.expected), file.hours, file.hardware, file.command) == ("not measured", *["not stated"] * 3)


def test_expected_accuracy_with_its_origin(tmp_path):
    expected = "expected: {acc1: 76.13, acc5: 92.862, origin: there}\n"
    file = read_recipe_file(write(tmp_path, HEADER.replace("expected: c\n", expected) + VALUES))
    assert str(file.expected) == "76.13% top-1, 92.862% top-5 (there)"


def test_values_of_the_base_hold_where_the_file_names_none(tmp_path):
    file = read_recipe_file(
        write(
            tmp_path,
            HEADER + "base: imagenet/torchvision_resnet50\nvalues:\n"
            "  lr: {value: 0.2, provenance: choice, source: mine}\n",
        )
    )
    base = read_recipe_file("imagenet/torchvision_resnet50")
    assert file.recipe == base.recipe.replace(lr=0.2)
    assert file.sources == {**base.sources, "lr": ("choice", "mine")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer: [", "is no recipe, or is damaged"),
        ("- 1", "holds list, not a mapping"),
        ("optimizer: sgd\nlr: 1e-2\nepochs: 1\nbatch_size: 2", "mine.yaml: lr is '1e-2'.*write 1.0e-5"),
        (HEADER + VALUES.replace("choice", "rumour"), "values: optimizer: provenance is 'rumour'; .*'paper'"),
        (HEADER + VALUES.replace("source: x", "source: ''"), "values: optimizer: source is ''"),
        (HEADER + "values: {lr: 1.0}", "mine.yaml: values: lr: expected a mapping"),
        (HEADER + "values: [lr]", r"values is \['lr'\]; give a mapping"),
        (HEADER + VALUES.replace("lr:", "speed:"), "mine.yaml: unknown key 'speed'"),
        (HEADER.replace("schema: 2", "schema: 3") + VALUES, "schema is 3; this version reads 1 and 2"),
        (HEADER.replace("hours: d\n", "") + VALUES, "missing key 'hours'"),
        (HEADER.replace("hours: d", "hours: 4") + VALUES, "hours is 4"),
        (HEADER.replace("command: f", "command: ''") + VALUES, "command is ''"),
        (HEADER.replace("expected: c", "expected: {acc1: much, origin: x}") + VALUES, "expected: acc1 is 'much'"),
        (HEADER.replace("expected: c", "expected: {acc1: 101.0, origin: x}") + VALUES, "expected: acc1 is 101.0"),
        (HEADER.replace("expected: c", "expected: {acc1: 70.0}") + VALUES, "expected: missing key 'origin'"),
        (HEADER.replace("expected: c", "expected: ''") + VALUES, "expected: expected a mapping"),
        (HEADER + "base: nothing/here\n" + VALUES, "base is 'nothing/here', which is no recipe; `fbnetv3 recipe list`"),
        (HEADER + "base: cifar10/smoke\n" + VALUES, "base is 'cifar10/smoke', which has the base 'cifar10/small'"),
    ],
)
def test_damaged_recipe_files(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        load_recipe(write(tmp_path, text))


def test_an_unknown_recipe_says_where_the_choices_are():
    with pytest.raises(InputError, match=r"unknown recipe 'zz'; `fbnetv3 recipe list` lists all \d+, or give the path"):
        load_recipe("zz")
    with pytest.raises(InputError, match=r"unknown recipe 'fashion_mnist/mikro'; did you mean 'fashion_mnist/micro'"):
        load_recipe("fashion_mnist/mikro")


def test_unknown_provenance_is_not_written(tmp_path):
    with pytest.raises(InputError, match="provenance is 'rumour'; allowed: paper, proxy, search, choice, reference"):
        save_recipe(RECIPE, tmp_path / "a.yaml", about="a", provenance="rumour", source="b", expected="c")


def test_the_list_has_names_that_load():
    names = list_recipes()
    assert names == sorted(names)
    assert {"imagenet/fbnetv3_b_proxy", "cifar10/small", "fashion_mnist/micro"} <= set(names)
    assert all(name.count("/") == 1 for name in names)  # YAML files directly in the folder are no recipes


def test_rows_have_the_default_as_the_source_of_what_a_file_does_not_name(tmp_path):
    rows = {row["field"]: row for row in read_recipe_file(write(tmp_path, HEADER + VALUES)).rows()}
    assert rows["lr"] == {"field": "lr", "value": 0.1, "provenance": "choice", "source": "x"}
    assert rows["mixup"] == {
        "field": "mixup",
        "value": 0.0,
        "provenance": "choice",
        "source": "default of the package",
    }


def test_a_file_without_header_is_no_recipe_file(tmp_path):
    path = write(tmp_path, "{optimizer: rmsprop, lr: 0.01, epochs: 2, batch_size: 64}\n")
    with pytest.raises(InputError, match="schema is None; this version reads 1 and 2"):
        read_recipe_file(path)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "imagenet/torchvision_resnet50",
            ["imagenet", "resnet50", 90, 76.13, "torchvision ResNet50_Weights.IMAGENET1K_V1, at 224"],
        ),
        ("imagenet/resnet50_recipe_only_proxy", ["imagenet", "torchvision:resnet50", 400, None, "not measured"]),
        ("fashion_mnist/micro", ["fashion_mnist", None, 3, None, "not measured by itself"]),
    ],
)
def test_a_recipe_in_one_row(name, row):
    assert list(read_recipe_file(name).summary().values()) == [name, *row]
