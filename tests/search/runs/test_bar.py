"""One bar for a whole search."""

import pytest

from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.runs.bar import SearchBar
from fbnetv3.search.sessions import resume_search, run_search
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)


def test_the_parts_of_a_search_follow_one_another():
    preset = load_preset("quickstart").replace(
        first=None, batch=10, rounds=2, repeats=0, finalists=5, final_stretch=3, confirm=2, final_training=True
    )
    said = []
    bar = SearchBar(lambda *report: said.append(report[:2]), preset, ["nars", "random"])
    for report in (bar.trials("nars"), bar.final("nars"), bar.trials("random"), bar.final("random")):
        report(0, 25, "begin")
        report(25, 25, "end")
    confirmations = bar.confirmations()
    confirmations(1, 2, "half")
    confirmations(2, 2, "end")
    # 25 trainings and a final one of 3 for each method, and 3 answers with one more seed.
    assert [done for done, _ in said] == [0, 25, 25, 28, 28, 53, 53, 56, 60, 65]
    assert {total for _, total in said} == {65}


def test_a_search_without_a_final_training_has_its_trials_alone():
    preset = load_preset("quickstart").replace(final_training=False)
    said = []
    bar = SearchBar(lambda *report: said.append(report[:2]), preset, ["nars"])
    bar.trials("nars")(1, preset.trainings, "")
    assert said == [(1, preset.trainings)]


@pytest.mark.parametrize("baseline", [False, True])
def test_a_search_has_one_bar_that_never_goes_back(tmp_path, baseline):
    cfg = config(tmp_path, final_training=False, baseline=baseline)
    said = []

    def report(done, total, _text):
        said.append((done, total))

    run_search(cfg, tmp_path / "run", evaluator=Scripted(), executor=ONE, progress=report)
    whole = cfg.trainings * (1 + baseline)
    assert {total for _, total in said} == {whole}
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    assert (said[0], said[-1]) == ((0, whole), (whole, whole))
    said.clear()
    resume_search(tmp_path / "run", evaluator=Scripted(), executor=ONE, progress=report)
    assert said[0] == (cfg.trainings, whole)  # what is there already takes no time
