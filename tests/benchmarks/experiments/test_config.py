"""Experiments are read strictly, and those of the package ask what the paper's tables ask."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.experiments.config import FOLDER, Network, Scale, list_experiments, load_experiment
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.pair_file import load_pair
from fbnetv3.recipes import load_recipe, read_recipe_file

NAMES = ("table1", "table3", "table6", "table8")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(seed=[1]), "smoke.yaml: cpu: unknown key 'seed'; did you mean 'seeds'"),
        (lambda c: c.pop("split"), "smoke.yaml: cpu: missing key 'split'"),
        (lambda c: c.update(split="train"), "cpu: split is 'train'"),
        (lambda c: c.update(seeds=[]), r"cpu: seeds is \[\]"),
        (lambda c: c.update(seeds=[0.5]), "cpu: seeds.0 is 0.5"),
        (lambda c: c.update(cells={}), r"cpu: cells is \{\}; allowed: a mapping"),
        (lambda c: c["networks"].update({"a.b": {"model": "x"}}), "networks: name 'a.b'; allowed: a-z"),
        (lambda c: c["networks"]["net"].update(width=3), "networks: net: unknown key 'width'"),
        (lambda c: c["cells"]["plain"].update(network="nett"), "cells: plain: network is 'nett'; did you mean 'net'"),
        (lambda c: c["cells"]["plain"].update(recipe="a/b"), "cells: plain: unknown recipe 'a/b'"),
        (lambda c: c["cells"]["plain"]["changes"].update(lrr=1.0), "cells: plain: recipe: unknown key 'lrr'"),
        (lambda c: c["cells"]["plain"]["changes"].update(lr=-1.0), "cells: plain: recipe: lr is -1.0"),
        (
            lambda c: c["cells"]["plain"].update(recipe="pair:no.yaml"),
            "cells: plain: cannot read the pair file .*no.yaml",
        ),
        (
            lambda c: c["cells"]["taught"].pop("teacher"),
            "taught: distillation is 0.5 and teacher is None; give both or neither",
        ),
        (
            lambda c: c["cells"]["taught"].update(changes={}),
            "taught: distillation is 0.0 and teacher is 'plain'; give both or neither",
        ),
        (
            lambda c: c["cells"]["taught"].update(teacher="no"),
            "cells: taught: teacher is 'no'; available: taught, plain",
        ),
        (lambda c: c["cells"]["taught"].update(teacher="taught"), "teacher 'taught' has a teacher itself"),
        (lambda c: c["cells"]["plain"].update(tune={"lr": []}), r"cells: plain: tune.lr is \[\]"),
        (lambda c: c["cells"]["plain"].update(tune={"lr": [0.1, -1.0]}), "cells: plain: recipe: lr is -1.0"),
        (
            lambda c: (c.update(split="val"), c["cells"]["plain"].update(tune={"lr": [0.1]})),
            "cells: plain: tune chooses by the split val, which is the reported one",
        ),
        (lambda c: c["differences"]["gain"].update(plus=["no"]), "differences: gain: cell is 'no'"),
        (lambda c: c["differences"]["gain"].update(plus=["plain"] * 2), "gain: plus and minus have 2 and 1 cells"),
        (lambda c: c["differences"]["gain"].update(paper="up"), "differences: gain: paper is 'up'"),
    ],
)
def test_an_experiment_is_read_strictly(smoke, edit, words):
    with pytest.raises(InputError, match=words):
        load_experiment(smoke(edit))


def test_the_top_of_the_file_too(smoke):
    with pytest.raises(InputError, match=r"smoke.yaml: schema is 2; this version reads 1"):
        load_experiment(smoke(schema=2))
    with pytest.raises(InputError, match=r"smoke.yaml: missing key 'full'"):
        load_experiment(smoke(full=None))
    with pytest.raises(InputError, match=r"smoke.yaml: unknown key 'gpu'"):
        load_experiment(smoke(gpu={}))
    with pytest.raises(
        InputError, match=r"unknown experiment 'table2'; .*vailable: table1, table3, table6, table8, or the"
    ):
        load_experiment("table2")


def test_a_pair_gives_architecture_and_recipe(smoke):
    def edit(cpu):
        cpu["cells"]["plain"] = {"network": "net", "recipe": "pair:micro_400k.yaml", "changes": {"lr": 0.5}}
        cpu["stretch"] = 2

    scale, pair = load_experiment(smoke(edit)).cpu, load_pair(FOLDER / "micro_400k.yaml")
    assert scale.recipe(scale.cells["plain"]) == pair.recipe.stretched(2).replace(lr=0.5)
    model = scale.networks["net"].build(10, 1, pair.recipe)
    assert model.arch == pair.arch


def test_networks_cost_what_a_hand_counts():
    # ResNet's own count is in tests/training/test_resnets.py; here the last layer tells classes and channels apart.
    net = Network(model="resnet18_wide", arguments={"base_width": 8})
    ten, eleven, grey, colour = (net.cost(*given, 28) for given in ((10, 1), (11, 1), (10, 1), (10, 3)))
    assert (eleven["flops"] - ten["flops"], eleven["params"] - ten["params"]) == (90, 91)  # 90 features
    assert (colour["flops"] - grey["flops"], colour["params"] - grey["params"]) == (2 * 49 * 11 * 14 * 14, 2 * 49 * 11)


def test_the_experiments_of_the_package():
    assert tuple(list_experiments()) == NAMES


def test_the_full_scale_has_every_row_of_the_paper():
    rows = {item.id: {number.row for number in item.numbers} for item in load_paper()}
    full = load_experiment("table3").full
    assert {*full.networks, "fbnetv2_l3", "text", "wsl"} == rows["table3"]
    assert len(load_experiment("table8").full.cells) == 4
    recipes = {
        name: load_experiment("table6").full.recipe(cell) for name, cell in load_experiment("table6").full.cells.items()
    }
    assert recipes["small_own"] == recipes["large_swapped"] != recipes["small_swapped"] == recipes["large_own"]


@pytest.mark.parametrize("name", NAMES)
def test_the_signs_are_those_of_the_papers_numbers(name):
    paper = {number.id: float(number.value) for item in load_paper() if item.id == name for number in item.numbers}
    ids = {
        "table1": {"wide": "resnet18_1_4x_width", "deep": "resnet18_2x_depth"},
        "table6": {
            "small_own": "fbnetv3_b.recipe_b",
            "small_swapped": "fbnetv3_b.recipe_e",
            "large_swapped": "fbnetv3_e.recipe_b",
            "large_own": "fbnetv3_e.recipe_e",
        },
        "table8": {cell: f"fbnetv3_g.{cell}" for cell in ("baseline", "ema", "dist", "dist_ema")},
    }

    def number(cell):
        if name == "table1":
            network, _, recipe = cell.partition("_")
            return paper[f"{ids[name][network]}.{recipe}"]
        if name == "table3":
            network, _, column = cell.partition("_")
            return paper[f"{network}.{column}"]
        return paper[ids[name][cell]]

    experiment = load_experiment(name)
    for entry in experiment.full.differences.values():
        value = sum(map(number, entry.plus)) - sum(map(number, entry.minus))
        assert (value > 0) == (entry.paper == "positive"), entry.about
    if name != "table3":
        assert experiment.cpu.differences == experiment.full.differences


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_one_experiment_train_as_long(name):
    cpu: Scale = load_experiment(name).cpu
    assert len({cpu.recipe(cell).epochs for cell in cpu.cells.values()}) == 1
    assert len(cpu.seeds) >= 3


def test_the_searched_recipe_is_the_pairs():
    pair, file = load_pair(FOLDER / "micro_400k.yaml"), read_recipe_file("fashion_mnist/searched")
    assert file.recipe.stretched(2) == pair.recipe
    searched = {field for field, (provenance, _) in file.sources.items() if provenance == "search"}
    assert searched == {"optimizer", "lr", "weight_decay", "mixup", "dropout", "stochastic_depth", "ema"}
    for field in searched:
        provenance = pair.provenance
        source = file.sources[field][1]
        assert f"quickstart, seed {pair.seed}, config {provenance['config']}; fbnetv3 {provenance['fbnetv3']}" in source
    baseline = load_recipe("fashion_mnist/micro")
    changed = {key for key, value in file.recipe.to_dict().items() if value != getattr(baseline, key)}
    assert changed <= searched
