"""The note of what was logged."""

from fbnetv3.tracking.logged import Logged


def test_what_was_logged_is_known_to_the_next_process(tmp_path):
    first = Logged(tmp_path / "new" / "logged.txt")
    first.add("epochs", 12)
    second = Logged(tmp_path / "new" / "logged.txt")
    assert second.run == first.run
    assert ("epochs", 12) in first
    assert ("epochs", 12) in second
    assert ("epochs", 1) not in second
    assert ("steps", 12) not in second


def test_a_line_that_a_crash_cut_off_does_not_count(tmp_path):
    path = tmp_path / "logged.txt"
    path.write_text("a run\nepochs 1\nepochs 12")
    logged = Logged(path)
    assert logged.run == "a run"
    assert ("epochs", 1) in logged
    assert ("epochs", 12) not in logged
    logged.add("epochs", 3)
    assert path.read_text() == "a run\nepochs 1\nepochs 3\n"


def test_two_runs_have_different_names(tmp_path):
    assert Logged(tmp_path / "a").run != Logged(tmp_path / "b").run
