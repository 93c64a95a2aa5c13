"""Collections: the table is that of the ledger, and survives any stop."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.progress import silent
from fbnetv3.search.collect.collection import TABLE, collect
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.run import start
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_archive import read_archive
from fbnetv3.search.trial import read_ledger
from tests.search.collect.made_up import ONE, TRAININGS, WithTest, collected
from tests.search.images import fashion_config
from tests.search.scripted import Failing, Scripted, config


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    return folder, collected(folder / "out", folder, WithTest())


def test_the_table_has_every_training_of_the_ledger(collection):
    folder, table = collection
    trials = read_ledger(folder / "out" / "ledger.jsonl")
    assert (len(trials), len(table.table), int(table.trainings.sum())) == (40, 32, 40)
    assert sorted(table.trainings.tolist())[-5:] == [1, 3, 3, 3, 3]
    for trial in trials:
        [row] = table.position(np.array([trial.candidate]))
        j = table.seeds[row].tolist().index(trial.seed)
        curve = [np.nan, np.nan] if trial.status == "diverged" else trial.acc1
        assert np.array_equal(table.acc1[row, j], curve, equal_nan=True)
        assert np.array_equal(table.test_acc1[row, j], np.array(curve) / 2, equal_nan=True)
        assert [table.labels[name][row] for name in ("flops", "params")] == [trial.flops, trial.params]
        assert table.seconds[row, j] == trial.seconds


def test_the_file_is_the_table_and_a_space_to_search(collection):
    folder, table = collection
    found = read_archive(folder / "out" / TABLE)
    assert np.array_equal(found.acc1, table.acc1, equal_nan=True)
    assert found.facts == table.facts
    assert {"data", "space", "design", "metric", "versions", "constraint"} <= set(found.facts)
    space = load_space("micro")
    assert [c.name for c in found.coordinates] == [c.name for c in space.coordinates]
    assert np.array_equal(encode(found, found.table), encode(space, found.table))
    assert load_space(str(folder / "out" / TABLE)).name == "quickstart"


def test_a_collection_that_was_cut_anywhere_ends_with_the_same_files(collection, tmp_path):
    folder, _ = collection
    names = ("ledger.jsonl", TABLE)
    before = [(folder / "out" / name).read_bytes() for name in names]
    lines = before[0].splitlines(keepends=True)
    for kept in (1, 7, 17, 30, len(lines)):
        (folder / "out" / "ledger.jsonl").write_bytes(b"".join(lines[:kept]) + b'{"round"')
        evaluator = WithTest()
        collected(folder / "out", folder, evaluator)
        assert len(evaluator.calls) == len(lines) - kept
        assert [(folder / "out" / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 5}, "seed 0 and not 5"),
        ({"trainings": 50}, "trainings 40 and not 50; give its settings"),
        ({"space": "cifar"}, "space .*micro.yaml and not .*cifar.yaml; other images or input files; give"),
    ],
)
def test_another_collection_in_the_folder_is_refused_and_left_alone(collection, changes, words):
    folder, _ = collection
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=f"has a collection with .*{words}"):
        collected(folder / "out", folder, **changes)
    assert {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()} == before


def test_a_changed_input_is_refused(tmp_path):
    collected(tmp_path / "out", tmp_path, trainings=20)
    (tmp_path / "out" / "inputs" / "space" / "micro.yaml").write_text("schema: 1\n")
    with pytest.raises(InputError, match=r"micro\.yaml was changed"):
        collected(tmp_path / "out", tmp_path, trainings=20)


def test_failed_trainings_are_left_out_and_counted(tmp_path):
    table = collected(tmp_path / "out", tmp_path, Failing({3, 20}), trainings=20)
    assert int(table.trainings.sum()) == 20 - len(
        [trial for trial in read_ledger(tmp_path / "out" / "ledger.jsonl") if trial.status == "failed"]
    )
    assert table.facts["failed"].startswith("1 trainings failed")


def test_what_cannot_be_met_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="at least 20"):
        collected(tmp_path / "out", tmp_path, trainings=5)
    with pytest.raises(InputError):
        collected(
            tmp_path / "out",
            tmp_path,
            constraint={"metric": "flops", "convention": "published", "min": 0.0, "max": 1.0},
        )
    assert not (tmp_path / "out" / "collection.yaml").exists()


@pytest.mark.parametrize("name", ["config.yaml", "ledger.jsonl", "table.npz"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=f"has a {name}, but no collection; give another folder"):
        collected(tmp_path / "out", tmp_path, trainings=20)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {name: "mine"}


def test_a_search_is_not_started_in_the_folder_of_a_collection(collection):
    folder, _ = collection
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds trainings of another command, such as `search collect`"):
        start(config(folder, final_training=False), folder / "out", silent, ONE, Scripted())
    assert {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()} == before


def test_a_table_of_trainings_cannot_be_trained(collection, tmp_path):
    folder, _ = collection
    with pytest.raises(InputError, match="is a table: its candidates are no networks"):
        collected(tmp_path / "out", tmp_path, space=str(folder / "out" / TABLE))


def test_real_trainings_are_measured_on_validation_and_test_images(tmp_path):
    cfg = fashion_config(tmp_path)
    table = collect(cfg, 20, tmp_path / "out", executor=ONE)
    assert table.test_acc1.shape == table.acc1.shape
    assert not np.isnan(table.seconds[table.trainings > 0, 0]).any()
    context = Context.of(cfg)
    [row] = table.position(table.table[:1])
    candidate = context.space.candidate(table.table[0].tolist(), context.base, "one")
    again = context.evaluator()(candidate, 2, int(table.seeds[row, 0]))
    assert again.acc1 == tuple(table.acc1[row, 0])


def test_an_evaluator_without_test_images_makes_a_table_without_them(tmp_path):
    table = collected(tmp_path / "out", tmp_path, Scripted(), trainings=20)
    assert table.test_acc1 is None
    assert TRAININGS == 40
    assert config(tmp_path).name == table.name
