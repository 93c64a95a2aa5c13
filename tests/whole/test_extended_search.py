"""A search that has ended and goes on: its trainings stay, its answer is the best of all, and no kill changes the end."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.pages import plots
from fbnetv3.pair_file import load_pair
from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.runs.confirm import CONFIRMED, confirm_results
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.run import check_same, extend, resume, start
from fbnetv3.search.runs.status import status_of
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.sessions import extend_search
from fbnetv3.search.trial import Ledger, Outcome
from tests.search.made_up import read
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)
# A predictor and an evolution that are quicker than those of the other tests: every kill makes the whole search again.
LIGHT = {
    "predictor": {"pretrain_epochs": 1, "members": 1},
    "evolution": {"evaluations": 60, "restarts": 0, "random": 20, "population": 20},
}


class Shifted(Scripted):
    """Scripted trainings that have all become better, or worse, by some points."""

    def __init__(self, points=0):
        super().__init__()
        self.points = points

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        return Outcome(tuple(min(max(a + self.points, 0.0), 100.0) for a in outcome.acc1), outcome.status, 0.0)


def light(folder, **changes):
    """2 + 2 trainings and 2 finalists, whose final training is the evaluator's; and as much random search."""
    return config(folder, **LIGHT | {"data": None, "pool": 40, "baseline": True} | changes)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a search that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    start(light(folder), folder / "run", silent, ONE, Shifted())
    return folder / "run"


@pytest.fixture
def copied(ended, tmp_path):
    return shutil.copytree(ended, tmp_path / "run")


def places(trials):
    return [trial.place for trial in trials]


def numbered(*rounds):
    """The places of rounds with these numbers and sizes."""
    return [(number, i) for number, size in rounds for i in range(size)]


BEFORE = numbered((1, 2), (2, 2), (3, 2))


def kept(folder):
    """The files of a search that are equal whenever it ends, by name."""
    names = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "clock"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def same(folder):
    """Verify a search, and check that everything that can be checked is the same."""
    checks = {check.what: check for check in verify(folder, 1, silent)}
    # These evaluators have no name that could be imported, and leave no weights.
    left = ("nars: accuracy of the pair", "random: accuracy of the pair", "nars: trainings", "random: trainings")
    assert {check.status for what, check in checks.items() if what not in left} == {"same"}, checks
    return set(checks)


def test_an_extension_makes_more_rounds_and_finalists_and_is_recorded(copied, ended):
    evaluator = Shifted()
    nars, random = extend(copied, silent, rounds=2, executor=ONE, evaluator=evaluator)
    assert places(nars.trials) == [*BEFORE, *numbered((4, 2), (5, 2), (6, 2))]
    assert places(random.trials) == numbered((1, 6), (2, 6))
    for method, name in (("nars", "ledger.jsonl"), ("random", "baseline/ledger.jsonl")):
        assert (copied / name).read_bytes().startswith((ended / name).read_bytes()), method
    for found in (nars, random):
        assert len({tuple(t.candidate) for t in found.trials}) == 12
        assert found.pair.provenance["extensions"] == [6]
    assert all(t.predicted for t in nars.trials[2:])
    assert [list(f.candidate) for f in nars.proposal.finalists] == [
        t.candidate for t in nars.trials if t.round in (3, 6) and t.status != "failed"
    ]
    assert yaml.safe_load((copied / "config.yaml").read_text())["extensions"] == [6]
    assert json.loads((copied / "result.json").read_text())["nars"]["trainings"] == 12
    assert {"nars: 12 proposals of the ledger", "random: 12 proposals of the ledger"} < same(copied)
    # Nothing is made again, neither now nor by resuming.
    made, calls = kept(copied), len(evaluator.calls)
    assert calls == 12 + sum(
        (copied / "earlier" / "1" / name).is_file() for name in ("pair.yaml", "baseline/pair.yaml")
    )
    assert resume(copied, silent, ONE, evaluator) == [nars, random]
    assert (kept(copied), len(evaluator.calls)) == (made, calls)


def test_a_better_answer_is_trained_and_the_earlier_one_is_kept(copied, ended):
    search = load_search(copied)
    confirm_results(search.context, search, search.results(), 2, silent, ONE, Shifted())
    nars, _ = extend(copied, silent, trainings=4, executor=ONE, evaluator=(evaluator := Shifted(15)))
    assert nars.proposal.candidate in {tuple(t.candidate) for t in nars.trials if t.round > 3}
    assert load_pair(copied / "pair.yaml") == nars.pair
    assert nars.pair.measured["acc1"] == nars.curve[-1] > load_pair(ended / "pair.yaml").measured["acc1"] + 5
    assert evaluator.calls.count(nars.pair.provenance["training_seed"]) == 2  # that of NARS, and that of random search
    old = copied / "earlier" / "1"
    for name in ("pair.yaml", "final/outcome.json", "baseline/pair.yaml", "baseline/final/outcome.json"):
        assert (old / name).read_bytes() == (ended / name).read_bytes()
    assert (old / CONFIRMED).is_file()
    assert {path.name for path in (old / "confirm").iterdir()} == {"nars", "base_recipe", "random"}
    assert not (copied / CONFIRMED).exists()


def test_an_answer_that_stays_is_not_trained_again(copied, ended):
    before = [load_pair(ended / name) for name in ("pair.yaml", "baseline/pair.yaml")]
    results = extend(copied, silent, trainings=3, executor=ONE, evaluator=(evaluator := Shifted(-40)))
    assert places(results[0].trials) == [*BEFORE, *numbered((4, 1), (5, 2))]
    assert len(evaluator.calls) == 6
    assert [(r.pair.arch, r.pair.recipe, r.pair.measured) for r in results] == [
        (pair.arch, pair.recipe, pair.measured) for pair in before
    ]
    assert not (copied / "earlier").exists()


def test_a_search_is_extended_again_and_again(copied):
    extend(copied, silent, rounds=1, executor=ONE, evaluator=Shifted())
    extend(copied, silent, trainings=1, executor=ONE, evaluator=Shifted())
    nars, random = extend(copied, silent, trainings=5, executor=ONE, evaluator=Shifted(9))
    assert places(nars.trials) == [*BEFORE, *numbered((4, 2), (5, 2), (6, 1), (7, 2), (8, 1), (9, 2))]
    assert places(random.trials) == numbered((1, 6), (2, 4), (3, 1), (4, 5))
    assert load_search(copied).config.extensions == (4, 1, 5)
    assert {"nars: 16 proposals of the ledger", "random: 16 proposals of the ledger"} < same(copied)


def test_a_search_of_8_and_3_times_4_goes_on(tmp_path):
    cfg = light(tmp_path, pool=64, first=8, batch=4, rounds=4, repeats=2, baseline=False)
    start(cfg, tmp_path / "run", silent, ONE, Shifted())
    (nars,) = extend(tmp_path / "run", silent, trainings=7, executor=ONE, evaluator=Shifted())
    sizes = [(1, 8), (0, 2), (2, 4), (3, 4), (4, 4), (5, 2), (6, 4), (7, 1), (8, 2)]
    assert places(nars.trials) == numbered(*sizes)
    assert "nars: 31 proposals of the ledger" in same(tmp_path / "run")


def test_what_is_learnt_from_finalists_decides_what_an_extension_trains(copied, ended, tmp_path):
    """Accuracies of the finalists that were changed lead to other proposals, which `verify` finds."""
    extend(copied, silent, rounds=1, executor=ONE, evaluator=Shifted())
    lines = (copied / "ledger.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows[1:]:
        if row["round"] == 3:
            row.update(acc1=[1.0, 2.0], status="ok")
    (copied / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {check.what: check for check in verify(copied, 0, silent)}["nars: 10 proposals of the ledger"]
    assert found.status == "differs"
    assert found.note.startswith("trial 0 of round 4: ")


@pytest.mark.parametrize("baseline", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["nars", "both"])
def test_a_search_that_is_killed_at_any_write_of_its_extension_ends_the_same(tmp_path, monkeypatch, baseline):
    """The folder is kept as it is at every write and every move. Each of these copies is continued."""
    start(light(tmp_path, baseline=baseline), tmp_path / "run", silent, ONE, Shifted())
    folder, states = tmp_path / "run", []

    def watched(function):
        def call(*args, **kwargs):
            if not states or kept(folder) != kept(states[-1]):
                states.append(shutil.copytree(folder, tmp_path / f"state{len(states)}"))
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Ledger, "append")):
            patch.setattr(owner, name, watched(getattr(owner, name)))
        results = extend(folder, silent, trainings=3, executor=ONE, evaluator=Shifted(15))
    whole, unfinished = kept(folder), 0
    assert {"earlier/1/final/outcome.json", "earlier/1/pair.yaml"} < set(whole)
    for state in states:
        extended, ended = bool(load_search(state).config.extensions), (state / "result.json").is_file()
        if extended and not ended:
            unfinished += 1
            with pytest.raises(InputError, match=r"has not ended: result.json is missing; continue it with"):
                extend(state, silent, trainings=3, executor=ONE, evaluator=Shifted(15))
        found = resume(state, silent, ONE, Shifted(15))
        if not extended:  # killed before that was written: the search is what it was
            found = extend(state, silent, trainings=3, executor=ONE, evaluator=Shifted(15))
        assert found == results
        assert kept(state) == whole
    # The configuration, and for every method 3 trainings, 2 moves, and a final training with its pair; the diagnostics.
    assert unfinished == 1 + (1 + baseline) * 7 + 1


def test_status_says_how_far_an_extension_is(copied):
    extend(copied, silent, trainings=3, executor=ONE, evaluator=Shifted())
    lines = (copied / "ledger.jsonl").read_text().splitlines(keepends=True)
    (copied / "result.json").unlink()
    words = ["round 4 of 4: 0 of 1 trained", "finalists 2: 0 of 2 trained", "finalists 2: 1 of 2 trained"]
    for count, text in enumerate(words, 7):
        (copied / "ledger.jsonl").write_text("".join(lines[:count]))
        found = status_of(load_search(copied))
        assert (found.state, found.methods[0].round, found.methods[0].total) == ("stopped", text, 9)
        assert found.next == f"fbnetv3 search resume {copied}"


def test_one_command_that_starts_a_search_continues_its_extension(ended, copied, tmp_path):
    extend(copied, silent, trainings=3, executor=ONE, evaluator=Shifted())
    cfg = load_preset(str(copied / "config.yaml"))
    assert cfg.extensions == ()  # of another search
    check_same(cfg, copied, ONE)
    with pytest.raises(InputError, match="began with other settings: rounds; give"):
        check_same(cfg.replace(rounds=3), copied, ONE)


def test_a_search_of_an_earlier_version_is_extended(copied):
    written = yaml.safe_load((copied / "config.yaml").read_text())
    assert written.pop("extensions") == []
    (copied / "config.yaml").write_text(yaml.safe_dump(written))
    assert load_search(copied).config.extensions == ()
    nars, _ = extend(copied, silent, trainings=1, executor=ONE, evaluator=Shifted())
    assert places(nars.trials) == [*BEFORE, (4, 0)]


def test_an_extension_that_is_taken_out_of_the_configuration_is_missed(copied):
    extend(copied, silent, trainings=1, executor=ONE, evaluator=Shifted())
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("extensions: [1]", "extensions: []"))
    with pytest.raises(InputError, match="trial 0 of round 4 is none of this search"):
        resume(copied, silent, ONE, Shifted())


WRONG = {
    "both": ({"rounds": 1, "trainings": 1}, "rounds is 1 and trainings is 1; give one of them, a whole number from 1"),
    "none": ({}, "rounds is None and trainings is None; give one of them"),
    "no round": ({"rounds": 0}, "rounds is 0 and trainings is None; give one of them, a whole number from 1"),
    "less": ({"trainings": -3}, "trainings is -3; give one of them, a whole number from 1"),
    "half": ({"trainings": 1.5}, "trainings is 1.5; give one of them, a whole number from 1"),
    "many": ({"trainings": 35}, "a pool of 40 is too small for 41 trainings, those of extensions among them"),
}


@pytest.mark.parametrize(("given", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_number_is_refused_and_changes_nothing(copied, given, words):
    before = kept(copied)
    with pytest.raises(InputError, match=words):
        extend(copied, silent, executor=ONE, evaluator=Shifted(), **given)
    assert kept(copied) == before


def test_a_folder_without_a_search_and_one_that_has_not_ended_are_refused(copied, tmp_path):
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing"):
        extend_search(tmp_path / "absent", rounds=1)
    (copied / "result.json").unlink()
    before = kept(copied)
    with pytest.raises(InputError, match=r"has not ended: result.json is missing; continue it with"):
        extend_search(copied, rounds=1, evaluator=Shifted(), executor=ONE)
    assert kept(copied) == before


def test_an_asynchronous_search_is_refused(tmp_path):
    start(light(tmp_path, asynchronous=1, baseline=False), tmp_path / "run", silent, ONE, Shifted())
    before = kept(tmp_path / "run")
    with pytest.raises(
        InputError, match="asynchronous is 1, and only a search in rounds can be extended; start another"
    ):
        extend(tmp_path / "run", silent, rounds=1, executor=ONE, evaluator=Shifted())
    assert kept(tmp_path / "run") == before


def test_a_search_that_this_version_would_not_make_stays_as_it_is(copied):
    """A proposal that does not follow, as after another version of torch: the search keeps its end and its answer."""
    lines = (copied / "ledger.jsonl").read_text().splitlines()
    row = json.loads(lines[3])
    row["candidate"][0] ^= 1
    lines[3] = json.dumps(row)
    (copied / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    before = kept(copied)
    with pytest.raises(InputError, match=r"is not the one that this search makes|was changed after the search began"):
        extend(copied, silent, rounds=1, executor=ONE, evaluator=Shifted())
    assert kept(copied) == before


def test_the_page_says_that_a_search_was_extended_and_names_its_rounds(copied, monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")
    extend(copied, silent, trainings=1, executor=ONE, evaluator=Shifted())
    extend_search(copied, trainings=3, executor=ONE, evaluator=Shifted())
    page = read(copied / "report.html")[1]
    assert "The search was extended after its end, by 1 and then by 3 trainings." in page.words
    names = [row[0] for row in page.after("round", "trainings", "epochs")[:7]]
    assert names == ["1", "2", "finalists", "finalists 2", "5", "finalists 3", "random search"]
