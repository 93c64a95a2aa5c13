"""A zoo from nothing, with scripted trainings and commands that are only recorded. tests/whole has the real commands."""

import dataclasses
import fcntl
import itertools
import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml

from fbnetv3 import InputError
from fbnetv3.arch import ARCHS
from fbnetv3.complexity import cost
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.progress import silent
from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset, save_config
from fbnetv3.search.runs import run, zoo
from fbnetv3.search.runs.folder import SearchFolder
from fbnetv3.search.runs.resources import Resources
from fbnetv3.search.runs.zoo import ZOOS, _scaled, list_zoos, load_zoo, make_zoo
from tests.search.scripted import Scripted, config


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A zoo of two searched networks and a larger one."""
    folder = tmp_path_factory.mktemp("plan")
    save_config(config(folder), folder / "preset.yaml")
    data = yaml.safe_load((ZOOS / "micro.yaml").read_text())
    data |= {"name": "tiny", "search": str(folder / "preset.yaml"), "budgets": [350e3, 250e3]}
    data |= {
        "larger": [500e3],
        "recipe": {"dropout": 0.1},
        "larger_recipe": {"stochastic_depth": 0.33},
        "tolerance": 0.3,
    }
    (folder / "zoo.yaml").write_text(yaml.safe_dump(data))
    return load_zoo(str(folder / "zoo.yaml"))


class Commands:
    """Stands in for the commands of the package: it records them, and leaves what the zoo reads of their files."""

    def __init__(self):
        self.calls, self.fails, self.places = [], None, {}

    def wait(self):
        """Nothing to wait for, unless a test replaces this."""

    def __call__(self, command, what, lock=None, place=None):
        self.places[what] = place
        self.wait()
        if what == self.fails:
            raise InputError(f"{what} failed: no reason; fix the cause, and call again")
        self.calls.append(what)
        options = dict(itertools.pairwise(command))
        if what.startswith("training"):
            return {"test_acc1": 80.0, "command": command}
        pair = load_pair(options["--pair"])
        costs = cost(pair.arch, 10, 1)
        path = Path(options["--zoo"]) / "registry.json"
        rows = json.loads(path.read_text())["weights"] if path.is_file() else []
        row = {
            "model": options["--name"],
            "flops_m": costs.flops() / 1e6,
            "params_m": costs.params() / 1e6,
            "metrics": [{"value": 81.5}],
            "about": options["--about"],
        }
        write_atomically(path, json.dumps({"weights": [*rows, row]}))
        return row


def scripted(patch):
    """Replace trainings by scripted ones and commands by recorded ones."""
    recorded = Commands()

    def quick(function):
        def search(*arguments, executor, **more):
            recorded.executor = executor
            return function(*arguments, executor=ExecutorSettings(workers=1), evaluator=Scripted(), **more)

        return search

    patch.setattr(zoo, "start", quick(run.start))
    patch.setattr(zoo, "resume", quick(run.resume))
    patch.setattr(zoo, "_command", recorded)
    return recorded


@pytest.fixture
def commands(monkeypatch):
    return scripted(monkeypatch)


@pytest.fixture(scope="module")
def made(plan, tmp_path_factory):
    """Account, folder and commands of a zoo that was made without a break."""
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as patch:
        recorded = scripted(patch)
        return make(plan, out), out, recorded


def make(plan, out, resources=None, data=None, seed=0):
    return make_zoo(plan, out, data, None, seed, resources or Resources(), silent)


def trained_with(out, name):
    """The command that trained a network, and its options."""
    command = json.loads((out / "trained" / name / "measured.json").read_text())["command"]
    return command, dict(itertools.pairwise(command))


def test_the_teacher_is_trained_first_then_the_networks_then_they_are_published(made):
    commands = made[2]
    names = ("tiny_a", "tiny_b", "tiny_c")
    assert commands.calls[0] == "training teacher"
    assert sorted(commands.calls[1:4]) == [f"training {name}" for name in names]
    assert commands.calls[4:] == [f"publishing {name}" for name in names]


def test_a_zoo_that_was_changed_since_is_refused(plan, made, tmp_path, commands):
    """Networks that were trained before would stand beside networks of another recipe, as if they had it too."""
    shutil.copytree(made[1], tmp_path / "out")
    changed = dataclasses.replace(plan, recipe={"dropout": 0.2})
    message = r"was changed after tiny_a had been trained from .*tiny_a.yaml; restore it, or give another --out"
    with pytest.raises(InputError, match=message):
        make(changed, tmp_path / "out")
    with pytest.raises(InputError, match=message):
        make(plan, tmp_path / "out", data=str(tmp_path))
    assert make(plan, tmp_path / "out") == made[0]


def test_a_zoo_that_another_process_makes_is_refused(plan, tmp_path):
    with lock_folder(tmp_path, "make-zoo"), pytest.raises(InputError, match="is in use by another make-zoo; wait"):
        make(plan, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_preset_of_a_zoo_is_beside_its_file(plan, tmp_path):
    data = yaml.safe_load((ZOOS / "micro.yaml").read_text())
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(data | {"search": "preset.yaml"}))
    assert load_zoo(str(tmp_path / "zoo.yaml")).search == str(tmp_path / "preset.yaml")
    assert load_zoo("micro").search == "quickstart"


def test_networks_are_named_from_the_smallest_to_the_largest(made):
    account = made[0]
    flops = [row["flops"] for row in account["networks"]]
    assert [row["model"] for row in account["networks"]] == ["tiny_a", "tiny_b", "tiny_c"]
    assert flops == sorted(set(flops))
    assert flops[0] <= 250e3
    assert flops[1] <= 350e3
    assert abs(flops[2] / 500e3 - 1) < 0.3


@pytest.mark.parametrize(
    ("small", "large", "kept"), [("350K", "250K", 2), ("250K", "250K", 1)], ids=["swapped", "equal"]
)
def test_a_larger_budget_may_have_the_smaller_network(plan, made, commands, tmp_path, small, large, kept):
    """What was found for 350K FLOPs may need fewer than what was found for 250K, or be the same network."""
    shutil.copytree(made[1] / "search", tmp_path / "out" / "search")
    found, put = made[1] / "search" / "budgets", tmp_path / "out" / "search" / "budgets"
    shutil.copy(found / f"flops_{small}.yaml", put / "flops_250K.yaml")
    shutil.copy(found / f"flops_{large}.yaml", put / "flops_350K.yaml")
    said = []
    account = make_zoo(plan, tmp_path / "out", None, None, 0, Resources(), lambda *note: said.append(note[2]))
    flops = [row["flops"] for row in account["networks"]]
    assert [row["model"] for row in account["networks"]] == ["tiny_a", "tiny_b", "tiny_c"][: kept + 1]
    sizes = {row["made"]: row["flops"] for row in made[0]["networks"]}
    assert flops[:kept] == sorted({sizes[f"searched for at most {budget[:-1]},000 flops"] for budget in (small, large)})
    assert flops == sorted(set(flops))
    assert ("the 2 budgets lead to 1 different networks, so the zoo is smaller" in said) == (kept == 1)


def test_the_account_says_how_every_network_was_made(made):
    account, out, _ = made
    assert json.loads((out / "zoo.json").read_text()) == account
    searched = [f"searched for at most {budget},000 flops" for budget in (250, 350)]
    assert sorted(row["made"] for row in account["networks"][:2]) == searched
    largest = account["networks"][1]["made"].removeprefix("searched for at most ").removesuffix(",000 flops")
    assert account["networks"][2]["made"].startswith(f"micro_quickstart_0_flops_{largest}K scaled by depth 1")
    assert [(row["acc1"], row["split"], row["epochs"]) for row in account["networks"]] == [(81.5, "test", 2)] * 3
    assert account["teacher"]["test_acc1"] == 80.0
    abouts = [row["about"] for row in json.loads((out / "zoo" / "registry.json").read_text())["weights"]]
    assert abouts[0].startswith("tiny_a: ")
    assert abouts[0].endswith(f"; {account['networks'][0]['made']}.")


def test_students_learn_from_the_teacher_which_has_the_largest_network(made):
    out = made[1]
    command, options = trained_with(out, "teacher")
    assert options["--pair"] == str(out / "pairs" / "tiny_c.yaml")
    assert command[-2:] == ["--set", "distillation=0"]
    command, options = trained_with(out, "tiny_a")
    assert options["--pair"] == str(out / "pairs" / "tiny_a.yaml")
    assert options["--teacher"] == str(out / "trained" / "teacher" / "weights.pt")
    assert "--set" not in command


def test_recipes_are_changed_as_the_plan_says(made):
    a, _, c = (load_pair(made[1] / "pairs" / f"tiny_{x}.yaml") for x in "abc")
    assert (a.recipe.dropout, c.recipe.dropout) == (0.1, 0.1)
    assert (a.recipe.distillation, c.recipe.distillation) == (0.8, 0.8)
    assert a.recipe.stochastic_depth != 0.33
    assert c.recipe.stochastic_depth == 0.33  # only for what was scaled up
    assert (a.arch.name, c.arch.name) == ("tiny_a", "tiny_c")


def test_without_distillation_there_is_no_teacher(plan, commands, tmp_path):
    account = make(dataclasses.replace(plan, distillation=0.0), tmp_path / "out")
    assert "training teacher" not in commands.calls
    assert "teacher" not in account
    assert trained_with(tmp_path / "out", "tiny_a")[0][-2:] == ["--set", "distillation=0"]


def test_the_same_call_makes_only_what_is_missing(plan, commands, tmp_path):
    out = tmp_path / "out"
    commands.fails = "training tiny_b"
    with pytest.raises(InputError, match="training tiny_b failed"):
        make(plan, out)
    assert "training teacher" in commands.calls
    commands.calls.clear()
    commands.fails = "publishing tiny_b"
    with pytest.raises(InputError, match="publishing tiny_b failed"):
        make(plan, out)
    assert "training teacher" not in commands.calls
    assert commands.calls[-1] == "publishing tiny_a"
    commands.calls.clear()
    commands.fails = None
    make(plan, out)
    assert commands.calls == ["publishing tiny_b", "publishing tiny_c"]


def test_resources_are_handed_to_the_trainings(plan, commands, tmp_path):
    make(plan, tmp_path / "out", Resources("cpu", at_once=2, processes=3, readers=4, trial_timeout=60.0))
    assert commands.executor == ExecutorSettings(trial_timeout=60.0)
    command, options = trained_with(tmp_path / "out", "tiny_a")
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert options["--nproc-per-node"] == "3"
    assert (options["--workers"], options["--device"]) == ("4", "cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


FOUR, SIX = {"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}


def test_each_network_is_trained_on_its_own_gpu(two_gpus, commands, tmp_path):
    ready = threading.Barrier(2)
    commands.wait = lambda: ready.wait(10)  # each waits until the other one trains too
    jobs = [zoo._Training(name, ["train"], tmp_path / name) for name in ("a", "b", "c", "d")]
    zoo._train(jobs, Resources(), silent)
    used = [commands.places[f"training {name}"]["CUDA_VISIBLE_DEVICES"] for name in "abcd"]
    assert sorted(used) == ["4", "4", "6", "6"]


def test_a_command_runs_with_its_gpu():
    script = "import json, os; print(json.dumps([{'gpu': os.environ['CUDA_VISIBLE_DEVICES'], 'path': 'PATH' in os.environ}]))"
    assert zoo._command([sys.executable, "-c", script], "a training", place=FOUR) == {"gpu": "4", "path": True}


def test_networks_may_be_trained_on_other_data_than_candidates(plan, commands, tmp_path):
    make(plan, tmp_path / "out", data="folder:OTHER")
    pair = load_pair(tmp_path / "out" / "pairs" / "tiny_a.yaml")
    assert pair.provenance["data"] == "folder:OTHER"
    assert load_pair(tmp_path / "out" / "search" / "budgets" / "flops_250K.yaml").provenance["data"] == "fashion_mnist"


def test_hours_are_summed_by_stage(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made[1], out)
    for name, seconds in (("teacher", 3600.0), ("tiny_a", 1800.0), ("tiny_b", 900.0), ("tiny_c", 900.0)):
        (out / "trained" / name / "measured.json").write_text(json.dumps({"seconds": seconds}))
    assert zoo.hours(out) == {"search": 0.0, "teacher": 1.0, "networks": 1.0}


def test_a_folder_of_another_search_is_refused(plan, commands, made):
    with pytest.raises(InputError, match="holds the search quickstart with seed 0; give another --out"):
        make(plan, made[1], seed=1)


def test_a_training_waits_for_one_that_outlived_its_driver(commands, tmp_path):
    job = zoo._Training("a", ["train"], tmp_path / "trained" / "a")
    job.folder.mkdir(parents=True)
    with (job.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=zoo._run, args=(job, {}))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert commands.calls == []
    waiting.join(10)
    assert commands.calls == ["training a"]
    assert json.loads((job.folder / "measured.json").read_text())["test_acc1"] == 80.0


def test_a_command_answers_with_its_row():
    script = "print('some words'); print('[{\"acc1\": 5}]')"
    assert zoo._command([sys.executable, "-c", script], "a training") == {"acc1": 5}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import sys; sys.exit('first\\nthe disk is full')", "a training failed: the disk is full; fix the cause"),
        ("raise SystemExit(3)", "a training failed: no message; fix the cause, and call again. The command was: "),
    ],
    ids=["message", "silent"],
)
def test_a_command_that_fails_is_named_with_its_last_line(script, words):
    with pytest.raises(InputError, match=words):
        zoo._command([sys.executable, "-c", script], "a training")


def test_a_scaled_pair_says_so_and_claims_no_accuracy():
    """A is B at fewer pixels (section 4.2): 224 instead of 248."""
    pair = Pair(
        ARCHS["fbnetv3_b"],
        load_recipe("imagenet/fbnetv3_search"),
        "released",
        0,
        {},
        {"mean": 70.0, "std": 1.0},
        {},
        {"data": "folder"},
    )
    search = SearchFolder(Path(), load_preset("imagenet200"))
    small = _scaled(load_zoo("imagenet"), pair, 357e6, search)
    assert abs(cost(small.arch).flops() / 357e6 - 1) <= 0.01
    assert (small.predicted, small.measured) == ({}, {})
    assert small.provenance["scaled_from"] == "fbnetv3_b"
    assert small.provenance["scaled_up"] is False
    assert _scaled(load_zoo("imagenet"), pair, 600e6, search).provenance["scaled_up"] is True


def test_zoos_of_the_package_are_read():
    assert list_zoos() == ["imagenet", "micro"]
    paper = load_zoo("imagenet")
    assert paper.budgets == (450e6, 550e6, 650e6, 750e6)  # section 4.2
    assert (paper.distillation, paper.recipe["epochs"], paper.recipe["lr_decay"]) == (0.8, 400, 0.9875)
    assert load_preset(paper.search).data is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budgets": []}, "budgets is empty; give one or more"),
        ({"budgets": ["450M"]}, "budgets.0 is '450M'"),
        ({"size": 1}, "unknown key 'size'"),
        ({"distillation": 1.0}, "distillation is 1.0"),
        ({"schema": 2}, "schema is 2; this version reads 1"),
    ],
    ids=["empty", "text", "key", "distillation", "schema"],
)
def test_a_wrong_zoo_is_refused(tmp_path, change, words):
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(yaml.safe_load((ZOOS / "micro.yaml").read_text()) | change))
    with pytest.raises(InputError, match=words):
        load_zoo(str(tmp_path / "zoo.yaml"))


def test_an_unknown_zoo_is_refused():
    with pytest.raises(InputError, match="unknown zoo 'nano'; available: imagenet, micro"):
        load_zoo("nano")
