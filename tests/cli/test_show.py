"""What the commands share: rows as a table or as JSON, completion, and a stop by Ctrl-C."""

import json

import pytest
import typer

from fbnetv3.cli.show import complete, print_rows, progress_bar

ROWS = [{"name": "a", "value": 1.5, "note": None}, {"name": "b", "value": 2, "note": "x"}]


def test_rows_as_json_are_the_rows(capsys):
    print_rows(ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_completion_offers_the_names_that_begin_like_the_word():
    names = complete("fbnetv3.search.space.reader", "list_spaces")
    assert names("re") == ["recipe_only", "released"]
    assert names("zz") == []
    assert "micro" in names("")


def test_ctrl_c_is_one_line_and_exit_code_130(capsys):
    with pytest.raises(typer.Exit) as ended, progress_bar():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.count("\n") == 1
