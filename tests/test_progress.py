"""The progress of a command: lines in a file, a bar on a terminal."""

import io

from rich.console import Console

from fbnetv3.progress import count_steps, labelled, show_progress


def lines(*reports, label=None):
    console = Console(file=io.StringIO(), width=20)
    with show_progress(console) as report:
        for entry in reports:
            (report if label is None else labelled(report, label))(*entry)
    return console.file.getvalue().splitlines()


def test_a_line_for_every_new_text_and_none_for_a_new_loss():
    found = lines((1, 4, "epoch 1/2, loss 2.3"), (2, 4, "epoch 1/2, loss 1.9"), (3, 4, "epoch 2/2, loss 1.5"))
    assert found == ["[1/4] epoch 1/2", "[3/4] epoch 2/2"]


def test_a_long_line_is_neither_folded_nor_read_as_markup():
    text = "[red] /a/very/long/path/to/a/folder of 12 images"
    assert lines((1, 1, text)) == [f"[1/1] {text}"]


def test_a_label_comes_first():
    assert lines((0, 2, "epoch 1/2"), label="seed 3") == ["[0/2] seed 3: epoch 1/2"]


def test_steps_are_counted_as_they_begin():
    console = Console(file=io.StringIO(), width=80)
    with count_steps(2, console) as step:
        step("first")
        step("second")
    assert console.file.getvalue().splitlines() == ["[0/2] first", "[1/2] second"]


def test_a_terminal_shows_a_bar_with_the_last_text():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with show_progress(console) as report:
        report(3, 4, "epoch 2/2, loss 1.5")
        console.print("above the bar")
    shown = console.file.getvalue()
    assert "3/4" in shown
    assert "epoch 2/2, loss 1.5" in shown
    assert "above the bar" in shown
