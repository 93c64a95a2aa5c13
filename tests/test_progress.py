"""The progress of a command: lines in a file, a bar on a terminal."""

import io

from rich.console import Console

from fbnetv3.progress import count_steps, labelled, part_of, show_progress


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


def shown(monkeypatch, *reports):
    """What a terminal shows after reports (seconds, done, total)."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with show_progress(console) as report:
        for seconds, done, total in reports:
            monkeypatch.setattr("fbnetv3.progress.time.monotonic", lambda seconds=seconds: seconds)
            report(done, total, "words")
    return console.file.getvalue()


def test_a_terminal_shows_the_time_that_is_left(monkeypatch):
    # Resumed at step 40: only what is done since then says how fast it is.
    assert "0:01:30 left" in shown(monkeypatch, (1000.0, 40, 100), (1030.0, 55, 100))


def test_other_work_is_timed_from_its_own_beginning(monkeypatch):
    text = shown(monkeypatch, (0.0, 0, 10), (9.0, 9, 10), (20.0, 0, 4), (40.0, 1, 4))
    assert "0:00:01 left" in shown(monkeypatch, (0.0, 0, 10), (9.0, 9, 10))
    assert "0:01:00 left" in text


def test_nothing_is_left_to_say_before_the_second_step(monkeypatch):
    assert "left" not in shown(monkeypatch, (5.0, 1, 10))


def test_a_part_moves_the_bar_of_the_whole():
    said = []
    report = part_of(lambda *words: said.append(words), before=10, size=4, total=20)
    for done in (0, 49, 50, 100):
        report(done, 100, "step")
    report(0, 0, "nothing to do")
    assert said == [(10, 20, "step"), (11, 20, "step"), (12, 20, "step"), (14, 20, "step"), (10, 20, "nothing to do")]
