import json
import re
from fnmatch import fnmatchcase

import pytest
import torchvision
import yaml

from fbnetv3 import InputError
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.complexity import round_width
from fbnetv3.recipes import (
    FOLDER,
    PROVENANCES,
    list_recipes,
    load_recipe,
    read_recipe_file,
    save_recipe,
)
from fbnetv3.training.recipe import Recipe

RECIPE = Recipe(optimizer="sgd", lr=0.1, epochs=4, batch_size=32, warmup_epochs=1.0, lr_decay=0.5)
HEADER = "schema: 2\nname: a\nabout: b\nexpected: c\nhours: d\nhardware: e\ncommand: f\n"
VALUES = """values:
  optimizer: {value: sgd, provenance: choice, source: x}
  lr: {value: 0.1, provenance: choice, source: x}
  epochs: {value: 2, provenance: choice, source: x}
  batch_size: {value: 8, provenance: choice, source: x}
"""
STATED = yaml.safe_load((FOLDER / "paper_values.yaml").read_text())["values"]
RECIPES = list_recipes()
FILES = {name: read_recipe_file(name) for name in RECIPES}


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def is_stated(name, field, value, source):
    """Whether the paper states this value of the field, in the section that the source names, about this recipe."""
    return any(
        (entry["field"], entry["value"], f"section {entry['section']}") == (field, value, source)
        and any(fnmatchcase(name, pattern) for pattern in entry["about"])
        for entry in STATED
    )


# ---------------------------------------------------------------- reading and writing


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
    base = FILES["imagenet/torchvision_resnet50"]
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
        (HEADER + "base: nothing/here\n" + VALUES, "mine.yaml: base is 'nothing/here'; available: cifar10/"),
        (HEADER + "base: cifar10/smoke\n" + VALUES, "base is 'cifar10/smoke', which has the base 'cifar10/small'"),
    ],
)
def test_damaged_recipe_files(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        load_recipe(write(tmp_path, text))


def test_unknown_recipe_names_the_choices():
    with pytest.raises(InputError, match=r"unknown recipe 'fbnetv3_zz'; available: .*fashion_mnist/micro"):
        load_recipe("fbnetv3_zz")


def test_unknown_provenance_is_not_written(tmp_path):
    with pytest.raises(InputError, match="provenance is 'rumour'; allowed: paper, proxy, search, choice, reference"):
        save_recipe(RECIPE, tmp_path / "a.yaml", about="a", provenance="rumour", source="b", expected="c")


# ---------------------------------------------------------------- the recipes of the package


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_itself_and_where_everything_is_from(name):
    file = FILES[name]
    assert file.name == name
    rows = {row["field"]: row for row in file.rows()}
    assert list(rows) == list(file.recipe.to_dict())
    assert all(row["source"] and row["provenance"] in PROVENANCES for row in rows.values())
    assert json.loads(json.dumps(file.header()))["name"] == name


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_labelled_paper_is_stated_by_the_paper(name):
    file = FILES[name]
    for field, (provenance, source) in file.sources.items():
        if provenance == "paper":
            assert is_stated(name, field, getattr(file.recipe, field), source), f"{field}: {source} does not give it"


def test_the_check_of_labels_catches_a_wrong_value_section_or_recipe():
    b = "imagenet/fbnetv3_b_proxy"
    assert is_stated(b, "epochs", 400, "section 4.2")
    assert not is_stated(b, "epochs", 399, "section 4.2")
    assert not is_stated(b, "epochs", 400, "section 4.1")
    assert not is_stated(b, "momentum", 0.9, "section 4.2")
    assert not is_stated("cifar10/fbnetv3_proxy", "epochs", 400, "section 4.2")


def test_what_the_paper_states_is_in_the_recipes_that_it_is_about():
    for entry in STATED:
        about = [name for name in RECIPES if any(fnmatchcase(name, pattern) for pattern in entry["about"])]
        assert about, f"{entry['about']} match no recipe"
        if entry["field"] == "distillation" or entry["section"] == "4.1":
            continue  # other recipes of the pattern differ on purpose
        for name in about:
            assert getattr(FILES[name].recipe, entry["field"]) == entry["value"], f"{name}: {entry}"


def test_only_recipes_with_published_values_alone_go_without_proxy_in_their_name():
    for name, file in FILES.items():
        provenances = {provenance for provenance, _ in file.sources.values()}
        if "proxy" in provenances:
            assert name.endswith("_proxy")
        if name.startswith("imagenet/") and "paper" in provenances and name != "imagenet/fbnetv3_search":
            assert name.endswith("_proxy")


def test_the_recipes_of_section_4():
    search, b, e = (load_recipe(f"imagenet/fbnetv3_{name}") for name in ("search", "b_proxy", "e_proxy"))
    assert (search.epochs, search.lr_decay) == (150, 0.963)
    assert (b.epochs, b.lr_decay, b.warmup_epochs, b.schedule, b.distillation) == (400, 0.9875, 5, "exponential", 0.8)
    assert search.stretched(3).lr_decay == pytest.approx(0.9875, abs=5e-5)  # "3x slower"
    assert load_recipe("imagenet/fbnetv3_a_proxy") == b
    for name in ("f", "g"):
        assert load_recipe(f"imagenet/fbnetv3_{name}_proxy") == e.replace(stochastic_depth=0.2)
    teacher = load_recipe("imagenet/fbnetv3_g_teacher_proxy")
    assert teacher == e.replace(stochastic_depth=0.2, distillation=0.0)


def test_networks_of_table_3_share_one_recipe_and_quote_the_papers_accuracies():
    table = next(item for item in load_paper() if item.id == "table3")
    numbers = {number.id: number.value for number in table.numbers}
    base = load_recipe("imagenet/fbnetv2_l3_recipe_only_proxy")
    networks = [name for name in RECIPES if name.endswith("_recipe_only_proxy")]
    assert len(networks) == 8
    for name in networks:
        row = name.split("/")[1].removesuffix("_recipe_only_proxy").removesuffix("_32x8d")
        before, after = numbers[f"{row}.original"], numbers[f"{row}.recipe_only"]
        assert FILES[name].expected.origin.endswith(f"{after}% top-1 ({before}% before, Table 3)")
        allowed = {"lr", "warmup_lr", "stochastic_depth", "sync_bn"}
        changed = {key for key, value in load_recipe(name).to_dict().items() if value != getattr(base, key)}
        assert changed <= allowed


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("imagenet/torchvision_")])
def test_baselines_quote_the_accuracy_that_torchvision_publishes(name):
    file = FILES[name]
    model = name.removeprefix("imagenet/torchvision_")
    weights = torchvision.models.get_model_weights(model)
    published = weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]
    assert (file.expected.acc1, file.expected.acc5) == (published["acc@1"], published["acc@5"])
    assert weights.__name__ in file.expected.origin
    assert {provenance for provenance, _ in file.sources.values()} == {"reference"}
    assert re.search(rf"--model {model}( |$)", file.command)


def test_data_beside_the_recipes_is_no_recipe():
    assert all(name.count("/") == 1 for name in RECIPES)


def test_the_candidate_rows_of_fbnetv2_l3_cost_nearly_what_is_quoted():
    data = yaml.safe_load((FOLDER / "fbnetv2_l3_rows.yaml").read_text())
    params, flops = 0, 0

    def conv(cin, cout, k, side):
        nonlocal params, flops
        params += cin * cout * k * k
        flops += cin * cout * k * k * side * side

    width, side = data["stem"]["c"], data["resolution"] // 2
    conv(3, width, 3, side)
    for row in data["rows"]:
        before, width = width, row["c"]
        if row["op"] == "skip":
            if before != width:
                conv(before, width, 1, side)
            continue
        expanded = round_width(before * row["e"])
        if expanded != before:
            conv(before, expanded, 1, side)
        side //= row["s"]
        conv(1, expanded, row["k"], side)
        if row["se"]:
            conv(expanded, 2 * round_width(expanded / 4), 1, 1)
            flops += expanded * side * side
        conv(expanded, width, 1, side)
    last, wide = data["head"]["e"] * width, data["head"]["c"]
    conv(width, last, 1, side)
    flops += last * side * side + wide
    conv(last, wide, 1, 1)
    conv(wide, 1000, 1, 1)
    assert (round(flops / 1e6, 1), round(params / 1e6, 3)) == (750.7, 9.402)  # as the file says
    assert flops / 1e6 == pytest.approx(data["quoted"]["flops_m"], rel=0.005)
    assert params / 1e6 == pytest.approx(data["quoted"]["params_m"], rel=0.001)
