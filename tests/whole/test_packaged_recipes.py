"""The packaged recipes: their labels, what the paper states, Table 3's accuracies, and torchvision's record."""

import dataclasses
import json
import re
from fnmatch import fnmatchcase

import pytest
import torchvision
import yaml

from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.recipes import list_recipes, load_recipe, read_recipe_file
from fbnetv3.recipes.recipe_file import FOLDER, PROVENANCES

STATED = yaml.safe_load((FOLDER / "paper_values.yaml").read_text())["values"]
RECIPES = list_recipes()
FILES = {name: read_recipe_file(name) for name in RECIPES}


def is_stated(name, field, value, source):
    """Return whether the paper states this value of the field, in the section that the source names, about this recipe."""
    return any(
        (entry["field"], entry["value"], f"section {entry['section']}") == (field, value, source)
        and any(fnmatchcase(name, pattern) for pattern in entry["about"])
        for entry in STATED
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_itself_and_where_everything_is_from(name):
    file = FILES[name]
    assert file.name == name
    rows = {row["field"]: row for row in file.rows()}
    assert list(rows) == [field.name for field in dataclasses.fields(file.recipe)]
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
