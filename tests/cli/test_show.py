"""What the commands share: rows as a table or as JSON, completion, and a stop by Ctrl-C."""

import json
from pathlib import Path

import pytest
import typer
from PIL import Image

from fbnetv3.cli.show import complete, finite, need_images, print_each, print_rows, progress_bar, say, say_device
from fbnetv3.errors import InputError

ROWS = [{"name": "a", "value": 1.5, "note": None}, {"name": "b", "value": 2, "note": "x"}]


def test_rows_as_json_are_the_rows(capsys):
    print_rows(ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_an_option_is_a_finite_number():
    assert (finite(None), finite(0.5)) == (None, 0.5)
    for value in (float("nan"), float("-inf")):
        with pytest.raises(typer.BadParameter, match="is no number that can be used here"):
            finite(value)


def test_words_are_no_markup(capsys):
    print_rows([{"class": "[b]", "file": "a[/x].jpg", "sign": ":cat:"}], as_json=False)
    say("[red]a[/b] :cat:")
    printed = capsys.readouterr().out
    for word in ("[b]", "a[/x].jpg", ":cat:", "[red]a[/b] :cat:"):
        assert word in printed


def test_a_gpu_is_named_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"Card {device.index}")
    say_device("evaluating", "cpu")
    assert capsys.readouterr() == ("", "")
    say_device("evaluating", "cuda:1")
    assert capsys.readouterr() == ("", "evaluating on cuda:1 (Card 1), fp32\n")


def test_json_has_no_nan(capsys):
    print_rows([{"a": float("nan"), "b": [float("inf")]}], as_json=True)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [{"a": None, "b": [None]}]


def test_every_image_is_tried_and_every_error_shown(capsys, tmp_path):
    def rows_of(path):
        if path.name in "bc":
            raise InputError(f"{path.name} is bad")
        return [{"image": path.name}]

    with pytest.raises(InputError, match="c is bad"):
        print_each([Path(name) for name in "abcd"], rows_of, as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [{"image": "a"}, {"image": "d"}]
    assert printed.err == "fbnetv3: b is bad\n"
    with pytest.raises(InputError, match="b is bad"):
        print_each([Path("b")], rows_of, as_json=True)
    assert capsys.readouterr().out == ""


def test_one_image_that_can_be_read_is_enough(tmp_path, capsys):
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "empty.png").touch()
    need_images([tmp_path / "b.png", tmp_path / "empty.png", tmp_path / "a.png"])
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"empty\.png is no image that can be read"):
        need_images([tmp_path / "b.png", tmp_path / "empty.png"])
    assert capsys.readouterr().err == f"fbnetv3: no image at {tmp_path}/b.png; give the path of an image file\n"


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
