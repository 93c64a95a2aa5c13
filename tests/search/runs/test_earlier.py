"""An answer that was replaced is kept as it was, wherever the process dies."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from fbnetv3.search.runs.earlier import keep_earlier
from fbnetv3.search.runs.final import final_candidate
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.trial import Candidate

OWN = ["final/outcome.json", "weights.pt", "confirm/nars/a", "confirm/base_recipe/b", "confirmed.json", "pair.yaml"]
OTHERS = ["confirm/random/c", "baseline/weights.pt", "baseline/pair.yaml", "ledger.jsonl"]


@pytest.fixture
def search(scripted_search, tmp_path):
    """A search whose answers have all that an answer can have, and that was extended."""
    folder = shutil.copytree(scripted_search[1], tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    for name in (*OWN, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).write_text(name)
    found = load_search(folder)
    return dataclasses.replace(found, config=found.config.replace(extensions=[2]))


@pytest.fixture
def answers(search, scripted_search):
    """The answer of NARS as it is, and another one."""
    candidate = scripted_search[2][0].proposal.candidate
    other = next(t.candidate for t in scripted_search[2][0].trials if tuple(t.candidate) != candidate)
    return [final_candidate(search.context, row) for row in (candidate, other)]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_answer_that_stays_is_not_moved(search, answers):
    before = files(search.path)
    keep_earlier(search, "nars", answers[0])
    assert files(search.path) == before


def test_a_search_that_was_not_extended_has_one_answer(search, answers):
    before = files(search.path)
    keep_earlier(dataclasses.replace(search, config=search.config.replace(extensions=())), "nars", answers[1])
    assert files(search.path) == before


def test_an_answer_that_is_replaced_is_kept_with_all_that_was_made_of_it(search, answers):
    before = files(search.path)
    keep_earlier(search, "nars", answers[1])
    assert files(search.path / "earlier" / "1") == {name: before[name] for name in OWN}
    left = files(search.path)
    assert not set(OWN) & set(left)
    assert {name: left[name] for name in OTHERS} == {name: before[name] for name in OTHERS}


def test_another_recipe_is_another_answer(search, answers):
    recipe = answers[0].recipe.replace(lr=0.01)
    keep_earlier(search, "nars", Candidate(answers[0].arch, recipe))
    assert (search.path / "earlier" / "1" / "pair.yaml").is_file()


def test_answers_of_both_methods_have_one_folder_and_later_ones_the_next(search, answers):
    pair = (search.path / "pair.yaml").read_bytes()
    keep_earlier(search, "nars", answers[1])
    keep_earlier(search, "random", answers[1])
    first = search.path / "earlier" / "1"
    assert {*OWN, "confirm/random/c", "baseline/weights.pt", "baseline/pair.yaml"} == set(files(first))
    keep_earlier(search, "nars", answers[1])  # there is none
    assert not (search.path / "earlier" / "2").exists()
    (search.path / "pair.yaml").write_bytes(pair)
    keep_earlier(search, "nars", answers[1])
    assert files(search.path / "earlier" / "2") == {"pair.yaml": pair}


@pytest.mark.parametrize("moves", range(6))
def test_the_rest_of_an_answer_is_moved_to_the_same_place(search, answers, monkeypatch, moves):
    before, made = files(search.path), []

    def replace(source, target):
        if len(made) == moves:
            raise KeyboardInterrupt
        made.append(target)
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            keep_earlier(search, "nars", answers[1])
    keep_earlier(search, "nars", answers[1])
    assert files(search.path / "earlier" / "1") == {name: before[name] for name in OWN}
    assert [path.name for path in (search.path / "earlier").iterdir()] == ["1"]
