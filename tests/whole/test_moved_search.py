"""A search's folder means the same wherever it is and from wherever it is used, and one process at a time uses it."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.cli import main
from fbnetv3.pages import plots
from fbnetv3.pair_file import load_pair
from fbnetv3.progress import silent
from fbnetv3.search.execution.images import _load
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset, save_config
from fbnetv3.search.report.export import export_trials
from fbnetv3.search.report.page import write_report
from fbnetv3.search.runs.budgets import budget_pairs
from fbnetv3.search.runs.run import resume, start
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.space.reader import SPACES
from fbnetv3.search.trial import comparable, read_ledger
from tests.places import ROOT
from tests.search.images import fashion_config

ONE = ExecutorSettings(workers=1)
WITHOUT_PLOTS = "from fbnetv3.cli import main; from fbnetv3.pages import plots; plots.png_of = lambda f: b''; main()"
KEPT = ("ledger.jsonl", "result.json", "diagnostics.json", "weights.pt", "final/metrics.csv")


def write_preset(folder, **changes):
    """Write a preset whose files and images are named from its own folder; return its path."""
    folder.mkdir()
    cfg = fashion_config(folder, **changes)
    shutil.copy(SPACES / "micro.yaml", folder / "five.yaml")
    named = dataclasses.replace(cfg, space="five.yaml", recipe="recipe.yaml", data="memory:data")
    save_config(named, folder / "preset.yaml")
    return folder / "preset.yaml"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a preset in `set`, the search of it in `run`, and its images also in `other` under another name."""
    folder = tmp_path_factory.mktemp("whole")
    write_preset(folder / "set")
    shutil.copytree(folder / "set" / "data", folder / "other" / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        start(load_preset("set/preset.yaml"), "run", silent, ONE)
        # The search has its own copies of these.
        (folder / "set" / "five.yaml").write_text("changed")
        (folder / "set" / "recipe.yaml").unlink()
    return folder


@pytest.fixture
def moved(searched, tmp_path, monkeypatch):
    """The search after its folder was moved, used from a working folder that has nothing."""
    shutil.copytree(searched / "run", tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")
    return tmp_path / "elsewhere"


def test_a_moved_search_is_used_as_before(searched, moved, tmp_path):
    before = {name: (moved / name).read_bytes() for name in KEPT}
    (found,) = resume(moved, silent, ONE)
    assert {name: (moved / name).read_bytes() for name in KEPT} == before
    assert found.pair == load_pair(searched / "run" / "pair.yaml")
    checks = verify(moved, 1, silent)
    assert [check.status for check in checks] == ["same"] * 5, checks
    assert export_trials(moved, "csv", tmp_path / "t.csv") == export_trials(searched / "run", "csv", tmp_path / "s.csv")
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()
    [(_, pair)] = budget_pairs(moved, [300e3], silent, train=True)
    assert pair.measured["split"] == "test"
    assert "inputs" not in write_report(moved).read_text()


def test_a_pair_is_trained_from_another_working_folder(moved, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fbnetv3", "train", "--pair", str(moved / "pair.yaml"), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    measured = load_pair(moved / "pair.yaml").measured
    assert json.loads(capsys.readouterr().out)[0]["test_acc1"] == measured["acc1"]


def test_images_that_were_moved_are_named_once(searched, moved):
    ledger = (moved / "ledger.jsonl").read_bytes()
    (moved / "ledger.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:-1]))
    (searched / "set" / "data").rename(searched / "set" / "gone")
    _load.cache_clear()  # this process has them in memory
    try:
        with pytest.raises(InputError, match=r"unknown data set .*set/data'.* give their place with --data"):
            resume(moved, silent, ONE)
        resume(moved, silent, ONE, data=f"memory:{searched / 'other' / 'images'}")
        assert comparable(read_ledger(moved / "ledger.jsonl")) == comparable(
            read_ledger(searched / "run" / "ledger.jsonl")
        )
        checks = verify(moved, 1, silent)  # from now on, the search knows where its images are
        assert [check.status for check in checks] == ["same"] * 5, checks
    finally:
        (searched / "set" / "gone").rename(searched / "set" / "data")


def test_a_test_image_that_is_taken_out_does_not_stop_a_search(searched, moved, tmp_path):
    shutil.copytree(searched / "set" / "data", tmp_path / "images")
    next((tmp_path / "images" / "test" / "class3").iterdir()).unlink()
    ledger = (moved / "ledger.jsonl").read_bytes()
    (moved / "ledger.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:-1]))
    resume(moved, silent, ONE, data=f"memory:{tmp_path / 'images'}")
    assert comparable(read_ledger(moved / "ledger.jsonl")) == comparable(read_ledger(searched / "run" / "ledger.jsonl"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_images_are_refused(searched, moved, tmp_path, split):
    shutil.copytree(searched / "set" / "data", tmp_path / "fewer")
    next((tmp_path / "fewer" / split / "class3").iterdir()).unlink()
    message = r"fewer' has other images than this search began with; give the place of those with --data"
    for call in (
        lambda data: resume(moved, silent, ONE, data=data),
        lambda data: budget_pairs(moved, [300e3], silent, train=True, data=data),
    ):
        with pytest.raises(InputError, match=message):
            call(f"memory:{tmp_path / 'fewer'}")
    assert not (moved / "budgets").exists()
    assert {check.status for check in verify(moved, 1, silent, f"memory:{tmp_path / 'fewer'}")} == {
        "same",
        "not checked",
    }


@pytest.mark.slow
def test_of_two_starts_on_one_new_folder_one_wins(tmp_path):
    """Before, the loser overwrote the winner's configuration, and the search could never be resumed."""
    # Longer than the starts of the two processes are apart.
    preset = write_preset(tmp_path / "set", final_training=False, batch=4)
    command = [
        sys.executable,
        "-c",
        WITHOUT_PLOTS,
        "search",
        "run",
        "--preset",
        preset,
        "--out",
        "new",
        "--workers",
        "1",
    ]
    seeds = ("1", "2")
    begun = [
        subprocess.Popen(
            [*command, "--seed", seed], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
        )
        for seed in seeds
    ]
    errors = [process.communicate(timeout=300)[1] for process in begun]
    codes = [process.returncode for process in begun]
    assert sorted(codes) == [0, 2], errors
    loser = errors[codes.index(2)].splitlines()
    assert loser == ["fbnetv3: new is in use by another search; wait until that has ended, or give another folder"]
    kept = yaml.safe_load((tmp_path / "new" / "config.yaml").read_text())
    assert str(kept["seed"]) == seeds[codes.index(0)]
    ledger = (tmp_path / "new" / "ledger.jsonl").read_bytes()
    (tmp_path / "new" / "ledger.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:-1]))
    resume(tmp_path / "new", silent, ONE)
    assert len(read_ledger(tmp_path / "new" / "ledger.jsonl")) == kept["batch"] * kept["rounds"] + kept["finalists"]
