"""A search in a folder: what is refused before anything is written, what it leaves, and how it is continued."""

import dataclasses
import json
import logging
import shutil

import pytest
import torch
import yaml

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.pair_file import load_pair
from fbnetv3.progress import silent
from fbnetv3.search.execution.machine import Machine
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset, read_config
from fbnetv3.search.nars.context import image_evaluator
from fbnetv3.search.runs import devices
from fbnetv3.search.runs.final import environment
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.run import check_same, resume, start
from fbnetv3.search.trial import comparable, read_ledger
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from tests.search.images import colour_space, write_noise
from tests.search.scripted import BASE_RECIPE, FOREIGN, Failing, Scripted, change_first, config
from tests.search.tables import whole_grid

ONE = ExecutorSettings(workers=1)
KEPT = ("pair.yaml", "final/metrics.csv", "config.yaml")


@pytest.fixture
def cfg(tmp_path):
    """The configuration of a search without a final training."""
    return config(tmp_path, final_training=False)


def test_the_files_of_a_search(cfg, tmp_path):
    (found,) = start(cfg, tmp_path / "run", silent, ONE, Scripted())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "environment.json",
        "inputs",
        "ledger.jsonl",
        "pair.yaml",
        "result.json",
        "diagnostics.json",
    }
    kept = read_config(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()), "here")
    assert (kept.space, kept.recipe) == ("inputs/space/micro.yaml", "inputs/recipe/recipe.yaml")
    assert kept.evaluator == "tests.search.scripted:Scripted"
    assert dataclasses.replace(kept, space=cfg.space, recipe=cfg.recipe, contents=None, evaluator=None) == cfg
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert recorded == environment() | {"devices": ["cpu"], "precision": "fp32"}
    assert read_ledger(tmp_path / "run" / "ledger.jsonl") == list(found.trials)
    assert load_pair(tmp_path / "run" / "pair.yaml") == found.pair


def test_without_a_final_training_nothing_is_measured(cfg, tmp_path):
    (found,) = start(cfg, tmp_path / "run", silent, ONE, Scripted())
    assert found.curve == ()
    assert found.pair.measured == {}
    assert found.pair.predicted["mean"] == round(found.proposal.predicted[0], 4)


def test_the_costs_of_a_result_are_those_of_its_pair(scripted_search):
    for found in scripted_search[2]:
        assert found.flops == cost(found.pair.arch, 10, 1).flops() <= scripted_search[0].constraint.max
        assert found.params == cost(found.pair.arch, 10, 1).params()


def test_a_baseline_makes_as_many_trainings(scripted_search):
    cfg, folder, results = scripted_search
    assert [found.method for found in results] == ["nars", "random"]
    assert [len(found.trials) for found in results] == [cfg.trainings] * 2
    assert read_ledger(folder / "baseline" / "ledger.jsonl") == list(results[1].trials)


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_workers(cfg, tmp_path):
    alone = start(cfg, tmp_path / "one", silent, ONE, Scripted())
    two = start(cfg, tmp_path / "two", silent, ExecutorSettings(workers=2), Scripted())
    assert comparable(two[0].trials) == comparable(alone[0].trials)
    assert (tmp_path / "two" / "pair.yaml").read_bytes() == (tmp_path / "one" / "pair.yaml").read_bytes()


def test_a_used_folder_is_not_overwritten(scripted_search):
    cfg, folder, _ = scripted_search
    with pytest.raises(InputError, match="already holds a search; continue it with `fbnetv3 search resume"):
        start(cfg, folder, silent, ONE, Scripted())


def test_a_table_is_refused_before_anything_is_written(cfg, tmp_path):
    table = whole_grid(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"is a table: .* `fbnetv3 search compare --table"):
        start(cfg.replace(space=table), tmp_path / "run", silent, ONE)
    assert not (tmp_path / "run").exists()


def test_a_constraint_that_cannot_be_met_is_refused_before_anything_is_written(tmp_path):
    cfg = config(tmp_path, constraint={"metric": "flops", "max": 1.0})
    with pytest.raises(InputError, match=r"only 0 of .* samples have flops"):
        start(cfg, tmp_path / "run", silent, ONE, Scripted())
    assert not (tmp_path / "run").exists()


def test_a_preset_without_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="imagenet200 names no data: give --data"):
        start(load_preset("imagenet200"), tmp_path / "run", silent, ONE)
    assert not (tmp_path / "run").exists()


def test_a_space_that_does_not_fit_the_data_is_refused_before_anything_is_written(tmp_path):
    cfg = config(tmp_path, space=colour_space(tmp_path)["space"])
    with pytest.raises(InputError, match="is for 3 channels and 10 classes, data fashion_mnist has 1 and 10"):
        start(cfg, tmp_path / "run", silent, ONE)
    assert not (tmp_path / "run").exists()


def test_without_images_a_custom_evaluator_also_makes_the_final_training(tmp_path):
    cfg, evaluator = config(tmp_path, data=None, final_stretch=2), Scripted()
    (found,) = start(cfg, tmp_path / "run", silent, ONE, evaluator)
    assert len(evaluator.calls) == len(found.trials) + 1
    assert len(found.curve) == 4
    assert found.pair.measured == {"split": "val", "epochs": 4, "acc1": found.curve[-1]}
    assert load_pair(tmp_path / "run" / "pair.yaml") == found.pair
    assert found.pair.provenance["evaluator"] == "tests.search.scripted:Scripted"
    # It is not made again.
    assert resume(tmp_path / "run", silent, ONE, evaluator) == [found]
    assert len(evaluator.calls) == len(found.trials) + 1


def test_a_search_is_not_continued_with_another_evaluator(cfg, tmp_path):
    start(cfg, tmp_path / "run", silent, ONE, Scripted())
    with pytest.raises(
        InputError, match=r"with the evaluator tests\.search\.scripted:Scripted, and .*:Failing is another"
    ):
        resume(tmp_path / "run", silent, ONE, Failing({1}))
    with pytest.raises(InputError, match="is a class; give a function"):  # what was recorded of an object
        resume(tmp_path / "run", silent, ONE)


def test_an_evaluator_that_cannot_be_called_is_refused_before_anything_is_written(cfg, tmp_path):
    with pytest.raises(InputError, match=r"cannot be called with \(candidate, epochs, seed\)"):
        start(cfg, tmp_path / "run", silent, ONE, lambda candidate: None)
    assert not (tmp_path / "run").exists()


def test_a_custom_evaluator_without_a_final_training_needs_no_data(tmp_path):
    cfg = config(tmp_path, data=None, final_training=False)
    (found,) = start(cfg, tmp_path / "run", silent, ONE, Scripted())
    assert found.pair.provenance["data"] is None


def test_a_real_search_leaves_measured_pairs(trained_search):
    cfg, folder, results = trained_search
    data = load_data(cfg.data)
    for found, sub in zip(results, (folder, folder / "baseline"), strict=True):
        pair, file = load_pair(sub / "pair.yaml"), read_weight_file(sub / "weights.pt")
        assert pair == found.pair
        assert pair.constraint["max"] == cfg.constraint.max
        assert cost(pair.arch, 10, 1).flops() == found.flops <= cfg.constraint.max
        assert file.arch == pair.arch
        assert measure(file.build(), data, "test").acc1 == pair.measured["acc1"]


def test_a_real_search_tells_other_programs_what_it_found(trained_search):
    _, folder, results = trained_search
    result = json.loads((folder / "result.json").read_text())
    assert result["nars"]["trainings"] == result["random"]["trainings"] == 6
    finalists = result["nars"]["finalists"]
    assert [f["final"] for f in finalists] == [t.acc1[-1] for t in results[0].trials if t.round == 3]
    epochs = results[0].proposal.epochs
    assert [f["measured"] for f in finalists] == [t.acc1[epochs - 1] for t in results[0].trials][-2:]
    assert all(f["predicted"] for f in finalists)


def test_a_search_on_files_trains_at_the_resolutions_of_the_candidates(tmp_path):
    data = write_noise(tmp_path / "data", 4)
    cfg = config(tmp_path, **colour_space(tmp_path), data=data, classes=4, final_training=False, finalists=0)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(BASE_RECIPE | {"batch_size": 16, "ema_decay": 0.5}))
    (found,) = start(cfg, tmp_path / "run", silent, ONE)
    assert [t.status for t in found.trials] == ["ok"] * 4
    assert found.pair.arch.resolution in (16, 24)
    assert not (tmp_path / "run" / "weights.pt").exists()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["nars"]["test_acc1"] is None


def copy(search, folder):
    shutil.copytree(search[1], folder, ignore=shutil.ignore_patterns("plots"))
    return folder


def test_resuming_a_finished_search_changes_nothing(trained_search, tmp_path):
    folder = copy(trained_search, tmp_path / "run")
    before = {name: (folder / name).read_bytes() for name in KEPT}
    results = resume(folder, silent, ONE)
    assert [found.pair for found in results] == [found.pair for found in trained_search[2]]
    assert {name: (folder / name).read_bytes() for name in KEPT} == before


def test_a_resumed_search_makes_what_is_missing(scripted_search, tmp_path):
    folder, evaluator = copy(scripted_search, tmp_path / "run"), Scripted()
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:6]))
    (folder / "result.json").unlink()
    assert resume(folder, silent, ONE, evaluator) == scripted_search[2]
    assert len(evaluator.calls) == len(lines) - 6
    assert (folder / "ledger.jsonl").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("settings", [ExecutorSettings(workers=2), ExecutorSettings(workers=1, trial_timeout=9.0)])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_evaluator_that_cannot_be_sent_leaves_no_search(tmp_path, settings, processes):
    cfg = config(tmp_path, final_training=False, processes=processes)
    with pytest.raises(InputError, match="cannot be sent to another process"):
        start(cfg, tmp_path / "run", silent, settings, lambda candidate, epochs, seed: None)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(("changes", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_ledger_with_a_trial_of_another_search_is_refused(scripted_search, tmp_path, changes, words):
    folder = copy(scripted_search, tmp_path / "run")
    change_first(folder / "ledger.jsonl", **changes)
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(InputError, match=rf"ledger\.jsonl: line 2: .*{words}.*; restore the file"):
        resume(folder, silent, ONE, Scripted())
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_a_search_may_be_continued_with_its_own_settings_and_any_number_of_readers(cfg, tmp_path):
    start(cfg, tmp_path / "run", silent, ONE, Scripted())
    cfg = cfg.replace(evaluator="tests.search.scripted:Scripted")
    check_same(cfg, tmp_path / "run", ONE)
    check_same(cfg.replace(device="auto", readers=3), tmp_path / "run", ONE)
    with pytest.raises(
        InputError, match="other settings: seed, baseline; give those that it began with, continue it with"
    ):
        check_same(cfg.replace(seed=cfg.seed + 1, baseline=True), tmp_path / "run", ONE)
    with (tmp_path / "recipe.yaml").open("a") as recipe:
        recipe.write("weight_decay: 0.125\n")
    with pytest.raises(InputError, match="other settings: the content of recipe; give those"):
        check_same(cfg, tmp_path / "run", ONE)


def test_a_search_of_an_edited_configuration_is_not_resumed(scripted_search, tmp_path):
    folder = copy(scripted_search, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    with pytest.raises(InputError, match="trainings of another configuration: rounds is 3 and was 2"):
        resume(folder, silent, ONE, Scripted())


def test_a_search_of_a_damaged_configuration_is_not_resumed(scripted_search, tmp_path):
    folder = copy(scripted_search, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("rounds: 2", "rounds: two"))
    with pytest.raises(InputError, match="rounds is 'two'"):
        resume(folder, silent, ONE, Scripted())


def test_a_damaged_record_of_versions_is_refused(scripted_search, tmp_path):
    folder = copy(scripted_search, tmp_path / "run")
    (folder / "environment.json").write_text("{cut")
    with pytest.raises(InputError, match="is no record of versions, or is damaged"):
        resume(folder, silent, ONE, Scripted())


def test_a_folder_without_a_search_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing"):
        resume(tmp_path / "absent", silent, ONE)


def test_other_versions_are_warned_of(scripted_search, tmp_path, caplog):
    folder = copy(scripted_search, tmp_path / "run")
    record = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(record | {"torch": "1.0", "numpy": "1.0"}))
    with caplog.at_level(logging.WARNING):
        resume(folder, silent, ONE, Scripted())
    assert "began with other versions of torch, numpy: its result may differ" in caplog.text


def test_without_a_record_of_versions_nothing_is_warned_of(scripted_search, tmp_path, caplog):
    folder = copy(scripted_search, tmp_path / "run")
    (folder / "environment.json").unlink()
    with caplog.at_level(logging.WARNING):
        resume(folder, silent, ONE, Scripted())
    assert "other versions" not in caplog.text


@pytest.fixture
def on_gpu(tmp_path, monkeypatch):
    """A search that began on a GPU, which is not there any more."""
    with monkeypatch.context() as patch:
        patch.setattr(devices, "find_machine", lambda *_, **__: Machine("cuda", "bf16", "cuda (NVIDIA H200)"))
        cfg = config(tmp_path, final_training=False, device="auto", precision="auto", readers=None)
        (found,) = start(cfg, tmp_path / "run", silent, ONE, Scripted())
    assert found.pair.provenance["device"] == "cuda"
    assert found.pair.provenance["precision"] == "bf16"
    return tmp_path / "run"


def test_what_was_chosen_is_recorded(on_gpu):
    kept = yaml.safe_load((on_gpu / "config.yaml").read_text())
    assert (kept["device"], kept["precision"]) == ("cuda", "bf16")
    assert kept["readers"] > 0
    recorded = json.loads((on_gpu / "environment.json").read_text())
    assert (recorded["devices"], recorded["precision"]) == (["cuda (NVIDIA H200)"], "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_search_whose_gpu_is_gone_says_how_to_continue(on_gpu):
    words = r"began on cuda: --device cuda cannot be used .*With --device it continues on another device"
    with pytest.raises(InputError, match=words):
        resume(on_gpu, silent, ONE, Scripted())


def test_a_search_continues_on_another_device_with_its_ledger(on_gpu, caplog):
    before = read_ledger(on_gpu / "ledger.jsonl")
    lines = (on_gpu / "ledger.jsonl").read_text().splitlines(keepends=True)
    (on_gpu / "ledger.jsonl").write_text("".join(lines[:4]))
    with caplog.at_level(logging.WARNING):
        (found,) = resume(on_gpu, silent, ONE, Scripted(), device="cpu")
    assert "this search trained on cuda (NVIDIA H200) and continues on cpu" in caplog.text
    assert list(found.trials) == before
    assert json.loads((on_gpu / "environment.json").read_text())["devices"] == ["cuda (NVIDIA H200)", "cpu"]
    kept = yaml.safe_load((on_gpu / "config.yaml").read_text())
    assert kept["device"] == "cuda"  # what it began with, which its ledger belongs to


def test_the_other_device_is_that_of_its_trainings(on_gpu, tmp_path):
    search = load_search(on_gpu)
    assert image_evaluator(search.context_with(None, "cpu")).device == "cpu"
    assert image_evaluator(search.context_with(None)).device == "cuda"
