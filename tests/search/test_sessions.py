"""A search in one call, from Python: it runs, reports and can be resumed."""

import dataclasses
import shutil

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.report import plots
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.sessions import resume_search, run_search
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")


@pytest.fixture
def cfg(tmp_path):
    return config(tmp_path, final_training=False)


def test_a_search_returns_its_results_and_writes_a_report(cfg, tmp_path):
    results = run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE)
    assert load_search(tmp_path / "run").results() == results
    assert "had no final training here" in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "plots" / "pareto.png").is_file()


def test_a_search_may_be_named_by_its_preset(cfg, tmp_path):
    save_config(cfg, tmp_path / "mine.yaml")
    run_search(str(tmp_path / "mine.yaml"), tmp_path / "run", evaluator=Scripted(), executor=ONE)
    found = load_search(tmp_path / "run")
    assert dataclasses.replace(found.config, space=cfg.space, recipe=cfg.recipe, contents=None) == cfg


def test_a_search_tells_its_progress(cfg, tmp_path):
    said = []
    run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, progress=lambda *words: said.append(words[2]))
    assert said[0] == "stage 1: pretraining the predictor on free statistics"
    assert "round 1: 2 of 2 candidates trained" in said[3]
    assert said[-1].startswith("finalists: 2 of 2 candidates trained, best so far ")


def test_a_custom_evaluator_is_asked_for_every_training(cfg, tmp_path):
    evaluator = Scripted()
    (found,) = run_search(cfg, tmp_path / "run", evaluator=evaluator, executor=ONE)
    assert evaluator.calls == [t.seed for t in found.trials]


def test_an_unknown_preset_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="unknown preset 'slow'"):
        run_search("slow", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_search_that_is_resumed_gets_its_report_again(scripted_search, tmp_path):
    folder, evaluator = tmp_path / "run", Scripted()
    shutil.copytree(scripted_search[1], folder)
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert resume_search(folder, evaluator=evaluator, executor=ONE) == scripted_search[2]
    assert evaluator.calls == []
    assert (folder / "report.html").read_bytes() == page


def test_a_search_that_was_stopped_is_continued(scripted_search, tmp_path):
    folder, evaluator = tmp_path / "run", Scripted()
    shutil.copytree(scripted_search[1], folder)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:4]))
    for name in ("result.json", "diagnostics.json", "pair.yaml", "report.html"):
        (folder / name).unlink()
    assert resume_search(folder, evaluator=evaluator, executor=ONE) == scripted_search[2]
    assert len(evaluator.calls) == len(lines) - 4
    assert (folder / "report.html").read_bytes() == (scripted_search[1] / "report.html").read_bytes()


def test_a_folder_without_a_search_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing"):
        resume_search(tmp_path / "absent", executor=ONE)
