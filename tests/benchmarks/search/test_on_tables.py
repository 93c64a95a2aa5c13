"""Answers in files that a second call of a benchmark finds. Its searches are tested where they are measured."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.on_tables import kept_answer


def never():
    raise AssertionError("measured again")


def test_an_answer_is_measured_once(tmp_path):
    file = tmp_path / "answer.json"
    assert kept_answer(file, "a", ("regret",), lambda: {"regret": 1.5}) == {"regret": 1.5}
    assert kept_answer(file, "a", ("regret",), never) == {"regret": 1.5}
    with pytest.raises(InputError, match="is of another configuration; give another --out"):
        kept_answer(file, "b", ("regret",), never)


def test_an_answer_without_a_value_is_refused(tmp_path):
    file = tmp_path / "answer.json"
    file.write_text('{"config": "a"}')
    with pytest.raises(InputError, match="regret"):
        kept_answer(file, "a", ("regret",), never)
