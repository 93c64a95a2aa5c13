"""Experiments run from end to end, resume without training anything twice, and their files follow from their seeds."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.arch import find_arch
from fbnetv3.benchmarks.experiments import experiment as module
from fbnetv3.benchmarks.experiments.config import Difference, list_experiments, load_experiment
from fbnetv3.benchmarks.experiments.experiment import BENCHMARK, IMAGENET, Trainer, compare, costs, result_file
from fbnetv3.benchmarks.experiments.experiment_tables import tables, verdict
from fbnetv3.benchmarks.result import RESULTS, load_result
from fbnetv3.benchmarks.statistics import over_seeds
from fbnetv3.complexity import cost
from fbnetv3.training.loop import fit
from fbnetv3.training.trainer import DivergedError
from tests.places import ROOT

NAMES = list_experiments()


@pytest.fixture(autouse=True)
def _small_images(monkeypatch, small_images):
    monkeypatch.setattr(module, "load_data", lambda spec, **settings: small_images)


@pytest.fixture
def fits(monkeypatch):
    """The (folder, steps) of every call of `fit`. A training with a learning rate of 9 diverges."""
    calls = []

    def counted(model, recipe, *args, progress=None, **kwargs):
        if recipe.lr == 9:
            raise DivergedError("the loss is nan at step 3, learning rate 9; recipe {}")
        calls.append([str(kwargs["out"].relative_to(kwargs["out"].parents[1])), 0])

        def counting(done, total, text):
            calls[-1][1] += 1
            progress(done, total, text)

        return fit(model, recipe, *args, progress=counting, **kwargs)

    monkeypatch.setattr(module, "fit", counted)
    return calls


# ---------------------------------------------------------------- differences


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


# ---------------------------------------------------------------- running


def test_the_small_experiment_from_end_to_end(smoke, tmp_path, capsys):
    result = BENCHMARK.run(write_to=tmp_path / "out.json", name=smoke(), runs=tmp_path / "runs")
    values = result.values
    assert load_result("out", tmp_path) == result
    assert list(values["cells"]) == ["taught", "plain"]
    for cell in values["cells"].values():
        assert (list(cell["seeds"]), cell["n"], cell["epochs"], cell["failed"]) == (["0", "1"], 2, 1, {})
    taught, plain = (values["cells"][cell]["seeds"] for cell in ("taught", "plain"))
    row = values["differences"]["gain"]
    assert row["seeds"] == {seed: pytest.approx(taught[seed] - plain[seed]) for seed in plain}
    assert result.command == "fbnetv3 benchmark experiment smoke.yaml --runs FOLDER"
    assert "on the test split" in result.method
    assert result.method.endswith("a test")
    assert values["data"] == {"name": "small", "split": "test", "train": 128, "test": 50}
    checkpoints = sorted(path.parent.name for path in (tmp_path / "runs").rglob("checkpoint.pt"))
    assert checkpoints == ["seed0", "seed0", "seed1", "seed1"]
    assert f"[4/4] plain, seed 1: {plain['1']:.2f}% on test" in capsys.readouterr().err


def test_a_stopped_run_continues_and_trains_nothing_twice(smoke, tmp_path, fits, monkeypatch):
    name = smoke()
    whole = BENCHMARK.run(write_to=tmp_path / "a.json", name=name, runs=tmp_path / "a")
    # The teacher, its student, and the teacher again, which is only loaded.
    assert [steps for _, steps in fits] == [2, 2, 0, 2, 2, 0]
    assert [folder for folder, _ in fits][:3] == ["plain/seed0", "taught/seed0", "plain/seed0"]
    fits.clear()
    real, count = Trainer.accuracy, 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "accuracy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            BENCHMARK.run(write_to=tmp_path / "b.json", name=name, runs=tmp_path / "b")
    assert not (tmp_path / "b.json").exists()
    again = BENCHMARK.run(write_to=tmp_path / "b.json", name=name, runs=tmp_path / "b")
    assert [steps for _, steps in fits] == [2, 2, 0, 0, 0, 2, 2, 0]
    assert again.values == whole.values
    fits.clear()
    assert BENCHMARK.run(write_to=tmp_path / "b.json", name=name, runs=tmp_path / "b").values == whole.values
    assert not any(steps for _, steps in fits)


def test_a_changed_experiment_does_not_take_the_training_of_another(smoke, tmp_path):
    settings = {"runs": tmp_path / "runs", "write_to": tmp_path / "out.json", "seeds": (0,)}
    BENCHMARK.run(name=smoke(), **settings)
    with pytest.raises(InputError, match="belongs to another training: recipe"):
        BENCHMARK.run(name=smoke(lambda cpu: cpu["cells"]["plain"]["changes"].update(lr=0.01)), **settings)


def test_a_diverged_training_is_recorded_and_the_others_continue(smoke, tmp_path, monkeypatch, capsys):
    def diverging(model, recipe, data, *, seed, **others):
        if seed == 1:
            raise DivergedError("the loss is nan at step 3, learning rate 9; recipe {}")
        return fit(model, recipe, data, seed=seed, **others)

    monkeypatch.setattr(module, "fit", diverging)
    result = BENCHMARK.run(write_to=tmp_path / "out.json", name=smoke(), runs=tmp_path / "runs")
    for cell in result.values["cells"].values():
        assert list(cell["seeds"]) == ["0"]
        assert cell["failed"] == {"1": "DivergedError: the loss is nan at step 3, learning rate 9"}
    assert result.values["differences"]["gain"]["n"] == 1
    assert verdict(result.values["differences"]["gain"]) == "too few seeds"
    assert "the loss is nan" in capsys.readouterr().err
    tables = BENCHMARK.all_tables(result)
    assert "1 (1 failed)" in next(iter(tables.values())).markdown()


def test_a_student_learns_from_the_teacher_of_its_seed(smoke, tmp_path, monkeypatch):
    taught_by = {}

    def watching(model, recipe, data, *, seed, out, teacher, **others):
        trained = fit(model, recipe, data, seed=seed, out=out, teacher=teacher, **others)
        taught_by[out.parent.name, seed] = (teacher, trained.model)
        return trained

    monkeypatch.setattr(module, "fit", watching)
    BENCHMARK.run(write_to=tmp_path / "out.json", name=smoke(), runs=tmp_path / "runs")
    for seed in (0, 1):
        teacher, (_, plain) = taught_by["taught", seed][0], taught_by["plain", seed]
        assert taught_by["plain", seed][0] is None
        assert all(
            torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), plain.state_dict().values(), strict=True)
        )


def test_a_tuned_cell_has_the_setting_that_validates_best(smoke, tmp_path, fits, monkeypatch):
    def tuned(cpu):
        cpu["cells"]["plain"]["tune"] = {"lr": [0.01, 0.05, 9.0]}

    def scripted(model, data, split, *others):
        trained = fits[-1][0]
        return SimpleNamespace(
            acc1={"plain/tune_lr_0.01": 40.0, "plain/tune_lr_0.05": 60.0}[trained] if split == "val" else 50.0
        )

    monkeypatch.setattr(module, "evaluate", scripted)
    settings = {"name": smoke(tuned), "runs": tmp_path / "runs", "write_to": tmp_path / "out.json"}
    first = BENCHMARK.run(**settings)
    cell = first.values["cells"]["plain"]
    assert [(row["lr"], row["val_acc1"]) for row in cell["tuned"]] == [(0.01, 40.0), (0.05, 60.0), (9.0, None)]
    assert "tuned" not in first.values["cells"]["taught"]
    folders = ["plain/tune_lr_0.01", "plain/tune_lr_0.05", "plain/seed0"]
    # The teacher, its student, and the teacher again for each seed.
    assert [folder for folder, _ in fits] == [
        *folders,
        "taught/seed0",
        "plain/seed0",
        "plain/seed1",
        "taught/seed1",
        "plain/seed1",
    ]
    identity = torch.load(tmp_path / "runs" / "smoke" / "cpu" / "plain" / "seed1" / "checkpoint.pt")["identity"]
    assert json.loads(identity)["recipe"]["lr"] == 0.05
    assert any(
        "fashion_mnist/micro, epochs 1, lr 0.05 (best of 3)" in row for row in next(iter(tables(first).values())).rows
    )
    assert "`tuned`: a tuned cell has those of the tried values" in first.method
    fits.clear()
    assert BENCHMARK.run(**settings).values == first.values
    assert not any(steps for _, steps in fits)


def test_a_tuned_cell_whose_settings_all_diverge_has_failed(smoke, tmp_path, fits):
    def tuned(cpu):
        cpu["cells"]["plain"]["tune"] = {"lr": [9.0], "mixup": [0.0, 0.2]}

    values = BENCHMARK.run(write_to=tmp_path / "out.json", name=smoke(tuned), runs=tmp_path / "runs", seeds=(0,)).values
    assert "all 2 settings of the tuned cell plain diverged" in values["cells"]["plain"]["failed"]["0"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "table1", "scale": "full"}, "table1 at scale full has no images of its own; give --data"),
        ({"name": "table2"}, "unknown experiment 'table2'; did you mean 'table"),
        ({"name": "table1", "accumulate": 0}, "accumulate is 0"),
        ({"name": "table1", "device": "abacus"}, "device abacus cannot be used"),
        ({"name": "table1", "seeds": (1, 1)}, "seeds are 1, 1; give every seed once"),
    ],
)
def test_mistakes_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        BENCHMARK.run(**settings)


def test_the_command_of_a_result_repeats_it():
    def written(**given):
        return BENCHMARK.written(BENCHMARK.settings(given))

    settings = {"scale": "full", "data": str(ROOT), "seeds": (3, 4), "threads": 2, "device": "cuda:0"}
    assert written(name="table1", **settings, precision="bf16", accumulate=4) == (
        "fbnetv3 benchmark experiment table1 --scale full --data FOLDER --seeds 3 4 --threads 2 "
        "--device cuda:0 --precision bf16 --accumulate 4"
    )
    assert written(name="table1") == "fbnetv3 benchmark experiment table1"


def test_the_result_file_is_named_for_the_experiment(smoke):
    assert result_file({"name": smoke(), "scale": "cpu"}) == RESULTS / "experiment_smoke.json"
    assert result_file({"name": "table1", "scale": "full"}) == RESULTS / "experiment_table1_full.json"


# ---------------------------------------------------------------- the committed results


@pytest.mark.parametrize("name", NAMES)
def test_the_full_scale_resolves_and_its_networks_are_built(name):
    full = load_experiment(name).full
    assert full.data is None
    assert full.split == "val"
    assert full.about.rstrip().endswith("Not run.")
    stored = load_result(f"experiment_{name}").values["full"]
    assert list(stored) == list(full.networks)
    # The closed form of this package's networks equals their counted costs, and takes no time. The others are built here.
    others = {key: network for key, network in full.networks.items() if not network.model.startswith("fbnetv3_")}
    assert {key: stored[key] for key in others} == costs(dataclasses.replace(full, networks=others), **IMAGENET)
    for key in full.networks.keys() - others.keys():
        network, closed = full.networks[key], cost(find_arch(full.networks[key].model))
        assert (stored[key]["model"], stored[key]["resolution"]) == (network.model, network.resolution)
        assert (stored[key]["flops"], stored[key]["params"]) == (closed.conv, closed.params("fvcore"))
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
        assert {key: row[key] for key in ("seeds", "n", "mean", "deviation")} == over_seeds(accuracies[cell])
    assert values["differences"] == {key: compare(entry, accuracies) for key, entry in cpu.differences.items()}


def test_narrow_resnets_keep_the_ratio_of_the_full_ones():
    table1 = load_result("experiment_table1").values
    narrow, full = ({name: row["flops"] for name, row in table1[key].items()} for key in ("networks", "full"))
    assert narrow["wide"] / narrow["deep"] == pytest.approx(full["wide"] / full["deep"], rel=0.01)
