"""A search in one call, from Python: it runs, reports and can be resumed."""

import dataclasses
import re
import shutil

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.pages import plots
from fbnetv3.progress import silent
from fbnetv3.search import sessions
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.acquisition import first_batch
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.runs.clock import epochs_trained, read_clock
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.sessions import resume_search, run_search
from fbnetv3.search.trial import comparable
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")


def without_time(folder):
    """The report without the sentence that says how long the search took by the clock."""
    parts = re.split(r" The wall clock of the whole search is [^.]*\.", (folder / "report.html").read_text())
    assert len(parts) == 2
    return parts


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
    assert found.config.evaluator == "tests.search.scripted:Scripted"
    assert dataclasses.replace(found.config, space=cfg.space, recipe=cfg.recipe, contents=None, evaluator=None) == cfg


def test_a_search_tells_its_progress(cfg, tmp_path):
    said = []
    run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, progress=lambda *words: said.append(words[2]))
    assert said[0] == "stage 1: pretraining the predictor on free statistics"
    assert "round 1: 2 of 2 candidates trained" in said[3]
    assert said[-1].startswith("finalists: 2 of 2 candidates trained, best so far ")


def test_a_search_notes_when_it_was_at_work(cfg, tmp_path):
    run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE)
    (first,) = read_clock(tmp_path / "run").sessions
    assert first.began < first.last
    resume_search(tmp_path / "run", evaluator=Scripted(), executor=ONE)
    clock = read_clock(tmp_path / "run")
    assert clock.sessions[0] == first
    assert [session.epochs for session in clock.sessions] == [0, epochs_trained(tmp_path / "run")]
    assert clock.doing.startswith("finalists: 2 of 2")


def test_the_report_is_renewed_while_the_search_runs(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "RENEW", 0.0)
    monkeypatch.setattr(sessions, "SHARE", 0)
    pages = []

    class Looking(Scripted):
        def __call__(self, candidate, epochs, seed):
            page = tmp_path / "run" / "report.html"
            pages.append(page.read_text() if page.exists() else "")
            return super().__call__(candidate, epochs, seed)

    found = run_search(cfg, tmp_path / "run", evaluator=Looking(), executor=ONE)
    assert pages[0] == ""
    assert "Search report: quickstart (unfinished)" in pages[-1]
    assert pages[-1].count("<tbody") == len(found[0].trials) - 1
    assert "unfinished" not in (tmp_path / "run" / "report.html").read_text()


def test_a_search_is_the_same_whether_its_report_is_renewed_or_not(cfg, tmp_path, monkeypatch):
    (plain,) = run_search(cfg, tmp_path / "plain", evaluator=Scripted(), executor=ONE)
    monkeypatch.setattr(sessions, "RENEW", 0.0)
    monkeypatch.setattr(sessions, "SHARE", 0)
    (renewed,) = run_search(cfg, tmp_path / "renewed", evaluator=Scripted(), executor=ONE)
    assert renewed.proposal == plain.proposal
    assert comparable(renewed.trials) == comparable(plain.trials)


def test_a_report_that_fails_stops_no_search(cfg, tmp_path, monkeypatch, caplog):
    calls = []

    def fails(folder):
        calls.append(folder)
        if len(calls) == 1:
            raise ZeroDivisionError("by zero")

    monkeypatch.setattr(sessions, "RENEW", 0.0)
    monkeypatch.setattr(sessions, "write_report", fails)
    (found,) = run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE)
    assert len(found.trials) == 6
    assert caplog.text.count("the search goes on, but its report is not renewed while it runs: by zero") == 1
    assert len(calls) == 2  # and the one at the end


def test_a_short_search_gets_its_report_at_the_end(cfg, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(sessions, "write_report", calls.append)
    run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE)
    assert calls == [tmp_path / "run"]


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
    page = without_time(folder)
    (folder / "report.html").unlink()
    assert resume_search(folder, evaluator=evaluator, executor=ONE) == scripted_search[2]
    assert evaluator.calls == []
    assert without_time(folder) == page


def test_a_search_that_was_stopped_is_continued(scripted_search, tmp_path):
    folder, evaluator = tmp_path / "run", Scripted()
    shutil.copytree(scripted_search[1], folder)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:4]))
    for name in ("result.json", "diagnostics.json", "pair.yaml", "report.html"):
        (folder / name).unlink()
    assert resume_search(folder, evaluator=evaluator, executor=ONE) == scripted_search[2]
    assert len(evaluator.calls) == len(lines) - 4
    assert without_time(folder) == without_time(scripted_search[1])


def test_one_call_starts_a_search_and_continues_it(scripted_search, tmp_path):
    cfg, folder, evaluator = scripted_search[0], tmp_path / "run", Scripted()
    call = {"evaluator": evaluator, "executor": ONE, "resume": True}
    assert run_search(cfg, folder, **call) == scripted_search[2]
    lines, made = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True), len(evaluator.calls)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:4]))
    assert run_search(cfg, folder, **call) == scripted_search[2]
    assert len(evaluator.calls) == made + len(lines) - 4
    with pytest.raises(InputError, match="began with other settings: rounds; give those"):
        run_search(cfg.replace(rounds=cfg.rounds + 1), folder, **call)
    assert (folder / "ledger.jsonl").read_bytes() == b"".join(lines)


def test_a_folder_without_a_search_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing"):
        resume_search(tmp_path / "absent", executor=ONE)


@pytest.fixture(scope="module")
def warm_search(scripted_search, tmp_path_factory):
    """Folder and results of a search under another budget that starts from the scripted one, which is gone afterwards."""
    folder = tmp_path_factory.mktemp("warm")
    shutil.copytree(scripted_search[1], folder / "before")
    cfg = config(folder, final_training=False, batch=4, name="after")
    cfg = cfg.replace(constraint=dataclasses.replace(cfg.constraint, max=500_000.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "png_of", lambda figure: b"a PNG")
        results = run_search(cfg, folder / "run", evaluator=Scripted(), executor=ONE, warm_start=[folder / "before"])
    shutil.rmtree(folder / "before")
    return folder / "run", results


def test_a_search_starts_from_another_and_needs_it_no_longer(warm_search, tmp_path):
    folder, results = warm_search
    context = load_search(folder).context
    first = [trial for trial in results[0].trials if trial.round == 1]
    # Half of the first batch is random, as without a start, and the source thinks more of the other half.
    assert [t.candidate for t in first[:2]] == context.pool()[first_batch(64, 4, 0)[:2]].tolist()
    accuracy = [context.label(trial, trial.epochs) for trial in first]
    assert np.mean(accuracy[2:]) > np.mean(accuracy[:2])
    shutil.copytree(folder, tmp_path / "moved")
    assert all(check.status != "differs" for check in verify(tmp_path / "moved", 0, silent))


def test_a_search_with_a_start_that_was_stopped_is_continued(warm_search, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(warm_search[0], folder)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:6]))
    assert resume_search(folder, evaluator=Scripted(), executor=ONE) == warm_search[1]


def test_the_pair_and_the_report_say_what_a_search_started_from(scripted_search, warm_search):
    folder, (nars,) = warm_search
    trainings = len(scripted_search[2][0].trials)
    said = f"quickstart: {trainings} trainings (space micro, data {scripted_search[0].data})"
    assert nars.pair.provenance["started_from"] == [said]
    assert f"<td>started from</td><td>{said}</td>" in (folder / "report.html").read_text()
    assert "started_from" not in scripted_search[2][0].pair.provenance


def test_a_search_that_has_not_ended_is_no_start(scripted_search, cfg, tmp_path):
    shutil.copytree(scripted_search[1], tmp_path / "before")
    (tmp_path / "before" / "result.json").unlink()
    with pytest.raises(InputError, match=r"before has not ended: result.json is missing"):
        run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, warm_start=[tmp_path / "before"])
    with pytest.raises(InputError, match="no search in"):
        run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, warm_start=[tmp_path / "absent"])
    assert not (tmp_path / "run" / "config.yaml").exists()
