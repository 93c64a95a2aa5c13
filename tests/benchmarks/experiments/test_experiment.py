"""Experiments are read strictly, counted by hand, resumed without repeating anything, and say what their files say."""

import dataclasses
import io
import json

import pytest
import torch
import yaml
from rich.console import Console

from fbnetv3 import InputError
from fbnetv3.benchmarks.experiments import experiment as experiments
from fbnetv3.benchmarks.experiments import report as experiment_report
from fbnetv3.benchmarks.experiments.config import FOLDER, Difference, Network, Scale, list_experiments, load_experiment
from fbnetv3.benchmarks.experiments.experiment import Options, Trainer, compare, costs, main, run
from fbnetv3.benchmarks.experiments.report import difference_rows, summary, verdict
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.seeds import spread
from fbnetv3.pair_file import load_pair
from fbnetv3.recipes import FOLDER as RECIPES
from fbnetv3.recipes import load_recipe, read_recipe_file
from fbnetv3.training.data.memory import ImageData, Split, fashion_mnist
from fbnetv3.training.loop import DivergedError, Engine, fit
from fbnetv3.training.process_rank import Share

ROOT = RECIPES.parent
NAMES = ("table1", "table3", "table6", "table8")
SMOKE = {
    "about": "a test",
    "data": "fashion_mnist",
    "split": "test",
    "seeds": [0, 1],
    "networks": {"net": {"model": "pair:micro_400k.yaml"}},
    "cells": {
        "taught": {
            "network": "net",
            "recipe": "fashion_mnist/micro",
            "changes": {"epochs": 1, "distillation": 0.5},
            "teacher": "plain",
        },
        "plain": {"network": "net", "recipe": "fashion_mnist/micro", "changes": {"epochs": 1}},
    },
    "differences": {"gain": {"about": "x", "plus": ["taught"], "minus": ["plain"], "paper": "positive"}},
}


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """128 of the package's training images, 50 of the others."""
    data = fashion_mnist()
    parts = {
        name: Split(part.images[:count], part.labels[:count])
        for name, count in (("train", 128), ("val", 50), ("test", 50))
        for part in [getattr(data, name)]
    }
    small = dataclasses.replace(data, name="small", **parts)
    assert isinstance(small, ImageData)
    monkeypatch.setattr(experiments, "load_data", lambda spec, **settings: small)


@pytest.fixture
def smoke(tmp_path):
    """A function that writes the smoke experiment with changes, and gives its path."""

    def write(edit=lambda cpu: None, **top):
        cpu = json.loads(json.dumps(SMOKE))
        edit(cpu)
        data = {"schema": 1, "name": "smoke", "title": "Smoke", "cpu": cpu, "full": SMOKE} | top
        path = tmp_path / "smoke.yaml"
        path.write_text(
            yaml.safe_dump({key: value for key, value in data.items() if value is not None}, sort_keys=False)
        )
        return str(path)

    return write


@pytest.fixture
def fits(monkeypatch):
    """The (folder, steps) of every call of `fit`."""
    calls = []

    def counted(*args, progress=None, **kwargs):
        calls.append([str(kwargs["out"].relative_to(kwargs["out"].parents[1])), 0])

        def counting(done, total, text):
            calls[-1][1] += 1
            progress(done, total, text)

        return fit(*args, progress=counting, **kwargs)

    monkeypatch.setattr(experiments, "fit", counted)
    return calls


def quiet():
    return Console(file=io.StringIO(), width=200)


# ---------------------------------------------------------------- statistics


def difference(plus=("a",), minus=("b",)):
    return Difference(about="x", plus=list(plus), minus=list(minus), paper="positive")


def test_a_difference_is_paired_by_seed():
    # 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.30265, so 2 +- 2.484
    cells = {"a": {0: 81.0, 1: 72.0, 2: 63.0}, "b": {2: 60.0, 0: 80.0, 1: 70.0}}
    row = compare(difference(), cells)
    assert (row["seeds"], row["n"], row["mean"]) == ({"0": 1.0, "1": 2.0, "2": 3.0}, 3, 2.0)
    assert (row["low"], row["high"], row["excludes_zero"]) == (-0.484, 4.484, False)
    assert compare(difference(), {"a": {0: 83.0, 1: 74.0, 2: 65.0}, "b": cells["b"]})["excludes_zero"] is True
    assert compare(difference(["b"], ["a"]), {"a": {0: 83.0, 1: 74.0, 2: 65.0}, "b": cells["b"]})["high"] < 0


def test_a_difference_of_differences():
    cells = {"a": {0: 5.0, 1: 6.0}, "b": {0: 3.0, 1: 3.0}, "c": {0: 1.0, 1: 2.0}, "d": {0: 2.0, 1: 2.0}}
    row = compare(difference(["a", "d"], ["b", "c"]), cells)  # (a - b) - (c - d)
    assert (row["seeds"], row["mean"]) == ({"0": 3.0, "1": 3.0}, 3.0)


def test_a_difference_leaves_out_seeds_that_a_cell_lacks():
    row = compare(difference(), {"a": {0: 5.0, 1: 7.0}, "b": {1: 4.0}})
    assert (row["seeds"], row["n"], row["mean"]) == ({"1": 3.0}, 1, 3.0)
    assert (row["low"], row["high"], row["excludes_zero"]) == (None, None, None)
    assert compare(difference(), {"a": {}, "b": {1: 4.0}})["mean"] is None


@pytest.mark.parametrize(
    ("low", "high", "paper", "words"),
    [
        (0.1, 0.5, "positive", "excludes zero, sign as the paper's"),
        (-0.5, -0.1, "positive", "excludes zero, sign against the paper's"),
        (-0.5, -0.1, "negative", "excludes zero, sign as the paper's"),
        (-0.1, 0.5, "positive", "includes zero: not told apart"),
    ],
)
def test_the_verdict_is_what_the_interval_allows(low, high, paper, words):
    row = {"mean": (low + high) / 2, "low": low, "high": high, "paper": paper, "excludes_zero": low > 0 or high < 0}
    assert verdict(row) == words
    assert f"Of 1 differences {int(' as the' in words)} have" in summary({"differences": {"d": row}})
    assert f"{int('against' in words)} the opposite sign" in summary({"differences": {"d": row}})
    assert f"{int('includes' in words)} cannot be told" in summary({"differences": {"d": row}})


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(seed=[1]), "smoke.yaml: cpu: unknown key 'seed'; allowed: about"),
        (lambda c: c.pop("split"), "smoke.yaml: cpu: missing key 'split'"),
        (lambda c: c.update(split="train"), "cpu: split is 'train'"),
        (lambda c: c.update(seeds=[]), r"cpu: seeds is \[\]"),
        (lambda c: c.update(seeds=[0.5]), "cpu: seeds.0 is 0.5"),
        (lambda c: c.update(cells={}), r"cpu: cells is \{\}; allowed: a mapping"),
        (lambda c: c["networks"].update({"a.b": {"model": "x"}}), "networks: name 'a.b'; allowed: a-z"),
        (lambda c: c["networks"]["net"].update(width=3), "networks: net: unknown key 'width'"),
        (lambda c: c["cells"]["plain"].update(network="nett"), "cells: plain: network is 'nett'; available: net"),
        (lambda c: c["cells"]["plain"].update(recipe="a/b"), "cells: plain: unknown recipe 'a/b'; available: cifar10/"),
        (lambda c: c["cells"]["plain"]["changes"].update(lrr=1.0), "cells: plain: recipe: unknown key 'lrr'"),
        (lambda c: c["cells"]["plain"]["changes"].update(lr=-1.0), "cells: plain: recipe: lr is -1.0"),
        (
            lambda c: c["cells"]["plain"].update(recipe="pair:no.yaml"),
            "cells: plain: cannot read the pair file .*no.yaml",
        ),
        (lambda c: c["cells"]["taught"].pop("teacher"), "taught: distillation is 0.5 and teacher None; give both"),
        (
            lambda c: c["cells"]["taught"].update(changes={}),
            "taught: distillation is 0.0 and teacher 'plain'; give both",
        ),
        (
            lambda c: c["cells"]["taught"].update(teacher="no"),
            "cells: taught: teacher is 'no'; available: taught, plain",
        ),
        (lambda c: c["cells"]["taught"].update(teacher="taught"), "teacher 'taught' has a teacher itself"),
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
        InputError, match="unknown experiment 'table2'; available: table1, table3, table6, table8, or the"
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


# ---------------------------------------------------------------- running


def test_the_smoke_experiment_from_end_to_end(smoke, tmp_path, capsys):
    out, runs = tmp_path / "out.json", tmp_path / "runs"
    words = [smoke(), "--out", str(out), "--runs", str(runs)]
    result = main(words)
    values = result.values
    assert load_result("out", tmp_path) == result
    assert list(values["cells"]) == ["taught", "plain"]
    for cell in values["cells"].values():
        assert (list(cell["seeds"]), cell["n"], cell["epochs"], cell["failed"]) == (["0", "1"], 2, 1, {})
    taught, plain = (values["cells"][cell]["seeds"] for cell in ("taught", "plain"))
    row = values["differences"]["gain"]
    assert row["seeds"] == {seed: pytest.approx(taught[seed] - plain[seed]) for seed in plain}
    assert result.command.startswith("fbnetv3 benchmark experiment smoke.yaml --scale cpu")
    assert values["data"] == {"name": "small", "split": "test", "train": 128, "test": 50}
    assert sorted(path.parent.name for path in runs.rglob("checkpoint.pt")) == ["seed0", "seed0", "seed1", "seed1"]
    capsys.readouterr()
    assert main([*words, "--show"]) == result
    assert f"{values['cells']['plain']['mean']:.2f}" in capsys.readouterr().out


def interrupted(smoke, runs, at):
    """Run until the training with number `at` begins, as Ctrl-C there would."""
    real, count = Trainer.accuracy, 0

    def accuracy(self, *args):
        nonlocal count
        count += 1
        if count > at:
            raise KeyboardInterrupt
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "accuracy", accuracy)
        with pytest.raises(SystemExit) as stopped:
            main([smoke(), "--runs", str(runs), "--out", str(runs / "no.json")])
    assert stopped.value.code == 130
    assert not (runs / "no.json").exists()


def test_a_stopped_run_goes_on_and_trains_nothing_twice(smoke, tmp_path, fits):
    whole = main([smoke(), "--runs", str(tmp_path / "a"), "--out", str(tmp_path / "a.json")])
    assert [steps for _, steps in fits] == [
        2,
        2,
        0,
        2,
        2,
        0,
    ]  # the teacher, its student, and the teacher loaded as a cell
    assert [folder for folder, _ in fits][:3] == ["plain/seed0", "taught/seed0", "plain/seed0"]
    fits.clear()
    interrupted(smoke, tmp_path / "b", at=1)
    again = main([smoke(), "--runs", str(tmp_path / "b"), "--out", str(tmp_path / "b.json")])
    assert [steps for _, steps in fits] == [2, 2, 0, 0, 0, 2, 2, 0]
    assert again.values == whole.values
    fits.clear()
    assert main([smoke(), "--runs", str(tmp_path / "b"), "--out", str(tmp_path / "b.json")]).values == whole.values
    assert not any(steps for _, steps in fits)


def test_a_changed_experiment_does_not_take_another_ones_training(smoke, tmp_path, capsys):
    words = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out.json"), "--seeds", "0"]
    main([smoke(), *words])
    with pytest.raises(SystemExit):
        main([smoke(lambda cpu: cpu["cells"]["plain"]["changes"].update(lr=0.01)), *words])
    assert "belongs to another training: recipe" in capsys.readouterr().err


def test_a_diverged_training_is_recorded_and_the_others_go_on(smoke, tmp_path, monkeypatch):
    def diverging(model, recipe, data, *, seed, **others):
        if seed == 1:
            raise DivergedError("the loss is nan at step 3, learning rate 9; recipe {}")
        return fit(model, recipe, data, seed=seed, **others)

    monkeypatch.setattr(experiments, "fit", diverging)
    console = quiet()
    result = run(load_experiment(smoke()), Options("smoke"), tmp_path, console, Share())
    for cell in result.values["cells"].values():
        assert list(cell["seeds"]) == ["0"]
        assert cell["failed"] == {"1": "DivergedError: the loss is nan at step 3, learning rate 9"}
    assert result.values["differences"]["gain"]["n"] == 1
    assert verdict(result.values["differences"]["gain"]) == "too few seeds"
    assert "the loss is nan" in console.file.getvalue()
    experiment_report.print_tables(console, result)
    assert "1 (1 failed)" in console.file.getvalue()


def test_a_student_learns_from_the_teacher_of_its_seed(smoke, tmp_path, monkeypatch):
    taught_by = {}

    def watching(model, recipe, data, *, seed, out, teacher, **others):
        trained = fit(model, recipe, data, seed=seed, out=out, teacher=teacher, **others)
        taught_by[out.parent.name, seed] = (teacher, trained.model)
        return trained

    monkeypatch.setattr(experiments, "fit", watching)
    run(load_experiment(smoke()), Options("smoke"), tmp_path, quiet(), Share())
    for seed in (0, 1):
        teacher, (_, plain) = taught_by["taught", seed][0], taught_by["plain", seed]
        assert taught_by["plain", seed][0] is None
        assert all(
            torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), plain.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table1", "--scale", "full"], "table1 at scale full has no images of its own: give --data"),
        (["table2"], "unknown experiment 'table2'"),
        (["table1", "--show", "--out", "nowhere.json"], "no result nowhere.json: leave out --show"),
        (["table1", "--accumulate", "0"], "accumulate is 0"),
        (["table1", "--device", "abacus"], "device abacus cannot be used"),
        (["table1", "--seeds", "1", "1"], "seeds are 1, 1; allowed: different whole numbers from 0"),
        (["table1", "--seeds", "-1"], "seeds are -1"),
    ],
)
def test_what_a_user_can_mend_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_the_command_of_a_result_repeats_it():
    options = Options("table1", "full", str(ROOT), (3, 4), threads=2, engine=Engine("cuda:0", "bf16", 4))
    assert options.command == (
        "fbnetv3 benchmark experiment table1 --scale full --data FOLDER --seeds 3 4 --threads 2 "
        "--device cuda:0 --precision bf16 --accumulate 4"
    )
    assert Options("a/b.yaml").command == "fbnetv3 benchmark experiment b.yaml --scale cpu"


# ---------------------------------------------------------------- the experiments of the package


def test_the_experiments_of_the_package():
    assert tuple(list_experiments()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_full_scale_resolves_and_its_networks_are_built(name):
    full = load_experiment(name).full
    assert full.data is None
    assert full.split == "val"
    assert full.about.rstrip().endswith("Not run.")
    stored = load_result(f"experiment_{name}").values["full"]
    assert costs(full, **experiments.IMAGENET) == stored
    recipes = {cell: full.recipe(entry) for cell, entry in full.cells.items()}
    assert all(cell in recipes for entry in full.differences.values() for cell in (*entry.plus, *entry.minus))


def test_full_scale_costs_are_those_published_elsewhere():
    table1, table3, table8 = (
        load_result(f"experiment_{name}").values["full"] for name in ("table1", "table3", "table8")
    )
    assert (table1["wide"]["flops"], table1["wide"]["params"]) == (3_437_261_696, 22_738_992)  # resnets.py
    assert (table1["deep"]["flops"], table1["deep"]["params"]) == (3_663_761_408, 24_230_952)
    assert (table3["resnet50"]["flops"], table3["resnet50"]["params"]) == (4_089_184_256, 25_557_032)  # torchvision
    assert table8["net"]["params"] == 16_623_920  # docs of the zoo


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
def test_the_committed_result_is_of_the_committed_experiment(name):
    experiment, result = load_experiment(name), load_result(f"experiment_{name}")
    cpu, values = experiment.cpu, result.values
    assert (values["experiment"], values["scale"], values["title"]) == (name, "cpu", experiment.title)
    assert values["data"] == {"name": cpu.data, "split": cpu.split, "train": 5000, "test": 2000}
    assert " ".join(cpu.about.split()) in " ".join(result.method.split())
    assert values["networks"] == costs(cpu, 10, 1, 28)
    assert list(values["cells"]) == list(cpu.cells)
    accuracies = {}
    for cell, entry in cpu.cells.items():
        row = values["cells"][cell]
        assert (row["network"], row["recipe"], row["changes"], row["teacher"]) == (
            entry.network,
            entry.recipe,
            entry.changes,
            entry.teacher,
        )
        assert row["epochs"] == cpu.recipe(entry).epochs
        assert sorted([*row["seeds"], *row["failed"]]) == [str(seed) for seed in cpu.seeds]
        accuracies[cell] = {int(seed): value for seed, value in row["seeds"].items()}
        assert {key: row[key] for key in ("seeds", "n", "mean", "deviation")} == spread(accuracies[cell])
    assert values["differences"] == {key: compare(entry, accuracies) for key, entry in cpu.differences.items()}


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_one_experiment_train_as_long(name):
    cpu: Scale = load_experiment(name).cpu
    assert len({cpu.recipe(cell).epochs for cell in cpu.cells.values()}) == 1
    assert len(cpu.seeds) >= 3


def test_narrow_resnets_keep_the_ratio_of_the_full_ones():
    table1 = load_result("experiment_table1").values
    narrow, full = ({name: row["flops"] for name, row in table1[key].items()} for key in ("networks", "full"))
    assert narrow["wide"] / narrow["deep"] == pytest.approx(full["wide"] / full["deep"], rel=0.01)


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


# ---------------------------------------------------------------- the page


def test_the_page_has_the_numbers_of_the_result_files():
    text = (ROOT / "docs" / "experiments.md").read_text()
    for name in NAMES:
        block = text.partition(f"<!-- generated: {name} -->")[2].partition("<!-- end -->")[0]
        values = load_result(f"experiment_{name}").values
        for cell in values["cells"].values():
            assert f"| {cell['mean']:.2f} | {cell['deviation']:.2f} | {cell['n']} |" in block
        for row, cells in zip(values["differences"].values(), difference_rows(values), strict=True):
            assert f"| {row['mean']:+.2f} | {row['low']:+.2f} to {row['high']:+.2f} |" in block
            assert cells[-1] in block
        assert summary(values) in block


def test_what_the_page_says_in_words_is_what_was_measured():
    values = {name: load_result(f"experiment_{name}").values for name in NAMES}
    rows = {name: value["differences"] for name, value in values.items()}
    means = {name: {key: cell["mean"] for key, cell in value["cells"].items()} for name, value in values.items()}
    cells = values["table1"]["cells"]
    assert all(rows["table1"][key]["low"] > 0 for key in ("recipe_1", "recipe_2", "change"))
    assert (
        "deep_recipe_1" == min(cells, key=lambda c: cells[c]["mean"]) == max(cells, key=lambda c: cells[c]["deviation"])
    )
    assert all(row["mean"] > 0 for row in rows["table3"].values())
    assert [key for key, row in rows["table3"].items() if row["excludes_zero"]] == ["mobilenet"]
    deep = [cells[f"deep_recipe_{i}"]["seeds"] for i in (1, 2)]
    assert all(deep[0][seed] < deep[1][seed] for seed in deep[0])
    baselines = {"own": means["table3"]["own_baseline"], "wide": means["table1"]["wide_recipe_1"]}
    baselines |= {"mobilenet": means["table3"]["mobilenet_baseline"], "deep": means["table1"]["deep_recipe_1"]}
    assert sorted(baselines, key=baselines.__getitem__)[:2] == ["deep", "mobilenet"]
    assert rows["table6"]["small"]["low"] > 0 > rows["table6"]["large"]["mean"]
    assert [key for key, row in rows["table6"].items() if row["excludes_zero"]] == ["small"]
    assert not rows["table8"]["ema"]["excludes_zero"]
    assert all(rows["table8"][key]["high"] < 0 for key in ("dist", "dist_ema", "dist_over_ema"))
    own = values["table6"]["cells"]["large_own"]["seeds"]
    assert own == values["table8"]["cells"]["baseline"]["seeds"]
    assert cells["wide_recipe_2"]["seeds"] == values["table3"]["cells"]["wide_resnet_searched"]["seeds"]
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert text.count("What it showed: ") == len(NAMES)


def test_a_changed_result_changes_the_page(monkeypatch):
    stored = load_result("experiment_table1")
    stored.values["cells"]["wide_recipe_1"]["mean"] = 12.345
    monkeypatch.setattr(experiment_report, "load_result", lambda name: stored)
    made = experiment_report.BLOCKS["table1"]()
    assert "| 12.35 |" in made or "| 12.34 |" in made
    assert made.startswith("Measured")


def test_networks_cost_what_a_hand_counts():
    # ResNet's own count is in tests/training/test_resnets.py; here the last layer tells classes and channels apart.
    net = Network(model="resnet18_wide", arguments={"base_width": 8})
    ten, eleven, grey, colour = (net.cost(*given, 28) for given in ((10, 1), (11, 1), (10, 1), (10, 3)))
    assert (eleven["flops"] - ten["flops"], eleven["params"] - ten["params"]) == (90, 91)  # 90 features
    assert (colour["flops"] - grey["flops"], colour["params"] - grey["params"]) == (2 * 49 * 11 * 14 * 14, 2 * 49 * 11)
