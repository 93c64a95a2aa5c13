"""`fbnetv3 make-zoo` as a user meets it: its mistakes are one line, and its options reach the zoo."""

import json

import pytest

from fbnetv3.search.report import page
from fbnetv3.search.runs import zoo
from fbnetv3.search.runs.resources import Resources
from tests.cli.test_cli import one_line


@pytest.fixture
def made(monkeypatch):
    """The arguments that the command gives to `make_zoo`, which makes nothing here."""
    given = {}

    def make_zoo(plan, out, data, search_data, seed, resources, progress):
        given.update(plan=plan.name, out=out, data=data, search_data=search_data, seed=seed, resources=resources)
        return {"networks": [{"model": "tiny_a", "acc1": 80.0}], "hours": {"search": 1.5}}

    monkeypatch.setattr(zoo, "make_zoo", make_zoo)
    monkeypatch.setattr(page, "write_report", lambda folder: given.update(report=folder))
    return given


def test_options_reach_the_zoo(run, made, tmp_path):
    options = (
        "--data",
        "D",
        "--search-data",
        "S",
        "--seed",
        "3",
        "--at-once",
        "2",
        "--processes",
        "4",
        "--readers",
        "5",
        "--trial-timeout",
        "60",
        "--device",
        "cuda",
        "--trials-per-gpu",
        "6",
    )
    code, out, _ = run("make-zoo", "--out", tmp_path, *options, "--json")
    assert code == 0
    assert json.loads(out) == [{"model": "tiny_a", "acc1": 80.0}]
    assert made == {
        "plan": "micro",
        "out": tmp_path,
        "data": "D",
        "search_data": "S",
        "seed": 3,
        "resources": Resources("cuda", 2, 4, 5, 60.0, 6),
        "report": tmp_path / zoo.SEARCH,
    }


def test_the_hours_of_every_stage_are_shown(run, made, tmp_path):
    _, out, _ = run("make-zoo", "--out", tmp_path)
    assert "search 1.5" in out
    assert str(tmp_path / zoo.ZOO) in out


def test_an_unknown_zoo_suggests_the_nearest(run, tmp_path):
    one_line(run("make-zoo", "--out", tmp_path / "zoo", "--preset", "mcro"), "did you mean 'micro'?")
    assert not (tmp_path / "zoo").exists()
